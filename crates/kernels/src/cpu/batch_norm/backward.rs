//! The gradients of batch normalisation: per channel, one pass for the sums of `gy` and of `gy * (x - mean)`, and one for
//! the gradient to the input, the planes from the last to the first, so that those read last are still in a cache.

use super::one_per_channel;
use crate::cpu::sum::{GradientMoments, Sums};
use crate::cpu::threads::SharedOut;
use crate::cpu::{Cpu, expect_shape, threads};
use crate::error::Result;
use crate::shape::Update;
use crate::shape::batch_norm::{check_eps, expect_per_channel, training_count};
use crate::simd::{Simd, SimdOp};
use crate::tensor::{TensorView, TensorViewMut};
use crate::training::{BatchNormGradients, Moments};

const OP: &str = "batch_norm_backward";

impl Cpu {
    /// The gradients of [`Cpu::batch_norm_train`] at `x`, whose moments move with it: with
    /// `x^ = (x - mean) * inv_std`, and means over batch and plane,
    /// `gx = gamma * inv_std * (gy - mean(gy) - x^ * mean(gy * x^))`, `ggamma = sum(gy * x^)` and `gbeta = sum(gy)`.
    /// Those of an empty batch are 0. Allocates nothing.
    ///
    /// The moments are those that [`Cpu::batch_norm_moments_into`] gave for `x`. (What the mean has lost to its rounding
    /// is found again, so that a large mean costs no digits.)
    ///
    /// ```
    /// use tilewise_kernels::{BatchNorm, BatchNormGradients, Cpu, Moments, Shape4, Tensor, Update};
    /// let cpu = Cpu::new()?;
    /// let x = Tensor::from_vec(Shape4::new(1, 1, 1, 4), vec![-1.0, 1.0, -1.0, 1.0])?;
    /// let norm = BatchNorm { gamma: &[3.0], beta: &[0.0], eps: 0.0 };
    /// let (mut mean, mut inv_std, mut y) = ([0.0], [0.0], Tensor::zeros(x.shape())?);
    /// let moments = Moments { mean: &mut mean[..], inv_std: &mut inv_std[..] };
    /// cpu.batch_norm_moments_into(x.view(), norm, None, moments, y.view_mut())?;
    /// assert_eq!((mean, inv_std), ([0.0], [1.0]));
    ///
    /// let gy = Tensor::from_vec(x.shape(), vec![4.0, 0.0, 0.0, 0.0])?;
    /// let mut gx = Tensor::zeros(x.shape())?;
    /// let (mut gamma, mut beta) = (Tensor::zeros(Shape4::new(1, 1, 1, 1))?, Tensor::zeros(Shape4::new(1, 1, 1, 1))?);
    /// let to = BatchNormGradients { x: gx.view_mut(), gamma: gamma.view_mut(), beta: beta.view_mut() };
    /// let moments = Moments { mean: &mean[..], inv_std: &inv_std[..] };
    /// cpu.batch_norm_train_backward_into(x.view(), &[3.0], moments, gy.view(), to, Update::Write)?;
    /// assert_eq!((gamma.data(), beta.data()), (&[-4.0][..], &[4.0][..]));
    /// assert_eq!(gx.data(), [6.0, 0.0, -6.0, 0.0]);
    /// # Ok::<(), tilewise_kernels::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for another shape of any, or a batch of a single value per channel.
    pub fn batch_norm_train_backward_into(
        &self,
        x: TensorView<'_>,
        gamma: &[f32],
        moments: Moments<&[f32]>,
        gy: TensorView<'_>,
        gradients: BatchNormGradients<TensorViewMut<'_>>,
        update: Update,
    ) -> Result<()> {
        let shape = x.shape();
        one_per_channel("gamma", shape, gamma)?;
        one_per_channel("mean of the batch", shape, moments.mean)?;
        one_per_channel("inverse deviation of the batch", shape, moments.inv_std)?;
        // Of an empty batch the sums are 0, over whatever.
        let count = training_count(shape)?.unwrap_or(1) as f64;
        self.batch_norm_gradients(
            x,
            moments.mean,
            gy,
            gradients,
            update,
            |c, [g, g_by_distance, distance]| {
                let inv_std = f64::from(moments.inv_std[c]);
                // The rounded mean is not quite that of `x`: this far off, which moves both sums.
                let lacking = if g.is_finite() && distance.is_finite() { distance / count } else { 0.0 };
                let moved = |by: f64| if lacking == 0.0 { 0.0 } else { lacking * by };
                let gamma_gradient = (g_by_distance - moved(g)) * inv_std;
                let slope = inv_std * gamma_gradient / count;
                ChannelGradients {
                    gamma: gamma_gradient,
                    beta: g,
                    factor: f64::from(gamma[c]) * inv_std,
                    through_moments: Some([g / count - moved(slope), slope]),
                }
            },
        )
    }

