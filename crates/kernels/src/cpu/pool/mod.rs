//! Max and average pooling, and the average of whole planes.
//!
//! What a pooling does to a window is a [`Fold`]; the way over the windows, the same for all, is in [`strips`]. Max pooling
//! that remembers where its maxima were is in [`argmax`], the gradients are in [`backward`].

mod argmax;
mod backward;
mod strips;

use std::ops::Range;

pub use argmax::Argmax;
use strips::PoolRows;

use crate::cpu::sum::{Sum, Values};
use crate::cpu::{Cpu, expect_shape, threads};
use crate::error::Result;
use crate::shape::{AvgPool2dParams, MaxPool2dParams, PoolShape};
use crate::simd::Simd;
use crate::tensor::{Shape4, Tensor, TensorView, TensorViewMut};

impl Cpu {
    /// The largest element of each window: `x` is `n x c x h x w`, the result `n x c x h' x w'` with the extents of
    /// [`crate::window::pool`]. Padding never wins; a NaN in a window comes out.
    ///
    /// ```
    /// use tilewise_kernels::{Cpu, MaxPool2dParams, Shape4, Tensor};
    /// let x = Tensor::from_fn(Shape4::new(1, 1, 4, 4), |[_, _, h, w]| (4 * h + w) as f32)?;
    /// let y = Cpu::new()?.max_pool2d(&x, MaxPool2dParams::new(2))?;
    /// assert_eq!(y.data(), [5.0, 7.0, 13.0, 15.0]);
    /// # Ok::<(), tilewise_kernels::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`PoolShape::max`]; [`crate::Error::OutOfMemory`].
    pub fn max_pool2d(&self, x: &Tensor, params: MaxPool2dParams) -> Result<Tensor> {
        let mut y = Tensor::zeros(PoolShape::max(x.shape(), params)?.output())?;
        self.max_pool2d_into(x.view(), params, y.view_mut())?;
        Ok(y)
    }

    /// [`Cpu::max_pool2d`] into `y`. Allocates nothing.
    ///
    /// # Errors
    /// Those of [`PoolShape::max`]; [`crate::Error::Invalid`] for another shape of `y` than its output.
    pub fn max_pool2d_into(
        &self,
        x: TensorView<'_>,
        params: MaxPool2dParams,
        y: TensorViewMut<'_>,
    ) -> Result<()> {
        let shape = PoolShape::max(x.shape(), params)?;
        expect_shape("max_pool2d", "output shape", shape.output(), y.shape())?;
        self.pool(x, shape, Largest, y);
        Ok(())
    }

    /// The mean of each window: `x` is `n x c x h x w`, the result `n x c x h' x w'` with the extents of
    /// [`crate::window::pool`].
    ///
    /// The divisor is the number of elements of the window within the input or, with `count_include_pad`, within
    /// the padded input; what a last window of `ceil_mode` covers beyond that never counts. (PyTorch's rule.)
    ///
    /// # Errors
    /// Those of [`PoolShape::avg`]; [`crate::Error::OutOfMemory`].
    pub fn avg_pool2d(&self, x: &Tensor, params: AvgPool2dParams) -> Result<Tensor> {
        let mut y = Tensor::zeros(PoolShape::avg(x.shape(), params)?.output())?;
        self.avg_pool2d_into(x.view(), params, y.view_mut())?;
        Ok(y)
    }

    /// [`Cpu::avg_pool2d`] into `y`. Allocates nothing.
    ///
    /// # Errors
    /// Those of [`PoolShape::avg`]; [`crate::Error::Invalid`] for another shape of `y` than its output.
    pub fn avg_pool2d_into(
        &self,
        x: TensorView<'_>,
        params: AvgPool2dParams,
        y: TensorViewMut<'_>,
    ) -> Result<()> {
        let shape = PoolShape::avg(x.shape(), params)?;
        expect_shape("avg_pool2d", "output shape", shape.output(), y.shape())?;
        self.pool(x, shape, Mean { count_include_pad: params.count_include_pad }, y);
        Ok(())
    }

    /// The mean of each plane: `x` is `n x c x h x w`, the result `n x c x 1 x 1`. That of an empty plane is NaN.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub fn global_avg_pool(&self, x: &Tensor) -> Result<Tensor> {
        let mut y = Tensor::zeros(Shape4 { h: 1, w: 1, ..x.shape() })?;
        self.global_avg_pool_into(x.view(), y.view_mut())?;
        Ok(y)
    }

    /// [`Cpu::global_avg_pool`] into `y`. Allocates nothing.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] unless `y` is `n x c x 1 x 1`.
    pub fn global_avg_pool_into(&self, x: TensorView<'_>, y: TensorViewMut<'_>) -> Result<()> {
        let shape = x.shape();
        expect_shape("global_avg_pool", "output shape", Shape4 { h: 1, w: 1, ..shape }, y.shape())?;
        let plane = shape.plane_len();
        let planes_per_item = (threads::CHUNK / plane.max(1)).max(1);
        let work = shape.n * shape.image_len();
        threads::for_each_chunk_of_work(self, y, planes_per_item, work, |n, first, y| {
            for (c, y) in (first..).zip(y) {
                *y = (self.isa.run(Sum(Values(x.plane(n, c)))) / plane as f64) as f32;
            }
        });
        Ok(())
    }

    fn pool<F: Fold>(&self, x: TensorView<'_>, shape: PoolShape, fold: F, y: TensorViewMut<'_>) {
        let [rows, columns] = Dimension::both(&shape);
        threads::for_each_rows(self, y, |n, first_row, y| {
            self.isa.run(PoolRows { fold, rows, columns, x: x.image(n), first_row, y });
        });
    }
}

