//! The pointwise activations, alone ([`Cpu::activation`]) or as the last step of another operator ([`apply`]).
//!
//! One loop per function: the choice is made once, outside. All are bound by memory except GELU, whose normal
//! distribution costs about fifty operations a vector. Each derivative ([`backward`]) is computed at `x`, from what
//! stays small, not from `y`, whose digits are gone where the function is flat.

use crate::cpu::{Cpu, expect_shape, threads};
use crate::error::Result;
use crate::shape::{Activation, Update};
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

    /// The gradient of [`Cpu::activation`] at `x`: `gx = f'(x) * gy`, all of one shape. Allocates nothing.
    ///
    /// Where the derivative jumps it is that of the lower side. Where it is 0 for ReLU and ReLU6, so is `gx`, whatever
    /// `gy` is. At NaN that of ReLU is 1, that of ReLU6 is 0 and that of a leaky ReLU is its slope; the others are NaN,
    /// as are those of GELU and SiLU at either infinity. (All as in PyTorch.)
    ///
    /// ```
    /// use tilewise_kernels::{Activation, Cpu, Shape4, Tensor, Update};
    /// let x = Tensor::from_vec(Shape4::new(1, 1, 1, 3), vec![-1.0, 0.0, 1.0])?;
    /// let gy = Tensor::from_vec(x.shape(), vec![5.0, 6.0, 7.0])?;
    /// let mut gx = Tensor::from_vec(x.shape(), vec![100.0; 3])?;
    /// let cpu = Cpu::new()?;
    /// cpu.activation_backward_into(x.view(), Activation::Relu, gy.view(), gx.view_mut(), Update::Accumulate)?;
    /// assert_eq!(gx.data(), [100.0, 100.0, 107.0]);
    /// # Ok::<(), tilewise_kernels::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for another shape of `gy` or `gx`, or a slope or an alpha that is not finite.
    pub fn activation_backward_into(
        &self,
        x: TensorView<'_>,
        f: Activation,
        gy: TensorView<'_>,
        mut gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        f.validate()?;
        expect_shape("activation_backward", "output gradient shape", x.shape(), gy.shape())?;
        expect_shape("activation_backward", "input gradient shape", x.shape(), gx.shape())?;
        if let (Some(x), Some(gy), Some(gx)) = (x.joined(), gy.joined(), gx.joined()) {
            return self.activation_backward_into(x, f, gy, gx, update);
        }
        threads::for_each_chunk(self, gx, threads::CHUNK, |n, start, gx| {
            let x = &x.image(n)[start..start + gx.len()];
            let gy = &gy.image(n)[start..start + gx.len()];
            self.isa.run(MapBackward { f, x, gy, gx, update });
        });
        Ok(())
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

/// `f'(x) * gy` of each lane; as [`apply`].
#[inline(always)]
fn backward<S: Simd>(simd: S, f: Activation, x: S::F32, gy: S::F32) -> S::F32 {
    let zero = simd.splat(0.0);
    match f {
        Activation::Identity => gy,
        Activation::Relu => simd.select(simd.or(simd.gt(x, zero), simd.is_nan(x)), gy, zero),
        Activation::LeakyRelu { slope } => simd.select(simd.gt(x, zero), gy, simd.mul(gy, simd.splat(slope))),
        Activation::Relu6 => {
            let below_6 = simd.select(simd.gt(simd.splat(6.0), x), gy, zero);
            simd.select(simd.gt(x, zero), below_6, zero)
        }
        Activation::Elu { alpha } => {
            let slope = simd.mul(math::exp(simd, x), simd.splat(alpha));
            simd.select(simd.gt(x, zero), gy, simd.mul(gy, slope))
        }
        Activation::Gelu => {
            let (cdf, density) = math::normal(simd, x);
            simd.mul(gy, simd.add(cdf, simd.mul(x, density)))
        }
        Activation::Silu => {
            let slope = simd.mul(x, math::sigmoid_slope(simd, x));
            simd.mul(gy, simd.add(math::sigmoid(simd, x), slope))
        }
        Activation::Sigmoid => simd.mul(gy, math::sigmoid_slope(simd, x)),
        // tanh(x) = 2 sigmoid(2x) - 1
        Activation::Tanh => {
            let slope = math::sigmoid_slope(simd, simd.add(x, x));
            simd.mul(gy, simd.mul(slope, simd.splat(4.0)))
        }
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

/// `gx = f'(x) * gy` for slices of one length.
struct MapBackward<'a> {
    f: Activation,
    x: &'a [f32],
    gy: &'a [f32],
    gx: &'a mut [f32],
    update: Update,
}

impl SimdOp for MapBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        use Activation::*;
        // As in `Map`.
        match self.f {
            Identity => self.update.all(self.gy, self.gx),
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

impl MapBackward<'_> {
    #[inline(always)]
    fn each<S: Simd>(self, simd: S, f: Activation) {
        let parts = self.x.chunks(S::LANES).zip(self.gy.chunks(S::LANES));
        for ((x, gy), gx) in parts.zip(self.gx.chunks_mut(S::LANES)) {
            // SAFETY: only the elements of the three chunks, which are of one length, are touched.
            unsafe {
                let (x, gy) = (simd.load_up_to(x.as_ptr(), x.len()), simd.load_up_to(gy.as_ptr(), gy.len()));
                let gradient = backward(simd, f, x, gy);
                self.update.store_up_to(simd, gx.as_mut_ptr(), gx.len(), gradient);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
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

    fn backward_of(isa: Isa, f: Activation, x: &[f32], gy: &[f32]) -> Result<Vec<f32>> {
        let shape = Shape4::new(1, 1, 1, x.len());
        let (x, gy) = (Tensor::from_vec(shape, x.to_vec())?, Tensor::from_vec(shape, gy.to_vec())?);
        let mut gx = Tensor::from_fn(shape, |_| f32::NAN)?;
        Cpu::with_isa(isa)?.activation_backward_into(x.view(), f, gy.view(), gx.view_mut(), Update::Write)?;
        Ok(gx.into_vec())
    }

    #[test]
    fn slopes_at_limits_are_those_of_pytorch() -> Result<()> {
        const INF: f32 = f32::INFINITY;
        const NAN: f32 = f32::NAN;
        let x = [-INF, -1e30, 0.0, 6.0, 1e30, INF, NAN];
        for (f, expected) in [
            (Activation::Identity, [1.0; 7]),
            (Activation::Relu, [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]),
            (Activation::LeakyRelu { slope: 0.25 }, [0.25, 0.25, 0.25, 1.0, 1.0, 1.0, 0.25]),
            (Activation::Relu6, [0.0; 7]),
            (Activation::Elu { alpha: 0.5 }, [0.0, 0.0, 0.5, 1.0, 1.0, 1.0, NAN]),
            (Activation::Gelu, [NAN, 0.0, 0.5, 1.0, 1.0, NAN, NAN]),
            (Activation::Silu, [NAN, 0.0, 0.5, 1.012_326_4, 1.0, NAN, NAN]),
            (Activation::Sigmoid, [0.0, 0.0, 0.25, 0.002_466_509_3, 0.0, 0.0, NAN]),
            (Activation::Tanh, [0.0, 0.0, 1.0, 2.457_654_7e-5, 0.0, 0.0, NAN]),
        ] {
            for isa in Isa::available() {
                let gx = backward_of(isa, f, &x, &[1.0; 7])?;
                let same =
                    gx.iter().zip(expected).all(|(&g, e)| (g - e).abs() < 1e-6 || g.is_nan() && e.is_nan());
                assert!(same, "{} {isa}: {gx:?}", f.name());
            }
        }
        // Nothing passes a flat piece.
        for isa in Isa::available() {
            for f in [Activation::Relu, Activation::Relu6] {
                assert_eq!(backward_of(isa, f, &[-1.0, 0.0], &[INF, NAN])?, [0.0, 0.0], "{} {isa}", f.name());
            }
        }
        Ok(())
    }

    #[test]
    fn the_tails_of_the_slopes_keep_their_digits() -> Result<()> {
        for (f, x, exact) in [
            (Activation::Elu { alpha: 1.0 }, -20.0, 2.061_153_622_438_558e-9),
            // Phi(-8) - 8 phi(-8)
            (Activation::Gelu, -8.0, -3.979_607_261_086_796e-14),
            // e^-30 (1 - 30), near enough
            (Activation::Silu, -30.0, -2.713_710_660_963_135e-12),
            (Activation::Sigmoid, 20.0, 2.061_153_613_941_849e-9),
            (Activation::Sigmoid, -60.0, 8.756_510_762_696_521e-27),
            // 4 e^-40
            (Activation::Tanh, 20.0, 1.699_341_702_116_623e-17),
        ] {
            for isa in Isa::available() {
                let got = f64::from(backward_of(isa, f, &[x], &[1.0])?[0]);
                assert!((got / exact - 1.0).abs() < 2e-6, "{} {isa}: {got:e} for {exact:e}", f.name());
            }
        }
        Ok(())
    }

    #[test]
    fn gradients_of_any_length_accumulate_and_pass_over_what_lies_between() -> Result<()> {
        for isa in Isa::available() {
            for f in Activation::ALL {
                for len in [1, 7, 16, 19, 33] {
                    let wave = |i: usize, step: usize| ((i * step) % 23) as f32 / 4.0 - 2.0;
                    let (x, gy): (Vec<f32>, Vec<f32>) = (0..len).map(|i| (wave(i, 5), wave(i, 7))).unzip();
                    let written = backward_of(isa, f, &x, &gy)?;
                    // The same twice, three elements apart, which stay.
                    let shape = Shape4::new(2, 1, 1, len);
                    let apart = |v: &[f32]| [v, &[9.0; 3], v].concat();
                    let (x, gy, mut gx) = (apart(&x), apart(&gy), apart(&vec![0.7; len]));
                    Cpu::with_isa(isa)?.activation_backward_into(
                        TensorView::new(&x, shape, len + 3)?,
                        f,
                        TensorView::new(&gy, shape, len + 3)?,
                        TensorViewMut::new(&mut gx, shape, len + 3)?,
                        Update::Accumulate,
                    )?;
                    let sum: Vec<f32> = written.iter().map(|g| 0.7 + g).collect();
                    assert_eq!(gx, apart(&sum), "{} {isa} {len}", f.name());
                }
            }
        }
        Ok(())
    }

    #[test]
    fn gradients_of_other_shapes_are_refused() -> Result<()> {
        let cpu = Cpu::new()?;
        let (a, b) = (Tensor::zeros(Shape4::new(1, 1, 1, 2))?, Tensor::zeros(Shape4::new(1, 1, 2, 1))?);
        for (x, gy, gx) in [(&a, &b, &a), (&a, &a, &b)] {
            let mut gx = gx.clone();
            let refused = cpu.activation_backward_into(
                x.view(),
                Activation::Relu,
                gy.view(),
                gx.view_mut(),
                Update::Write,
            );
            assert!(matches!(refused, Err(Error::Invalid { op: "activation_backward", .. })), "{refused:?}");
        }
        let (f, mut gx) = (Activation::Elu { alpha: f32::NAN }, a.clone());
        assert!(cpu.activation_backward_into(a.view(), f, a.view(), gx.view_mut(), Update::Write).is_err());
        Ok(())
    }
}
