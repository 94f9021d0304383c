//! Batch normalisation (Ioffe and Szegedy, 2015): `y = gamma * (x - mean) / sqrt(var + eps) + beta`, per channel.
//!
//! At inference mean and variance are given; in training they are those of the batch: both in a second pass, from
//! the distances to a first mean, so that nothing cancels. The factor `gamma / sqrt(var + eps)` is computed in f64,
//! once per plane. The gradients are in [`backward`].

mod backward;

use crate::cpu::activation::apply;
use crate::cpu::sum::{Deviations, SquaresAround, Sum, Values};
use crate::cpu::threads::SharedOut;
use crate::cpu::{Cpu, expect_shape, threads};
use crate::error::{Error, Result};
use crate::shape::Activation;
use crate::shape::batch_norm::{OP, check_eps, check_momentum, training_count};
use crate::simd::{Simd, SimdOp};
use crate::tensor::{Shape4, Tensor, TensorView, TensorViewMut};
use crate::training::Moments;

/// What a batch normalisation has learnt, one value per channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNorm<'a> {
    /// Factors of the normalised values.
    pub gamma: &'a [f32],
    /// What is added to them.
    pub beta: &'a [f32],
    /// Added to the variance, so that a constant channel is no division by zero (PyTorch's default is 1e-5).
    pub eps: f32,
}

/// Mean and variance over the batches of training, for inference; one value per channel.
#[derive(Debug, PartialEq)]
pub struct RunningStats<'a> {
    /// Becomes `(1 - momentum) * mean + momentum * mean of the batch`.
    pub mean: &'a mut [f32],
    /// The same with the unbiased variance of the batch (divided by the count less one), as in PyTorch.
    pub var: &'a mut [f32],
    /// The weight of the batch (PyTorch's default is 0.1).
    pub momentum: f32,
}

impl Cpu {
    /// Normalises each channel of `x` by a given mean and variance.
    ///
    /// ```
    /// use tilewise_kernels::{BatchNorm, Cpu, Shape4, Tensor};
    /// let x = Tensor::from_vec(Shape4::new(1, 1, 1, 2), vec![3.0, 7.0])?;
    /// let norm = BatchNorm { gamma: &[2.0], beta: &[1.0], eps: 0.0 };
    /// let y = Cpu::new()?.batch_norm(&x, norm, &[5.0], &[4.0])?;
    /// assert_eq!(y.data(), [-1.0, 3.0]);
    /// # Ok::<(), tilewise_kernels::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] for a slice that has not one value per channel, or an `eps` that is negative or not finite;
    /// [`Error::OutOfMemory`].
    pub fn batch_norm(&self, x: &Tensor, norm: BatchNorm<'_>, mean: &[f32], var: &[f32]) -> Result<Tensor> {
        let mut y = Tensor::zeros(x.shape())?;
        self.batch_norm_into(x.view(), norm, mean, var, y.view_mut())?;
        Ok(y)
    }

    /// [`Cpu::batch_norm`] into `y`, which has the shape of `x`. Allocates nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] as there, and for another shape of `y`.
    pub fn batch_norm_into(
        &self,
        x: TensorView<'_>,
        norm: BatchNorm<'_>,
        mean: &[f32],
        var: &[f32],
        y: TensorViewMut<'_>,
    ) -> Result<()> {
        let shape = x.shape();
        norm.validate(shape)?;
        one_per_channel("mean", shape, mean)?;
        one_per_channel("variance", shape, var)?;
        expect_shape(OP, "output shape", shape, y.shape())?;
        let plane = shape.plane_len();
        threads::for_each_chunk(self, y, threads::CHUNK, |n, mut start, mut y| {
            let x = x.image(n);
            // The chunk may begin and end within planes, and cover several.
            while !y.is_empty() {
                let c = start / plane;
                let (part, rest) = y.split_at_mut((plane - start % plane).min(y.len()));
                let (mean, var) = (f64::from(mean[c]), f64::from(var[c]));
                self.isa.run(norm.of_channel(c, mean, var, &x[start..][..part.len()], part));
                start += part.len();
                y = rest;
            }
        });
        Ok(())
    }

    /// Normalises each channel of `x` by its own mean and biased variance over the batch and the plane, and moves the
    /// running statistics, if there are any, towards them. An empty batch leaves those as they are.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a slice that has not one value per channel, an `eps` that is negative or not finite, a
    /// momentum that is not finite, or a batch of a single value per channel, which has no variance;
    /// [`Error::OutOfMemory`].
    pub fn batch_norm_train(
        &self,
        x: &Tensor,
        norm: BatchNorm<'_>,
        running: Option<RunningStats<'_>>,
    ) -> Result<Tensor> {
        let mut y = Tensor::zeros(x.shape())?;
        self.batch_norm_train_into(x.view(), norm, running, y.view_mut())?;
        Ok(y)
    }

