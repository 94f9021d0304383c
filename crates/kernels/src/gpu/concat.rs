//! Concatenation of channels: a copy into each part's channels. (A network that plans its memory writes them in place.)

use super::Gpu;
use super::buffer::{GpuView, GpuViewMut};
use crate::backend::expect_shape;
use crate::error::Result;
use crate::shape::concat::backward_channels;
use crate::shape::{Activation, Update, concat_shape};

impl Gpu {
    pub(super) fn concat_into(&self, inputs: &[GpuView<'_>], y: GpuViewMut<'_>) -> Result<()> {
        let shape = concat_shape(inputs.iter().map(GpuView::shape))?;
        expect_shape("concat", "output shape", shape, y.shape())?;
        let mut first = 0;
        for &x in inputs {
            let part = y.0.channels(first..first + x.shape.c)?;
            self.activation_into(x, Activation::Identity, GpuViewMut(part))?;
            first += x.shape.c;
        }
        Ok(())
    }

    pub(super) fn concat_backward_into(
        &self,
        gy: GpuView<'_>,
        first: usize,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        let channels = backward_channels(gy.shape, first, gx.shape())?;
        self.add_backward_into(gy.channels(channels)?, gx, update)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::testing::{devices, gradients_on_all, noise, same};
    use crate::tensor::{Shape4, Tensor};

    #[test]
    fn each_input_gets_its_channels_back() -> Result<()> {
        let gy = noise(Shape4::new(3, 9, 12, 13), 1);
        for channels in [0..9, 0..2, 2..9, 4..4] {
            let shape = Shape4 { c: channels.len(), ..gy.shape() };
            let first = channels.start;
            let expected =
                Tensor::from_fn(shape, |[n, c, h, w]| gy.view().plane(n, first + c)[h * shape.w + w])?;
            for gx in gradients_on_all([&gy], shape, |gpu, [gy], gx, update| {
                gpu.concat_backward_into(gy, first, gx, update)
            }) {
                assert!(same(&gx, expected.data()), "{channels:?}");
            }
        }
        let Some(gpu) = devices().first() else { return Ok(()) };
        let gy = crate::GpuTensor::new(gpu, "gy", gy.shape())?;
        for (first, c, h) in [(8, 2, 12), (usize::MAX, 1, 12), (0, 10, 12), (0, 9, 11)] {
            let mut gx = crate::GpuTensor::new(gpu, "gx", Shape4::new(3, c, h, 13))?;
            let refused = gpu.concat_backward_into(gy.view(), first, gx.view_mut(), Update::Write);
            assert!(matches!(refused, Err(crate::Error::Invalid { op: "concat_backward", .. })));
        }
        Ok(())
    }
}
