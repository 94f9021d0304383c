//! The windows of most networks, of 2x2 elements side by side: searched where they lie.

use super::windows::ArgmaxRows;
use crate::simd::{MAX_LANES, Simd};

impl ArgmaxRows<'_> {
    /// Whether the windows are such, each of them within the input.
    pub(super) fn are_quads(&self) -> bool {
        [self.rows, self.columns]
            .iter()
            .all(|d| d.kernel == 2 && d.stride == 2 && d.padding == 0 && 2 * d.output <= d.input)
    }

    /// The largest element of each, as the general search finds it.
    #[inline(always)]
    pub(super) fn search_quads<S: Simd>(self, simd: S) {
        let ArgmaxRows { rows, columns, x, first_row, y, positions } = self;
        let (width, outputs) = (columns.input, columns.output);
        assert!(2 * outputs <= width);
        let bits = |v: usize| simd.splat(f32::from_bits(v as u32));
        let lanes: [f32; MAX_LANES] = std::array::from_fn(|lane| f32::from_bits(2 * lane as u32));
        // SAFETY: there are at most MAX_LANES lanes.
        let lanes = unsafe { simd.load(lanes.as_ptr()) };
        let out = y.chunks_exact_mut(outputs).zip(positions.chunks_exact_mut(outputs));
        for (row, (y, positions)) in (first_row..).zip(out) {
            let (plane, start) = (row / rows.output, row % rows.output * 2 * width);
            let quads = &x[plane * rows.input * width + start..][..2 * width];
            for first in (0..outputs).step_by(S::LANES) {
                // The last vector is a whole one, too, if there are so many.
                let first = first.min(outputs.saturating_sub(S::LANES));
                let (n, left) = (outputs - first, 2 * (outputs - first));
                // SAFETY: `left` elements of a row from column 2 * first on, and n outputs; a position is as large as an f32.
                unsafe {
                    let upper = quads.as_ptr().add(2 * first);
                    let (mut best, right) = load_pairs(simd, upper, left);
                    let (below, last) = load_pairs(simd, upper.add(width), left);
                    let mut at = bits(0);
                    for (v, offset) in [(right, 1), (below, width), (last, width + 1)] {
                        let takes = simd.or(simd.gt(v, best), simd.is_nan(v));
                        (best, at) = (simd.select(takes, v, best), simd.select(takes, bits(offset), at));
                    }
                    let position = simd.add_bits(at, simd.add_bits(lanes, bits(start + 2 * first)));
                    simd.store_up_to(y.as_mut_ptr().add(first), n, best);
                    simd.store_up_to(positions.as_mut_ptr().add(first).cast(), n, position);
                }
            }
        }
    }
}

/// The left and the right elements of the first pairs of `len` elements. (A function, as a closure that is not inlined loses the
/// instruction set of its caller.)
///
/// # Safety
/// So many elements can be read.
#[inline(always)]
unsafe fn load_pairs<S: Simd>(simd: S, p: *const f32, len: usize) -> (S::F32, S::F32) {
    // SAFETY: the caller's promise.
    unsafe {
        let second = simd.load_up_to(p.wrapping_add(S::LANES), len.saturating_sub(S::LANES));
        simd.deinterleave(simd.load_up_to(p, len), second)
    }
}