    /// [`Cpu::batch_norm_train`] into `y`, which has the shape of `x`. Allocates nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] as there, and for another shape of `y`.
    pub fn batch_norm_train_into(
        &self,
        x: TensorView<'_>,
        norm: BatchNorm<'_>,
        running: Option<RunningStats<'_>>,
        y: TensorViewMut<'_>,
    ) -> Result<()> {
        self.batch_norm_of_batch(x, norm, running, None, Activation::Identity, y)
    }

    /// [`Cpu::batch_norm_train_into`] that also writes what it used, one value per channel, for
    /// [`Cpu::batch_norm_train_backward_into`]. An empty batch writes none.
    ///
    /// # Errors
    /// [`Error::Invalid`] as there, and for moments that have not one value per channel.
    pub fn batch_norm_moments_into(
        &self,
        x: TensorView<'_>,
        norm: BatchNorm<'_>,
        running: Option<RunningStats<'_>>,
        moments: Moments<&mut [f32]>,
        y: TensorViewMut<'_>,
    ) -> Result<()> {
        self.batch_norm_activation_into(x, norm, running, moments, Activation::Identity, y)
    }

    /// [`Cpu::batch_norm_moments_into`] and then, in the same pass, [`Cpu::activation_into`].
    ///
    /// # Errors
    /// [`Error::Invalid`] as there.
    pub fn batch_norm_activation_into(
        &self,
        x: TensorView<'_>,
        norm: BatchNorm<'_>,
        running: Option<RunningStats<'_>>,
        moments: Moments<&mut [f32]>,
        f: Activation,
        y: TensorViewMut<'_>,
    ) -> Result<()> {
        f.validate()?;
        one_per_channel("mean of the batch", x.shape(), moments.mean)?;
        one_per_channel("inverse deviation of the batch", x.shape(), moments.inv_std)?;
        self.batch_norm_of_batch(x, norm, running, Some(moments), f, y)
    }

    fn batch_norm_of_batch(
        &self,
        x: TensorView<'_>,
        norm: BatchNorm<'_>,
        running: Option<RunningStats<'_>>,
        moments: Option<Moments<&mut [f32]>>,
        f: Activation,
        mut y: TensorViewMut<'_>,
    ) -> Result<()> {
        let shape = x.shape();
        norm.validate(shape)?;
        expect_shape(OP, "output shape", shape, y.shape())?;
        if let Some(running) = &running {
            one_per_channel("running mean", shape, running.mean)?;
            one_per_channel("running variance", shape, running.var)?;
            check_momentum(running.momentum)?;
        }
        let plane = shape.plane_len();
        let Some(count) = training_count(shape)? else {
            return Ok(());
        };
        let running = running
            .map(|r| (SharedOut::new(r.mean.as_mut_ptr()), SharedOut::new(r.var.as_mut_ptr()), r.momentum));
        let moments =
            moments.map(|m| (SharedOut::new(m.mean.as_mut_ptr()), SharedOut::new(m.inv_std.as_mut_ptr())));
        let (batch_stride, out) = (y.batch_stride(), SharedOut::new(y.as_mut_ptr()));
        let strands = threads::strands(self, shape.n * shape.image_len());
        threads::for_each_item(strands, shape.c, |_, c| {
            let planes = || (0..shape.n).map(|n| x.plane(n, c));
            // A first mean, with the error of an f32 sum; then what it lacks, from small distances.
            let center = (planes().map(|x| self.isa.run(Sum(Values(x)))).sum::<f64>() / count as f64) as f32;
            let deviations = |x| self.isa.run(Sum(Deviations { x, center }));
            let lacking = planes().map(deviations).sum::<f64>() / count as f64;
            // Nothing is at a distance from infinity that a number could say.
            let mean = f64::from(center) + if center.is_finite() { lacking } else { 0.0 };
            // The second moment about any point exceeds the variance by the square of the distance to the mean.
            let around = |x| self.isa.run(Sum(SquaresAround { x, center }));
            let squares = planes().map(around).sum::<f64>() - count as f64 * lacking.powi(2);
            let var = squares / count as f64;
            for (n, x) in planes().enumerate() {
                // SAFETY: the view holds plane c of image n at this offset (it has the shape of `x`), and no other item
                // writes channel c.
                let y = unsafe {
                    std::slice::from_raw_parts_mut(out.get().add(n * batch_stride + c * plane), plane)
                };
                self.isa.run(Scale { f, ..norm.of_channel(c, mean, var, x, y) });
            }
            if let Some((mean_of_batch, inv_std)) = moments {
                // SAFETY: both slices hold c channels, and no other item touches element c.
                unsafe {
                    *mean_of_batch.get().add(c) = mean as f32;
                    *inv_std.get().add(c) = (1.0 / (var + f64::from(norm.eps)).sqrt()) as f32;
                }
            }
            if let Some((running_mean, running_var, momentum)) = running {
                let moved = |old: &mut f32, new: f64| {
                    let momentum = f64::from(momentum);
                    *old = ((1.0 - momentum) * f64::from(*old) + momentum * new) as f32;
                };
                // SAFETY: as above.
                unsafe {
                    moved(&mut *running_mean.get().add(c), mean);
                    moved(&mut *running_var.get().add(c), squares / (count - 1) as f64);
                }
            }
        });
        Ok(())
    }
}

