//! Max pooling that remembers where each maximum was.

mod quads;
mod windows;

use windows::ArgmaxRows;

use super::Dimension;
use crate::cpu::threads::SharedOut;
use crate::cpu::{Cpu, expect_shape, threads};
use crate::error::{Error, Result};
use crate::shape::{MaxPool2dParams, PoolShape};
use crate::tensor::{TensorView, TensorViewMut};

/// Where the maxima of a pooling were: for each output, in NCHW order, the position `row * width + column` in its plane
/// of the input (what PyTorch calls `return_indices`), always one within its window.
///
/// ```
/// use tilewise_kernels::{Argmax, MaxPool2dParams, PoolShape, Shape4};
/// let shape = PoolShape::max(Shape4::new(1, 1, 2, 4), MaxPool2dParams::new(2))?;
/// assert_eq!(Argmax::new(shape, vec![4, 3])?.positions(), [4, 3]);
/// assert!(Argmax::new(shape, vec![4, 1]).is_err()); // 1 is in the first window
/// # Ok::<(), tilewise_kernels::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argmax {
    shape: PoolShape,
    positions: Vec<u32>,
}

impl Argmax {
    /// Positions from elsewhere.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless there is one position for each output, within its window.
    pub fn new(shape: PoolShape, positions: Vec<u32>) -> Result<Self> {
        const OP: &str = "argmax";
        let output = shape.output();
        let len = output.n * output.image_len();
        if positions.len() != len {
            return Err(Error::invalid(OP, "number of positions", len, positions.len()));
        }
        let [rows, columns] = Dimension::both(&shape);
        for (i, &position) in positions.iter().enumerate() {
            let (oy, ox) = (i / output.w % output.h, i % output.w);
            let (row, column) = (position as usize / columns.input, position as usize % columns.input);
            if !(rows.covered(oy).contains(&row) && columns.covered(ox).contains(&column)) {
                return Err(Error::invalid(OP, "position", "one within its window", position as usize));
            }
        }
        Ok(Argmax { shape, positions })
    }

    /// The first element of each window.
    fn first(shape: PoolShape) -> Result<Self> {
        const OP: &str = "max_pool2d_argmax";
        let (input, output) = (shape.input(), shape.output());
        if u32::try_from(input.plane_len()).is_err() {
            return Err(Error::invalid(OP, "input plane", "at most 2^32 - 1 elements", input));
        }
        let len = output.n * output.image_len();
        let mut positions = Vec::new();
        positions
            .try_reserve_exact(len)
            .map_err(|_| Error::OutOfMemory { op: OP, bytes: len.saturating_mul(size_of::<u32>()) })?;
        let [rows, columns] = Dimension::both(&shape);
        for row in 0..if len == 0 { 0 } else { output.n * output.c * output.h } {
            let start = rows.covered(row % output.h).start * columns.input;
            positions.extend((0..output.w).map(|ox| (start + columns.covered(ox).start) as u32));
        }
        Ok(Argmax { shape, positions })
    }

    /// The pooling.
    pub fn shape(&self) -> PoolShape {
        self.shape
    }

    /// One position for each output, in NCHW order.
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }
}

impl Cpu {
    /// Memory for where the maxima of this pooling are; until there are any, the first element of each window.
    ///
    /// # Errors
    /// [`Error::Invalid`] if positions in a plane do not fit 32 bits; [`Error::OutOfMemory`].
    pub fn empty_argmax(&self, shape: PoolShape) -> Result<Argmax> {
        Argmax::first(shape)
    }

