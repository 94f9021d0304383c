//! Binary cross-entropy with logits: `(1 - t) x + (1 + (w - 1) t) (max(-x, 0) + ln(1 + exp(-|x|)))`, which overflows
//! nowhere, with `w` the weight of positive targets.

use std::ops::Range;

use super::pairs::{Gradient, Slopes, share};
use super::write_scalar;
use crate::cpu::Cpu;
use crate::cpu::sum::{Sum, Summand};
use crate::error::Result;
use crate::shape::Update;
use crate::shape::loss::check_pos_weight;
use crate::simd::{Simd, math};
use crate::tensor::{Tensor, TensorView, TensorViewMut};

const OP: &str = "bce_with_logits";

impl Cpu {
    /// The mean of `w t ln(1 + exp(-x)) + (1 - t) ln(1 + exp(x))`, the binary cross-entropy between targets `t` (in 0..=1)
    /// and the sigmoid of `x`, with the weight `w` of its channel for what is positive (1 if `None`), as
    /// `torch.nn.BCEWithLogitsLoss`.
    ///
    /// ```
    /// use tilewise_kernels::{Cpu, Shape4, Tensor};
    /// let shape = Shape4::new(1, 2, 1, 1);
    /// let (x, target) = (Tensor::zeros(shape)?, Tensor::from_vec(shape, vec![1.0, 0.0])?);
    /// // Without a preference each costs ln 2; a miss of the first channel is to cost three times as much.
    /// let loss = Cpu::new()?.bce_with_logits(&x, &target, Some(&[3.0, 1.0]))?;
    /// assert!((loss - 2.0 * 2f32.ln()).abs() < 1e-6);
    /// # Ok::<(), tilewise_kernels::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if the shapes differ, for another number of weights than channels, or a weight that is
    /// negative or not finite.
    pub fn bce_with_logits(&self, x: &Tensor, target: &Tensor, pos_weight: Option<&[f32]>) -> Result<f32> {
        self.bce_with_logits_of(x.view(), target.view(), pos_weight)
    }

    /// [`Cpu::bce_with_logits`] into the single element of `y`. Allocates nothing.
    ///
    /// # Errors
    /// As there, or for another shape of `y`.
    pub fn bce_with_logits_into(
        &self,
        x: TensorView<'_>,
        target: TensorView<'_>,
        pos_weight: Option<&[f32]>,
        y: TensorViewMut<'_>,
    ) -> Result<()> {
        write_scalar(OP, y, || self.bce_with_logits_of(x, target, pos_weight))
    }

    fn bce_with_logits_of(
        &self,
        x: TensorView<'_>,
        target: TensorView<'_>,
        pos_weight: Option<&[f32]>,
    ) -> Result<f32> {
        check_pos_weight(OP, x.shape(), pos_weight)?;
        let plane = x.shape().plane_len();
        self.mean_of_pairs(OP, x, target, |first, x, t| {
            let of = |(range, weight): (Range<usize>, Weight<'_>)| {
                self.isa.run(Sum(Entropies { x: &x[range.clone()], t: &t[range], weight }))
            };
            pieces(pos_weight, plane, first, x.len()).map(of).sum()
        })
    }

    /// The gradient of [`Cpu::bce_with_logits`] at `x`, times `gy`. Allocates nothing.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] as there, or for another shape of `gx`.
    pub fn bce_with_logits_backward_into(
        &self,
        x: TensorView<'_>,
        target: TensorView<'_>,
        pos_weight: Option<&[f32]>,
        gy: f32,
        gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        check_pos_weight(OP, x.shape(), pos_weight)?;
        let (plane, share) = (x.shape().plane_len(), share(gy, x) as f32);
        self.map_pairs(OP, x, target, gx, |first, x, t, gx| {
            for (range, weight) in pieces(pos_weight, plane, first, x.len()) {
                let (x, t) = (&x[range.clone()], &t[range.clone()]);
                self.isa.run(Gradient { of: Misses { x, t, weight, share }, gx: &mut gx[range], update });
            }
        })
    }
}

/// The weights of positive targets for some elements.
#[derive(Clone, Copy)]
enum Weight<'a> {
    Same(f32),
    Each(&'a [f32]),
}

impl Weight<'_> {
    /// # Safety
    /// Of weights for each there are `i + min(n, LANES)`.
    #[inline(always)]
    unsafe fn lanes<S: Simd>(self, simd: S, i: usize, n: usize) -> S::F32 {
        match self {
            Weight::Same(weight) => simd.splat(weight),
            // SAFETY: as the caller promises.
            Weight::Each(weights) => unsafe { simd.load_up_to(weights.as_ptr().add(i), n) },
        }
    }

    #[inline(always)]
    fn at(self, i: usize) -> f32 {
        match self {
            Weight::Same(weight) => weight,
            Weight::Each(weights) => weights[i],
        }
    }
}

