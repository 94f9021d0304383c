//! The gradient of softmax along any axis: `gx = y * (gy - sum of gy * y)`, the sum along the axis.
//!
//! Lines are shared out as in `softmax.rs`: an invocation or a workgroup for each; through more memory than one dispatch can
//! reach, along the images or the channels of a huge one, the sum so far is carried from part to part.

use super::Gpu;
use super::activation::flag;
use super::buffer::{GpuTensor, GpuView, GpuViewMut, words};
use super::parts::{Part, by_channel};
use super::recorder::{Dispatch, WORKGROUP};
use super::reduce::{LANES, lanes};
use super::softmax::shares;
use super::wgsl::{Kernel, Shader, shader};
use crate::backend::expect_shape;
use crate::error::Result;
use crate::shape::{Axis, SoftmaxShape, Update};
use crate::tensor::Shape4;

const OP: &str = "softmax_backward";

const LINES: Shader = shader!("softmax_backward", 2, 1, "softmax_backward_lines", "index");
const LONG: Shader = shader!("softmax_backward_long", 2, 1, "softmax_backward_lines", "index", "reduce");
const DOTS: Shader = shader!("softmax_backward_dots", 2, 1, "index");
const APPLY: Shader = shader!("softmax_backward_apply", 3, 1, "index");

fn long(lanes: u32) -> Kernel {
    Kernel::new(LONG, [("LANES", lanes)])
}

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    [LINES, DOTS, APPLY].into_iter().map(|shader| Kernel::new(shader, [])).chain(LANES.into_iter().map(long))
}

/// `y`, `gy` and `gx`.
type Views<'a> = [GpuView<'a>; 3];

impl Gpu {
    pub(super) fn softmax_backward_into(
        &self,
        y: GpuView<'_>,
        axis: Axis,
        gy: GpuView<'_>,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        let shape = SoftmaxShape::new(y.shape, axis)?.input();
        expect_shape(OP, "output gradient shape", shape, gy.shape)?;
        expect_shape(OP, "input gradient shape", shape, gx.shape())?;
        let (views, plane) = ([y, gy, gx.0], shape.plane_len());
        match axis {
            Axis::N => self.softmax_backward_along_images(views, update),
            Axis::C if shape.image_len() > self.reach() => {
                // The channels of each image as images of one channel.
                let of_image = |v: GpuView<'_>, n: usize| (v.start + n * v.batch_stride, plane);
                (0..shape.n).try_for_each(|n| {
                    let views = views.map(|v| {
                        let (start, batch_stride) = of_image(v, n);
                        GpuView { start, batch_stride, shape: Shape4::new(shape.c, 1, shape.h, shape.w), ..v }
                    });
                    self.softmax_backward_along_images(views, update)
                })
            }
            Axis::C => self.softmax_backward_of_images(views, shape.c, plane, update),
            Axis::H => self.softmax_backward_of_images(views, shape.h, shape.w, update),
            Axis::W => self.softmax_backward_of_images(views, shape.w, 1, update),
        }
    }

    /// Along lines within images, of `len` elements that lie `across` apart.
    fn softmax_backward_of_images(
        &self,
        views: Views<'_>,
        len: usize,
        across: usize,
        update: Update,
    ) -> Result<()> {
        for part in by_channel(self, OP, &views)? {
            let per_image = part.channels.len() * views[0].shape.plane_len() / len;
            let lines = [part.images.len() * per_image, per_image, across, len * across, len];
            self.softmax_backward_lines(views, &part, lines, [across; 3], update)?;
        }
        Ok(())
    }

    /// Lines: how many, how many of one image, how many side by side, the elements of as many, and those of one.
    fn softmax_backward_lines(
        &self,
        views: Views<'_>,
        part: &Part,
        lines: [usize; 5],
        steps: [usize; 3],
        update: Update,
    ) -> Result<()> {
        let [from, gradient, to] = views.map(|view| view.part(self, part));
        let [y, gy, gx] = views.map(|view| view.batch_stride);
        let [count, _, across, _, len] = lines;
        let shared = shares(count, len, across);
        let params = [
            &words(OP, lines)?[..],
            &words(OP, steps)?,
            &words(OP, [from.first, y, gradient.first, gy, to.first, gx])?,
            &[flag(update)],
        ];
        self.dispatch(&Dispatch {
            op: OP,
            kernel: if shared { long(lanes(len)) } else { Kernel::new(LINES, []) },
            params: &params.concat(),
            reads: &[from, gradient],
            writes: &[to],
            workgroups: if shared { count } else { count.div_ceil(WORKGROUP) },
        })
    }

    /// Along the images of the batch.
    fn softmax_backward_along_images(&self, views: Views<'_>, update: Update) -> Result<()> {
        let parts = by_channel(self, OP, &views)?;
        let [y, gy, gx] = views;
        let (n, image) = (y.shape.n, y.shape.image_len());
        if let [part] = &parts[..] {
            let steps = views.map(|view| view.batch_stride);
            return self.softmax_backward_lines(views, part, [image, image, image, 0, n], steps, update);
        }
        if parts.is_empty() {
            return Ok(());
        }
        let dots = GpuTensor::new(self, OP, Shape4 { n: 1, ..y.shape })?;
        let of_image = |part: &Part| Part { images: 0..1, ..part.clone() };
        for part in &parts {
            let [from, gradient, _] = views.map(|view| view.part(self, part));
            let dots = dots.view().part(self, &of_image(part));
            let image = part.channels.len() * y.shape.plane_len();
            let join = usize::from(part.images.start > 0);
            let sizes = [
                image,
                part.images.len(),
                join,
                from.first,
                y.batch_stride,
                gradient.first,
                gy.batch_stride,
                dots.first,
            ];
            self.dispatch(&Dispatch {
                op: OP,
                kernel: Kernel::new(DOTS, []),
                params: &words(OP, sizes)?,
                reads: &[from, gradient],
                writes: &[dots],
                workgroups: image.div_ceil(WORKGROUP),
            })?;
        }
        for part in &parts {
            let [from, gradient, to] = views.map(|view| view.part(self, part));
            let dots = dots.view().part(self, &of_image(part));
            let image = part.channels.len() * y.shape.plane_len();
            let count = part.images.len() * image;
            let params = [
                &words(OP, [image, count, from.first, y.batch_stride, gradient.first, gy.batch_stride])?[..],
                &words(OP, [dots.first, to.first, gx.batch_stride])?,
                &[flag(update)],
            ];
            self.dispatch(&Dispatch {
                op: OP,
                kernel: Kernel::new(APPLY, []),
                params: &params.concat(),
                reads: &[from, gradient, dots],
                writes: &[to],
                workgroups: count.div_ceil(WORKGROUP),
            })?;
        }
        Ok(())
    }
}
