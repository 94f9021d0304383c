//! Padding by a constant and cropping: row by row, copies.

use crate::cpu::{Cpu, expect_shape, threads};
use crate::error::Result;
use crate::shape::{CropShape, PadShape, Padding, Update};
use crate::tensor::{Tensor, TensorView, TensorViewMut};

impl Cpu {
    /// Rows and columns of `value` around each plane: `n x c x h x w` becomes
    /// `n x c x (top + h + bottom) x (left + w + right)`.
    ///
    /// ```
    /// use tilewise_kernels::{Cpu, Padding, Shape4, Tensor};
    /// let x = Tensor::from_vec(Shape4::new(1, 1, 1, 2), vec![1.0, 2.0])?;
    /// let cpu = Cpu::new()?;
    /// let y = cpu.pad(&x, Padding { left: 1, ..Padding::default() }, 9.0)?;
    /// assert_eq!(y.data(), [9.0, 1.0, 2.0]);
    /// assert_eq!(cpu.crop(&y, Padding { left: 1, ..Padding::default() })?, x);
    /// # Ok::<(), tilewise_kernels::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`PadShape::new`]; [`crate::Error::OutOfMemory`].
    pub fn pad(&self, x: &Tensor, padding: Padding, value: f32) -> Result<Tensor> {
        let mut y = Tensor::zeros(PadShape::new(x.shape(), padding)?.output())?;
        self.pad_into(x.view(), padding, value, y.view_mut())?;
        Ok(y)
    }

    /// [`Cpu::pad`] into `y`. Allocates nothing.
    ///
    /// # Errors
    /// Those of [`PadShape::new`]; [`crate::Error::Invalid`] for another shape of `y`.
    pub fn pad_into(
        &self,
        x: TensorView<'_>,
        padding: Padding,
        value: f32,
        y: TensorViewMut<'_>,
    ) -> Result<()> {
        let shape = PadShape::new(x.shape(), padding)?;
        let (input, output) = (shape.input(), shape.output());
        expect_shape("pad", "output shape", output, y.shape())?;
        threads::for_each_rows(self, y, |n, first_row, y| {
            for (row, y) in (first_row..).zip(y.chunks_exact_mut(output.w)) {
                let (c, oy) = (row / output.h, row % output.h);
                let (left, rest) = y.split_at_mut(padding.left);
                let (middle, right) = rest.split_at_mut(input.w);
                left.fill(value);
                right.fill(value);
                match oy.checked_sub(padding.top).filter(|&iy| iy < input.h) {
                    Some(iy) => middle.copy_from_slice(&x.plane(n, c)[iy * input.w..][..input.w]),
                    None => middle.fill(value),
                }
            }
        });
        Ok(())
    }

    /// Each plane without the rows and columns of `margins`: the inverse of [`Cpu::pad`].
    ///
    /// # Errors
    /// Those of [`CropShape::new`]; [`crate::Error::OutOfMemory`].
    pub fn crop(&self, x: &Tensor, margins: Padding) -> Result<Tensor> {
        let mut y = Tensor::zeros(CropShape::new(x.shape(), margins)?.output())?;
        self.crop_into(x.view(), margins, y.view_mut())?;
        Ok(y)
    }

    /// [`Cpu::crop`] into `y`. Allocates nothing.
    ///
    /// # Errors
    /// Those of [`CropShape::new`]; [`crate::Error::Invalid`] for another shape of `y`.
    pub fn crop_into(&self, x: TensorView<'_>, margins: Padding, y: TensorViewMut<'_>) -> Result<()> {
        let shape = CropShape::new(x.shape(), margins)?;
        let (input, output) = (shape.input(), shape.output());
        expect_shape("crop", "output shape", output, y.shape())?;
        threads::for_each_rows(self, y, |n, first_row, y| {
            for (row, y) in (first_row..).zip(y.chunks_exact_mut(output.w)) {
                let (c, oy) = (row / output.h, row % output.h);
                let start = (margins.top + oy) * input.w + margins.left;
                y.copy_from_slice(&x.plane(n, c)[start..][..output.w]);
            }
        });
        Ok(())
    }

