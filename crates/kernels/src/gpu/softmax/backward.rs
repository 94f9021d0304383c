//! The gradient of softmax: `gx = y * (gy - sum of y * gy)`, the sum along the axis.
//!
//! By an invocation for each line (`softmax_backward.wgsl`), by a workgroup (`softmax_backward_long.wgsl`), or the sums first
//! (`softmax_backward_dots.wgsl`), carried from part to part and, along a single row, joined (`softmax_backward_join.wgsl`),
//! and then the rest (`softmax_backward_apply.wgsl`).

use super::Gpu;
use super::lines::{Cut, Lines, Whole, for_each_lines};
use crate::backend::expect_shape;
use crate::error::Result;
use crate::gpu::buffer::{GpuTensor, GpuView, GpuViewMut, words};
use crate::gpu::parts::Part;
use crate::gpu::recorder::{Dispatch, Slice, WORKGROUP};
use crate::gpu::reduce::{LANES, lanes};
use crate::gpu::wgsl::{Kernel, Shader, shader};
use crate::shape::{Axis, SoftmaxShape, Update};

const OP: &str = "softmax_backward";

const LINES: Shader = shader!("softmax_backward", 2, 1, "softmax_backward_lines", "update", "index");
const LONG: Shader =
    shader!("softmax_backward_long", 2, 1, "softmax_backward_lines", "update", "index", "reduce");
const DOTS: Shader = shader!("softmax_backward_dots", 2, 1, "index");
const JOIN: Shader = shader!("softmax_backward_join", 0, 1, "index", "reduce");
const APPLY: Shader = shader!("softmax_backward_apply", 3, 1, "update", "index");

fn long(lanes: u32, update: Update) -> Kernel {
    Kernel::new(LONG, [("LANES", lanes), update.constant()])
}

fn join(lanes: u32) -> Kernel {
    Kernel::new(JOIN, [("LANES", lanes)])
}

fn short(shader: Shader, update: Update) -> Kernel {
    Kernel::new(shader, [update.constant()])
}

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    let of_update = |update| {
        let short = [LINES, APPLY].map(|shader| short(shader, update));
        short.into_iter().chain(LANES.map(|lanes| long(lanes, update)))
    };
    Update::ALL.into_iter().flat_map(of_update).chain([Kernel::new(DOTS, [])]).chain(LANES.map(join))
}

impl Gpu {
    pub(in crate::gpu) fn softmax_backward_into(
        &self,
        y: GpuView<'_>,
        axis: Axis,
        gy: GpuView<'_>,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        let shape = SoftmaxShape::new(y.shape(), axis)?.input();
        expect_shape(OP, "output gradient shape", shape, gy.shape())?;
        expect_shape(OP, "input gradient shape", shape, gx.shape())?;
        for_each_lines(self, axis, [y, gy, gx.0], |lines| match lines {
            Lines::Whole(views, part, lines) => self.softmax_backward_lines(views, &part, &lines, update),
            Lines::Cut(lines) => self.softmax_backward_of_cut_lines(&lines, update),
        })
    }

