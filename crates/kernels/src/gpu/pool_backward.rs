//! Max pooling that remembers where the maxima were, and the gradients of pooling: each input gathers those of the windows that
//! cover it, so that nothing is added into memory and the order of every sum is fixed.

use super::Gpu;
use super::activation::flag;
use super::buffer::{Buffer, GpuView, GpuViewMut, words};
use super::parts::by_channel;
use super::pool::reachable;
use super::recorder::{Dispatch, WORKGROUP};
use super::reduce::divisor;
use super::wgsl::{Kernel, Shader, shader};
use crate::backend::expect_shape;
use crate::error::Result;
use crate::shape::{AvgPool2dParams, MaxPool2dParams, PoolShape, Update};
use crate::tensor::Shape4;

const ARGMAX: Shader = shader!("pool_argmax", 1, 2, "pool_window", "index", "order");
const BACKWARD: Shader = shader!("pool_backward", 2, 1, "pool_window", "index", "math");
const PLANES: Shader = shader!("pool_global_backward", 1, 1, "index", "math");

fn windows(mean: bool) -> Kernel {
    Kernel::new(BACKWARD, [("MEAN", mean.into())])
}

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    let others = [ARGMAX, PLANES].into_iter().map(|shader| Kernel::new(shader, []));
    others.chain([false, true].into_iter().map(windows))
}

/// Where the maxima of a pooling were, in the memory of a GPU. What the shader finds there is compared, never followed.
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
    fn view(&self) -> GpuView<'_> {
        let shape = self.shape.output();
        GpuView { buffer: &self.positions, start: 0, shape, batch_stride: shape.image_len() }
    }
}

/// Extents of a window, as shaders have them.
fn geometry(op: &'static str, shape: &PoolShape) -> Result<[u32; 6]> {
    let input = shape.input();
    let ([kernel_h, kernel_w], [stride_h, stride_w], [padding_h, padding_w]) =
        (shape.kernel(), shape.stride(), shape.padding());
    reachable(op, input.h, kernel_h, stride_h, padding_h)?;
    reachable(op, input.w, kernel_w, stride_w, padding_w)?;
    words(op, [kernel_h, kernel_w, stride_h, stride_w, padding_h, padding_w])
}

impl Gpu {
    pub(super) fn empty_argmax(&self, shape: PoolShape) -> Result<GpuArgmax> {
        let op = "max_pool2d_argmax";
        words(op, [shape.input().plane_len()])?;
        let bytes = shape.output().checked_len(op, "positions")? as u64 * 4;
        Ok(GpuArgmax { shape, positions: self.take_buffer(op, bytes, false)? })
    }

    pub(super) fn max_pool2d_argmax_into(
        &self,
        x: GpuView<'_>,
        params: MaxPool2dParams,
        y: GpuViewMut<'_>,
        argmax: &mut GpuArgmax,
    ) -> Result<()> {
        let op = "max_pool2d_argmax";
        let shape = PoolShape::max(x.shape, params)?;
        let (input, output, y) = (shape.input(), shape.output(), y.0);
        expect_shape(op, "output shape", output, y.shape)?;
        argmax_is_of(op, argmax, &shape)?;
        let window = geometry(op, &shape)?;
        let at = argmax.view();
        for part in by_channel(self, op, &[x, y, at])? {
            let (from, to, positions) = (x.part(self, &part), y.part(self, &part), at.part(self, &part));
            let image = part.channels.len() * output.plane_len();
            let count = part.images.len() * image;
            let params = [
                &words(op, [count, image, output.plane_len(), output.w, input.h, input.w])?[..],
                &window,
                &words(op, [from.first, x.batch_stride, to.first, y.batch_stride])?,
                &words(op, [positions.first, at.batch_stride])?,
            ];
            self.dispatch(&Dispatch {
                op,
                kernel: Kernel::new(ARGMAX, []),
                params: &params.concat(),
                reads: &[from],
                writes: &[to, positions],
                workgroups: count.div_ceil(WORKGROUP),
            })?;
        }
        Ok(())
    }

