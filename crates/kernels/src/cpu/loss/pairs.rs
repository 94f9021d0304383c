//! Losses of pairs of elements, and the two simplest: the mean squared and the mean absolute error.

use super::write_scalar;
use crate::cpu::sum::{Sum, Summand};
use crate::cpu::threads::{self, PART};
use crate::cpu::{Cpu, expect_shape};
use crate::error::Result;
use crate::shape::Update;
use crate::simd::{Simd, SimdOp};
use crate::tensor::{Tensor, TensorView, TensorViewMut};

impl Cpu {
    /// The mean of `(x - target)^2`.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if the shapes differ.
    pub fn mse(&self, x: &Tensor, target: &Tensor) -> Result<f32> {
        self.mse_of(x.view(), target.view())
    }

    /// [`Cpu::mse`] into the single element of `y`. Allocates nothing.
    ///
    /// # Errors
    /// As there, or for another shape of `y`.
    pub fn mse_into(&self, x: TensorView<'_>, target: TensorView<'_>, y: TensorViewMut<'_>) -> Result<()> {
        write_scalar("mse", y, || self.mse_of(x, target))
    }

    fn mse_of(&self, x: TensorView<'_>, target: TensorView<'_>) -> Result<f32> {
        self.mean_of_pairs("mse", x, target, |_, a, b| self.isa.run(Sum(SquaredDifferences { a, b })))
    }

    /// The gradient of [`Cpu::mse`] at `x`, times `gy`: `2 (x - target) / count`. To the target it is the opposite. Allocates nothing.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if the shapes differ.
    pub fn mse_backward_into(
        &self,
        x: TensorView<'_>,
        target: TensorView<'_>,
        gy: f32,
        gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        let twice_share = 2.0 * share(gy, x);
        self.map_pairs("mse", x, target, gx, |_, a, b, gx| {
            self.isa.run(Gradient { of: Proportional { a, b, factor: twice_share as f32 }, gx, update });
        })
    }

    /// The mean of `|x - target|`.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if the shapes differ.
    pub fn l1(&self, x: &Tensor, target: &Tensor) -> Result<f32> {
        self.l1_of(x.view(), target.view())
    }

    /// [`Cpu::l1`] into the single element of `y`. Allocates nothing.
    ///
    /// # Errors
    /// As there, or for another shape of `y`.
    pub fn l1_into(&self, x: TensorView<'_>, target: TensorView<'_>, y: TensorViewMut<'_>) -> Result<()> {
        write_scalar("l1", y, || self.l1_of(x, target))
    }

    fn l1_of(&self, x: TensorView<'_>, target: TensorView<'_>) -> Result<f32> {
        self.mean_of_pairs("l1", x, target, |_, a, b| self.isa.run(Sum(AbsoluteDifferences { a, b })))
    }

    /// The gradient of [`Cpu::l1`] at `x`, times `gy`: the sign of `x - target` over the count, 0 where it has none (NaN too, as in
    /// PyTorch). To the target it is the opposite. Allocates nothing.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if the shapes differ.
    pub fn l1_backward_into(
        &self,
        x: TensorView<'_>,
        target: TensorView<'_>,
        gy: f32,
        gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        let share = share(gy, x) as f32;
        self.map_pairs("l1", x, target, gx, |_, a, b, gx| {
            self.isa.run(Gradient { of: Signed { a, b, size: share }, gx, update });
        })
    }

    /// The mean over all elements of what `sum` adds up: given the number of the first, elements of `x` and of `target`.
    /// Parts of a sum are the same, whatever lies between the images.
    pub(super) fn mean_of_pairs(
        &self,
        op: &'static str,
        x: TensorView<'_>,
        target: TensorView<'_>,
        sum: impl Fn(usize, &[f32], &[f32]) -> f64 + Sync,
    ) -> Result<f32> {
        expect_shape(op, "target shape", x.shape(), target.shape())?;
        let len = x.shape().n * x.shape().image_len();
        let [total] = threads::sum_of_items(threads::strands(self, len), len.div_ceil(PART), |part| {
            let first = part * PART;
            let range = first..len.min(first + PART);
            if let (Some(x), Some(t)) = (x.contiguous(range.clone()), target.contiguous(range.clone())) {
                return [sum(first, x, t)];
            }
            let (mut a, mut b) = ([0.0; PART], [0.0; PART]);
            let (a, b) = (&mut a[..range.len()], &mut b[..range.len()]);
            x.copy_to(first, a);
            target.copy_to(first, b);
            [sum(first, a, b)]
        });
        Ok((total / len as f64) as f32)
    }