    fn softmax_backward_lines(
        &self,
        views: [GpuView<'_>; 3],
        part: &Part,
        lines: &Whole,
        update: Update,
    ) -> Result<()> {
        let [y, gy, gx] = views.map(|view| view.part(self, part));
        let steps = words(OP, views.map(|view| lines.step(&view)))?;
        let mut params = [&lines.words(OP)?[..], &steps].concat();
        for (slice, view) in [y, gy, gx].iter().zip(views) {
            params.extend(words(OP, [slice.first, view.batch_stride])?);
        }
        self.dispatch(&Dispatch {
            op: OP,
            kernel: if lines.shared() { long(lanes(lines.len), update) } else { short(LINES, update) },
            params: &params,
            reads: &[y, gy],
            writes: &[gx],
            workgroups: lines.workgroups(),
        })
    }

    fn softmax_backward_of_cut_lines(&self, lines: &Cut<'_, 3>, update: Update) -> Result<()> {
        let dots = GpuTensor::new(self, OP, lines.image)?;
        let dots_of = |part: &Part| dots.view().part(self, &Part { images: 0..1, ..part.clone() });
        for (i, ([y, gy, _], parts)) in lines.pieces.iter().enumerate() {
            for part in parts {
                self.find_dots([*y, *gy], part, i > 0 || part.images.start > 0, dots_of(part))?;
            }
        }
        if lines.one_line {
            let across = lines.image.w;
            self.dispatch(&Dispatch {
                op: OP,
                kernel: join(lanes(across)),
                params: &words(OP, [across])?,
                reads: &[],
                writes: &[dots.all(self)],
                workgroups: 1,
            })?;
        }
        for (views, parts) in &lines.pieces {
            parts.iter().try_for_each(|part| self.apply_dots(*views, part, dots_of(part), update))?;
        }
        Ok(())
    }

    /// The sum at each position of an image, over the images of a part; joined to those that are there already, if so asked
    /// for.
    fn find_dots(&self, [y, gy]: [GpuView<'_>; 2], part: &Part, join: bool, to: Slice<'_>) -> Result<()> {
        let (from_y, from_gy, image) = (y.part(self, part), gy.part(self, part), part.image());
        let sizes = [
            image,
            part.images.len(),
            join.into(),
            from_y.first,
            y.batch_stride,
            from_gy.first,
            gy.batch_stride,
            to.first,
        ];
        self.dispatch(&Dispatch {
            op: OP,
            kernel: Kernel::new(DOTS, []),
            params: &words(OP, sizes)?,
            reads: &[from_y, from_gy],
            writes: &[to],
            workgroups: image.div_ceil(WORKGROUP),
        })
    }

    fn apply_dots(
        &self,
        [y, gy, gx]: [GpuView<'_>; 3],
        part: &Part,
        dots: Slice<'_>,
        update: Update,
    ) -> Result<()> {
        let [from_y, from_gy, to] = [y, gy, gx].map(|view| view.part(self, part));
        let sizes = [
            part.image(),
            part.count(),
            from_y.first,
            y.batch_stride,
            from_gy.first,
            gy.batch_stride,
            dots.first,
            to.first,
            gx.batch_stride,
        ];
        self.dispatch(&Dispatch {
            op: OP,
            kernel: short(APPLY, update),
            params: &words(OP, sizes)?,
            reads: &[from_y, from_gy, dots],
            writes: &[to],
            workgroups: part.count().div_ceil(WORKGROUP),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cpu;
    use crate::gpu::testing::{close, gradients_on_all, noise};
    use crate::tensor::Tensor;

    #[test]
    fn every_axis_is_that_of_the_cpu() -> Result<()> {
        let cpu = Cpu::new()?;
        for shape in [
            [2, 3, 4, 5],
            [1, 1, 1, 1],
            [9, 10, 3, 5],
            [3, 300, 2, 3],
            [300, 2, 1, 1],
            [1, 2, 1, 900],
            [2, 1500, 1, 1],
            [3, 1, 20, 40],
            [2, 0, 3, 3],
            [0, 2, 1, 1],
        ] {
            let (mut x, mut gy) = (noise(shape.into(), 7), noise(shape.into(), 8));
            x.data_mut().iter_mut().for_each(|v| *v *= 5.0);
            if let [.., last] = gy.data_mut() {
                *last = 1e3;
            }
            for axis in Axis::ALL {
                let (y, mut expected) = (cpu.softmax(&x, axis)?, Tensor::zeros(x.shape())?);
                cpu.softmax_backward_into(y.view(), axis, gy.view(), expected.view_mut(), Update::Write)?;
                for gx in gradients_on_all([&y, &gy], x.shape(), |gpu, [y, gy], gx, update| {
                    gpu.softmax_backward_into(y, axis, gy, gx, update)
                }) {
                    // Relative to the sum along the line, which may exceed its elements.
                    assert!(close(&gx, &expected, 2e-4), "{axis:?} {shape:?}: {gx:?} {expected:?}");
                }
            }
        }
        Ok(())
    }
}
