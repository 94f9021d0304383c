//! The gradient to a bias: what is added to every element of a channel gets the sum of the channel's gradients.

use crate::cpu::sum::{Sum, Values};
use crate::cpu::threads::SharedOut;
use crate::cpu::{Cpu, expect_shape, threads};
use crate::error::Result;
use crate::shape::Update;
use crate::simd::{Simd, SimdOp};
use crate::tensor::{Shape4, TensorView, TensorViewMut};

/// Neighbouring features that are added up side by side: 1 KiB of f64.
const FEATURES: usize = 128;

impl Cpu {
    /// The gradient to a bias of one value per channel, `1 x c x 1 x 1`: the sum of `gy` over batch and plane (0 of an
    /// empty batch). Allocates nothing.
    ///
    /// ```
    /// use tilewise_kernels::{Cpu, Shape4, Tensor, Update};
    /// let gy = Tensor::from_vec(Shape4::new(2, 2, 1, 2), vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])?;
    /// let mut gb = Tensor::zeros(Shape4::new(1, 2, 1, 1))?;
    /// Cpu::new()?.bias_backward_into(gy.view(), gb.view_mut(), Update::Write)?;
    /// assert_eq!(gb.data(), [14.0, 22.0]);
    /// # Ok::<(), tilewise_kernels::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for another shape of `gb`.
    pub fn bias_backward_into(
        &self,
        gy: TensorView<'_>,
        mut gb: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        let shape = gy.shape();
        expect_shape("bias_backward", "bias gradient shape", Shape4::new(1, shape.c, 1, 1), gb.shape())?;
        let (plane, work) = (shape.plane_len(), shape.n * shape.image_len());
        // Of no elements there may be more images than could be counted.
        let images = if work == 0 { 0 } else { shape.n };
        let at_once = if plane == 1 { FEATURES } else { 1 };
        let gb = SharedOut::new(gb.as_mut_ptr());
        threads::for_each_item(threads::strands(self, work), shape.c.div_ceil(at_once), |_, item| {
            let first = item * at_once;
            let len = at_once.min(shape.c - first);
            // SAFETY: the view holds c elements, and no two items share one.
            let gb = unsafe { std::slice::from_raw_parts_mut(gb.get().add(first), len) };
            if plane == 1 {
                self.isa.run(Features { gy, images, first, gb, update });
            } else {
                let sum: f64 = (0..images).map(|n| self.isa.run(Sum(Values(gy.plane(n, first))))).sum();
                update.fill(sum as f32, gb);
            }
        });
        Ok(())
    }
}

/// The sums of features from `first` on over all images, at most [`FEATURES`]: rows of features added up.
struct Features<'a> {
    gy: TensorView<'a>,
    images: usize,
    first: usize,
    gb: &'a mut [f32],
    update: Update,
}

impl SimdOp for Features<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let mut sums = [0.0; FEATURES];
        for n in 0..self.images {
            let features = &self.gy.image(n)[self.first..][..self.gb.len()];
            for (sum, &g) in sums.iter_mut().zip(features) {
                *sum += f64::from(g);
            }
        }
        for (gb, sum) in self.gb.iter_mut().zip(sums) {
            *gb = self.update.of(*gb, sum as f32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::tensor::Tensor;

    #[test]
    fn planes_and_features_of_any_number() -> Result<()> {
        for plane in [[1, 1], [1, 3], [9, 11]] {
            for c in [1, 2, 127, 128, 300] {
                let shape = Shape4::new(5, c, plane[0], plane[1]);
                let gy = Tensor::from_fn(shape, |[n, c, h, w]| (n * 7 + c * 5 + h * 3 + w) as f32 - 11.0)?;
                let mut gb = Tensor::from_vec(Shape4::new(1, c, 1, 1), vec![1.0; c])?;
                Cpu::new()?.bias_backward_into(gy.view(), gb.view_mut(), Update::Accumulate)?;
                for (c, &gb) in gb.data().iter().enumerate() {
                    let exact: f32 = (0..5).flat_map(|n| gy.view().plane(n, c)).sum();
                    assert_eq!(gb, 1.0 + exact, "{shape} channel {c}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn an_empty_batch_gives_zeros_and_another_shape_an_error() -> Result<()> {
        let cpu = Cpu::new()?;
        for shape in [Shape4::new(0, 2, 3, 3), Shape4::new(usize::MAX / 64, 2, 0, 1)] {
            let gy = Tensor::zeros(shape)?;
            let mut gb = Tensor::from_vec(Shape4::new(1, 2, 1, 1), vec![f32::NAN; 2])?;
            cpu.bias_backward_into(gy.view(), gb.view_mut(), Update::Write)?;
            assert_eq!(gb.data(), [0.0; 2]);
        }
        let gy = Tensor::zeros(Shape4::new(1, 2, 1, 1))?;
        let mut gb = Tensor::zeros(Shape4::new(1, 3, 1, 1))?;
        let refused = cpu.bias_backward_into(gy.view(), gb.view_mut(), Update::Write);
        assert!(matches!(refused, Err(Error::Invalid { op: "bias_backward", .. })), "{refused:?}");
        Ok(())
    }
}
