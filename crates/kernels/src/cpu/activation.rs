//! The pointwise activations, alone ([`Cpu::activation`]) or as the last step of another operator ([`apply`]).
//!
//! One loop per function: the choice is made once, outside. All are bound by memory except GELU, whose normal
//! distribution costs about fifty operations a vector.

use crate::cpu::{Cpu, expect_shape, threads};
use crate::error::Result;
use crate::shape::Activation;
use crate::simd::{Simd, SimdOp, math};
use crate::tensor::{Tensor, TensorView, TensorViewMut};

impl Cpu {
    /// Applies `f` to every element; the formulas are at [`Activation`].
    ///
    /// NaN stays NaN. At minus infinity GELU and SiLU are NaN, as in PyTorch (0 times infinity).
    ///
    /// ```
    /// use tilewise_kernels::{Activation, Cpu, Shape4, Tensor};
    /// let x = Tensor::from_vec(Shape4::new(1, 1, 1, 3), vec![-1.0, 0.0, 1.0])?;
    /// let y = Cpu::new()?.activation(&x, Activation::LeakyRelu { slope: 0.1 })?;
    /// assert_eq!(y.data(), [-0.1, 0.0, 1.0]);
    /// # Ok::<(), tilewise_kernels::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for a slope or an alpha that is not finite; [`crate::Error::OutOfMemory`].
    pub fn activation(&self, x: &Tensor, f: Activation) -> Result<Tensor> {
        let mut y = Tensor::zeros(x.shape())?;
        self.activation_into(x.view(), f, y.view_mut())?;
        Ok(y)
    }

    /// [`Cpu::activation`] into `y`, which has the shape of `x`. Allocates nothing.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for another shape of `y`, or a slope or an alpha that is not finite.
    pub fn activation_into(&self, x: TensorView<'_>, f: Activation, mut y: TensorViewMut<'_>) -> Result<()> {
        f.validate()?;
        expect_shape(f.name(), "output shape", x.shape(), y.shape())?;
        if let (Some(x), Some(y)) = (x.joined(), y.joined()) {
            return self.activation_into(x, f, y);
        }
        threads::for_each_chunk(self, y, threads::CHUNK, |n, start, y| {
            let x = &x.image(n)[start..start + y.len()];
            self.isa.run(Map { f, x, y });
        });
        Ok(())
    }

    /// `max(x, 0)` of every element; NaN stays NaN.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub fn relu(&self, x: &Tensor) -> Result<Tensor> {
        self.activation(x, Activation::Relu)
    }

    /// [`Cpu::relu`] into `y`, which has the shape of `x`. Allocates nothing.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for another shape of `y`.
    pub fn relu_into(&self, x: TensorView<'_>, y: TensorViewMut<'_>) -> Result<()> {
        self.activation_into(x, Activation::Relu, y)
    }
}

/// `f` of each lane. Where `f` is known when this is compiled, as in a loop of its own, the choice costs nothing;
/// elsewhere it is one well-predicted jump.
#[inline(always)]
pub(crate) fn apply<S: Simd>(simd: S, f: Activation, x: S::F32) -> S::F32 {
    let zero = simd.splat(0.0);
    match f {
        Activation::Identity => x,
        // The second operand comes out where one is NaN.
        Activation::Relu => simd.max(zero, x),
        Activation::LeakyRelu { slope } => simd.select(simd.gt(x, zero), x, simd.mul(x, simd.splat(slope))),
        Activation::Relu6 => math::clamp(simd, x, 0.0, 6.0),
        Activation::Elu { alpha } => {
            simd.select(simd.gt(x, zero), x, simd.mul(math::expm1(simd, x), simd.splat(alpha)))
        }
        // Not by 1 + erf, in which everything cancels for negative x.
        Activation::Gelu => simd.mul(x, math::normal_cdf(simd, x)),
        Activation::Silu => simd.mul(x, math::sigmoid(simd, x)),
        Activation::Sigmoid => math::sigmoid(simd, x),
        Activation::Tanh => math::tanh(simd, x),
    }
}

