//! The search for the largest elements of windows.
//!
//! Lanes are neighbouring windows. Each holds the largest element so far and, as the bits of an f32, its offset from the
//! corner of the window; the elements pass in row-major order, and one that is larger, or NaN, takes both places. So the
//! first of equals stays, and the last NaN.
//!
//! The rows of some windows are copied first, with the padding around them filled in by minus infinity, which never
//! takes a place, and columns that are a stride apart side by side: no window sees an edge, every load is of neighbours,
//! and rows that several windows share are copied once.

use std::ops::Range;

use crate::cpu::pool::Dimension;
use crate::simd::{MAX_LANES, Simd, SimdOp};

/// Some rows of the outputs of one image.
pub(super) struct ArgmaxRows<'a> {
    pub(super) rows: Dimension,
    pub(super) columns: Dimension,
    /// The image.
    pub(super) x: &'a [f32],
    /// The first row of `y` among all output rows of the image.
    pub(super) first_row: usize,
    /// Whole rows.
    pub(super) y: &'a mut [f32],
    pub(super) positions: &'a mut [u32],
}

/// Elements of the copied rows: 16 KiB, half an L1 cache. Windows larger than this are searched where they lie.
pub(super) const COPY: usize = 4096;

impl SimdOp for ArgmaxRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if self.are_quads() {
            return self.search_quads(simd);
        }
        let ArgmaxRows { rows, columns, x, first_row, y, positions } = self;
        let mut copied = Copied::new(rows, columns);
        let (mut plane, mut oy) = (first_row / rows.output, first_row % rows.output);
        let (mut y, mut positions) = (y, positions);
        while !y.is_empty() {
            // Rows of one plane.
            let n = copied.as_ref().map_or(1, |copied| copied.below);
            let n = n.min(rows.output - oy).min(y.len() / columns.output);
            let (y_part, y_rest) = y.split_at_mut(n * columns.output);
            let (positions_part, positions_rest) = positions.split_at_mut(n * columns.output);
            let plane_of_x = &x[plane * rows.input * columns.input..];
            match &mut copied {
                Some(copied) => copied.pool(simd, plane_of_x, oy..oy + n, y_part, positions_part),
                None => pool_large_row(rows, columns, plane_of_x, oy, y_part, positions_part),
            }
            (y, positions, oy) = (y_rest, positions_rest, oy + n);
            if oy == rows.output {
                (plane, oy) = (plane + 1, 0);
            }
        }
    }
}

/// Row `oy` of the outputs, one after the other, of windows that are too large to copy.
fn pool_large_row(
    rows: Dimension,
    columns: Dimension,
    plane: &[f32],
    oy: usize,
    y: &mut [f32],
    positions: &mut [u32],
) {
    let rows = rows.covered(oy);
    for (ox, (y, position)) in y.iter_mut().zip(positions).enumerate() {
        let covered = columns.covered(ox);
        let (mut largest, mut at) = (f32::NEG_INFINITY, rows.start * columns.input + covered.start);
        for row in rows.clone() {
            let start = row * columns.input;
            for (column, &v) in covered.clone().zip(&plane[start..][covered.clone()]) {
                if v > largest || v.is_nan() {
                    (largest, at) = (v, start + column);
                }
            }
        }
        (*y, *position) = (largest, at as u32);
    }
}

/// Rows of a plane, padded by minus infinity, their columns sorted by phase: those a stride apart lie side by side, and so
/// the same element of neighbouring windows.
struct Copied {
    rows: Dimension,
    columns: Dimension,
    /// Windows side by side that there is room for, and rows of them one below the other.
    windows: usize,
    below: usize,
    phases: usize,
    /// Elements from one phase to the next: whole vectors.
    pitch: usize,
    /// The rows, and what the last vectors reach beyond.
    elements: Aligned<[f32; COPY + 2 * MAX_LANES]>,
}

/// On a cache line: a vector across two of them takes twice as long.
#[repr(align(64))]
struct Aligned<T>(T);

impl Copied {
    /// `None` if there is no room for a single window.
    #[inline(always)]
    fn new(rows: Dimension, columns: Dimension) -> Option<Self> {
        let height = rows.kernel.min(rows.input);
        let phases = columns.kernel.min(columns.stride);
        // A window has this many elements in a phase, less one.
        let overlap = (columns.kernel - 1) / columns.stride;
        let widest = COPY / height / phases / MAX_LANES * MAX_LANES;
        let windows = columns.output.min(widest.checked_sub(overlap).filter(|&n| n > 0)?);
        let pitch = (windows + overlap).next_multiple_of(MAX_LANES);
        let below = (COPY / (pitch * phases) - height) / rows.stride + 1;
        let elements = Aligned([0.0; COPY + 2 * MAX_LANES]);
        Some(Copied { rows, columns, windows, below, phases, pitch, elements })
    }

