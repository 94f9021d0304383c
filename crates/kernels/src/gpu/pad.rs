//! Padding with a value, and cropping, each the gradient of the other: one shader, which moves a plane by some rows and
//! columns.

use std::ops::Range;

use super::Gpu;
use super::buffer::{GpuView, GpuViewMut, words};
use super::parts::by_window;
use super::recorder::{Dispatch, WORKGROUP};
use super::wgsl::{Kernel, Shader, shader};
use crate::backend::expect_shape;
use crate::error::Result;
use crate::shape::{CropShape, PadShape, Padding, Update};

const SHADER: Shader = shader!("pad", 1, 1, "index");

fn kernel(update: Update) -> Kernel {
    Kernel::new(SHADER, [update.constant()])
}

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    Update::ALL.into_iter().map(kernel)
}

/// Where the first output of padding comes from: above the input and to the left of it.
fn outside(by: Padding) -> [isize; 2] {
    inside(by).map(isize::wrapping_neg)
}

/// Where the first output of cropping comes from. (A side beyond an isize is of an extent that the GPU cannot count.)
fn inside(by: Padding) -> [isize; 2] {
    [by.top, by.left].map(|side| side as isize)
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
        self.shifted("pad", x, outside(padding), value, y.0, Update::Write)
    }

    pub(super) fn crop_into(&self, x: GpuView<'_>, margins: Padding, y: GpuViewMut<'_>) -> Result<()> {
        let shape = CropShape::new(x.shape, margins)?;
        expect_shape("crop", "output shape", shape.output(), y.shape())?;
        self.shifted("crop", x, inside(margins), 0.0, y.0, Update::Write)
    }

    pub(super) fn pad_backward_into(
        &self,
        padding: Padding,
        gy: GpuView<'_>,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        let op = "pad_backward";
        let shape = PadShape::new(gx.shape(), padding)?;
        expect_shape(op, "output gradient shape", shape.output(), gy.shape())?;
        self.shifted(op, gy, inside(padding), 0.0, gx.0, update)
    }

    pub(super) fn crop_backward_into(
        &self,
        margins: Padding,
        gy: GpuView<'_>,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        let op = "crop_backward";
        let shape = CropShape::new(gx.shape(), margins)?;
        expect_shape(op, "output gradient shape", shape.output(), gy.shape())?;
        self.shifted(op, gy, outside(margins), 0.0, gx.0, update)
    }

    /// `y[i][j] = x[at + (i, j)]` in each plane or, outside of `x`, the value.
    pub(super) fn shifted(
        &self,
        op: &'static str,
        x: GpuView<'_>,
        at: [isize; 2],
        value: f32,
        y: GpuView<'_>,
        update: Update,
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
        for window in by_window(self, &[x], &[y], reads) {
            // One row of the output copies one row.
            let (from, to) = (window.source(self, x, &None), y.part(self, &window.output));
            let outputs = &window.output;
            let sizes = [
                outputs.count(),
                outputs.image(),
                outputs.elements.len(),
                window.columns.len(),
                x.shape.h,
                x.shape.w,
            ];
            let [top, left] = [(&window.rows, at[0]), (&window.columns, at[1])]
                .map(|(range, at)| range.start.wrapping_add_signed(at) as u32);
            let params = [
                &words(op, sizes)?[..],
                &[top, left, from.first],
                &words(op, [x.batch_stride, to.first, y.batch_stride])?,
                &[value.to_bits()],
            ];
            self.dispatch(&Dispatch {
                op,
                kernel: kernel(update),
                params: &params.concat(),
                reads: &[from.slice],
                writes: &[to],
                workgroups: outputs.count().div_ceil(WORKGROUP),
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::testing::{devices, gradients_on_all, noise, same};
    use crate::tensor::Shape4;
    use crate::{Cpu, GpuTensor};

    #[test]
    fn each_is_the_gradient_of_the_other() -> Result<()> {
        let cpu = Cpu::new()?;
        for (shape, [top, bottom, left, right]) in
            [([2, 3, 9, 11], [1, 2, 0, 3]), ([3, 70, 4, 5], [0; 4]), ([0, 2, 3, 3], [1; 4])]
        {
            let sides = Padding { top, bottom, left, right };
            let small = noise(shape.into(), 1);
            // A frame of numbers, which must not come through.
            let large = cpu.pad(&small, sides, 7.0)?;
            for gx in gradients_on_all([&large], small.shape(), |gpu, [gy], gx, update| {
                gpu.pad_backward_into(sides, gy, gx, update)
            }) {
                assert!(same(&gx, small.data()), "{shape:?}");
            }
            let framed = cpu.pad(&small, sides, 0.0)?;
            for gx in gradients_on_all([&small], framed.shape(), |gpu, [gy], gx, update| {
                gpu.crop_backward_into(sides, gy, gx, update)
            }) {
                assert!(same(&gx, framed.data()), "{shape:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn other_shapes_are_refused() -> Result<()> {
        let Some(gpu) = devices().first() else { return Ok(()) };
        let x = |h| GpuTensor::new(gpu, "x", Shape4::new(1, 1, h, 4));
        let (gy, mut gx) = (x(4)?, x(4)?);
        let one = Padding::symmetric(1, 0);
        assert!(gpu.pad_backward_into(one, gy.view(), gx.view_mut(), Update::Write).is_err());
        assert!(gpu.crop_backward_into(one, gy.view(), gx.view_mut(), Update::Write).is_err());
        assert!(gpu.crop_backward_into(one, x(2)?.view(), gx.view_mut(), Update::Write).is_ok());
        Ok(())
    }
}