    /// Calls `f` for parts of the gradient to `x`: with the position of the first element in its image, the elements of `x`
    /// and `target`, and those of the gradient.
    pub(super) fn map_pairs(
        &self,
        op: &'static str,
        x: TensorView<'_>,
        target: TensorView<'_>,
        mut gx: TensorViewMut<'_>,
        f: impl Fn(usize, &[f32], &[f32], &mut [f32]) + Sync,
    ) -> Result<()> {
        expect_shape(op, "target shape", x.shape(), target.shape())?;
        expect_shape(op, "gradient shape", x.shape(), gx.shape())?;
        if let (Some(x), Some(target), Some(gx)) = (x.joined(), target.joined(), gx.joined()) {
            return self.map_pairs(op, x, target, gx, f);
        }
        threads::for_each_chunk(self, gx, threads::CHUNK, |n, start, gx| {
            let range = start..start + gx.len();
            f(start, &x.image(n)[range.clone()], &target.image(n)[range], gx);
        });
        Ok(())
    }
}

/// The gradient to each element's own loss, where the loss is the mean over all of `x`.
pub(super) fn share(gy: f32, x: TensorView<'_>) -> f64 {
    f64::from(gy) / (x.shape().n * x.shape().image_len()) as f64
}

/// A gradient by position, of as many elements as its memory.
pub(super) trait Slopes: Copy {
    /// Those from `i` on.
    ///
    /// # Safety
    /// There are at least `i + min(n, LANES)`.
    unsafe fn lanes<S: Simd>(self, simd: S, i: usize, n: usize) -> S::F32;
}

/// Writes or adds a gradient. Whoever makes one sees to it that `of` has an element for each of `gx`.
pub(super) struct Gradient<'a, T> {
    pub(super) of: T,
    pub(super) gx: &'a mut [f32],
    pub(super) update: Update,
}

impl<T: Slopes> SimdOp for Gradient<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Gradient { of, gx, update } = self;
        for (i, gx) in (0..).step_by(S::LANES).zip(gx.chunks_mut(S::LANES)) {
            // SAFETY: elements i..i + gx.len() are those of the chunk.
            unsafe { update.store_up_to(simd, gx.as_mut_ptr(), gx.len(), of.lanes(simd, i, gx.len())) };
        }
    }
}

/// The terms `(a - b)^2`, for slices of one length.
#[derive(Clone, Copy)]
struct SquaredDifferences<'a> {
    a: &'a [f32],
    b: &'a [f32],
}

impl Summand for SquaredDifferences<'_> {
    #[inline(always)]
    fn len(self) -> usize {
        self.a.len().min(self.b.len())
    }

    #[inline(always)]
    unsafe fn lanes<S: Simd>(self, simd: S, i: usize) -> S::F32 {
        // SAFETY: the caller keeps i + LANES within both slices.
        let (a, b) = unsafe { (simd.load(self.a.as_ptr().add(i)), simd.load(self.b.as_ptr().add(i))) };
        let d = simd.sub(a, b);
        simd.mul(d, d)
    }

    #[inline(always)]
    fn term(self, i: usize) -> f64 {
        (f64::from(self.a[i]) - f64::from(self.b[i])).powi(2)
    }
}

/// The terms `|a - b|`, for slices of one length.
#[derive(Clone, Copy)]
struct AbsoluteDifferences<'a> {
    a: &'a [f32],
    b: &'a [f32],
}

impl Summand for AbsoluteDifferences<'_> {
    #[inline(always)]
    fn len(self) -> usize {
        self.a.len().min(self.b.len())
    }

    #[inline(always)]
    unsafe fn lanes<S: Simd>(self, simd: S, i: usize) -> S::F32 {
        // SAFETY: the caller keeps i + LANES within both slices.
        let (a, b) = unsafe { (simd.load(self.a.as_ptr().add(i)), simd.load(self.b.as_ptr().add(i))) };
        simd.abs(simd.sub(a, b))
    }

    #[inline(always)]
    fn term(self, i: usize) -> f64 {
        (f64::from(self.a[i]) - f64::from(self.b[i])).abs()
    }
}

/// `(a - b) * factor`
#[derive(Clone, Copy)]
struct Proportional<'a> {
    a: &'a [f32],
    b: &'a [f32],
    factor: f32,
}

impl Slopes for Proportional<'_> {
    #[inline(always)]
    unsafe fn lanes<S: Simd>(self, simd: S, i: usize, n: usize) -> S::F32 {
        // SAFETY: the caller keeps i + n within both slices.
        let (a, b) = unsafe {
            (simd.load_up_to(self.a.as_ptr().add(i), n), simd.load_up_to(self.b.as_ptr().add(i), n))
        };
        simd.mul(simd.sub(a, b), simd.splat(self.factor))
    }
}

/// `size` with the sign of `a - b`; 0 where they are equal or NaN.
#[derive(Clone, Copy)]
struct Signed<'a> {
    a: &'a [f32],
    b: &'a [f32],
    size: f32,
}

impl Slopes for Signed<'_> {
    #[inline(always)]
    unsafe fn lanes<S: Simd>(self, simd: S, i: usize, n: usize) -> S::F32 {
        // SAFETY: the caller keeps i + n within both slices.
        let (a, b) = unsafe {
            (simd.load_up_to(self.a.as_ptr().add(i), n), simd.load_up_to(self.b.as_ptr().add(i), n))
        };
        let below = simd.select(simd.gt(b, a), simd.splat(-self.size), simd.splat(0.0));
        simd.select(simd.gt(a, b), simd.splat(self.size), below)
    }
}
