//! The gradients of pooling: each element of the input looks at the windows that it lies in, in row-major order.

use super::{Gpu, GpuArgmax, geometry};
use crate::backend::expect_shape;
use crate::error::Result;
use crate::gpu::buffer::{GpuView, GpuViewMut, words};
use crate::gpu::parts::by_channel;
use crate::gpu::recorder::{Dispatch, Slice, WORKGROUP};
use crate::gpu::reduce::divisor;
use crate::gpu::wgsl::{Kernel, Shader, shader};
use crate::shape::{AvgPool2dParams, PoolShape, Update};
use crate::tensor::Shape4;

const LARGEST: Shader = shader!("pool_backward_largest", 2, 1, "pool_reaching", "update", "index");
const MEAN: Shader =
    shader!("pool_backward_mean", 1, 1, "pool_reaching", "pool_windows", "update", "index", "math");
const PLANES: Shader = shader!("pool_global_backward", 1, 1, "update", "index", "math");

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    let updates = |shader| Update::ALL.map(|update| Kernel::new(shader, [update.constant()]));
    [LARGEST, MEAN, PLANES].into_iter().flat_map(updates)
}

impl Gpu {
    pub(in crate::gpu) fn max_pool2d_backward_into(
        &self,
        argmax: &GpuArgmax,
        gy: GpuView<'_>,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        let (op, shape) = ("max_pool2d_backward", argmax.shape());
        expect_shape(op, "output gradient shape", shape.output(), gy.shape())?;
        expect_shape(op, "input gradient shape", shape.input(), gx.shape())?;
        let kernel = Kernel::new(LARGEST, [update.constant()]);
        self.spread_windows(op, kernel, &shape, gy, Some(argmax.view()), false, gx.0)
    }

    pub(in crate::gpu) fn avg_pool2d_backward_into(
        &self,
        params: AvgPool2dParams,
        gy: GpuView<'_>,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        let (op, shape) = ("avg_pool2d_backward", PoolShape::avg(gx.shape(), params)?);
        expect_shape(op, "output gradient shape", shape.output(), gy.shape())?;
        let kernel = Kernel::new(MEAN, [update.constant()]);
        self.spread_windows(op, kernel, &shape, gy, None, params.count_include_pad, gx.0)
    }

    #[expect(clippy::too_many_arguments, reason = "each is an operand or a choice")]
    fn spread_windows(
        &self,
        op: &'static str,
        kernel: Kernel,
        shape: &PoolShape,
        gy: GpuView<'_>,
        positions: Option<GpuView<'_>>,
        padding_counts: bool,
        gx: GpuView<'_>,
    ) -> Result<()> {
        let (input, output) = (shape.input(), shape.output());
        let [height, width, window @ ..] = geometry(op, shape)?;
        let [out_h, out_w, plane] = words(op, [output.h, output.w, input.plane_len()])?;
        let read: Vec<GpuView<'_>> = [gy].into_iter().chain(positions).collect();
        for part in by_channel(self, op, &[&read[..], &[gx]].concat())? {
            let from: Vec<Slice<'_>> = read.iter().map(|view| view.part(self, &part)).collect();
            let to = gx.part(self, &part);
            let image = part.channels.len() * input.plane_len();
            let count = part.images.len() * image;
            let [count_word, image] = words(op, [count, image])?;
            let place = |slice: &Slice<'_>, view: &GpuView<'_>| words(op, [slice.first, view.batch_stride]);
            let of_positions = match positions {
                Some(positions) => place(&from[1], &positions)?,
                None => [0; 2],
            };
            let params = [
                &[count_word, image, plane, width, height, out_h, out_w][..],
                &window,
                &place(&from[0], &gy)?,
                &place(&to, &gx)?,
                &of_positions,
                &[padding_counts.into()],
            ];
            self.dispatch(&Dispatch {
                op,
                kernel,
                params: &params.concat(),
                reads: &from,
                writes: &[to],
                workgroups: count.div_ceil(WORKGROUP),
            })?;
        }
        Ok(())
    }

    pub(in crate::gpu) fn global_avg_pool_backward_into(
        &self,
        gy: GpuView<'_>,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        let (op, gx) = ("global_avg_pool_backward", gx.0);
        expect_shape(op, "output gradient shape", Shape4 { h: 1, w: 1, ..gx.shape }, gy.shape())?;
        let plane = gx.shape.plane_len();
        for part in by_channel(self, op, &[gy, gx])? {
            let (from, to) = (gy.part(self, &part), gx.part(self, &part));
            let image = part.channels.len() * plane;
            let count = part.images.len() * image;
            let [count_word, image, plane_word] = words(op, [count, image, plane])?;
            let [gy_first, gy_stride, gx_first, gx_stride] =
                words(op, [from.first, gy.batch_stride, to.first, gx.batch_stride])?;
            let divisor = divisor(plane).to_bits();
            self.dispatch(&Dispatch {
                op,
                kernel: Kernel::new(PLANES, [update.constant()]),
                params: &[count_word, image, plane_word, divisor, gy_first, gy_stride, gx_first, gx_stride],
                reads: &[from],
                writes: &[to],
                workgroups: count.div_ceil(WORKGROUP),
            })?;
        }
        Ok(())
    }
}
