//! From finished tiles to the output: bias, activation, and the order in memory.

use crate::cpu::activation::apply;
use crate::cpu::gemm::Stretch;
use crate::cpu::scratch::Scratch;
use crate::error::Result;
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

    /// Replaces the bias: one value per column.
    pub fn set_bias(&mut self, bias: &[f32]) {
        self.bias.as_mut_slice()[..self.columns].copy_from_slice(bias);
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
