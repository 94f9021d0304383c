//! The way over the windows of a pooling.
//!
//! A row of outputs is made in two steps, each along one dimension:
//! 1. the rows that the windows cover are folded into one, lane by lane, with the padding around it filled in:
//!    a strip, which stays in the L1 cache;
//! 2. the strip is folded along the windows: at stride 1 by loads one element apart, at stride 2 by loads of two
//!    vectors split into even and odd columns, at other strides one output after the other.
//!
//! So borders cost nothing extra and no window sees an edge. Only windows too wide for the strip are folded where
//! they lie.

use std::ops::Range;

use super::{Dimension, Fold};
use crate::simd::{MAX_LANES, Simd, SimdOp};

/// Elements of the strips: 8 KiB, a quarter of an L1 cache. Windows wider than this do without.
const STRIPS: usize = 2048;

/// Some rows of the outputs of one image.
pub(super) struct PoolRows<'a, F> {
    pub(super) fold: F,
    pub(super) rows: Dimension,
    pub(super) columns: Dimension,
    /// The image.
    pub(super) x: &'a [f32],
    /// The first row of `y` among all output rows of the image.
    pub(super) first_row: usize,
    /// Whole rows.
    pub(super) y: &'a mut [f32],
}

impl<F: Fold> PoolRows<'_, F> {
    /// The plane and the row in it of row `i` of `y`.
    #[inline(always)]
    fn position(&self, i: usize) -> (usize, usize) {
        ((self.first_row + i) / self.rows.output, (self.first_row + i) % self.rows.output)
    }

    /// The rows of `x` under row `i` of `y`: how many (at least one), and from the first of them all of the image.
    #[inline(always)]
    fn covered(&self, i: usize) -> (usize, &[f32]) {
        let (plane, oy) = self.position(i);
        let Range { start, end } = self.rows.covered(oy);
        (end - start, &self.x[(plane * self.rows.input + start) * self.columns.input..])
    }

    /// How many rows count for row `i` of `y`.
    #[inline(always)]
    fn height(&self, i: usize) -> f32 {
        self.fold.count(self.rows, self.position(i).1).unwrap_or(0) as f32
    }
}

impl<F: Fold> SimdOp for PoolRows<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let y = std::mem::take(&mut self.y);
        if self.columns.kernel > STRIPS {
            for (i, y) in y.chunks_exact_mut(self.columns.output).enumerate() {
                let (rows, x) = self.covered(i);
                let x = &x[..rows * self.columns.input];
                pool_wide_row(self.fold, self.columns, x, self.height(i), y);
            }
        } else {
            Strips::new(self.fold, self.columns).pool(simd, &self, y);
        }
    }
}

/// The folds of windows wider than a strip.
fn pool_wide_row<F: Fold>(fold: F, d: Dimension, x: &[f32], height: f32, y: &mut [f32]) {
    for (o, y) in y.iter_mut().enumerate() {
        let of_row = |row: &[f32]| row[d.covered(o)].iter().fold(F::NEUTRAL, |a, &b| F::two_f32(a, b));
        let folded = x.chunks_exact(d.input).map(of_row).fold(F::NEUTRAL, F::two_f32);
        // In f32, where the area of an absurd window cannot overflow.
        *y = F::result_f32(folded, height * fold.count(d, o).unwrap_or(0) as f32);
    }
}

/// Strips, each the rows under one row of windows folded into one. As many at a time as there is room for, so that
/// step 2 seldom waits for the stores of step 1; or, of a row that is too wide, as many windows as there is room for.
///
/// Vectors that straddle the end of a row are loaded and stored whole wherever the memory is ours. What they then
/// overwrite is the next row, of the strips or of `y`, which is computed after. (Masked stores cost 20 cycles and more
/// on some machines, and most rows are short.)
struct Strips<F> {
    fold: F,
    d: Dimension,
    /// Windows of a strip.
    windows: usize,
    /// Elements from one strip to the next: whole vectors, at most STRIPS unless there is room for one strip only.
    pitch: usize,
    /// What the windows of the last strip count of the columns.
    counts: [f32; STRIPS + MAX_LANES],
    /// The strips, and what the last vectors reach beyond.
    strips: Aligned<[f32; STRIPS + 3 * MAX_LANES]>,
}

