//! Padding with a value, and cropping, each the gradient of the other: one shader, which moves a plane by some rows and
//! columns.

use super::Gpu;
use super::buffer::{GpuView, GpuViewMut, words};
use super::parts::by_channel;
use super::recorder::{Dispatch, WORKGROUP};
use super::wgsl::{Kernel, Shader, shader};
use crate::backend::expect_shape;
use crate::error::Result;
use crate::shape::{CropShape, PadShape, Padding, Update};

const SHADER: Shader = shader!("pad", 1, 1, "update", "index");

fn kernel(update: Update) -> Kernel {
    Kernel::new(SHADER, [update.constant()])
}

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    Update::ALL.into_iter().map(kernel)
}

/// Rows and columns that a plane moves down and to the right, or up and to the left.
#[derive(Default)]
struct Move {
    forward: [usize; 2],
    back: [usize; 2],
}

impl Move {
    fn forward(by: Padding) -> Self {
        Move { forward: [by.top, by.left], ..Move::default() }
    }

    fn back(by: Padding) -> Self {
        Move { back: [by.top, by.left], ..Move::default() }
    }
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
        self.shifted("pad", x, Move::forward(padding), value, y, Update::Write)
    }

    pub(super) fn crop_into(&self, x: GpuView<'_>, margins: Padding, y: GpuViewMut<'_>) -> Result<()> {
        let shape = CropShape::new(x.shape, margins)?;
        expect_shape("crop", "output shape", shape.output(), y.shape())?;
        self.shifted("crop", x, Move::back(margins), 0.0, y, Update::Write)
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
        self.shifted(op, gy, Move::back(padding), 0.0, gx, update)
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
        self.shifted(op, gy, Move::forward(margins), 0.0, gx, update)
    }

    /// Each plane moved, and `value` where nothing comes from.
    fn shifted(
        &self,
        op: &'static str,
        x: GpuView<'_>,
        by: Move,
        value: f32,
        y: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        let (input, output) = (x.shape, y.shape());
        for part in by_channel(self, op, &[x, y.0])? {
            let (from, to) = (x.part(self, &part), y.0.part(self, &part));
            let count = part.images.len() * part.channels.len() * output.plane_len();
            let sizes = words(
                op,
                [
                    count,
                    part.channels.len(),
                    output.h,
                    output.w,
                    input.h,
                    input.w,
                    by.forward[0],
                    by.forward[1],
                    by.back[0],
                    by.back[1],
                    from.first,
                    x.batch_stride,
                    to.first,
                    y.0.batch_stride,
                ],
            )?;
            let mut params = [0; 15];
            params[..14].copy_from_slice(&sizes);
            params[14] = value.to_bits();
            self.dispatch(&Dispatch {
                op,
                kernel: kernel(update),
                params: &params,
                reads: &[from],
                writes: &[to],
                workgroups: count.div_ceil(WORKGROUP),
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
