//! The gradient of average pooling.
//!
//! For a row of the input, the rows of gradients whose windows cover it are added up, each divided by its count; then,
//! along that sum, the columns. Rows that the same windows cover, as all of a window that does not overlap its neighbours,
//! share the sum.

use std::ops::Range;

use crate::cpu::pool::{Dimension, Fold, Mean};
use crate::shape::Update;
use crate::simd::{MAX_LANES, Simd, SimdOp};

/// Some rows of the gradient to one image.
pub(super) struct ToMeans<'a> {
    pub(super) fold: Mean,
    pub(super) rows: Dimension,
    pub(super) columns: Dimension,
    /// The gradients to the means of the image.
    pub(super) gy: &'a [f32],
    /// The first row of `gx` among all rows of the image.
    pub(super) first_row: usize,
    /// Whole rows.
    pub(super) gx: &'a mut [f32],
    pub(super) update: Update,
}

/// Columns that are computed at a time: with what they need 13 KiB, less than half an L1 cache.
pub(super) const COLUMNS: usize = 512;

/// Windows that reach those columns, at most as many again on either side together, and what the last vectors reach
/// beyond.
const WINDOWS: usize = 2 * COLUMNS + 3 * MAX_LANES;

impl SimdOp for ToMeans<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let gx = std::mem::take(&mut self.gx);
        let (rows, width) = (self.rows, self.columns.input);
        for first in (0..width).step_by(COLUMNS) {
            let columns = first..width.min(first + COLUMNS);
            let mut strip = Strip::new(self.fold, self.columns, columns.clone());
            let (mut plane, mut row) = (self.first_row / rows.input, self.first_row % rows.input);
            let mut windows = rows.reaching(row..row + 1);
            let mut last = None;
            for gx in gx.chunks_exact_mut(width) {
                let (gx, gy) =
                    (&mut gx[columns.clone()], &self.gy[plane * rows.output * self.columns.output..]);
                if strip.most > COLUMNS {
                    strip.spread_one_by_one(rows, windows.clone(), gy, gx, self.update);
                } else {
                    if last.as_ref() != Some(&windows) {
                        strip.add_up(simd, rows, windows.clone(), gy);
                        last = Some(windows.clone());
                    }
                    strip.spread(simd, gx, self.update);
                }
                row += 1;
                if row == rows.input {
                    (plane, row, last) = (plane + 1, 0, None);
                    windows = rows.reaching(0..1);
                } else {
                    rows.move_on(&mut windows, row);
                }
            }
        }
    }
}

/// The gradient to some columns of a row.
struct Strip {
    fold: Mean,
    d: Dimension,
    columns: Range<usize>,
    /// The windows that reach them.
    windows: Range<usize>,
    /// How many windows an element lies in, at most.
    most: usize,
    /// The last window that could reach the first of the columns.
    last: usize,
    /// How many columns count in each of the windows.
    counts: [f32; WINDOWS],
    /// One over the counts of the windows, of which `height` rows count.
    inverses: [f32; WINDOWS],
    height: usize,
    /// `gy` over the counts, added up over rows: of the windows from `last + 1 - most` on, and 0 where there is none.
    sums: [f32; WINDOWS],
}

impl Strip {
    #[inline(always)]
    fn new(fold: Mean, d: Dimension, columns: Range<usize>) -> Self {
        let mut strip = Strip {
            fold,
            d,
            windows: d.reaching(columns.clone()),
            most: d.kernel.div_ceil(d.stride),
            last: (columns.start + d.padding) / d.stride,
            columns,
            counts: [1.0; WINDOWS],
            inverses: [0.0; WINDOWS],
            height: 0,
            sums: [0.0; WINDOWS],
        };
        for (count, o) in strip.counts.iter_mut().zip(strip.windows.clone()) {
            *count = fold.count(d, o).unwrap_or(0) as f32;
        }
        strip
    }

    /// Sums over these rows of windows.
    #[inline(always)]
    fn add_up<S: Simd>(&mut self, simd: S, rows: Dimension, reaching: Range<usize>, gy: &[f32]) {
        let n = self.windows.len();
        // Columns behind the last window are reached by none.
        let first = (self.windows.start + self.most - 1).saturating_sub(self.last);
        if reaching.is_empty() {
            self.sums[first..first + n].fill(0.0);
        }
        for row in reaching.clone() {
            let height = self.fold.count(rows, row).unwrap_or(0);
            if self.height != height {
                self.height = height;
                for (inverse, count) in self.inverses[..n].iter_mut().zip(&self.counts) {
                    // In f32, where the area of an absurd window cannot overflow.
                    *inverse = 1.0 / (height as f32 * count);
                }
            }
            let gy = &gy[row * self.d.output + self.windows.start..][..n];
            let (inverses, sums) =
                (&self.inverses[..n + MAX_LANES], &mut self.sums[first..][..n + MAX_LANES]);
            for i in (0..n).step_by(S::LANES) {
                // SAFETY: i < n, of which each slice has as many elements, and all but the first MAX_LANES more. (Lanes
                // from n on are 0.)
                unsafe {
                    let g = simd.load_up_to(gy.as_ptr().add(i), n - i);
                    let mean = simd.mul(g, simd.load(inverses.as_ptr().add(i)));
                    let sum = sums.as_mut_ptr().add(i);
                    let mean = if row == reaching.start { mean } else { simd.add(simd.load(sum), mean) };
                    simd.store(sum, mean);
                }
            }
        }
    }

