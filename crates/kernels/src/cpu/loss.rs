//! Losses, reduced to the mean: cross-entropy over channels, binary cross-entropy with logits, mean squared error.
//!
//! Each is a sum of parts that do not depend on the number of threads, in f64, added in order. The mean over nothing is
//! NaN, as in PyTorch.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::cpu::softmax::{column_peaks, row_peak};
use crate::cpu::sum::{SquaredDifferences, Sum};
use crate::cpu::{Cpu, expect_shape, threads};
use crate::error::{Error, Result};
use crate::shape::loss::check_labels;
use crate::simd::{Simd, SimdOp};
use crate::tensor::Tensor;

impl Cpu {
    /// The mean of `ln(sum over c of exp(x[n][c][h][w])) - x[n][label][h][w]`, the negative log-likelihood of the
    /// labels under the softmax over channels.
    ///
    /// `x` is `n x classes x h x w`; `labels` holds `n * h * w` classes in the order of the pixels of `n x 1 x h x w`
    /// (for a classifier, `h = w = 1`: one per sample).
    ///
    /// ```
    /// use tilewise_kernels::{Cpu, Shape4, Tensor};
    /// // Two samples, three classes; without a preference every label costs ln 3.
    /// let x = Tensor::zeros(Shape4::new(2, 3, 1, 1))?;
    /// let loss = Cpu::new()?.cross_entropy(&x, &[0, 2])?;
    /// assert!((loss - 3f32.ln()).abs() < 1e-6);
    /// # Ok::<(), tilewise_kernels::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] for no classes, another number of labels or a label that is no class;
    /// [`Error::OutOfMemory`].
    pub fn cross_entropy(&self, x: &Tensor, labels: &[usize]) -> Result<f32> {
        const OP: &str = "cross_entropy";
        let (shape, plane) = (x.shape(), x.shape().plane_len());
        check_labels(OP, shape, labels)?;
        let per_image = plane.div_ceil(PIXELS);
        let total = self.sum_of_parts(OP, shape.n * per_image, x.data().len(), |part| {
            let (n, first) = (part / per_image, part % per_image * PIXELS);
            let labels = &labels[n * plane..][first..plane.min(first + PIXELS)];
            self.isa.run(CrossEntropy { x: x.view().image(n), plane, first, labels })
        })?;
        Ok((total / labels.len() as f64) as f32)
    }

    /// The mean of `(1 - t) x + ln(1 + exp(-x))`, the binary cross-entropy between targets `t` (in 0..=1) and the
    /// sigmoid of `x`, in a form that does not overflow.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the shapes differ; [`Error::OutOfMemory`].
    pub fn bce_with_logits(&self, x: &Tensor, target: &Tensor) -> Result<f32> {
        self.mean_of_pairs("bce_with_logits", x, target, |x, target| {
            let one = |(&x, &t): (&f32, &f32)| {
                let (x, t) = (f64::from(x), f64::from(t));
                (1.0 - t) * x + (-x).max(0.0) + (-x.abs()).exp().ln_1p()
            };
            x.iter().zip(target).map(one).sum()
        })
    }

    /// The mean of `(x - target)^2`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the shapes differ; [`Error::OutOfMemory`].
    pub fn mse(&self, x: &Tensor, target: &Tensor) -> Result<f32> {
        self.mean_of_pairs("mse", x, target, |a, b| self.isa.run(Sum(SquaredDifferences { a, b })))
    }

    /// The mean over all elements, from a sum over parts of `x` and `target`.
    fn mean_of_pairs(
        &self,
        op: &'static str,
        x: &Tensor,
        target: &Tensor,
        sum: impl Fn(&[f32], &[f32]) -> f64 + Sync,
    ) -> Result<f32> {
        expect_shape(op, "target shape", x.shape(), target.shape())?;
        let len = x.data().len();
        let total = self.sum_of_parts(op, len.div_ceil(threads::CHUNK), len, |part| {
            let range = part * threads::CHUNK..len.min((part + 1) * threads::CHUNK);
            sum(&x.data()[range.clone()], &target.data()[range])
        })?;
        Ok((total / len as f64) as f32)
    }