    /// The gradient of [`Cpu::pad`]: `gy` without the padding, whose value has none. Allocates nothing.
    ///
    /// # Errors
    /// Those of [`PadShape::new`]; [`crate::Error::Invalid`] if `gy` is not of the shape that padding gives for that of
    /// `gx`.
    pub fn pad_backward_into(
        &self,
        padding: Padding,
        gy: TensorView<'_>,
        gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        let shape = PadShape::new(gx.shape(), padding)?;
        let (input, output) = (shape.input(), shape.output());
        expect_shape("pad_backward", "output gradient shape", output, gy.shape())?;
        threads::for_each_rows(self, gx, |n, first_row, gx| {
            for (row, gx) in (first_row..).zip(gx.chunks_exact_mut(input.w)) {
                let (c, iy) = (row / input.h, row % input.h);
                let start = (padding.top + iy) * output.w + padding.left;
                update.all(&gy.plane(n, c)[start..][..input.w], gx);
            }
        });
        Ok(())
    }

    /// The gradient of [`Cpu::crop`]: `gy` with zeros around it. Allocates nothing.
    ///
    /// # Errors
    /// Those of [`CropShape::new`]; [`crate::Error::Invalid`] if `gy` is not of the shape that cropping gives for that
    /// of `gx`.
    pub fn crop_backward_into(
        &self,
        margins: Padding,
        gy: TensorView<'_>,
        gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        let shape = CropShape::new(gx.shape(), margins)?;
        let (input, output) = (shape.input(), shape.output());
        expect_shape("crop_backward", "output gradient shape", output, gy.shape())?;
        threads::for_each_rows(self, gx, |n, first_row, gx| {
            for (row, gx) in (first_row..).zip(gx.chunks_exact_mut(input.w)) {
                let (c, iy) = (row / input.h, row % input.h);
                let (left, rest) = gx.split_at_mut(margins.left);
                let (middle, right) = rest.split_at_mut(output.w);
                update.fill(0.0, left);
                update.fill(0.0, right);
                match iy.checked_sub(margins.top).filter(|&oy| oy < output.h) {
                    Some(oy) => update.all(&gy.plane(n, c)[oy * output.w..][..output.w], middle),
                    None => update.fill(0.0, middle),
                }
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::tensor::Shape4;

    #[test]
    fn gradients_are_cut_and_padded_back() -> Result<()> {
        let cpu = Cpu::new()?;
        let frame = Padding { top: 1, bottom: 0, left: 2, right: 1 };
        let small =
            Tensor::from_fn(Shape4::new(2, 2, 2, 3), |[n, c, h, w]| (27 * n + 9 * c + 3 * h + w) as f32)?;
        let large = cpu.pad(&small, frame, 0.0)?;
        for update in [Update::Write, Update::Accumulate] {
            let old = if update == Update::Write { f32::NAN } else { 0.5 };
            let sum = |g: &Tensor| g.data().iter().map(|&g| update.of(old, g)).collect::<Vec<_>>();
            let mut gx = Tensor::from_fn(small.shape(), |_| old)?;
            cpu.pad_backward_into(frame, large.view(), gx.view_mut(), update)?;
            assert_eq!(gx.data(), sum(&small));
            let mut gx = Tensor::from_fn(large.shape(), |_| old)?;
            cpu.crop_backward_into(frame, small.view(), gx.view_mut(), update)?;
            assert_eq!(gx.data(), sum(&large));
        }
        let mut gx = Tensor::zeros(small.shape())?;
        let refused = cpu.pad_backward_into(frame, small.view(), gx.view_mut(), Update::Write);
        assert!(matches!(refused, Err(Error::Invalid { op: "pad_backward", .. })), "{refused:?}");
        let refused = cpu.crop_backward_into(frame, large.view(), gx.view_mut(), Update::Write);
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
        Ok(())
    }
}
