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