    /// The gradients of [`Cpu::batch_norm`] at `x`, with a mean and a variance that are given:
    /// `gx = gamma / sqrt(var + eps) * gy`, `ggamma = sum(gy * (x - mean)) / sqrt(var + eps)` and `gbeta = sum(gy)`.
    /// Those of an empty batch are 0. Allocates nothing.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for another shape of any, or an `eps` that is negative or not finite.
    #[expect(clippy::too_many_arguments, reason = "each is an operand of the operator or a gradient")]
    pub fn batch_norm_backward_into(
        &self,
        x: TensorView<'_>,
        gamma: &[f32],
        eps: f32,
        mean: &[f32],
        var: &[f32],
        gy: TensorView<'_>,
        gradients: BatchNormGradients<TensorViewMut<'_>>,
        update: Update,
    ) -> Result<()> {
        let shape = x.shape();
        check_eps(eps)?;
        one_per_channel("gamma", shape, gamma)?;
        one_per_channel("mean", shape, mean)?;
        one_per_channel("variance", shape, var)?;
        self.batch_norm_gradients(x, mean, gy, gradients, update, |c, [g, g_by_distance, _]| {
            let inv_std = 1.0 / (f64::from(var[c]) + f64::from(eps)).sqrt();
            let factor = f64::from(gamma[c]) * inv_std;
            ChannelGradients { gamma: g_by_distance * inv_std, beta: g, factor, through_moments: None }
        })
    }

    /// The gradients that `of_channel` makes of a channel's sums of `gy`, of `gy * (x - mean)` and of `x - mean`.
    fn batch_norm_gradients(
        &self,
        x: TensorView<'_>,
        mean: &[f32],
        gy: TensorView<'_>,
        mut to: BatchNormGradients<TensorViewMut<'_>>,
        update: Update,
        of_channel: impl Fn(usize, [f64; 3]) -> ChannelGradients + Sync,
    ) -> Result<()> {
        let shape = x.shape();
        expect_shape(OP, "output gradient shape", shape, gy.shape())?;
        expect_shape(OP, "input gradient shape", shape, to.x.shape())?;
        expect_per_channel("gradient of gamma", to.gamma.shape(), shape.c)?;
        expect_per_channel("gradient of beta", to.beta.shape(), shape.c)?;
        let (plane, work) = (shape.plane_len(), shape.n * shape.image_len());
        // Of no elements there may be more images than could be counted.
        let images = if work == 0 { 0 } else { shape.n };
        let batch_stride = to.x.batch_stride();
        let [gx, gamma, beta] =
            [&mut to.x, &mut to.gamma, &mut to.beta].map(|g| SharedOut::new(g.as_mut_ptr()));
        threads::for_each_item(threads::strands(self, work), shape.c, |_, c| {
            let center = mean[c];
            let sums = (0..images).fold([0.0; 3], |[g, g_by_distance, distance]: [f64; 3], n| {
                let of_plane = GradientMoments { x: x.plane(n, c), center, g: gy.plane(n, c) };
                let [a, b, c] = self.isa.run(Sums(of_plane));
                [g + a, g_by_distance + b, distance + c]
            });
            let gradients = of_channel(c, sums);
            for n in (0..images).rev() {
                // SAFETY: the view holds plane c of image n at this offset (it has the shape of `x`), and no other item
                // writes channel c.
                let gx = unsafe {
                    std::slice::from_raw_parts_mut(gx.get().add(n * batch_stride + c * plane), plane)
                };
                let (x, gy) = (x.plane(n, c), gy.plane(n, c));
                self.isa.run(ToInput { x, center, gy, gradients, gx, update });
            }
            // SAFETY: both views hold c elements, and no other item touches element c.
            unsafe {
                let (gamma, beta) = (&mut *gamma.get().add(c), &mut *beta.get().add(c));
                *gamma = update.of(*gamma, gradients.gamma as f32);
                *beta = update.of(*beta, gradients.beta as f32);
            }
        });
        Ok(())
    }
}