    /// The sums of the windows that reach each column, to `gx`.
    #[inline(always)]
    fn spread<S: Simd>(&self, simd: S, gx: &mut [f32], update: Update) {
        // The same loop several times: its inner one vanishes where the size of a window is known.
        match (self.d.stride, self.d.kernel) {
            (1, 3) => self.spread_1(simd, 3, gx, update),
            (1, kernel) => self.spread_1(simd, kernel, gx, update),
            (2, 2) => self.spread_2(simd, 2, gx, update),
            (2, 3) => self.spread_2(simd, 3, gx, update),
            (2, kernel) => self.spread_2(simd, kernel, gx, update),
            (stride, kernel) => {
                for start in 0..stride.min(gx.len()) {
                    let (from, n) = self.reaching(start, stride, kernel);
                    for (i, gx) in gx[start..].iter_mut().step_by(stride).enumerate() {
                        let mut sum = if n == 0 { 0.0 } else { self.sums[from + i] };
                        for k in 1..n {
                            sum += self.sums[from + i + k];
                        }
                        *gx = update.of(*gx, sum);
                    }
                }
            }
        }
    }

    /// Where the sums of the windows begin that reach the column at `start`, and how many there are. Every column a
    /// stride further has as many, one further.
    #[inline(always)]
    fn reaching(&self, start: usize, stride: usize, kernel: usize) -> (usize, usize) {
        let padded = self.columns.start + start + self.d.padding;
        let n = kernel.saturating_sub(padded % stride).div_ceil(stride);
        (padded / stride + self.most - self.last - n, n)
    }

    /// The sum of `n` sums from `from` on, and from the following positions on.
    ///
    /// # Safety
    /// They, and the LANES - 1 after them, lie within the sums.
    #[inline(always)]
    unsafe fn window<S: Simd>(&self, simd: S, from: usize, n: usize) -> S::F32 {
        // SAFETY: as the caller promises.
        unsafe {
            let sums = self.sums.as_ptr().add(from);
            let mut sum = if n == 0 { simd.splat(0.0) } else { simd.load(sums) };
            for i in 1..n {
                sum = simd.add(sum, simd.load(sums.add(i)));
            }
            sum
        }
    }

    #[inline(always)]
    fn spread_1<S: Simd>(&self, simd: S, kernel: usize, gx: &mut [f32], update: Update) {
        let (from, n) = self.reaching(0, 1, kernel);
        assert!(from + n + gx.len() + MAX_LANES <= WINDOWS);
        for i in (0..gx.len()).step_by(S::LANES) {
            // SAFETY: i < gx.len(), and by the assertion all sums from there on are within theirs.
            unsafe {
                let gradient = self.window(simd, from + i, n);
                update.store_up_to(simd, gx.as_mut_ptr().add(i), gx.len() - i, gradient);
            }
        }
    }

    #[inline(always)]
    fn spread_2<S: Simd>(&self, simd: S, kernel: usize, gx: &mut [f32], update: Update) {
        // Counts that do not depend on anything but the kernel, where the loops over them are to vanish.
        let (most, least) = (kernel.div_ceil(2), kernel / 2);
        if (self.columns.start + self.d.padding).is_multiple_of(2) {
            self.spread_pairs(simd, [most, least], gx, update);
        } else {
            self.spread_pairs(simd, [least, most], gx, update);
        }
    }

    /// `counts` windows reach the even and the odd ones of the columns.
    #[inline(always)]
    fn spread_pairs<S: Simd>(&self, simd: S, counts: [usize; 2], gx: &mut [f32], update: Update) {
        let [even_n, odd_n] = counts;
        let [even, odd] = [0, 1].map(|start| self.reaching(start, 2, self.d.kernel).0);
        assert!(even.max(odd) + even_n.max(odd_n) + gx.len().div_ceil(2) + MAX_LANES <= WINDOWS);
        for i in (0..gx.len().div_ceil(2)).step_by(S::LANES) {
            // SAFETY: 2 i < gx.len(), and by the assertion all sums from there on are within theirs.
            unsafe {
                let (even, odd) = (self.window(simd, even + i, even_n), self.window(simd, odd + i, odd_n));
                let (first, second) = simd.interleave(even, odd);
                let (to, n) = (gx.as_mut_ptr().add(2 * i), gx.len() - 2 * i);
                update.store_up_to(simd, to, n, first);
                if n > S::LANES {
                    update.store_up_to(simd, to.add(S::LANES), n - S::LANES, second);
                }
            }
        }
    }

    /// [`Strip::add_up`] and [`Strip::spread`] where more windows overlap than there is room for.
    fn spread_one_by_one(
        &self,
        rows: Dimension,
        reaching: Range<usize>,
        gy: &[f32],
        gx: &mut [f32],
        update: Update,
    ) {
        for (column, gx) in self.columns.clone().zip(gx) {
            let mut sum = 0.0;
            for row in reaching.clone() {
                let height = self.fold.count(rows, row).unwrap_or(0) as f32;
                for o in self.d.reaching(column..column + 1) {
                    let width = self.fold.count(self.d, o).unwrap_or(0) as f32;
                    sum += gy[row * self.d.output + o] / (height * width);
                }
            }
            *gx = update.of(*gx, sum);
        }
    }
}
