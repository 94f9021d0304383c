//! The sum of two tensors, element by element: the shortcut of a residual block.

use crate::cpu::update::Passed;
use crate::cpu::{Cpu, expect_shape, threads};
use crate::error::Result;
use crate::shape::Update;
use crate::simd::{Simd, SimdOp};
use crate::tensor::{Tensor, TensorView, TensorViewMut};

impl Cpu {
    /// `a + b`, which have one shape.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if the shapes differ; [`crate::Error::OutOfMemory`].
    pub fn add(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        expect_shape("add", "second input shape", a.shape(), b.shape())?;
        let mut y = Tensor::zeros(a.shape())?;
        self.add_into(a.view(), b.view(), y.view_mut())?;
        Ok(y)
    }

    /// [`Cpu::add`] into `y`, which has the shape of `a`. Allocates nothing.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if the shapes differ.
    pub fn add_into(&self, a: TensorView<'_>, b: TensorView<'_>, mut y: TensorViewMut<'_>) -> Result<()> {
        expect_shape("add", "second input shape", a.shape(), b.shape())?;
        expect_shape("add", "output shape", a.shape(), y.shape())?;
        if let (Some(a), Some(b), Some(y)) = (a.joined(), b.joined(), y.joined()) {
            return self.add_into(a, b, y);
        }
        threads::for_each_chunk(self, y, threads::CHUNK, |n, start, y| {
            let (a, b) = (&a.image(n)[start..start + y.len()], &b.image(n)[start..start + y.len()]);
            self.isa.run(Add { a, b, y });
        });
        Ok(())
    }

    /// The gradient of [`Cpu::add`] to either operand: `gy` itself. Allocates nothing.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for another shape of `gx`.
    pub fn add_backward_into(
        &self,
        gy: TensorView<'_>,
        mut gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        expect_shape("add_backward", "input gradient shape", gy.shape(), gx.shape())?;
        if let (Some(gy), Some(gx)) = (gy.joined(), gx.joined()) {
            return self.add_backward_into(gy, gx, update);
        }
        threads::for_each_chunk(self, gx, threads::CHUNK, |n, start, gx| {
            let gradient = &gy.image(n)[start..start + gx.len()];
            self.isa.run(Passed { gradient, to: gx, update });
        });
        Ok(())
    }
}

/// `y = a + b` for slices of one length. The compiler makes vectors of the loop; the instructions are those of `run`.
struct Add<'a> {
    a: &'a [f32],
    b: &'a [f32],
    y: &'a mut [f32],
}

impl SimdOp for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for ((y, a), b) in self.y.iter_mut().zip(self.a).zip(self.b) {
            *y = a + b;
        }
    }
}