/// On a cache line: a vector across two of them takes twice as long.
#[repr(align(64))]
struct Aligned<T>(T);

impl<F: Fold> Strips<F> {
    #[inline(always)]
    fn new(fold: F, d: Dimension) -> Self {
        let windows = d.output.min((STRIPS - d.kernel) / d.stride + 1);
        let pitch = ((windows - 1) * d.stride + d.kernel).next_multiple_of(MAX_LANES);
        let mut strips = Strips {
            fold,
            d,
            windows,
            pitch,
            counts: [1.0; STRIPS + MAX_LANES],
            strips: Aligned([0.0; STRIPS + 3 * MAX_LANES]),
        };
        strips.count(0, windows);
        strips
    }

    /// Counts the columns of `n` windows from output `first` on.
    #[inline(always)]
    fn count(&mut self, first: usize, n: usize) {
        for (o, count) in (first..first + n).zip(&mut self.counts) {
            if let Some(columns) = self.fold.count(self.d, o) {
                *count = columns as f32;
            }
        }
    }

    /// All of `y`, which starts with the first row of `op`.
    #[inline(always)]
    fn pool<S: Simd>(&mut self, simd: S, op: &PoolRows<'_, F>, y: &mut [f32]) {
        let d = self.d;
        let rows = y.len() / d.output;
        let at_once = if self.windows < d.output { 1 } else { (STRIPS / self.pitch).max(1) };
        for top in (0..rows).step_by(at_once) {
            let group = top..rows.min(top + at_once);
            let mut first = 0;
            while first < d.output {
                let n = self.windows.min(d.output - first);
                if self.windows < d.output {
                    self.count(first, n);
                }
                for row in group.clone() {
                    self.fold_down(simd, op.covered(row), first, n, (row - top) * self.pitch);
                }
                for row in group.clone() {
                    let y = &mut y[row * d.output + first..];
                    self.fold_along(simd, (row - top) * self.pitch, op.height(row), y, n);
                }
                first += n;
            }
        }
    }

    /// Step 1: the columns under `n` windows from output `first` on, into the strip at `to`.
    #[inline(always)]
    fn fold_down<S: Simd>(&mut self, simd: S, (rows, x): (usize, &[f32]), first: usize, n: usize, to: usize) {
        let d = self.d;
        // Columns of the padded input, and the input among them: there is some, since a window is at least twice as
        // wide as the padding and starts before the input ends.
        let start = first * d.stride;
        let columns = (n - 1) * d.stride + d.kernel;
        let before = d.padding.saturating_sub(start);
        let left = start + before - d.padding;
        let len = (start + columns - d.padding).min(d.input) - left;
        let strip = &mut self.strips.0[to..][..columns + 2 * MAX_LANES];
        strip[..before].fill(F::NEUTRAL);
        let out = &mut strip[before..][..len + 2 * MAX_LANES];
        let x = &x[left..];
        // The same loop thrice: its inner one vanishes where the number of rows is known.
        match rows {
            2 => fold_rows::<S, F>(simd, x, 2, d.input, out),
            3 => fold_rows::<S, F>(simd, x, 3, d.input, out),
            _ => fold_rows::<S, F>(simd, x, rows, d.input, out),
        }
        strip[before + len..columns].fill(F::NEUTRAL);
    }

