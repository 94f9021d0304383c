//! Concatenation of channels: copies. (A network that plans its memory writes the parts in place instead, through
//! [`TensorViewMut::channels`].)

use crate::cpu::{Cpu, expect_shape, threads};
use crate::error::Result;
use crate::shape::concat::backward_channels;
use crate::shape::{Update, concat_shape};
use crate::tensor::{Tensor, TensorView, TensorViewMut};

const OP: &str = "concat";

impl Cpu {
    /// The channels of all inputs, one after the other. Batch, height and width are the same in all.
    ///
    /// ```
    /// use tilewise_kernels::{Cpu, Shape4, Tensor};
    /// let a = Tensor::from_vec(Shape4::new(1, 1, 1, 2), vec![1.0, 2.0])?;
    /// let b = Tensor::from_vec(Shape4::new(1, 2, 1, 2), vec![3.0, 4.0, 5.0, 6.0])?;
    /// let y = Cpu::new()?.concat(&[&a, &b])?;
    /// assert_eq!(y.shape(), Shape4::new(1, 3, 1, 2));
    /// assert_eq!(y.data(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    /// # Ok::<(), tilewise_kernels::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] without inputs or for inputs that do not fit the first; [`crate::Error::Overflow`];
    /// [`crate::Error::OutOfMemory`].
    pub fn concat(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let views: Vec<_> = inputs.iter().map(|x| x.view()).collect();
        let mut y = Tensor::zeros(concat_shape(views.iter().map(TensorView::shape))?)?;
        self.concat_into(&views, y.view_mut())?;
        Ok(y)
    }

    /// [`Cpu::concat`] into `y`. Allocates nothing.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] without inputs, for inputs that do not fit the first, or for another shape of `y`;
    /// [`crate::Error::Overflow`].
    pub fn concat_into(&self, inputs: &[TensorView<'_>], y: TensorViewMut<'_>) -> Result<()> {
        expect_shape(OP, "output shape", concat_shape(inputs.iter().map(TensorView::shape))?, y.shape())?;
        threads::for_each_chunk(self, y, threads::CHUNK, |n, mut start, mut y| {
            // The chunk may begin and end within inputs, and cover several.
            for x in inputs {
                let x = x.image(n);
                let part = x.get(start..).unwrap_or_default();
                let (head, rest) = y.split_at_mut(part.len().min(y.len()));
                head.copy_from_slice(&part[..head.len()]);
                start = start.saturating_sub(x.len());
                y = rest;
            }
        });
        Ok(())
    }

    /// The gradient of [`Cpu::concat`] to the input whose first channel is channel `first` of the output: those
    /// channels of `gy`, as many as `gx` has. Allocates nothing.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if `gy` has no such channels, or other images.
    pub fn concat_backward_into(
        &self,
        gy: TensorView<'_>,
        first: usize,
        gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        let channels = backward_channels(gy.shape(), first, gx.shape())?;
        self.add_backward_into(gy.channels(channels)?, gx, update)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::tensor::Shape4;

    #[test]
    fn parts_of_all_sizes_across_chunks() -> Result<()> {
        // Planes of 7 x 191: chunks begin and end anywhere; one input is empty, one spans chunks.
        let channels = [1, 0, 2, 13, 1];
        let mut next = 0;
        let inputs: Vec<Tensor> = channels
            .into_iter()
            .map(|c| {
                Tensor::from_fn(Shape4::new(2, c, 7, 191), |_| {
                    next += 1;
                    next as f32
                })
            })
            .collect::<Result<_>>()?;
        let y = Cpu::new()?.concat(&inputs.iter().collect::<Vec<_>>())?;
        let expected: Vec<f32> =
            (0..2).flat_map(|n| inputs.iter().flat_map(move |x| x.view().image(n).to_vec())).collect();
        assert_eq!(y.data(), expected);
        Ok(())
    }

    #[test]
    fn each_input_gets_its_channels_back() -> Result<()> {
        let cpu = Cpu::new()?;
        let gy = Tensor::from_fn(Shape4::new(2, 3, 1, 2), |[n, c, _, w]| (100 * n + 10 * c + w) as f32)?;
        let mut gx = Tensor::from_vec(Shape4::new(2, 2, 1, 2), vec![0.5; 8])?;
        cpu.concat_backward_into(gy.view(), 1, gx.view_mut(), Update::Accumulate)?;
        assert_eq!(gx.data(), [10.5, 11.5, 20.5, 21.5, 110.5, 111.5, 120.5, 121.5]);
        for (first, shape) in [
            (2, Shape4::new(2, 2, 1, 2)),
            (usize::MAX, Shape4::new(2, 2, 1, 2)),
            (0, Shape4::new(2, 4, 1, 2)),
            (0, Shape4::new(2, 2, 2, 2)),
            (0, Shape4::new(1, 2, 1, 2)),
        ] {
            let mut gx = Tensor::zeros(shape)?;
            let refused = cpu.concat_backward_into(gy.view(), first, gx.view_mut(), Update::Write);
            assert!(matches!(refused, Err(Error::Invalid { op: "concat_backward", .. })), "{refused:?}");
        }
        Ok(())
    }
}
