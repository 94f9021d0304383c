//! Sums over the pixels of a chunk, a few tiles of a panel at a time, and their way to the weights.

use std::ops::Range;

use super::{SLICE, TILES_OF_SPAN, WeightsGradient};
use crate::cpu::gemm::EvenParts;
use crate::cpu::gemm::kernel::{Part, accumulate_rows};
use crate::cpu::scratch::LINE;
use crate::cpu::threads::SharedOut;
use crate::shape::Update;
use crate::simd::{MAX_LANES, Simd, SimdOp};

/// Where the weights are: the first, the elements from one output channel to the next, and what becomes of them.
#[derive(Clone, Copy)]
pub(in crate::cpu::conv2d) struct Weights {
    pub first: SharedOut,
    pub stride: usize,
    pub update: Update,
}

impl Weights {
    /// From this output channel on.
    pub fn of_output(self, output: usize) -> Self {
        Weights { first: SharedOut::new(self.first.get().wrapping_add(output * self.stride)), ..self }
    }
}

/// Spans of a panel, each of a few tiles: sums over the pixels of a chunk and, after the last, the store.
pub(super) struct Spans<'a> {
    pub plan: &'a WeightsGradient,
    /// Which, of all panels.
    pub spans: Range<usize>,
    /// Pixels of the chunk.
    pub pixels: usize,
    /// x or its copy, from the first row of the chunk on.
    pub rows: *const f32,
    pub columns: *const f32,
    /// `[span][row][output]`, or of one span after the other if they are stored at once.
    pub sums: *mut f32,
    /// Whether this is the first chunk of these sums.
    pub first: bool,
    /// After the last chunk.
    pub store: Option<Weights>,
}

impl SimdOp for Spans<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let at_once = self.first && self.store.is_some();
        for (i, span) in self.spans.clone().enumerate() {
            // SAFETY: there are sums for each span, or for one.
            let sums = unsafe { self.sums.add(if at_once { 0 } else { i } * self.plan.span_len()) };
            if let Some(to) = self.store {
                self.plan.ask_for(simd, span, to);
            }
            // SAFETY: the caller's promise.
            unsafe {
                self.add(simd, span, sums);
                if let Some(to) = self.store {
                    self.plan.store(simd, span, sums, to);
                }
            }
        }
    }
}

impl Spans<'_> {
    /// Adds the products of a span to its sums.
    ///
    /// # Safety
    /// `sums` holds `TILES_OF_SPAN` tiles; the layouts all pixels of the chunk for each row and panel.
    #[inline(always)]
    unsafe fn add<S: Simd>(&self, simd: S, span: usize, sums: *mut f32) {
        let plan = self.plan;
        let Place { group, panel, vectors, tiles, .. } = plan.place::<S>(span);
        let pitch = vectors * S::LANES;
        let first_row = plan.rows.part(tiles.start).0;
        let slices = self.pixels.div_ceil(SLICE);
        let even = EvenParts::new(self.pixels, slices);
        let mut rows = [std::ptr::null(); MAX_LANES];
        for slice in 0..slices {
            let (start, len) = even.part(slice);
            // SAFETY: the caller's promise.
            unsafe {
                let b = self.columns.add(panel * plan.offsets.len() * S::TILE.1 * S::LANES + start * pitch);
                let part = Part {
                    offsets: &plan.offsets[start..start + len],
                    b,
                    first: self.first && slice == 0,
                    ahead: b,
                };
                for tile in tiles.clone() {
                    let (first, count) = plan.rows.part(tile);
                    for (row, place) in rows.iter_mut().zip(&plan.places[first..first + count]) {
                        *row = self.rows.add(group * plan.copy_len + place);
                    }
                    let sums = sums.add((first - first_row) * pitch);
                    accumulate_rows(simd, &rows[..count], vectors, part, len, sums);
                }
            }
        }
    }
}

/// Adds `len` f32, whole vectors, to others.
///
/// # Safety
/// There are so many of both.
#[inline(always)]
pub(in crate::cpu::conv2d) unsafe fn add_to<S: Simd>(simd: S, sums: *mut f32, terms: *const f32, len: usize) {
    for i in (0..len).step_by(S::LANES) {
        // SAFETY: the caller's promise.
        unsafe { simd.store(sums.add(i), simd.add(simd.load(sums.add(i)), simd.load(terms.add(i)))) };
    }
}

/// The sums of a span over several parts of the pixels: added in order, and stored.
pub(super) struct Finish<'a> {
    pub plan: &'a WeightsGradient,
    pub span: usize,
    /// Those of the first part.
    pub sums: *mut f32,
    /// From one part to the next.
    pub stride: usize,
    pub parts: usize,
    pub to: Weights,
}

impl SimdOp for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Finish { plan, span, sums, stride, parts, to } = self;
        let Place { vectors, rows, .. } = plan.place::<S>(span);
        for part in 1..parts {
            // SAFETY: each part has sums of this span, which no other item reads.
            unsafe { add_to(simd, sums, sums.add(part * stride), rows.len() * vectors * S::LANES) };
        }
        // SAFETY: as above.
        unsafe { plan.store(simd, span, sums, to) };
    }
}

/// What a span is of.
struct Place {
    group: usize,
    /// Of all groups.
    panel: usize,
    /// Output channels of the group before the panel's, and the vectors that the panel's take.
    column: usize,
    vectors: usize,
    tiles: Range<usize>,
    /// Rows of the product.
    rows: Range<usize>,
}