    /// `part(0) + part(1) + ...`, in this order whatever thread computed which.
    fn sum_of_parts(
        &self,
        op: &'static str,
        parts: usize,
        work: usize,
        part: impl Fn(usize) -> f64 + Sync,
    ) -> Result<f64> {
        let mut sums = Vec::new();
        sums.try_reserve_exact(parts)
            .map_err(|_| Error::OutOfMemory { op, bytes: parts.saturating_mul(size_of::<AtomicU64>()) })?;
        sums.resize_with(parts, AtomicU64::default);
        threads::for_each_item(threads::strands(self, work), parts, |_, i| {
            sums[i].store(part(i).to_bits(), Ordering::Relaxed);
        });
        Ok(sums.into_iter().map(|sum| f64::from_bits(sum.into_inner())).sum())
    }
}

/// Pixels of a part of a cross-entropy.
const PIXELS: usize = 1024;

/// The cross-entropies of some pixels of one image, added up.
struct CrossEntropy<'a> {
    /// The image: `classes` planes.
    x: &'a [f32],
    plane: usize,
    /// The first pixel.
    first: usize,
    /// One class per pixel.
    labels: &'a [usize],
}

impl SimdOp for CrossEntropy<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f64 {
        let CrossEntropy { x, plane, first, labels } = self;
        let of_pixel =
            |max: f32, sum: f32, logit: f32| f64::from(max) + f64::from(sum).ln() - f64::from(logit);
        if let ([label], 1) = (labels, plane) {
            let peak = row_peak(simd, x);
            return of_pixel(peak.max, peak.sum, x[*label]);
        }
        let mut total = 0.0;
        for (first, labels) in (first..).step_by(S::LANES).zip(labels.chunks(S::LANES)) {
            // SAFETY: the plane of each of the `x.len() / plane` classes holds pixels first..first + labels.len().
            let peaks =
                unsafe { column_peaks(simd, x[first..].as_ptr(), plane, x.len() / plane, labels.len()) };
            let (max, sum) = (simd.to_lanes(peaks.max), simd.to_lanes(peaks.sum));
            for (i, label) in labels.iter().enumerate() {
                total += of_pixel(max[i], sum[i], x[label * plane + first + i]);
            }
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Isa;
    use crate::tensor::Shape4;

    const INF: f32 = f32::INFINITY;
    const NAN: f32 = f32::NAN;

    fn same(a: f32, b: f32) -> bool {
        a == b || a.is_nan() && b.is_nan()
    }

    #[test]
    fn cross_entropy_at_the_limits_is_that_of_pytorch() -> Result<()> {
        for isa in Isa::available() {
            let cpu = Cpu::with_isa(isa)?;
            for (x, expected) in [
                ([-INF, 1.0], INF),
                ([INF, 1.0], NAN),
                ([NAN, 1.0], NAN),
                ([1.0, -INF], 0.0),
                ([1e4, -1e4], 0.0),
                ([-1e4, 1e4], 2e4),
            ] {
                // The one pixel alone, and as one of two.
                let alone = Tensor::from_vec(Shape4::new(1, 2, 1, 1), x.to_vec())?;
                assert!(same(cpu.cross_entropy(&alone, &[0])?, expected), "{isa} {x:?}");
                let twice = Tensor::from_vec(Shape4::new(1, 2, 1, 2), vec![x[0], x[0], x[1], x[1]])?;
                assert!(same(cpu.cross_entropy(&twice, &[0, 0])?, expected), "{isa} {x:?}");
            }
            let none = Tensor::zeros(Shape4::new(0, 2, 1, 1))?;
            assert!(cpu.cross_entropy(&none, &[])?.is_nan());
        }
        Ok(())
    }

    #[test]
    fn bce_at_the_limits_is_that_of_pytorch() -> Result<()> {
        for (x, target, expected) in [
            (INF, 1.0, NAN),
            (INF, 0.0, INF),
            (-INF, 0.0, NAN),
            (-INF, 1.0, NAN),
            (NAN, 1.0, NAN),
            (200.0, 0.0, 200.0),
            (40.0, 1.0, 4.248_354e-18),
        ] {
            let one = |v| Tensor::from_vec(Shape4::new(1, 1, 1, 1), vec![v]);
            let loss = Cpu::new()?.bce_with_logits(&one(x)?, &one(target)?)?;
            assert!(same(loss, expected), "{x} {target}: {loss}");
        }
        Ok(())
    }
}
