//! Padding by a constant and cropping: row by row, copies.

use crate::cpu::{Cpu, expect_shape, threads};
use crate::error::Result;
use crate::shape::{CropShape, PadShape, Padding};
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
}