impl WeightsGradient {
    #[inline(always)]
    fn place<S: Simd>(&self, span: usize) -> Place {
        let spans = self.spans_of_panel();
        let (group, span) = (span / (self.panels * spans), span % (self.panels * spans));
        let (panel, span) = match self.taps.len() {
            // Each element of x serves but the outputs of a panel: all of them, while it is near.
            1 => (span % self.panels, span / self.panels),
            // It serves several taps, and weights of neighbouring spans are neighbours.
            _ => (span / spans, span % spans),
        };
        let column = panel * S::TILE.1 * S::LANES;
        let tiles = span * TILES_OF_SPAN..self.tiles.min((span + 1) * TILES_OF_SPAN);
        let (last, len) = self.rows.part(tiles.end - 1);
        Place {
            group,
            panel: group * self.panels + panel,
            column,
            vectors: (self.outputs - column).div_ceil(S::LANES).min(S::TILE.1),
            rows: self.rows.part(tiles.start).0..last + len,
            tiles,
        }
    }

    /// Asks for the weights of a span: where there are few pixels, writing them takes as long as the sums.
    #[inline(always)]
    fn ask_for<S: Simd>(&self, simd: S, span: usize, to: Weights) {
        let Place { group, column, vectors, rows, .. } = self.place::<S>(span);
        let first = (group * self.outputs + column) * to.stride + self.weight(rows.start);
        let lines = (self.weight(rows.end - 1) - self.weight(rows.start)) / LINE + 1;
        for output in 0..(self.outputs - column).min(vectors * S::LANES) {
            for line in 0..lines {
                simd.prefetch(to.first.get().wrapping_add(first + output * to.stride + line * LINE));
            }
        }
    }

    /// Which weight of an output channel a row of the product is.
    #[inline(always)]
    fn weight(&self, row: usize) -> usize {
        if self.taps.len() == self.kernel {
            return row;
        }
        row / self.taps.len() * self.kernel + self.taps[row % self.taps.len()]
    }

    /// Stores a span.
    ///
    /// # Safety
    /// These are its sums; the weights can be written (read, if they are added to).
    #[inline(always)]
    unsafe fn store<S: Simd>(&self, simd: S, span: usize, sums: *const f32, to: Weights) {
        let Place { group, column, rows, .. } = self.place::<S>(span);
        let outputs = (self.outputs - column).min(S::TILE.1 * S::LANES);
        let to = to.of_output(group * self.outputs + column);
        let neighbours = self.taps.len() == self.kernel;
        // SAFETY: the caller's promise.
        unsafe { store(simd, sums, rows, outputs, to, |row| self.weight(row), neighbours) };
    }
}

/// Stores sums of some rows of the product, `[row][output]` in whole vectors, to where `weight` says that a row lies among the
/// weights of an output; if all rows lie as the weights do, they are neighbours.
///
/// # Safety
/// So many sums can be read, and the weights of so many outputs written (read, if they are added to).
#[inline(always)]
pub(in crate::cpu::conv2d) unsafe fn store<S: Simd>(
    simd: S,
    sums: *const f32,
    rows: Range<usize>,
    outputs: usize,
    to: Weights,
    weight: impl Fn(usize) -> usize,
    neighbours: bool,
) {
    let pitch = outputs.next_multiple_of(S::LANES);
    for column in (0..outputs).step_by(S::LANES) {
        let outputs = S::LANES.min(outputs - column);
        let to = to.of_output(column);
        // Two squares at a time: whole cache lines of the weights.
        for first in rows.clone().step_by(2 * S::LANES) {
            let starts = [first, first + S::LANES];
            let mut squares = [[simd.splat(0.0); MAX_LANES]; 2];
            for (square, start) in squares.iter_mut().zip(starts) {
                for (row, vector) in (start..rows.end).zip(&mut square[..S::LANES]) {
                    // SAFETY: one of the rows.
                    *vector = unsafe { simd.load(sums.add((row - rows.start) * pitch + column)) };
                }
                simd.transpose(&mut square[..S::LANES]);
            }
            if neighbours {
                // SAFETY: weights of each output channel, as many as there are rows.
                unsafe { store_lines(simd, &squares, outputs, weight(first), rows.end - first, to) };
                continue;
            }
            for (square, start) in squares.iter().zip(starts) {
                for (o, vector) in square[..outputs].iter().enumerate() {
                    for (row, x) in (start..rows.end).zip(&simd.to_lanes(*vector)[..S::LANES]) {
                        // SAFETY: a weight of this output channel and row alone.
                        unsafe {
                            let p = to.first.get().add(o * to.stride + weight(row));
                            *p = to.update.of(*p, *x);
                        }
                    }
                }
            }
        }
    }
}

/// Two squares, of which up to `count` elements of a row of both for each output channel.
///
/// # Safety
/// So many, or two vectors, can be written (read, if they are added to) from weight `at` of each output channel on.
#[inline(always)]
unsafe fn store_lines<S: Simd>(
    simd: S,
    [lower, upper]: &[[S::F32; MAX_LANES]; 2],
    outputs: usize,
    at: usize,
    count: usize,
    to: Weights,
) {
    let [of_lower, of_upper] = [count, count.saturating_sub(S::LANES)].map(|count| count.min(S::LANES));
    let mut p = to.first.get().wrapping_add(at);
    for (&lower, &upper) in lower.iter().zip(upper).take(outputs) {
        // SAFETY: the caller's promise.
        unsafe {
            to.update.store_up_to(simd, p, of_lower, lower);
            to.update.store_up_to(simd, p.wrapping_add(S::LANES), of_upper, upper);
        }
        p = p.wrapping_add(to.stride);
    }
}

const _: () = assert!(MAX_LANES >= 9, "the rows of a tile");
