//! From finished tiles to the output: bias, activation, and the order in memory.

use crate::cpu::activation::apply;
use crate::cpu::gemm::Stretch;
use crate::cpu::scratch::Scratch;
use crate::error::Result;
use crate::shape::Activation;
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
    /// `bias`, if any, has one value per column.
    pub fn new(columns: usize, bias: Option<&[f32]>, activation: Activation) -> Result<Self> {
        let mut padded = Scratch::with_len(columns.saturating_add(2 * MAX_LANES))?;
        if let Some(bias) = bias {
            padded.as_mut_slice()[..columns].copy_from_slice(bias);
        }
        Ok(Epilogue { bias: padded, activation, columns })
    }

    /// One for each of `groups` groups of `columns` output channels.
    pub fn per_group(
        groups: usize,
        columns: usize,
        bias: Option<&[f32]>,
        activation: Activation,
    ) -> Result<Vec<Self>> {
        let part = |group| bias.map(|b| &b[group * columns..(group + 1) * columns]);
        (0..groups).map(|group| Epilogue::new(columns, part(group), activation)).collect()
    }

    /// Row `i`, vector `v`, finished.
    ///
    /// # Safety
    /// `result` holds such a vector, and its column is one of this epilogue's.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, simd: S, result: &Stretch, i: usize, v: usize) -> S::F32 {
        // SAFETY: the caller's promise; the bias is padded by two vectors.
        unsafe {
            let sum = simd.load(result.acc.add((i * result.vectors + v) * S::LANES));
            let bias = simd.load(self.bias.as_slice().as_ptr().add(result.column + v * S::LANES));
            apply(simd, self.activation, simd.add(sum, bias))
        }
    }
}

/// Writes rows `range` as columns: element (row i, column j) goes to `out + j * plane + (i - range.start) * step`. So
/// rows are pixels, columns are planes of an NCHW image.
///
/// # Safety
/// Those elements can be written for every row of the range and every column of the epilogue, and `result` has those
/// rows.
#[inline(always)]
pub(crate) unsafe fn store_planes<S: Simd>(
    simd: S,
    epilogue: &Epilogue,
    result: Stretch,
    range: std::ops::Range<usize>,
    out: *mut f32,
    plane: usize,
    step: usize,
) {
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
                        simd.store_up_to(p, rows, *pixels);
                    } else {
                        for (i, x) in simd.to_lanes(*pixels).into_iter().enumerate().take(rows) {
                            *p.add(i * step) = x;
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
/// Those elements can be written for every row of the result and every column of the epilogue.
#[inline(always)]
pub(crate) unsafe fn store_rows<S: Simd>(
    simd: S,
    epilogue: &Epilogue,
    result: Stretch,
    out: *mut f32,
    pitch: usize,
) {
    for v in 0..result.vectors {
        let column = result.column + v * S::LANES;
        let left = epilogue.columns - column;
        for i in 0..result.rows {
            // SAFETY: column < columns, of which `left` are left; i is a row of the result.
            unsafe {
                let values = epilogue.finish(simd, &result, i, v);
                simd.store_partial(out.add(i * pitch + column), left, values);
            }
        }
    }
}