    /// [`Cpu::max_pool2d_into`] that also says where each maximum was: the first one of its window; of a window with NaN
    /// the last NaN, as in PyTorch. The argmax is of this pooling ([`Cpu::empty_argmax`]). Allocates nothing.
    ///
    /// # Errors
    /// As there, and [`Error::Invalid`] for an argmax of another shape.
    pub fn max_pool2d_argmax_into(
        &self,
        x: TensorView<'_>,
        params: MaxPool2dParams,
        y: TensorViewMut<'_>,
        argmax: &mut Argmax,
    ) -> Result<()> {
        const OP: &str = "max_pool2d_argmax";
        let shape = PoolShape::max(x.shape(), params)?;
        let output = shape.output();
        expect_shape(OP, "output shape", output, y.shape())?;
        expect_shape(OP, "input shape of the argmax", shape.input(), argmax.shape.input())?;
        if argmax.shape != shape {
            return Err(Error::invalid(OP, "argmax", "that of this pooling", "that of another"));
        }
        let [rows, columns] = Dimension::both(&shape);
        let positions = SharedOut::new(argmax.positions.as_mut_ptr());
        threads::for_each_rows(self, y, |n, first_row, y| {
            let start = n * output.image_len() + first_row * output.w;
            // SAFETY: there is a position for each output, in its order, and no two items share an output.
            let positions = unsafe { std::slice::from_raw_parts_mut(positions.get().add(start), y.len()) };
            self.isa.run(ArgmaxRows { rows, columns, x: x.image(n), first_row, y, positions });
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::windows::COPY;
    use super::*;
    use crate::simd::Isa;
    use crate::tensor::{Shape4, Tensor};

    /// The definition: the first maximum, or the last NaN.
    fn positions(x: &Tensor, shape: &PoolShape) -> Vec<u32> {
        let [rows, columns] = Dimension::both(shape);
        let mut all = Vec::new();
        for n in 0..x.shape().n {
            for c in 0..x.shape().c {
                for (oy, ox) in (0..rows.output).flat_map(|oy| (0..columns.output).map(move |ox| (oy, ox))) {
                    let mut best: Option<(f32, usize)> = None;
                    for row in rows.covered(oy) {
                        for column in columns.covered(ox) {
                            let v = x.at(n, c, row, column);
                            if best.is_none_or(|(b, _)| v > b || v.is_nan()) {
                                best = Some((v, row * x.shape().w + column));
                            }
                        }
                    }
                    all.push(best.unwrap().1 as u32);
                }
            }
        }
        all
    }

    fn check(x: &Tensor, params: MaxPool2dParams) -> Result<()> {
        let shape = PoolShape::max(x.shape(), params)?;
        let expected = positions(x, &shape);
        for isa in Isa::available() {
            let cpu = Cpu::with_isa(isa)?;
            let mut argmax = cpu.empty_argmax(shape)?;
            Argmax::new(shape, argmax.positions().to_vec())?;
            let mut y = Tensor::zeros(shape.output())?;
            cpu.max_pool2d_argmax_into(x.view(), params, y.view_mut(), &mut argmax)?;
            assert_eq!(argmax.positions(), expected, "{isa} {} {params:?}", x.shape());
            let plain = cpu.max_pool2d(x, params)?;
            let same = y.data().iter().zip(plain.data()).all(|(a, b)| a == b || a.is_nan() && b.is_nan());
            assert!(same, "{isa} {} {params:?}", x.shape());
            Argmax::new(shape, argmax.positions().to_vec())?;
        }
        Ok(())
    }

    #[test]
    fn every_kind_of_window() -> Result<()> {
        const SPECIAL: [f32; 5] = [f32::NAN, f32::NEG_INFINITY, f32::INFINITY, -0.0, 0.0];
        for [h, w] in [[1, 1], [5, 7], [16, 16], [3, 41], [40, 9]] {
            // Few values, so that there are many ties; and some planes of nothing but minus infinity.
            let x = Tensor::from_fn(Shape4::new(2, 3, h, w), |[n, c, h, w]| {
                let i = (n * 7 + c * 5 + h * 13 + w * 29) % 31;
                if c == 2 { f32::NEG_INFINITY } else { *SPECIAL.get(i + 3 * n).unwrap_or(&((i % 4) as f32)) }
            })?;
            for kernel in [[1, 1], [2, 2], [3, 3], [1, 4], [5, 2], [7, 7]] {
                for stride in 1..=3 {
                    for padding in [[0, 0], kernel.map(|k: usize| k / 2)] {
                        for ceil_mode in [false, true] {
                            let stride = [stride, stride.min(kernel[1] + 1)];
                            let params = MaxPool2dParams { kernel, stride, padding, ceil_mode };
                            if PoolShape::max(x.shape(), params).is_ok() {
                                check(&x, params)?;
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn rows_and_windows_about_as_large_as_the_copy() -> Result<()> {
        for stride in [1, 2] {
            for (h, w, kernel, padding) in [
                (3, 2 * COPY, [2, 3], [1, 1]),
                (2, COPY - 1, [1, 2], [0, 0]),
                (70, 70, [63, 65], [30, 30]),
                (70, 70, [64, 64], [32, 32]),
                (2, COPY + 40, [1, COPY], [0, 9]),
                (2, COPY + 40, [1, COPY + 1], [0, 9]),
            ] {
                let x = Tensor::from_fn(Shape4::new(1, 1, h, w), |[_, _, h, w]| {
                    ((h * 31 + w * 17) % 101) as f32
                })?;
                let params = MaxPool2dParams { kernel, stride: [stride; 2], padding, ceil_mode: true };
                check(&x, params)?;
            }
        }
        let huge = crate::shape::window::MAX_EXTENT - 1;
        check(&Tensor::zeros(Shape4::new(1, 1, 1, 1))?, MaxPool2dParams::new(huge).padding(huge / 2))
    }

    #[test]
    fn what_is_no_argmax_is_refused() -> Result<()> {
        let shape = PoolShape::max(Shape4::new(1, 1, 4, 4), MaxPool2dParams::new(2))?;
        assert!(Argmax::new(shape, vec![0, 2, 8, 10]).is_ok());
        let cases = [
            vec![0, 2, 8],
            vec![0, 4, 8, 10],
            vec![0, 2, 8, 16],
            vec![u32::MAX, 2, 8, 10],
            vec![2, 2, 8, 10],
        ];
        for positions in cases {
            let refused = Argmax::new(shape, positions);
            assert!(matches!(refused, Err(Error::Invalid { op: "argmax", .. })), "{refused:?}");
        }
        let cpu = Cpu::new()?;
        let x = Tensor::zeros(Shape4::new(1, 1, 4, 4))?;
        let mut y = Tensor::zeros(Shape4::new(1, 1, 2, 2))?;
        let padded = MaxPool2dParams { kernel: [3, 3], stride: [2, 2], padding: [1, 1], ceil_mode: false };
        let refused =
            cpu.max_pool2d_argmax_into(x.view(), padded, y.view_mut(), &mut cpu.empty_argmax(shape)?);
        assert!(matches!(refused, Err(Error::Invalid { op: "max_pool2d_argmax", arg: "argmax", .. })));
        if usize::BITS > 32 {
            let wide = PoolShape::max(Shape4::new(0, 1, 1 << 16, 1 << 16), MaxPool2dParams::new(2))?;
            assert!(matches!(cpu.empty_argmax(wide), Err(Error::Invalid { .. })));
        }
        Ok(())
    }
}
