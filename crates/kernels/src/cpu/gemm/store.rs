//! From finished tiles to the output: bias, activation, and the order in memory.

use crate::cpu::activation::apply;
use crate::cpu::gemm::Stretch;
use crate::cpu::scratch::Scratch;
use crate::error::Result;
use crate::shape::correlation::Spread;
use crate::shape::{Activation, Update};
use crate::simd::{MAX_LANES, Simd};

/// What happens to a sum before it is written.
#[derive(Debug, Clone)]
pub(crate) struct Epilogue {
    /// One value per column, zeros without bias; whole vectors can be read at any column.
    bias: Scratch,
    pub activation: Activation,
    pub columns: usize,
}

impl Epilogue {
    /// With a bias of zeros.
    pub fn new(columns: usize, activation: Activation) -> Result<Self> {
        let bias = Scratch::with_len(columns.saturating_add(2 * MAX_LANES))?;
        Ok(Epilogue { bias, activation, columns })
    }

    /// Replaces the bias: one value per column, or for each so many of them.
    pub fn set_bias(&mut self, bias: &[f32]) {
        let each = self.columns / bias.len().max(1);
        let columns = self.bias.as_mut_slice()[..self.columns].chunks_exact_mut(each.max(1));
        columns.zip(bias).for_each(|(columns, bias)| columns.fill(*bias));
    }

    /// Row `i`, vector `v`, finished.
    ///
    /// # Safety
    /// `result` holds such a vector, and its column is one of this epilogue's.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, simd: S, result: &Stretch, i: usize, v: usize) -> S::F32 {
        // SAFETY: the caller's promise.
        unsafe {
            let sum = simd.load(result.acc.add((i * result.vectors + v) * S::LANES));
            self.finish_sum(simd, result.column + v * S::LANES, sum)
        }
    }

    /// The sums of the columns from `column` on, finished.
    ///
    /// # Safety
    /// `column` lies less than a vector behind one of this epilogue's.
    #[inline(always)]
    pub unsafe fn finish_sum<S: Simd>(&self, simd: S, column: usize, sum: S::F32) -> S::F32 {
        // SAFETY: the bias is padded by two vectors.
        let bias = unsafe { simd.load(self.bias.as_slice().as_ptr().add(column)) };
        apply(simd, self.activation, simd.add(sum, bias))
    }
}

/// Where [`store_planes`] writes.
#[derive(Clone, Copy)]
pub(crate) struct Planes {
    /// The first row of the first column.
    pub first: *mut f32,
    /// From one column to the next.
    pub plane: usize,
    /// From one row to the next.
    pub step: usize,
    /// Whether what is there is added to, not replaced.
    pub update: Update,
}

/// Writes rows `range` as columns: element (row i, column j) goes to `first + j * plane + (i - range.start) * step`. So
/// rows are pixels, columns are planes of an NCHW image.
///
/// # Safety
/// Those elements can be written (read, if they are added to) for every row of the range and every column of the epilogue,
/// and `result` has those rows.
#[inline(always)]
pub(crate) unsafe fn store_planes<S: Simd>(
    simd: S,
    epilogue: &Epilogue,
    result: Stretch,
    range: std::ops::Range<usize>,
    out: Planes,
) {
    let Planes { first: out, plane, step, update } = out;
    let accumulate = update == Update::Accumulate;
    for v in 0..result.vectors {
        let column = result.column + v * S::LANES;
        let columns = S::LANES.min(epilogue.columns - column);
        for first in range.clone().step_by(S::LANES) {
            let rows = S::LANES.min(range.end - first);
            let mut square = [simd.splat(0.0); MAX_LANES];
            for (i, row) in square.iter_mut().enumerate().take(rows) {
                // SAFETY: first + i is a row of the result.
                *row = unsafe { epilogue.finish(simd, &result, first + i, v) };
            }
            simd.transpose(&mut square[..S::LANES]);
            for (j, pixels) in square.iter().enumerate().take(columns) {
                // SAFETY: column + j < columns of the epilogue, and there are `rows` pixels: the caller's promise.
                unsafe {
                    let p = out.add((column + j) * plane + (first - range.start) * step);
                    if step == 1 {
                        let pixels =
                            if accumulate { simd.add(simd.load_up_to(p, rows), *pixels) } else { *pixels };
                        simd.store_up_to(p, rows, pixels);
                    } else {
                        for (i, x) in simd.to_lanes(*pixels).into_iter().enumerate().take(rows) {
                            let p = p.add(i * step);
                            *p = if accumulate { *p + x } else { x };
                        }
                    }
                }
            }
        }
    }
}