/// Rows or columns of a pooling, each seen alone.
#[derive(Clone, Copy)]
struct Dimension {
    input: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
}

impl Dimension {
    /// The rows and the columns of a pooling.
    fn both(shape: &PoolShape) -> [Self; 2] {
        [0, 1].map(|i| Dimension {
            input: [shape.input().h, shape.input().w][i],
            output: [shape.output().h, shape.output().w][i],
            kernel: shape.kernel()[i],
            stride: shape.stride()[i],
            padding: shape.padding()[i],
        })
    }

    /// What the window of output `o` covers of the input.
    #[inline(always)]
    fn covered(self, o: usize) -> Range<usize> {
        let start = o * self.stride;
        start.saturating_sub(self.padding)..(start + self.kernel).saturating_sub(self.padding).min(self.input)
    }

    /// The outputs whose windows cover any of `inputs`, which are not empty.
    #[inline(always)]
    fn reaching(self, inputs: Range<usize>) -> Range<usize> {
        let before = (inputs.start + self.padding).checked_sub(self.kernel);
        let first = before.map_or(0, |last_missed| last_missed / self.stride + 1);
        let end = (inputs.end - 1 + self.padding) / self.stride + 1;
        first.min(self.output)..end.min(self.output)
    }

    /// From the outputs that reach the input before `input` to those that reach `input`.
    #[inline(always)]
    fn move_on(self, outputs: &mut Range<usize>, input: usize) {
        let padded = input + self.padding;
        while outputs.end < self.output && outputs.end * self.stride <= padded {
            outputs.end += 1;
        }
        while outputs.start < outputs.end && outputs.start * self.stride + self.kernel <= padded {
            outputs.start += 1;
        }
    }

    /// How much the window of output `o` covers of the padded input.
    #[inline(always)]
    fn covered_with_padding(self, o: usize) -> usize {
        self.kernel.min(self.input + 2 * self.padding - o * self.stride)
    }
}

/// What becomes of a window.
trait Fold: Copy + Send + Sync {
    /// What changes nothing when folded: the padding.
    const NEUTRAL: f32;

    /// Two elements, or folds, in one.
    fn two<S: Simd>(simd: S, a: S::F32, b: S::F32) -> S::F32;

    /// [`Fold::two`] for one window.
    fn two_f32(a: f32, b: f32) -> f32;

    /// How many rows or columns of the window of output `o` count; `None` if the result does not depend on it.
    fn count(self, d: Dimension, o: usize) -> Option<usize>;

    /// The result of windows with `folded` elements, of which `count` count.
    fn result<S: Simd>(simd: S, folded: S::F32, count: S::F32) -> S::F32;

    /// [`Fold::result`] for one window.
    fn result_f32(folded: f32, count: f32) -> f32;
}

#[derive(Clone, Copy)]
struct Largest;

impl Fold for Largest {
    const NEUTRAL: f32 = f32::NEG_INFINITY;

    #[inline(always)]
    fn two<S: Simd>(simd: S, a: S::F32, b: S::F32) -> S::F32 {
        // `max` gives its second operand where one is NaN: that covers a NaN in `a`.
        simd.select(simd.is_nan(b), b, simd.max(b, a))
    }

    #[inline(always)]
    fn two_f32(a: f32, b: f32) -> f32 {
        if b > a || b.is_nan() { b } else { a }
    }

    #[inline(always)]
    fn count(self, _: Dimension, _: usize) -> Option<usize> {
        None
    }

    #[inline(always)]
    fn result<S: Simd>(_: S, folded: S::F32, _: S::F32) -> S::F32 {
        folded
    }

    #[inline(always)]
    fn result_f32(folded: f32, _: f32) -> f32 {
        folded
    }
}

#[derive(Clone, Copy)]
struct Mean {
    count_include_pad: bool,
}

impl Fold for Mean {
    const NEUTRAL: f32 = 0.0;

    #[inline(always)]
    fn two<S: Simd>(simd: S, a: S::F32, b: S::F32) -> S::F32 {
        simd.add(a, b)
    }

    #[inline(always)]
    fn two_f32(a: f32, b: f32) -> f32 {
        a + b
    }

    #[inline(always)]
    fn count(self, d: Dimension, o: usize) -> Option<usize> {
        Some(if self.count_include_pad { d.covered_with_padding(o) } else { d.covered(o).len() })
    }

    #[inline(always)]
    fn result<S: Simd>(simd: S, folded: S::F32, count: S::F32) -> S::F32 {
        simd.div(folded, count)
    }

    #[inline(always)]
    fn result_f32(folded: f32, count: f32) -> f32 {
        folded / count
    }
}
