//! The gradients of pooling, each written where it is needed: by parts of a plane of the input, which ask for the windows
//! that reach them, in row-major order.
//!
//! Max pooling: the part stays in the L1 cache while the windows put their gradients in it. Average pooling is in
//! [`means`].

mod means;

use means::ToMeans;

use super::{Argmax, Dimension, Mean};
use crate::cpu::{Cpu, expect_shape, threads};
use crate::error::Result;
use crate::shape::{AvgPool2dParams, PoolShape, Update};
use crate::tensor::{Shape4, TensorView, TensorViewMut};

impl Cpu {
    /// The gradient of [`Cpu::max_pool2d`]: each element of `gy` goes to where its maximum was. Allocates nothing.
    ///
    /// ```
    /// use tilewise_kernels::{Cpu, MaxPool2dParams, Shape4, Tensor, Training};
    /// let cpu = Cpu::new()?;
    /// let x = Tensor::from_vec(Shape4::new(1, 1, 2, 4), vec![1.0, 3.0, 5.0, 5.0, 2.0, 0.0, 4.0, 1.0])?;
    /// let (y, argmax) = cpu.max_pool2d_argmax(&x, MaxPool2dParams::new(2))?;
    /// assert_eq!((y.data(), argmax.positions()), (&[3.0, 5.0][..], &[1, 2][..]));
    /// let gy = Tensor::from_vec(y.shape(), vec![10.0, 20.0])?;
    /// let gx = cpu.max_pool2d_backward(x.shape(), &argmax, &gy)?;
    /// assert_eq!(gx.data(), [0.0, 10.0, 20.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    /// # Ok::<(), tilewise_kernels::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for another shape of `gy` or `gx` than the argmax has.
    pub fn max_pool2d_backward_into(
        &self,
        argmax: &Argmax,
        gy: TensorView<'_>,
        gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        let shape = argmax.shape();
        let (input, output) = (shape.input(), shape.output());
        expect_shape("max_pool2d_backward", "output gradient shape", output, gy.shape())?;
        expect_shape("max_pool2d_backward", "input gradient shape", input, gx.shape())?;
        let [rows, columns] = Dimension::both(&shape);
        let (plane, windows) = (input.plane_len(), output.plane_len());
        // Whole planes, if there is room for one.
        let chunk = if plane <= PART { PART / plane * plane } else { PART };
        threads::for_each_chunk(self, gx, chunk, |n, mut start, mut gx| {
            while !gx.is_empty() {
                let (c, first) = (start / plane, start % plane);
                let (part, rest) = gx.split_at_mut((plane - first).min(gx.len()));
                start += part.len();
                gx = rest;
                let positions = &argmax.positions()[(n * output.c + c) * windows..][..windows];
                let of_plane = ToMaxima { rows, columns, positions, gy: gy.plane(n, c), first, gx: part };
                of_plane.put(update);
            }
        });
        Ok(())
    }

    /// The gradient of [`Cpu::avg_pool2d`]: each element of `gy`, divided as there, goes to its whole window. Allocates
    /// nothing.
    ///
    /// # Errors
    /// Those of [`PoolShape::avg`]; [`crate::Error::Invalid`] if `gy` is not of the shape that pooling gives for that of
    /// `gx`.
    pub fn avg_pool2d_backward_into(
        &self,
        params: AvgPool2dParams,
        gy: TensorView<'_>,
        gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        let shape = PoolShape::avg(gx.shape(), params)?;
        expect_shape("avg_pool2d_backward", "output gradient shape", shape.output(), gy.shape())?;
        let [rows, columns] = Dimension::both(&shape);
        let fold = Mean { count_include_pad: params.count_include_pad };
        threads::for_each_rows(self, gx, |n, first_row, gx| {
            self.isa.run(ToMeans { fold, rows, columns, gy: gy.image(n), first_row, gx, update });
        });
        Ok(())
    }

    /// The gradient of [`Cpu::global_avg_pool`]: each element of `gy`, `n x c x 1 x 1`, over the area, to its whole
    /// plane. Allocates nothing.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if `gy` is not of the shape that pooling gives for that of `gx`.
    pub fn global_avg_pool_backward_into(
        &self,
        gy: TensorView<'_>,
        gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        let input = gx.shape();
        let output = Shape4 { h: 1, w: 1, ..input };
        expect_shape("global_avg_pool_backward", "output gradient shape", output, gy.shape())?;
        let plane = input.plane_len();
        threads::for_each_chunk(self, gx, threads::CHUNK, |n, mut start, mut gx| {
            while !gx.is_empty() {
                let (part, rest) = gx.split_at_mut((plane - start % plane).min(gx.len()));
                let gradient = f64::from(gy.image(n)[start / plane]) / plane as f64;
                update.fill(gradient as f32, part);
                start += part.len();
                gx = rest;
            }
        });
        Ok(())
    }
}