    /// Step 2: the first `n` elements of `y`, and perhaps more, from the strip at `from`.
    #[inline(always)]
    fn fold_along<S: Simd>(&self, simd: S, from: usize, height: f32, y: &mut [f32], n: usize) {
        let Dimension { kernel, stride, .. } = self.d;
        let strip = &self.strips.0[from..][..(n - 1) * stride + kernel + 2 * MAX_LANES];
        let counts = &self.counts[..n + MAX_LANES];
        // As above: the loop over a window vanishes where its size is known.
        match (stride, kernel) {
            (1, 3) => fold_windows_1::<S, F>(simd, strip, 3, height, counts, y),
            (1, _) => fold_windows_1::<S, F>(simd, strip, kernel, height, counts, y),
            (2, 2) => fold_windows_2::<S, F>(simd, strip, 2, height, counts, y),
            (2, 3) => fold_windows_2::<S, F>(simd, strip, 3, height, counts, y),
            (2, _) => fold_windows_2::<S, F>(simd, strip, kernel, height, counts, y),
            _ => {
                for (o, y) in y[..n].iter_mut().enumerate() {
                    let window = &strip[o * stride..][..kernel];
                    let folded = window[1..].iter().fold(window[0], |a, &b| F::two_f32(a, b));
                    *y = F::result_f32(folded, height * counts[o]);
                }
            }
        }
    }
}

/// The first `rows` rows of `x`, which lie `width` elements apart, folded into `out`, of which the last 2 * MAX_LANES
/// elements are room to spare.
#[inline(always)]
fn fold_rows<S: Simd, F: Fold>(simd: S, x: &[f32], rows: usize, width: usize, out: &mut [f32]) {
    let len = out.len() - 2 * MAX_LANES;
    // What may be read in the last row, and so in all.
    let room = x.len() - (rows - 1) * width;
    let (x, out) = (x.as_ptr(), out.as_mut_ptr());
    let mut i = 0;
    // SAFETY: reads start at i < len <= room in each row and end within `room`; writes start at i < len and end within
    // the 2 * MAX_LANES that follow.
    unsafe {
        while i + 2 * S::LANES <= len {
            let p = x.add(i);
            let (mut a, mut b) = (simd.load(p), simd.load(p.add(S::LANES)));
            for row in 1..rows {
                let p = p.add(row * width);
                a = F::two(simd, a, simd.load(p));
                b = F::two(simd, b, simd.load(p.add(S::LANES)));
            }
            simd.store(out.add(i), a);
            simd.store(out.add(i + S::LANES), b);
            i += 2 * S::LANES;
        }
        while i < len {
            let p = x.add(i);
            let mut a = simd.load_up_to(p, room - i);
            for row in 1..rows {
                a = F::two(simd, a, simd.load_up_to(p.add(row * width), room - i));
            }
            simd.store(out.add(i), a);
            i += S::LANES;
        }
    }
}

/// The results of the windows of `kernel` elements that start at each element of `strip`; as many as `counts`.
/// `strip` goes on for 2 * MAX_LANES after the last window, and `counts` for MAX_LANES.
#[inline(always)]
fn fold_windows_1<S: Simd, F: Fold>(
    simd: S,
    strip: &[f32],
    kernel: usize,
    height: f32,
    counts: &[f32],
    y: &mut [f32],
) {
    for i in (0..counts.len() - MAX_LANES).step_by(S::LANES) {
        // SAFETY: the window of output i lies in `strip`, so that LANES elements from any of its own end within the
        // room after the last one.
        let folded = unsafe {
            let p = strip.as_ptr().add(i);
            let mut a = simd.load(p);
            for k in 1..kernel {
                a = F::two(simd, a, simd.load(p.add(k)));
            }
            a
        };
        store_results::<S, F>(simd, folded, height, &counts[i..], &mut y[i..]);
    }
}

/// [`fold_windows_1`] for windows that start at every second element.
#[inline(always)]
fn fold_windows_2<S: Simd, F: Fold>(
    simd: S,
    strip: &[f32],
    kernel: usize,
    height: f32,
    counts: &[f32],
    y: &mut [f32],
) {
    for i in (0..counts.len() - MAX_LANES).step_by(S::LANES) {
        // SAFETY: the window of output i lies in `strip`, so that 2 * LANES elements from any of its own end within the
        // room after the last one.
        let folded = unsafe {
            let p = strip.as_ptr().add(2 * i);
            let (even, odd) = simd.deinterleave(simd.load(p), simd.load(p.add(S::LANES)));
            let mut a = if kernel > 1 { F::two(simd, even, odd) } else { even };
            for k in (2..kernel).step_by(2) {
                let p = p.add(k);
                let (even, odd) = simd.deinterleave(simd.load(p), simd.load(p.add(S::LANES)));
                a = F::two(simd, a, even);
                if k + 1 < kernel {
                    a = F::two(simd, a, odd);
                }
            }
            a
        };
        store_results::<S, F>(simd, folded, height, &counts[i..], &mut y[i..]);
    }
}