/// Writes rows as the outputs of inputs that are spread: row i is input `first + i` of its plane, a column a tap of an output
/// channel, `[channel][tap]`.
///
/// # Safety
/// The outputs of these inputs, in planes from `out` on, can be written (read, if they are added to) for every row and column of the
/// epilogue, and `result` has those rows.
#[inline(always)]
pub(crate) unsafe fn store_spread<S: Simd>(
    simd: S,
    epilogue: &Epilogue,
    result: Stretch,
    first: usize,
    spread: &Spread,
    out: *mut f32,
    update: Update,
) {
    let ([high, wide], taps) = (spread.kernel, spread.taps());
    let pitch = spread.width * wide;
    let mut row = 0;
    while row < result.rows {
        // Inputs of one row of their plane: their outputs lie side by side, too.
        let (y, x) = ((first + row) / spread.width, (first + row) % spread.width);
        let count = S::LANES.min(result.rows - row).min(spread.width - x);
        for v in 0..result.vectors {
            let column = result.column + v * S::LANES;
            let columns = S::LANES.min(epilogue.columns - column);
            let mut square = [simd.splat(0.0); MAX_LANES];
            for (i, inputs) in square.iter_mut().enumerate().take(count) {
                // SAFETY: row + i is a row of the result.
                *inputs = unsafe { epilogue.finish(simd, &result, row + i, v) };
            }
            simd.transpose(&mut square[..S::LANES]);
            // Two taps side by side are written as one.
            let together = if wide == 2 { 2 } else { 1 };
            for j in (0..columns).step_by(together) {
                let (channel, tap) = ((column + j) / taps, (column + j) % taps);
                let [below, right] = [tap / wide, tap % wide];
                // SAFETY: the caller's promise.
                unsafe {
                    let p = out.add(channel * spread.plane + (y * high + below) * pitch + x * wide + right);
                    if together == 2 {
                        let (a, b) = simd.interleave(square[j], square[j + 1]);
                        store_some(simd, p, 2 * count, a, update);
                        if 2 * count > S::LANES {
                            store_some(simd, p.add(S::LANES), 2 * count - S::LANES, b, update);
                        }
                    } else {
                        for (i, y) in simd.to_lanes(square[j]).into_iter().enumerate().take(count) {
                            let p = p.add(i * wide);
                            *p = update.of(*p, y);
                        }
                    }
                }
            }
        }
        row += count;
    }
}

/// The first `n` lanes to `p`, one by one if they are not all: where rows are short, masked stores would be most of the work.
///
/// # Safety
/// `min(n, LANES)` f32 can be read and written at `p`.
#[inline(always)]
unsafe fn store_some<S: Simd>(simd: S, p: *mut f32, n: usize, y: S::F32, update: Update) {
    if n >= S::LANES {
        // SAFETY: the caller's promise.
        return unsafe { update.store_up_to(simd, p, n, y) };
    }
    for (i, y) in simd.to_lanes(y).into_iter().enumerate().take(n) {
        // SAFETY: the caller's promise.
        unsafe { *p.add(i) = update.of(*p.add(i), y) };
    }
}

/// Writes rows as rows: element (row i, column j) goes to `out + i * pitch + j`.
///
/// # Safety
/// Those elements can be written (read, if they are added to) for every row of the result and every column of the epilogue.
#[inline(always)]
pub(crate) unsafe fn store_rows<S: Simd>(
    simd: S,
    epilogue: &Epilogue,
    result: Stretch,
    out: *mut f32,
    pitch: usize,
    update: Update,
) {
    for v in 0..result.vectors {
        let column = result.column + v * S::LANES;
        let left = epilogue.columns - column;
        for i in 0..result.rows {
            // SAFETY: column < columns, of which `left` are left; i is a row of the result.
            unsafe {
                let mut values = epilogue.finish(simd, &result, i, v);
                let p = out.add(i * pitch + column);
                if update == Update::Accumulate {
                    values = simd.add(simd.load_up_to(p, left), values);
                }
                simd.store_partial(p, left, values);
            }
        }
    }
}