/// Cuts `len` elements from `first` of an image on into pieces whose weights are known: those of a channel have one; of
/// planes of a single element each its own. Images may follow each other, too.
fn pieces(
    pos_weight: Option<&[f32]>,
    plane: usize,
    first: usize,
    len: usize,
) -> impl Iterator<Item = (Range<usize>, Weight<'_>)> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let position = first + start;
        let (end, weight) = match pos_weight {
            _ if start >= len => return None,
            None => (len, Weight::Same(1.0)),
            Some(weights) if plane == 1 => {
                let channel = position % weights.len();
                let end = len.min(start + weights.len() - channel);
                (end, Weight::Each(&weights[channel..channel + end - start]))
            }
            Some(weights) => {
                let weight = weights[position / plane % weights.len()];
                (len.min(start + plane - position % plane), Weight::Same(weight))
            }
        };
        Some((std::mem::replace(&mut start, end)..end, weight))
    })
}

/// The losses of pairs, for slices (and weights) of one length.
#[derive(Clone, Copy)]
struct Entropies<'a> {
    x: &'a [f32],
    t: &'a [f32],
    weight: Weight<'a>,
}

impl Summand for Entropies<'_> {
    #[inline(always)]
    fn len(self) -> usize {
        self.x.len().min(self.t.len())
    }

    #[inline(always)]
    unsafe fn lanes<S: Simd>(self, simd: S, i: usize) -> S::F32 {
        // SAFETY: the caller keeps i + LANES within the slices.
        let (x, t, weight) = unsafe {
            (
                simd.load(self.x.as_ptr().add(i)),
                simd.load(self.t.as_ptr().add(i)),
                self.weight.lanes(simd, i, S::LANES),
            )
        };
        let (zero, one) = (simd.splat(0.0), simd.splat(1.0));
        let opposite = simd.sub(zero, x);
        let of_log = simd.mul_add(simd.sub(weight, one), t, one);
        let full = simd.mul_add(of_log, simd.max(opposite, zero), simd.mul(simd.sub(one, t), x));
        // For negative x this is -w t x: as a difference it would cancel. Infinities want it in full.
        let infinite = simd.gt(simd.abs(x), simd.splat(f32::MAX));
        let negative = simd.select(infinite, full, simd.mul(simd.mul(weight, t), opposite));
        let linear = simd.select(simd.gt(zero, x), negative, full);
        let log = math::ln_1p(simd, math::exp(simd, simd.sub(zero, simd.abs(x))));
        simd.mul_add(of_log, log, linear)
    }

    #[inline(always)]
    fn term(self, i: usize) -> f64 {
        let [x, t, weight] = [self.x[i], self.t[i], self.weight.at(i)].map(f64::from);
        (1.0 - t) * x + ((weight - 1.0) * t + 1.0) * ((-x).max(0.0) + (-x.abs()).exp().ln_1p())
    }
}

/// `share * ((1 + (w - 1) t) * sigmoid(x) - w t)`, for slices (and weights) of one length.
#[derive(Clone, Copy)]
struct Misses<'a> {
    x: &'a [f32],
    t: &'a [f32],
    weight: Weight<'a>,
    share: f32,
}

impl Slopes for Misses<'_> {
    #[inline(always)]
    unsafe fn lanes<S: Simd>(self, simd: S, i: usize, n: usize) -> S::F32 {
        // SAFETY: the caller keeps i + n within the slices.
        let (x, t, weight) = unsafe {
            (
                simd.load_up_to(self.x.as_ptr().add(i), n),
                simd.load_up_to(self.t.as_ptr().add(i), n),
                self.weight.lanes(simd, i, n),
            )
        };
        let one = simd.splat(1.0);
        let of_sigmoid = simd.mul_add(simd.sub(weight, one), t, one);
        let miss = simd.sub(simd.mul(of_sigmoid, math::sigmoid(simd, x)), simd.mul(weight, t));
        simd.mul(simd.splat(self.share), miss)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Shape4;

    #[test]
    fn limits_are_those_of_pytorch() -> Result<()> {
        const INF: f32 = f32::INFINITY;
        const NAN: f32 = f32::NAN;
        for (x, target, expected) in [
            (INF, 1.0, NAN),
            (INF, 0.0, INF),
            (-INF, 0.0, NAN),
            (-INF, 1.0, NAN),
            (NAN, 1.0, NAN),
            (200.0, 0.0, 200.0),
            (40.0, 1.0, 4.248_354e-18),
        ] {
            // One element alone, and enough for vectors.
            for len in [1, 32] {
                let all = |v| Tensor::from_vec(Shape4::new(1, len, 1, 1), vec![v; len]);
                let loss = Cpu::new()?.bce_with_logits(&all(x)?, &all(target)?, None)?;
                let same = loss == expected || loss.is_nan() && expected.is_nan();
                assert!(same || (loss / expected - 1.0).abs() < 4e-7, "{x} {target}: {loss}");
            }
        }
        Ok(())
    }

    #[test]
    fn pieces_cover_all_once_with_their_weights() {
        let weights = [0.0, 1.0, 2.0];
        for (plane, images) in [(1, 4), (2, 3), (5, 2)] {
            let all = weights.len() * plane * images;
            for first in 0..all {
                for len in 0..all - first {
                    let mut next = 0;
                    for (range, weight) in pieces(Some(&weights), plane, first, len) {
                        assert_eq!(range.start, next);
                        next = range.end;
                        for i in range.clone() {
                            assert_eq!(weight.at(i - range.start), ((first + i) / plane % 3) as f32);
                        }
                    }
                    assert_eq!(next, len);
                }
            }
        }
    }
}
