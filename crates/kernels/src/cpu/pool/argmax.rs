//! Max pooling that remembers where each maximum was.
//!
//! Lanes are neighbouring windows. Each holds the largest element so far and, as the bits of an f32, its offset from the
//! corner of the window; the elements pass in row-major order, and one that is larger, or NaN, takes both places. So the
//! first of equals stays, and the last NaN.
//!
//! The rows of some windows are copied first, with the padding around them filled in by minus infinity, which never
//! takes a place: no window sees an edge, and rows that several windows share are copied once.

use std::ops::Range;

use super::strips::fold_rows;
use super::{Dimension, Largest};
use crate::cpu::threads::SharedOut;
use crate::cpu::{Cpu, expect_shape, threads};
use crate::error::{Error, Result};
use crate::shape::{MaxPool2dParams, PoolShape};
use crate::simd::{MAX_LANES, Simd, SimdOp};
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

/// Some rows of the outputs of one image.
struct ArgmaxRows<'a> {
    rows: Dimension,
    columns: Dimension,
    /// The image.
    x: &'a [f32],
    /// The first row of `y` among all output rows of the image.
    first_row: usize,
    /// Whole rows.
    y: &'a mut [f32],
    positions: &'a mut [u32],
}

/// Elements of the copied rows: 16 KiB, half an L1 cache. Windows larger than this are searched where they lie.
const COPY: usize = 4096;

impl SimdOp for ArgmaxRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let (rows, columns) = (self.rows, self.columns);
        let (y, positions) = (std::mem::take(&mut self.y), std::mem::take(&mut self.positions));
        // As many windows side by side, and then one below the other, as there is room for.
        let height = rows.kernel.min(rows.input);
        let widest = COPY / height / MAX_LANES * MAX_LANES;
        if columns.kernel > widest || columns.stride > 2 {
            let outputs = y.chunks_exact_mut(columns.output).zip(positions.chunks_exact_mut(columns.output));
            for (i, (y, positions)) in outputs.enumerate() {
                self.search_row(i, y, positions);
            }
            return;
        }
        let windows = columns.output.min((widest - columns.kernel) / columns.stride + 1);
        let pitch = ((windows - 1) * columns.stride + columns.kernel).next_multiple_of(MAX_LANES);
        let below = ((COPY / pitch - height) / rows.stride + 1).min(rows.output);
        let mut copied = Copied { pitch, elements: Aligned([0.0; COPY + 3 * MAX_LANES]) };
        let (mut top, end) = (0, y.len() / columns.output);
        while top < end {
            // Rows of one plane.
            let (_, oy) = self.position(top);
            let bottom = end.min(top + below.min(rows.output - oy));
            for first in (0..columns.output).step_by(windows) {
                let n = windows.min(columns.output - first);
                let (plane, covered) =
                    (self.plane(top), self.covered(top).start..self.covered(bottom - 1).end);
                copied.copy(simd, plane, columns, covered.clone(), first, n);
                for row in top..bottom {
                    let at = row * columns.output + first;
                    let window = self.covered(row);
                    let from = window.start - covered.start..window.end - covered.start;
                    let (y, positions) = (&mut y[at..], &mut positions[at..]);
                    copied.search(simd, columns, from, n, y, positions);
                    place(columns, window.start, first, &y[..n], &mut positions[..n]);
                }
            }
            top = bottom;
        }
    }
}

impl ArgmaxRows<'_> {
    /// The plane and the row in it of row `i` of `y`.
    #[inline(always)]
    fn position(&self, i: usize) -> (usize, usize) {
        ((self.first_row + i) / self.rows.output, (self.first_row + i) % self.rows.output)
    }

    /// The plane of `x` under row `i` of `y`, and what follows it.
    #[inline(always)]
    fn plane(&self, i: usize) -> &[f32] {
        &self.x[self.position(i).0 * self.rows.input * self.columns.input..]
    }

    /// The rows of the plane under row `i` of `y`.
    #[inline(always)]
    fn covered(&self, i: usize) -> Range<usize> {
        self.rows.covered(self.position(i).1)
    }

    /// Row `i` of the outputs, one after the other.
    fn search_row(&self, i: usize, y: &mut [f32], positions: &mut [u32]) {
        let (plane, rows) = (self.plane(i), self.covered(i));
        for (o, (y, position)) in y.iter_mut().zip(positions).enumerate() {
            let columns = self.columns.covered(o);
            let first = rows.start * self.columns.input + columns.start;
            let (mut largest, mut at) = (f32::NEG_INFINITY, first);
            for row in rows.clone() {
                let start = row * self.columns.input;
                for (column, &v) in columns.clone().zip(&plane[start..][columns.clone()]) {
                    if v > largest || v.is_nan() {
                        (largest, at) = (v, start + column);
                    }
                }
            }
            (*y, *position) = (largest, at as u32);
        }
    }
}