    pub(super) fn max_pool2d_backward_into(
        &self,
        argmax: &GpuArgmax,
        gy: GpuView<'_>,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        let (op, shape) = ("max_pool2d_backward", argmax.shape);
        expect_shape(op, "output gradient shape", shape.output(), gy.shape)?;
        expect_shape(op, "input gradient shape", shape.input(), gx.shape())?;
        self.pool_backward(op, &shape, gy, argmax.view(), None, gx.0, update)
    }

    pub(super) fn avg_pool2d_backward_into(
        &self,
        params: AvgPool2dParams,
        gy: GpuView<'_>,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        let (op, shape) = ("avg_pool2d_backward", PoolShape::avg(gx.shape(), params)?);
        expect_shape(op, "output gradient shape", shape.output(), gy.shape)?;
        // There are no positions: the gradients themselves are bound in their place, and not looked at.
        self.pool_backward(op, &shape, gy, gy, Some(params.count_include_pad), gx.0, update)
    }

    /// Of a maximum or, where it is said whether padding counts, of a mean.
    #[expect(clippy::too_many_arguments, reason = "each is an operand of one of two gradients")]
    fn pool_backward(
        &self,
        op: &'static str,
        shape: &PoolShape,
        gy: GpuView<'_>,
        positions: GpuView<'_>,
        mean: Option<bool>,
        gx: GpuView<'_>,
        update: Update,
    ) -> Result<()> {
        let (input, output) = (shape.input(), shape.output());
        let window = geometry(op, shape)?;
        for part in by_channel(self, op, &[gy, positions, gx])? {
            let [from, at, to] = [gy, positions, gx].map(|view| view.part(self, &part));
            let image = part.channels.len() * input.plane_len();
            let count = part.images.len() * image;
            let params = [
                &words(op, [count, image, input.plane_len(), input.w, output.h, output.w])?[..],
                &window,
                &[mean.unwrap_or_default().into()],
                &words(op, [from.first, gy.batch_stride, at.first, positions.batch_stride])?,
                &words(op, [to.first, gx.batch_stride])?,
                &[flag(update)],
            ];
            self.dispatch(&Dispatch {
                op,
                kernel: windows(mean.is_some()),
                params: &params.concat(),
                reads: &[from, at],
                writes: &[to],
                workgroups: count.div_ceil(WORKGROUP),
            })?;
        }
        Ok(())
    }

    pub(super) fn global_avg_pool_backward_into(
        &self,
        gy: GpuView<'_>,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        let (op, gx) = ("global_avg_pool_backward", gx.0);
        let plane = gx.shape.plane_len();
        expect_shape(op, "output gradient shape", Shape4 { h: 1, w: 1, ..gx.shape }, gy.shape)?;
        if plane == 0 {
            return Ok(());
        }
        for part in by_channel(self, op, &[gy, gx])? {
            let (from, to) = (gy.part(self, &part), gx.part(self, &part));
            let image = part.channels.len() * plane;
            let count = part.images.len() * image;
            let params = [
                &words(op, [count, image, plane])?[..],
                &[divisor(plane).to_bits()],
                &words(op, [from.first, gy.batch_stride, to.first, gx.batch_stride])?,
                &[flag(update)],
            ];
            self.dispatch(&Dispatch {
                op,
                kernel: Kernel::new(PLANES, []),
                params: &params.concat(),
                reads: &[from],
                writes: &[to],
                workgroups: count.div_ceil(WORKGROUP),
            })?;
        }
        Ok(())
    }
}

/// Refuses the argmax of another pooling.
fn argmax_is_of(op: &'static str, argmax: &GpuArgmax, shape: &PoolShape) -> Result<()> {
    expect_shape(op, "input shape of the argmax", shape.input(), argmax.shape.input())?;
    expect_shape(op, "output shape of the argmax", shape.output(), argmax.shape.output())
}