/// What the gradients of a channel are made of.
#[derive(Clone, Copy)]
struct ChannelGradients {
    gamma: f64,
    beta: f64,
    /// Of all of the gradient to the input.
    factor: f64,
    /// What is taken off `gy` before, as the moments move: the first of these, and the second times `x - mean`.
    through_moments: Option<[f64; 2]>,
}

/// The gradient to the input, for slices of one length. The compiler makes vectors of the loops; the instructions are
/// those of `run`.
struct ToInput<'a> {
    x: &'a [f32],
    center: f32,
    gy: &'a [f32],
    gradients: ChannelGradients,
    gx: &'a mut [f32],
    update: Update,
}

impl SimdOp for ToInput<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let ToInput { x, center, gy, gradients, gx, update } = self;
        let factor = gradients.factor as f32;
        match gradients.through_moments {
            None => {
                for (gx, gy) in gx.iter_mut().zip(gy) {
                    *gx = update.of(*gx, gy * factor);
                }
            }
            Some(moments) => {
                let [offset, slope] = moments.map(|v| v as f32);
                for (gx, (gy, x)) in gx.iter_mut().zip(gy.iter().zip(x)) {
                    *gx = update.of(*gx, (gy - offset - (x - center) * slope) * factor);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::BatchNorm;
    use crate::error::Error;
    use crate::tensor::{Shape4, Tensor};

    struct Trained {
        x: Tensor,
        gy: Tensor,
        mean: Vec<f32>,
        inv_std: Vec<f32>,
    }

    const GAMMA: [f32; 3] = [1.5, -2.0, 0.25];
    const EPS: f32 = 1e-5;

    fn trained(cpu: &Cpu, shape: Shape4, center: f32) -> Result<Trained> {
        let wave =
            |[n, c, h, w]: [usize; 4], step: usize| ((n * 5 + c * 3 + h * 7 + w) * step % 17) as f32 - 8.0;
        let x = Tensor::from_fn(shape, |at| center + wave(at, 3) / 8.0)?;
        let gy = Tensor::from_fn(shape, |at| wave(at, 5) / 4.0)?;
        let (mut mean, mut inv_std) = (vec![0.0; shape.c], vec![0.0; shape.c]);
        let norm = BatchNorm { gamma: &GAMMA[..shape.c], beta: &[0.5; 3][..shape.c], eps: EPS };
        let mut y = Tensor::zeros(shape)?;
        let moments = Moments { mean: &mut mean[..], inv_std: &mut inv_std[..] };
        cpu.batch_norm_moments_into(x.view(), norm, None, moments, y.view_mut())?;
        assert_eq!(y, cpu.batch_norm_train(&x, norm, None)?);
        Ok(Trained { x, gy, mean, inv_std })
    }

    /// The gradients to the input, to gamma and to beta, in that order.
    fn gradients(cpu: &Cpu, t: &Trained, update: Update, old: f32) -> Result<[Tensor; 3]> {
        let per_channel = Shape4::new(1, t.x.shape().c, 1, 1);
        let mut g = [
            Tensor::from_fn(t.x.shape(), |_| old)?,
            Tensor::from_fn(per_channel, |_| old)?,
            Tensor::from_fn(per_channel, |_| old)?,
        ];
        let [x, gamma, beta] = g.each_mut().map(Tensor::view_mut);
        let moments = Moments { mean: &t.mean[..], inv_std: &t.inv_std[..] };
        let to = BatchNormGradients { x, gamma, beta };
        let factors = &GAMMA[..per_channel.c];
        cpu.batch_norm_train_backward_into(t.x.view(), factors, moments, t.gy.view(), to, update)?;
        Ok(g)
    }

    #[test]
    fn a_large_mean_costs_no_digits() -> Result<()> {
        let cpu = Cpu::new()?;
        let shape = Shape4::new(2, 3, 9, 11);
        let count = (shape.n * shape.plane_len()) as f64;
        for center in [0.0, 30.3, 1e4] {
            let t = trained(&cpu, shape, center)?;
            let [gx, gamma, beta] = gradients(&cpu, &t, Update::Write, f32::NAN)?;
            for (c, &factor) in GAMMA.iter().enumerate() {
                let of = |t: &Tensor| -> Vec<f64> {
                    (0..2).flat_map(|n| t.view().plane(n, c)).map(|&v| f64::from(v)).collect()
                };
                let (x, g, got) = (of(&t.x), of(&t.gy), of(&gx));
                let mean = x.iter().sum::<f64>() / count;
                let var = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
                let inv_std = 1.0 / (var + f64::from(EPS)).sqrt();
                let beta_exact: f64 = g.iter().sum();
                let gamma_exact: f64 = x.iter().zip(&g).map(|(x, g)| g * (x - mean) * inv_std).sum();
                let close =
                    |got: f32, exact: f64| (f64::from(got) - exact).abs() < 1e-5 * (1.0 + exact.abs());
                assert!(close(beta.data()[c], beta_exact), "{center} {c}");
                assert!(
                    close(gamma.data()[c], gamma_exact),
                    "{center} {c}: {} {gamma_exact}",
                    gamma.data()[c]
                );
                for ((x, g), got) in x.iter().zip(&g).zip(got) {
                    let normal = (x - mean) * inv_std;
                    let exact =
                        f64::from(factor) * inv_std * (g - beta_exact / count - normal * gamma_exact / count);
                    assert!((got - exact).abs() < 4e-6, "{center} {c}: {got} for {exact}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn accumulating_is_writing_and_adding_on_any_number_of_threads() -> Result<()> {
        let t = trained(&Cpu::new()?, Shape4::new(3, 3, 61, 67), 3.0)?;
        let written = gradients(&Cpu::new()?.threads(1), &t, Update::Write, f32::NAN)?;
        for threads in [2, 7] {
            let cpu = Cpu::new()?.threads(threads);
            assert_eq!(gradients(&cpu, &t, Update::Write, f32::NAN)?, written);
            for (sum, written) in gradients(&cpu, &t, Update::Accumulate, 0.7)?.iter().zip(&written) {
                assert!(sum.data().iter().zip(written.data()).all(|(&s, &w)| s == 0.7 + w));
            }
        }
        Ok(())
    }

    #[test]
    fn an_empty_batch_gives_zeros_and_a_single_value_an_error() -> Result<()> {
        let cpu = Cpu::new()?;
        let empty = |shape: Shape4| -> Result<Trained> {
            let (x, gy) = (Tensor::zeros(shape)?, Tensor::zeros(shape)?);
            Ok(Trained { x, gy, mean: vec![0.0; shape.c], inv_std: vec![1.0; shape.c] })
        };
        let [_, gamma, beta] = gradients(&cpu, &empty(Shape4::new(0, 2, 3, 3))?, Update::Write, f32::NAN)?;
        assert_eq!((gamma.data(), beta.data()), (&[0.0; 2][..], &[0.0; 2][..]));
        let refused = gradients(&cpu, &empty(Shape4::new(1, 2, 1, 1))?, Update::Write, 0.0);
        assert!(matches!(refused, Err(Error::Invalid { .. })));
        let mut short = empty(Shape4::new(2, 2, 1, 1))?;
        short.mean.pop();
        assert!(matches!(gradients(&cpu, &short, Update::Write, 0.0), Err(Error::Invalid { .. })));
        Ok(())
    }
}