/// Offsets from the corners of the windows become positions in the plane, for the row of windows from output `first` on
/// whose first row is `top`.
#[inline(always)]
fn place(columns: Dimension, top: usize, first: usize, y: &[f32], positions: &mut [u32]) {
    // Below 2^32 in the end; before, modulo 2^32.
    let mut corner = (top * columns.input + first * columns.stride).wrapping_sub(columns.padding) as u32;
    for position in &mut *positions {
        *position = position.wrapping_add(corner);
        corner = corner.wrapping_add(columns.stride as u32);
    }
    // Where there is nothing but minus infinities none has taken a place: then it is the first one's.
    let nothing = |largest: f32| largest == f32::NEG_INFINITY;
    if y.iter().fold(false, |any, &largest| any | nothing(largest)) {
        for (o, (position, &largest)) in positions.iter_mut().zip(y).enumerate() {
            if nothing(largest) {
                *position = (top * columns.input + columns.covered(first + o).start) as u32;
            }
        }
    }
}

/// Rows of a plane, padded by minus infinity.
struct Copied {
    /// Elements from one row to the next: whole vectors.
    pitch: usize,
    /// The rows, and what the last vectors reach beyond.
    elements: Aligned<[f32; COPY + 3 * MAX_LANES]>,
}

/// On a cache line: a vector across two of them takes twice as long.
#[repr(align(64))]
struct Aligned<T>(T);

impl Copied {
    /// The columns of `rows` under `n` windows from output `first` on.
    #[inline(always)]
    fn copy<S: Simd>(
        &mut self,
        simd: S,
        plane: &[f32],
        d: Dimension,
        rows: Range<usize>,
        first: usize,
        n: usize,
    ) {
        let (start, columns) = (first * d.stride, (n - 1) * d.stride + d.kernel);
        let before = d.padding.saturating_sub(start);
        let left = start + before - d.padding;
        let len = (start + columns - d.padding).min(d.input) - left;
        for (i, row) in rows.enumerate() {
            let to = &mut self.elements.0[i * self.pitch..][..columns + 2 * MAX_LANES];
            to[..before].fill(f32::NEG_INFINITY);
            let from = &plane[row * d.input + left..];
            fold_rows::<S, Largest>(simd, from, 1, d.input, &mut to[before..][..len + 2 * MAX_LANES]);
            to[before + len..columns].fill(f32::NEG_INFINITY);
        }
    }

    /// The largest elements of `n` windows over the copied `rows`, and their offsets, in units of the plane.
    #[inline(always)]
    fn search<S: Simd>(
        &self,
        simd: S,
        d: Dimension,
        rows: Range<usize>,
        n: usize,
        y: &mut [f32],
        positions: &mut [u32],
    ) {
        let from = &self.elements.0[rows.start * self.pitch..];
        let op = Windows { from, pitch: self.pitch, width: d.input, rows: rows.len(), n };
        // The same loop thrice: its inner one vanishes where the size of a window is known.
        match (d.stride, d.kernel) {
            (2, 2) => op.search::<S, 2>(simd, 2, y, positions),
            (2, 3) => op.search::<S, 2>(simd, 3, y, positions),
            (2, kernel) => op.search::<S, 2>(simd, kernel, y, positions),
            (_, 3) => op.search::<S, 1>(simd, 3, y, positions),
            (_, kernel) => op.search::<S, 1>(simd, kernel, y, positions),
        }
    }
}

/// A row of windows over copied rows.
struct Windows<'a> {
    /// The rows, `pitch` apart.
    from: &'a [f32],
    pitch: usize,
    /// Elements from one row to the next in the plane.
    width: usize,
    rows: usize,
    n: usize,
}

impl Windows<'_> {
    #[inline(always)]
    fn search<S: Simd, const STRIDE: usize>(
        &self,
        simd: S,
        kernel: usize,
        y: &mut [f32],
        positions: &mut [u32],
    ) {
        assert!(y.len() >= self.n && positions.len() >= self.n && self.rows > 0);
        let last = (self.rows - 1) * self.pitch + (self.n - 1) * STRIDE + kernel;
        assert!(last + 2 * MAX_LANES <= self.from.len());
        for i in (0..self.n).step_by(S::LANES) {
            let mut best = simd.splat(f32::NEG_INFINITY);
            let mut at = simd.splat(0.0);
            let mut meet = |v: S::F32, offset: usize| {
                let takes = simd.or(simd.gt(v, best), simd.is_nan(v));
                best = simd.select(takes, v, best);
                at = simd.select(takes, simd.splat(f32::from_bits(offset as u32)), at);
            };
            for row in 0..self.rows {
                let offset = row * self.width;
                // SAFETY: an element of the window of output i < n, in one of the rows, has STRIDE * LANES and one more
                // after it within the 2 * MAX_LANES that follow the last.
                unsafe {
                    let p = self.from.as_ptr().add(row * self.pitch + i * STRIDE);
                    if STRIDE == 1 {
                        for k in 0..kernel {
                            meet(simd.load(p.add(k)), offset + k);
                        }
                    } else {
                        for k in (0..kernel).step_by(2) {
                            let p = p.add(k);
                            let (even, odd) = simd.deinterleave(simd.load(p), simd.load(p.add(S::LANES)));
                            meet(even, offset + k);
                            if k + 1 < kernel {
                                meet(odd, offset + k + 1);
                            }
                        }
                    }
                }
            }
            let n = self.n - i;
            // SAFETY: both hold n elements from i on; a position is as large as an f32.
            unsafe {
                simd.store_up_to(y.as_mut_ptr().add(i), n, best);
                simd.store_up_to(positions.as_mut_ptr().add(i).cast(), n, at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
