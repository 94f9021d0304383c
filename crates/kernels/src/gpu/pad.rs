//! Padding with a value, and cropping: one shader, which moves a plane by some rows and columns.

use std::ops::Range;

use super::Gpu;
use super::buffer::{GpuView, GpuViewMut, words};
use super::parts::by_window;
use super::recorder::{Dispatch, WORKGROUP};
use super::wgsl::{Kernel, Shader, shader};
use crate::backend::expect_shape;
use crate::error::Result;
use crate::shape::{CropShape, PadShape, Padding};

const SHADER: Shader = shader!("pad", 1, 1, "index");

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    [Kernel::new(SHADER, [])].into_iter()
}

impl Gpu {
    pub(super) fn pad_into(
        &self,
        x: GpuView<'_>,
        padding: Padding,
        value: f32,
        y: GpuViewMut<'_>,
    ) -> Result<()> {
        let shape = PadShape::new(x.shape, padding)?;
        expect_shape("pad", "output shape", shape.output(), y.shape())?;
        let above = [padding.top, padding.left].map(|side| -(side as isize));
        self.shifted("pad", x, above, value, y.0)
    }

    pub(super) fn crop_into(&self, x: GpuView<'_>, margins: Padding, y: GpuViewMut<'_>) -> Result<()> {
        let shape = CropShape::new(x.shape, margins)?;
        expect_shape("crop", "output shape", shape.output(), y.shape())?;
        self.shifted("crop", x, [margins.top, margins.left].map(|side| side as isize), 0.0, y.0)
    }

    /// `y[i][j] = x[at + (i, j)]` in each plane or, outside of `x`, the value.
    pub(super) fn shifted(
        &self,
        op: &'static str,
        x: GpuView<'_>,
        at: [isize; 2],
        value: f32,
        y: GpuView<'_>,
    ) -> Result<()> {
        let extents = [[x.shape.h, y.shape.h], [x.shape.w, y.shape.w]];
        for ([input, output], at) in extents.into_iter().zip(at) {
            // Positions wrap round, and must not meet.
            let [_] = words(op, [input.saturating_add(output).saturating_add(at.unsigned_abs())])?;
        }
        let reads = |axis: usize, outputs: Range<usize>| {
            let [start, end] =
                [outputs.start, outputs.end].map(|i| extents[axis][0].min(i.saturating_add_signed(at[axis])));
            start..end
        };
        for window in by_window(self, op, x, y, reads)? {
            let (from, to) = (x.part(self, &window.input), y.part(self, &window.output));
            let [count, image, plane] =
                [window.output.count(), window.output.image(), window.output.elements.len()];
            let [count_word, image, plane, row, height, width] =
                words(op, [count, image, plane, window.columns.len(), x.shape.h, x.shape.w])?;
            let [x_stride, y_first, y_stride] = words(op, [x.batch_stride, to.first, y.batch_stride])?;
            let [top, left] = [
                window.rows.start.wrapping_add_signed(at[0]) as u32,
                window.columns.start.wrapping_add_signed(at[1]) as u32,
            ];
            let x_first = window.first(&from);
            let value = value.to_bits();
            self.dispatch(&Dispatch {
                op,
                kernel: Kernel::new(SHADER, []),
                params: &[
                    count_word, image, plane, row, height, width, top, left, x_first, x_stride, y_first,
                    y_stride, value,
                ],
                reads: &[from],
                writes: &[to],
                workgroups: count.div_ceil(WORKGROUP),
            })?;
        }
        Ok(())
    }
}