/// Elements of a plane that the windows put their gradients in at a time: a quarter of an L1 cache, less a little. (Half the
/// speed with all of it, three quarters with 8 KiB, which is a multiple of the page.)
const PART: usize = 1984;

/// A part of the gradient to a plane, from element `first` on, and where the maxima of all its windows were.
struct ToMaxima<'a> {
    rows: Dimension,
    columns: Dimension,
    positions: &'a [u32],
    gy: &'a [f32],
    first: usize,
    gx: &'a mut [f32],
}

impl ToMaxima<'_> {
    fn put(mut self, update: Update) {
        let gx = std::mem::take(&mut self.gx);
        match update {
            Update::Write => {
                gx.fill(0.0);
                self.add_to(gx);
            }
            Update::Accumulate => {
                // What several windows give is added up first.
                let mut gradient = [0.0; PART];
                let gradient = &mut gradient[..gx.len()];
                self.add_to(gradient);
                update.all(gradient, gx);
            }
        }
    }

    fn add_to(&self, part: &mut [f32]) {
        let (width, windows) = (self.columns.input, self.columns.output);
        let rows = self.first / width..(self.first + part.len() - 1) / width + 1;
        for row in self.rows.reaching(rows) {
            let row = row * windows..(row + 1) * windows;
            for (&position, &g) in self.positions[row.clone()].iter().zip(&self.gy[row]) {
                // One that lies before the part is far behind it after the subtraction.
                if let Some(to) = part.get_mut((position as usize).wrapping_sub(self.first)) {
                    *to += g;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::means::COLUMNS;
    use super::*;
    use crate::cpu::pool::Fold;
    use crate::error::Error;
    use crate::shape::MaxPool2dParams;
    use crate::simd::Isa;
    use crate::tensor::Tensor;

    /// By the definition, in f64: each window gives to all of its elements.
    fn average(shape: &PoolShape, fold: Mean, gy: &Tensor) -> Vec<f64> {
        let (input, output, [rows, columns]) = (shape.input(), shape.output(), Dimension::both(shape));
        let mut gx = vec![0.0; input.n * input.image_len()];
        for plane in 0..input.n * input.c {
            for (oy, ox) in (0..output.h).flat_map(|oy| (0..output.w).map(move |ox| (oy, ox))) {
                let count = fold.count(rows, oy).unwrap() as f64 * fold.count(columns, ox).unwrap() as f64;
                let g = f64::from(gy.data()[(plane * output.h + oy) * output.w + ox]) / count;
                for (row, column) in rows.covered(oy).flat_map(|r| columns.covered(ox).map(move |c| (r, c))) {
                    gx[(plane * input.h + row) * input.w + column] += g;
                }
            }
        }
        gx
    }

    /// Each window's gradient at its position.
    fn largest(argmax: &Argmax, gy: &Tensor) -> Vec<f64> {
        let (input, output) = (argmax.shape().input(), argmax.shape().output());
        let mut gx = vec![0.0; input.n * input.image_len()];
        for (i, (&position, &g)) in argmax.positions().iter().zip(gy.data()).enumerate() {
            gx[i / output.plane_len() * input.plane_len() + position as usize] += f64::from(g);
        }
        gx
    }

    fn check(
        x: &Tensor,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        ceil_mode: bool,
    ) -> Result<()> {
        let max = MaxPool2dParams { kernel, stride, padding, ceil_mode };
        let Ok(shape) = PoolShape::max(x.shape(), max) else { return Ok(()) };
        // Small integers: exact in whatever order, and a third of them for the means.
        let gy = Tensor::from_fn(shape.output(), |[n, c, h, w]| {
            ((n * 5 + c * 3 + h * 7 + w * 2) % 11) as f32 - 5.0
        })?;
        for isa in Isa::available() {
            let cpu = Cpu::with_isa(isa)?;
            let case = format!("{isa} {} {max:?}", x.shape());
            let mut argmax = cpu.empty_argmax(shape)?;
            let mut y = Tensor::zeros(shape.output())?;
            cpu.max_pool2d_argmax_into(x.view(), max, y.view_mut(), &mut argmax)?;
            let exact = largest(&argmax, &gy);
            for (update, old) in [(Update::Write, f32::NAN), (Update::Accumulate, 0.25)] {
                let mut gx = Tensor::from_fn(x.shape(), |_| old)?;
                cpu.max_pool2d_backward_into(&argmax, gy.view(), gx.view_mut(), update)?;
                let right = gx.data().iter().zip(&exact).all(|(&g, &e)| g == update.of(old, e as f32));
                assert!(right, "max {case}: {:?} for {exact:?}", gx.data());
            }
            for count_include_pad in [false, true] {
                let avg = AvgPool2dParams { kernel, stride, padding, ceil_mode, count_include_pad };
                let exact = average(&shape, Mean { count_include_pad }, &gy);
                let mut written = Tensor::from_fn(x.shape(), |_| f32::NAN)?;
                cpu.avg_pool2d_backward_into(avg, gy.view(), written.view_mut(), Update::Write)?;
                let close = |(&g, &e): (&f32, &f64)| (f64::from(g) - e).abs() < 1e-5;
                let right = written.data().iter().zip(&exact).all(close);
                assert!(right, "avg {case} {count_include_pad}: {:?} for {exact:?}", written.data());
                let mut sum = Tensor::from_fn(x.shape(), |_| 0.7)?;
                cpu.avg_pool2d_backward_into(avg, gy.view(), sum.view_mut(), Update::Accumulate)?;
                assert!(sum.data().iter().zip(written.data()).all(|(&s, &w)| s == 0.7 + w), "{case}");
            }
        }
        Ok(())
    }

    fn image(shape: Shape4) -> Result<Tensor> {
        Tensor::from_fn(shape, |[n, c, h, w]| ((n * 7 + c * 5 + h * 13 + w * 29) % 31) as f32)
    }

    #[test]
    fn every_kind_of_window() -> Result<()> {
        for [h, w] in [[1, 1], [5, 7], [16, 16], [3, 41], [40, 9]] {
            let x = image(Shape4::new(2, 3, h, w))?;
            for kernel in [[1, 1], [2, 2], [3, 3], [1, 4], [5, 2], [7, 7]] {
                for stride in [[1, 1], [2, 2], [3, 1], [1, 3], [2, 5]] {
                    for padding in [[0, 0], kernel.map(|k: usize| k / 2)] {
                        for ceil_mode in [false, true] {
                            check(&x, kernel, stride, padding, ceil_mode)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn rows_and_windows_wider_than_the_strips() -> Result<()> {
        let x = image(Shape4::new(1, 2, 3, 2 * COLUMNS + 77))?;
        for (kernel, padding) in [(3, 1), (COLUMNS - 1, 20), (COLUMNS + 1, COLUMNS / 2), (COLUMNS + 3, 0)] {
            for stride in [1, 2, 3, 700, 1500] {
                check(&x, [2, kernel], [1, stride], [1, padding], true)?;
            }
        }
        check(&image(Shape4::new(1, 1, 2, threads::CHUNK + 100))?, [2, 3], [1, 1], [1, 1], false)?;
        check(&image(Shape4::new(1, 2, 100, 101))?, [3, 3], [2, 2], [1, 1], false)?;
        let huge = crate::shape::window::MAX_EXTENT - 1;
        check(&image(Shape4::new(1, 1, 1, 1))?, [huge; 2], [huge; 2], [huge / 2; 2], false)
    }

    #[test]
    fn global_averages_go_to_their_planes() -> Result<()> {
        let cpu = Cpu::new()?;
        for shape in [
            Shape4::new(2, 3, 2, 4),
            Shape4::new(1, 2, 100, 160),
            Shape4::new(0, 2, 3, 3),
            Shape4::new(2, 2, 0, 3),
        ] {
            let gy = Tensor::from_fn(Shape4 { h: 1, w: 1, ..shape }, |[n, c, _, _]| (3 * n + c) as f32)?;
            let mut gx = Tensor::from_fn(shape, |_| 1.0)?;
            cpu.global_avg_pool_backward_into(gy.view(), gx.view_mut(), Update::Accumulate)?;
            let area = shape.plane_len() as f32;
            let exact = Tensor::from_fn(shape, |[n, c, _, _]| 1.0 + (3 * n + c) as f32 / area)?;
            assert_eq!(gx, exact);
        }
        Ok(())
    }

    #[test]
    fn other_shapes_are_refused() -> Result<()> {
        let cpu = Cpu::new()?;
        let shape = PoolShape::max(Shape4::new(1, 1, 4, 4), MaxPool2dParams::new(2))?;
        let (large, small) = (Tensor::zeros(shape.input())?, Tensor::zeros(shape.output())?);
        let argmax = cpu.empty_argmax(shape)?;
        for (gy, mut gx) in [(&large, large.clone()), (&small, small.clone())] {
            let refused = [
                cpu.max_pool2d_backward_into(&argmax, gy.view(), gx.view_mut(), Update::Write),
                cpu.avg_pool2d_backward_into(
                    AvgPool2dParams::new(2),
                    gy.view(),
                    gx.view_mut(),
                    Update::Write,
                ),
                cpu.global_avg_pool_backward_into(gy.view(), gx.view_mut(), Update::Write),
            ];
            assert!(refused.iter().all(|r| matches!(r, Err(Error::Invalid { .. }))), "{refused:?}");
        }
        Ok(())
    }
}