    /// Rows `oy` of the outputs of a plane, no more than there is room for.
    #[inline(always)]
    fn pool<S: Simd>(
        &mut self,
        simd: S,
        plane: &[f32],
        oy: Range<usize>,
        y: &mut [f32],
        positions: &mut [u32],
    ) {
        let (rows, columns) = (self.rows, self.columns);
        let all = rows.covered(oy.start).start..rows.covered(oy.end - 1).end;
        let width = columns.output;
        for first in (0..width).step_by(self.windows) {
            let n = self.windows.min(width - first);
            self.copy(simd, &plane[all.start * columns.input..], all.len(), first, n);
            let nan = self.any_nan(simd, all.len());
            let mut nothing = false;
            let outputs = y.chunks_exact_mut(width).zip(positions.chunks_exact_mut(width));
            for (oy, (y, positions)) in oy.clone().zip(outputs) {
                let covered = rows.covered(oy);
                let row = Row {
                    from: covered.start - all.start..covered.end - all.start,
                    corner: (covered.start * columns.input + first * columns.stride)
                        .wrapping_sub(columns.padding) as u32,
                    y: &mut y[first..][..n],
                    positions: &mut positions[first..][..n],
                };
                // The same loop several times: what is known of the window vanishes from the inner one.
                nothing |= match (columns.stride, columns.kernel, nan) {
                    (2, 2, false) => self.search::<S, false>(simd, row, 2, 2),
                    (2, 3, false) => self.search::<S, false>(simd, row, 3, 2),
                    (1, 3, false) => self.search::<S, false>(simd, row, 3, 1),
                    (stride, kernel, false) => self.search::<S, false>(simd, row, kernel, stride),
                    (stride, kernel, true) => self.search::<S, true>(simd, row, kernel, stride),
                };
            }
            if nothing {
                let outputs = y.chunks_exact(width).zip(positions.chunks_exact_mut(width));
                for (oy, (y, positions)) in oy.clone().zip(outputs) {
                    let start = rows.covered(oy).start * columns.input;
                    for o in (first..first + n).filter(|&o| y[o] == f32::NEG_INFINITY) {
                        positions[o] = (start + columns.covered(o).start) as u32;
                    }
                }
            }
        }
    }

    /// The columns of the first `rows` rows of `x` under `n` windows from output `first` on.
    #[inline(always)]
    fn copy<S: Simd>(&mut self, simd: S, x: &[f32], rows: usize, first: usize, n: usize) {
        let Dimension { kernel, stride, padding, input, .. } = self.columns;
        let (pitch, phases) = (self.pitch, self.phases);
        let len = n + (kernel - 1) / stride;
        let start = first * stride;
        // Of each phase: the part that lies within the input.
        let within = |phase: usize| {
            let before = padding.saturating_sub(start + phase).div_ceil(stride).min(len);
            let end = (input + padding).saturating_sub(start + phase).div_ceil(stride).min(len);
            before..end.max(before)
        };
        let copied = &mut self.elements.0[..rows * phases * pitch];
        let rows = || x.chunks(input);
        if stride == 2 && phases == 2 {
            let parts = [within(0), within(1)];
            for (row, to) in rows().zip(copied.chunks_exact_mut(2 * pitch)) {
                let from = &row[start.saturating_sub(padding)..];
                let (even, odd) = to.split_at_mut(pitch);
                let (even, odd) = (pad(even, &parts[0], len), pad(odd, &parts[1], len));
                // In the padding, the first element of the input may be that of either phase.
                if start < padding && (padding - start) % 2 == 1 {
                    split_vectors(simd, from, odd, even);
                } else {
                    split_vectors(simd, from, even, odd);
                }
            }
            return;
        }
        for phase in 0..phases {
            let part = within(phase);
            let column = (start + phase + part.start * stride).saturating_sub(padding);
            for (row, to) in rows().zip(copied.chunks_exact_mut(phases * pitch)) {
                let to = pad(&mut to[phase * pitch..][..pitch], &part, len);
                // Beyond the input, where there is nothing to copy.
                let from = row.get(column..).unwrap_or_default();
                if stride == 1 {
                    copy_vectors(simd, from, to);
                } else {
                    to.iter_mut().zip(from.iter().step_by(stride)).for_each(|(to, from)| *to = *from);
                }
            }
        }
    }

    /// Whether there is a NaN in the first `rows` copied rows, or what is left of others between them.
    #[inline(always)]
    fn any_nan<S: Simd>(&self, simd: S, rows: usize) -> bool {
        let (one, mut any) = (simd.splat(1.0), simd.splat(0.0));
        for part in self.elements.0[..rows * self.phases * self.pitch].chunks_exact(S::LANES) {
            // SAFETY: the part has LANES elements.
            let v = unsafe { simd.load(part.as_ptr()) };
            any = simd.select(simd.is_nan(v), one, any);
        }
        simd.reduce_add(any) > 0.0
    }