/// `y` from the folds of as many windows as it has room for. `counts` holds LANES elements.
#[inline(always)]
fn store_results<S: Simd, F: Fold>(simd: S, folded: S::F32, height: f32, counts: &[f32], y: &mut [f32]) {
    // SAFETY: as the callers' loops say, `counts` goes on for MAX_LANES after the last window's.
    let counts = unsafe { simd.load(counts.as_ptr()) };
    let results = F::result(simd, folded, simd.mul(simd.splat(height), counts));
    // SAFETY: only the elements of `y` are written.
    unsafe { simd.store_up_to(y.as_mut_ptr(), y.len(), results) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;
    use crate::error::Result;
    use crate::shape::{AvgPool2dParams, MaxPool2dParams};
    use crate::simd::Isa;
    use crate::tensor::{Shape4, Tensor};

    /// One row, whose windows are folded one by one.
    fn check(width: usize, kernel: usize, stride: usize, padding: usize) -> Result<()> {
        let x =
            Tensor::from_fn(Shape4::new(1, 1, 2, width), |[_, _, h, w]| ((h * 31 + w * 17) % 101) as f32)?;
        for isa in Isa::available() {
            let cpu = Cpu::with_isa(isa)?;
            let max = MaxPool2dParams {
                kernel: [2, kernel],
                stride: [1, stride],
                padding: [0, padding],
                ceil_mode: true,
            };
            let avg = AvgPool2dParams {
                kernel: max.kernel,
                stride: max.stride,
                padding: max.padding,
                ceil_mode: true,
                count_include_pad: false,
            };
            let (largest, mean) = (cpu.max_pool2d(&x, max)?, cpu.avg_pool2d(&x, avg)?);
            for o in 0..largest.shape().w {
                let end = (o * stride + kernel).saturating_sub(padding).min(width);
                let window = || {
                    let columns = (o * stride).saturating_sub(padding)..end;
                    columns.flat_map(|w| [x.at(0, 0, 0, w), x.at(0, 0, 1, w)])
                };
                let case = format!("{isa} w{width} k{kernel} s{stride} p{padding} o{o}");
                assert_eq!(largest.at(0, 0, 0, o), window().fold(f32::NEG_INFINITY, f32::max), "{case}");
                // Sums of integers below 2^24 are exact, in whatever order.
                let expected = window().sum::<f32>() / window().count() as f32;
                assert_eq!(mean.at(0, 0, 0, o), expected, "{case}");
            }
        }
        Ok(())
    }

    #[test]
    fn rows_and_windows_about_as_wide_as_the_strips() -> Result<()> {
        for stride in 1..=4 {
            for (width, kernel, padding) in
                [(STRIPS - 1, 3, 1), (STRIPS, 2, 1), (STRIPS + 1, 5, 2), (3 * STRIPS + 7, 3, 1), (40, 64, 32)]
            {
                check(width, kernel, stride, padding)?;
            }
        }
        for kernel in [STRIPS - 1, STRIPS, STRIPS + 1] {
            check(STRIPS + 50, kernel, 1, 20)?;
            check(STRIPS + 50, kernel, 7, kernel / 2)?;
        }
        Ok(())
    }

    #[test]
    fn the_largest_conceivable_window() -> Result<()> {
        let x = Tensor::from_vec(Shape4::new(1, 1, 1, 1), vec![3.0])?;
        let huge = crate::shape::window::MAX_EXTENT - 1;
        let cpu = Cpu::new()?;
        assert_eq!(cpu.max_pool2d(&x, MaxPool2dParams::new(huge).padding(huge / 2))?.data(), [3.0]);
        let avg = AvgPool2dParams::new(huge).padding(huge / 2).count_include_pad(false);
        assert_eq!(cpu.avg_pool2d(&x, avg)?.data(), [3.0]);
        Ok(())
    }
}
