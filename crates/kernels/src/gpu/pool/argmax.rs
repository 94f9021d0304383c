//! Max pooling that remembers where each maximum was.

use super::{Fold, Gpu};
use crate::backend::expect_shape;
use crate::error::{Error, Result};
use crate::gpu::buffer::{Buffer, GpuView, GpuViewMut};
use crate::shape::{MaxPool2dParams, PoolShape};

const OP: &str = "max_pool2d_argmax";

/// Where the maxima of a pooling were, in the memory of a GPU: for each output, in NCHW order, the position
/// `row * width + column` in its plane of the input (what PyTorch calls `return_indices`).
///
/// Made by [`crate::Training::empty_argmax`], of any contents, and filled by [`crate::Training::max_pool2d_argmax_into`].
pub struct GpuArgmax {
    shape: PoolShape,
    positions: Buffer,
}

impl std::fmt::Debug for GpuArgmax {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GpuArgmax").field("shape", &self.shape).finish_non_exhaustive()
    }
}

impl GpuArgmax {
    /// The pooling.
    pub fn shape(&self) -> PoolShape {
        self.shape
    }

    /// As a tensor of the shape of the output, whose elements are whole numbers.
    pub(super) fn view(&self) -> GpuView<'_> {
        let shape = self.shape.output();
        GpuView { buffer: &self.positions, start: 0, shape, batch_stride: shape.image_len() }
    }
}

impl Gpu {
    pub(in crate::gpu) fn empty_argmax(&self, shape: PoolShape) -> Result<GpuArgmax> {
        shape.check_positions(OP)?;
        let bytes = shape.output().checked_len(OP, "argmax")? as u64 * 4;
        Ok(GpuArgmax { shape, positions: self.take_buffer(OP, bytes, false)? })
    }

    /// The positions of an argmax, one for each output in NCHW order; waits for all that they depend on.
    ///
    /// # Errors
    /// As [`crate::Backend::download`].
    pub fn download_argmax(&self, argmax: &GpuArgmax) -> Result<Vec<u32>> {
        Ok(self.download_view(argmax.view())?.data().iter().map(|position| position.to_bits()).collect())
    }

    pub(in crate::gpu) fn max_pool2d_argmax_into(
        &self,
        x: GpuView<'_>,
        params: MaxPool2dParams,
        y: GpuViewMut<'_>,
        argmax: &mut GpuArgmax,
    ) -> Result<()> {
        let shape = PoolShape::max(x.shape(), params)?;
        expect_shape(OP, "output shape", shape.output(), y.shape())?;
        expect_shape(OP, "input shape of the argmax", shape.input(), argmax.shape.input())?;
        if argmax.shape != shape {
            return Err(Error::invalid(OP, "argmax", "that of this pooling", "that of another"));
        }
        self.pool_windows(OP, x, shape, Fold::Argmax(argmax.view()), y.0)
    }
}