/// `y = f(x)` for slices of one length.
struct Map<'a> {
    f: Activation,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl SimdOp for Map<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        use Activation::*;
        // Each arm inlines a loop of its own, in which the choice within `apply` folds away.
        match self.f {
            Identity => self.y.copy_from_slice(self.x),
            Relu => self.each(simd, Relu),
            LeakyRelu { slope } => self.each(simd, LeakyRelu { slope }),
            Relu6 => self.each(simd, Relu6),
            Elu { alpha } => self.each(simd, Elu { alpha }),
            Gelu => self.each(simd, Gelu),
            Silu => self.each(simd, Silu),
            Sigmoid => self.each(simd, Sigmoid),
            Tanh => self.each(simd, Tanh),
        }
    }
}

impl Map<'_> {
    #[inline(always)]
    fn each<S: Simd>(self, simd: S, f: Activation) {
        let (x_vectors, x_rest) = self.x.split_at(self.x.len() - self.x.len() % S::LANES);
        let (y_vectors, y_rest) = self.y.split_at_mut(x_vectors.len());
        for (x, y) in x_vectors.chunks_exact(S::LANES).zip(y_vectors.chunks_exact_mut(S::LANES)) {
            // SAFETY: both slices hold LANES elements.
            unsafe { simd.store(y.as_mut_ptr(), apply(simd, f, simd.load(x.as_ptr()))) };
        }
        let n = x_rest.len().min(y_rest.len());
        // SAFETY: both slices hold n elements.
        unsafe {
            simd.store_partial(y_rest.as_mut_ptr(), n, apply(simd, f, simd.load_partial(x_rest.as_ptr(), n)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Isa;
    use crate::tensor::Shape4;

    #[test]
    fn limits_are_those_of_pytorch() -> Result<()> {
        const INF: f32 = f32::INFINITY;
        const NAN: f32 = f32::NAN;
        for (f, expected) in [
            (Activation::Identity, [-INF, INF, NAN, 0.0]),
            (Activation::Relu, [0.0, INF, NAN, 0.0]),
            (Activation::LeakyRelu { slope: 0.1 }, [-INF, INF, NAN, 0.0]),
            (Activation::Relu6, [0.0, 6.0, NAN, 0.0]),
            (Activation::Elu { alpha: 2.0 }, [-2.0, INF, NAN, 0.0]),
            (Activation::Gelu, [NAN, INF, NAN, 0.0]),
            (Activation::Silu, [NAN, INF, NAN, 0.0]),
            (Activation::Sigmoid, [0.0, 1.0, NAN, 0.5]),
            (Activation::Tanh, [-1.0, 1.0, NAN, 0.0]),
        ] {
            for isa in Isa::available() {
                let x = Tensor::from_vec(Shape4::new(1, 4, 1, 1), vec![-INF, INF, NAN, 0.0])?;
                let y = Cpu::with_isa(isa)?.activation(&x, f)?;
                let same = y.data().iter().zip(expected).all(|(&y, e)| y == e || y.is_nan() && e.is_nan());
                assert!(same, "{} {isa}: {:?}", f.name(), y.data());
            }
        }
        Ok(())
    }

    #[test]
    fn the_tail_of_gelu_keeps_its_digits() -> Result<()> {
        // x Phi(x) to 16 digits; 1 + erf in f32 would have none left.
        let x = Tensor::from_vec(Shape4::new(1, 1, 1, 3), vec![-5.0, -8.0, -12.0])?;
        let exact = [-1.433_257_859_395_969_6e-6, -4.976_768_459_417_427e-15, -2.131_778_534_493_214_8e-32];
        for isa in Isa::available() {
            let y = Cpu::with_isa(isa)?.activation(&x, Activation::Gelu)?;
            for (&y, e) in y.data().iter().zip(exact) {
                assert!((f64::from(y) / e - 1.0).abs() < 2e-6, "{isa}: {y} for {e}");
            }
        }
        Ok(())
    }
}