impl<'a> BatchNorm<'a> {
    fn validate(&self, shape: Shape4) -> Result<()> {
        one_per_channel("gamma", shape, self.gamma)?;
        one_per_channel("beta", shape, self.beta)?;
        check_eps(self.eps)
    }

    /// The normalisation of elements of channel `c`.
    fn of_channel<'b>(&self, c: usize, mean: f64, var: f64, x: &'b [f32], y: &'b mut [f32]) -> Scale<'b> {
        let factor = f64::from(self.gamma[c]) / (var + f64::from(self.eps)).sqrt();
        let center = mean as f32;
        // What the rounding of the mean has lost comes back with beta; an infinite mean has lost nothing, and nothing
        // times an infinite factor is nothing.
        let lost = mean - f64::from(center);
        let offset =
            f64::from(self.beta[c]) - if lost.is_finite() && lost != 0.0 { lost * factor } else { 0.0 };
        Scale { x, center, factor: factor as f32, offset: offset as f32, f: Activation::Identity, y }
    }
}

fn one_per_channel(arg: &'static str, shape: Shape4, values: &[f32]) -> Result<()> {
    if values.len() == shape.c { Ok(()) } else { Err(Error::invalid(OP, arg, shape.c, values.len())) }
}

/// `y = f((x - center) * factor + offset)`, for slices of one length. (Not `x * factor + offset'`, which cancels where the
/// mean is large.)
struct Scale<'a> {
    x: &'a [f32],
    center: f32,
    factor: f32,
    offset: f32,
    f: Activation,
    y: &'a mut [f32],
}

impl SimdOp for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // A loop of its own for what networks have most, in which the choice within `apply` folds away.
        match self.f {
            Activation::Identity => self.each(simd, Activation::Identity),
            Activation::Relu => self.each(simd, Activation::Relu),
            f => self.each(simd, f),
        }
    }
}

impl Scale<'_> {
    #[inline(always)]
    fn each<S: Simd>(self, simd: S, f: Activation) {
        let [center, factor, offset] = [self.center, self.factor, self.offset].map(|v| simd.splat(v));
        for (x, y) in self.x.chunks(S::LANES).zip(self.y.chunks_mut(S::LANES)) {
            // SAFETY: both chunks hold y.len() elements.
            unsafe {
                let distance = simd.sub(simd.load_up_to(x.as_ptr(), y.len()), center);
                let normal = simd.add(simd.mul(distance, factor), offset);
                simd.store_up_to(y.as_mut_ptr(), y.len(), apply(simd, f, normal));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_mean_costs_no_digits() -> Result<()> {
        // Mean 10^4 and a third, deviation 1: an f32 sum of x is off by 10^-3, one of x^2 has no variance left.
        let x = Tensor::from_fn(Shape4::new(2, 1, 64, 63), |[n, _, h, w]| 1e4 + ((n + h + w) % 3) as f32)?;
        let norm = BatchNorm { gamma: &[1.0], beta: &[0.0], eps: 0.0 };
        let y = Cpu::new()?.batch_norm_train(&x, norm, None)?;
        let exact: Vec<f64> = x.data().iter().map(|&x| f64::from(x) - 1e4).collect();
        let mean = exact.iter().sum::<f64>() / exact.len() as f64;
        let deviation = (exact.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / exact.len() as f64).sqrt();
        assert!(
            y.data().iter().zip(exact).all(|(&y, x)| (f64::from(y) - (x - mean) / deviation).abs() < 1e-6)
        );
        Ok(())
    }

    #[test]
    fn running_statistics_move_and_an_empty_batch_leaves_them() -> Result<()> {
        let (mut mean, mut var) = ([1.0], [1.0]);
        let norm = BatchNorm { gamma: &[1.0], beta: &[0.0], eps: 0.0 };
        for (x, expected) in [(vec![1.0, 3.0], ([1.5], [1.5])), (vec![], ([1.5], [1.5]))] {
            let x = Tensor::from_vec(Shape4::new(x.len(), 1, 1, 1), x)?;
            let running = RunningStats { mean: &mut mean, var: &mut var, momentum: 0.5 };
            Cpu::new()?.batch_norm_train(&x, norm, Some(running))?;
            assert_eq!((mean, var), expected);
        }
        let single = Tensor::zeros(Shape4::new(1, 1, 1, 1))?;
        assert!(Cpu::new()?.batch_norm_train(&single, norm, None).is_err());
        Ok(())
    }
}