    /// The largest elements of a row of windows, and their positions. Whether there may be a window of nothing but minus
    /// infinities, in which none has taken the place: its position is that of its corner.
    #[inline(always)]
    fn search<S: Simd, const NAN: bool>(&self, simd: S, row: Row<'_>, kernel: usize, stride: usize) -> bool {
        let Row { from, mut corner, y, positions } = row;
        let (pitch, phases, width) = (self.pitch, kernel.min(stride), self.columns.input);
        let copied = &self.elements.0[from.start * phases * pitch..];
        assert!(y.len() <= positions.len());
        assert!(from.len() * phases * pitch + MAX_LANES <= copied.len());
        assert!(y.len() + (kernel - 1) / stride <= pitch);
        let bits = |v: usize| simd.splat(f32::from_bits(v as u32));
        let (infinity, zero, one) = (simd.splat(f32::NEG_INFINITY), simd.splat(0.0), simd.splat(1.0));
        let lanes: [f32; MAX_LANES] = std::array::from_fn(|lane| f32::from_bits((lane * stride) as u32));
        // SAFETY: there are at most MAX_LANES lanes.
        let lanes = unsafe { simd.load(lanes.as_ptr()) };
        let mut nothing = zero;
        for i in (0..y.len()).step_by(S::LANES) {
            let (mut best, mut at) = (infinity, zero);
            for row in 0..from.len() {
                let (mut phase, mut next) = (0, 0);
                for k in 0..kernel {
                    // SAFETY: element `next` of a window is at most (kernel - 1) / stride; so by the assertions i + next
                    // lies in the phase, this in one of the rows, and they end MAX_LANES before `copied` does.
                    let v =
                        unsafe { simd.load(copied.as_ptr().add((row * phases + phase) * pitch + i + next)) };
                    let larger = simd.gt(v, best);
                    let takes = if NAN { simd.or(larger, simd.is_nan(v)) } else { larger };
                    best = if NAN { simd.select(takes, v, best) } else { simd.max(v, best) };
                    at = simd.select(takes, bits(row * width + k), at);
                    phase += 1;
                    if phase == phases {
                        (phase, next) = (0, next + 1);
                    }
                }
            }
            nothing = simd.select(simd.gt(best, infinity), nothing, one);
            let position = simd.add_bits(at, simd.add_bits(lanes, bits(corner as usize)));
            corner = corner.wrapping_add((S::LANES * stride) as u32);
            let n = y.len() - i;
            // SAFETY: both hold n elements from i on; a position is as large as an f32.
            unsafe {
                simd.store_up_to(y.as_mut_ptr().add(i), n, best);
                simd.store_up_to(positions.as_mut_ptr().add(i).cast(), n, position);
            }
        }
        simd.reduce_add(nothing) > 0.0
    }
}

/// A row of windows.
struct Row<'a> {
    /// Its rows among those copied.
    from: Range<usize>,
    /// The position of the corner of the first window, modulo 2^32: it may lie in the padding.
    corner: u32,
    y: &'a mut [f32],
    positions: &'a mut [u32],
}

/// Minus infinities around `part` of the first `len` elements; gives that part back.
#[inline(always)]
fn pad<'a>(to: &'a mut [f32], part: &Range<usize>, len: usize) -> &'a mut [f32] {
    to[..part.start].fill(f32::NEG_INFINITY);
    to[part.end..len].fill(f32::NEG_INFINITY);
    &mut to[part.clone()]
}

/// The first elements of `from`.
#[inline(always)]
fn copy_vectors<S: Simd>(simd: S, from: &[f32], to: &mut [f32]) {
    let from = &from[..to.len()];
    for i in (0..to.len()).step_by(S::LANES) {
        let n = to.len() - i;
        // SAFETY: both hold n elements from i on.
        unsafe { simd.store_up_to(to.as_mut_ptr().add(i), n, simd.load_up_to(from.as_ptr().add(i), n)) };
    }
}

/// The even elements of `from` to one slice, the odd ones to the other; as many as those hold.
#[inline(always)]
fn split_vectors<S: Simd>(simd: S, from: &[f32], even: &mut [f32], odd: &mut [f32]) {
    assert!(even.len() <= from.len().div_ceil(2) && odd.len() <= from.len() / 2);
    for i in (0..even.len().max(odd.len())).step_by(S::LANES) {
        let n = from.len() - 2 * i;
        // SAFETY: by the assertion 2 i < from.len(), and only n elements are read from there; each slice is written within
        // its length.
        unsafe {
            let first = simd.load_up_to(from.as_ptr().add(2 * i), n);
            let second = if n > S::LANES {
                simd.load_up_to(from.as_ptr().add(2 * i + S::LANES), n - S::LANES)
            } else {
                simd.splat(0.0)
            };
            let (e, o) = simd.deinterleave(first, second);
            for (to, v) in [(&mut *even, e), (&mut *odd, o)] {
                if i < to.len() {
                    simd.store_up_to(to.as_mut_ptr().add(i), to.len() - i, v);
                }
            }
        }
    }
}
