//! The padded copy of the input that makes every tap of every output readable.
//!
//! The copy has no edges to test and no strides: rows and columns are sorted into *phases*. With stride 2, columns
//! 0, 2, 4 … of the padded image lie side by side, then columns 1, 3, 5 …; so the inputs of neighbouring outputs are
//! neighbours whatever the stride, and tap `t` of output `(y, x)` lies at `offsets[t] + y * row_stride + x`.
//! Phases that no tap reads are not copied (a 1x1 convolution with stride 2 copies a quarter of the image).

use std::collections::BTreeSet;

use crate::error::{Dims, Error, Result};
use crate::shape::correlation::Correlation;
use crate::simd::Simd;
use crate::tensor::checked_product;

/// One axis of the padded copy.
#[derive(Debug, Clone)]
struct PhasedAxis {
    step: usize,
    phases: Vec<Phase>,
}

/// Every `step`-th row (or column) of the padded input, side by side.
#[derive(Debug, Clone)]
struct Phase {
    /// The input row of its first element for output 0; negative in the padding.
    first: isize,
    /// Where it starts in the copy.
    start: usize,
    /// Elements beyond one per output.
    extra: usize,
}

impl PhasedAxis {
    fn new(taps: impl Iterator<Item = isize>, step: usize, outputs: usize) -> Self {
        // Each row (or column) of the kernel once, not once for each tap in it.
        let taps: BTreeSet<isize> = taps.collect();
        let lowest = taps.first().copied().unwrap_or(0);
        let mut phases: Vec<Phase> = Vec::new();
        for tap in taps {
            let distance = (tap - lowest) as usize;
            let (first, extra) = (lowest + (distance % step) as isize, distance / step);
            match phases.iter_mut().find(|p| p.first == first) {
                Some(phase) => phase.extra = phase.extra.max(extra),
                None => phases.push(Phase { first, start: 0, extra }),
            }
        }
        let mut start = 0;
        for phase in &mut phases {
            phase.start = start;
            start += outputs + phase.extra;
        }
        PhasedAxis { step, phases }
    }

    /// Rows (or columns) of the copy.
    fn len(&self, outputs: usize) -> usize {
        self.phases.iter().map(|p| outputs + p.extra).sum()
    }

    /// Where the copy holds what `tap` reads for output 0.
    fn position(&self, tap: isize) -> usize {
        let own = self.phases.iter().find_map(|p| {
            let distance = usize::try_from(tap - p.first).ok()?;
            (distance.is_multiple_of(self.step) && distance / self.step <= p.extra)
                .then_some(p.start + distance / self.step)
        });
        own.expect("every tap has a phase, as the phases are made from the taps")
    }
}

/// The layout of the padded copy of a band of output rows.
#[derive(Debug, Clone)]
pub(crate) struct Patches {
    rows: PhasedAxis,
    columns: PhasedAxis,
    input: [usize; 2],
    spans: Vec<Span>,
    channels: usize,
    /// Output rows of a band.
    band: usize,
    row_stride: usize,
    plane_stride: usize,
    offsets: Vec<usize>,
}

/// f32 past the end that vector loads may touch (and never use).
pub(crate) const SLACK: usize = 64;

impl Patches {
    /// For even bands of as many output rows as a copy of `most_len` f32 holds, but at least one row, and at least
    /// `bands` bands where there are so many rows.
    pub fn in_bands(
        op: &'static str,
        correlation: &Correlation,
        most_len: usize,
        bands: usize,
    ) -> Result<Self> {
        let height = correlation.output[0];
        // The copy grows by the same amount with each row.
        let (one, two) = (Self::new(op, correlation, 1)?.len(), Self::new(op, correlation, 2)?.len());
        let most = 1 + most_len.saturating_sub(one) / (two - one).max(1);
        let bands = height.div_ceil(most.min(height)).max(bands).min(height);
        Self::new(op, correlation, height.div_ceil(bands))
    }

    /// For bands of `band` output rows.
    pub fn new(op: &'static str, correlation: &Correlation, band: usize) -> Result<Self> {
        let Correlation { channels, input, output, step, ref taps } = *correlation;
        let rows = PhasedAxis::new(taps.iter().map(|t| t.at[0]), step[0], band);
        let columns = PhasedAxis::new(taps.iter().map(|t| t.at[1]), step[1], output[1]);
        let row_stride = columns.len(output[1]);
        let span = |phase: &Phase| Span::new(phase, columns.step, output[1], input[1]);
        let spans = columns.phases.iter().map(span).collect();
        // An odd number of cache lines, so that the planes do not all fall into the same cache sets.
        let lines = checked_product(op, "padded copy", &[rows.len(band), row_stride])?.div_ceil(16) | 1;
        let plane_stride = lines * 16;
        checked_product(op, "padded copy", &[channels, plane_stride])?
            .checked_add(SLACK)
            .ok_or(Error::Overflow { op, arg: "padded copy", dims: Dims::new(&[channels, plane_stride]) })?;
        let offsets = correlation
            .offsets(plane_stride, |tap| rows.position(tap.at[0]) * row_stride + columns.position(tap.at[1]));
        Ok(Patches { rows, columns, input, spans, channels, band, row_stride, plane_stride, offsets })
    }

    /// f32 of one band's copy.
    pub fn len(&self) -> usize {
        self.channels * self.plane_stride + SLACK
    }

    /// Output rows of a band; the last band may have fewer.
    pub fn band(&self) -> usize {
        self.band
    }

    /// From one output row to the next.
    pub fn row_stride(&self) -> usize {
        self.row_stride
    }

    /// [`Correlation::offsets`] in the copy.
    pub fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// From one plane of the copy to the next.
    pub fn plane_stride(&self) -> usize {
        self.plane_stride
    }

    /// Copies what the output rows `first..first + rows` read of one image's group of channels.
    #[inline(always)]
    pub fn copy<S: Simd>(&self, simd: S, image: &[f32], first: usize, rows: usize, copy: &mut [f32]) {
        self.copy_channels(simd, self.channels, image, first, rows, true, copy);
    }

    /// [`Patches::copy`] of the first `channels`. Unless it is `fresh`, `copy` holds the same rows of at least as many other
    /// channels, and so zeros outside the input.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "which part of what goes where")]
    pub fn copy_channels<S: Simd>(
        &self,
        simd: S,
        channels: usize,
        image: &[f32],
        first: usize,
        rows: usize,
        fresh: bool,
        copy: &mut [f32],
    ) {
        let [height, width] = self.input;
        debug_assert!(rows <= self.band && channels <= self.channels);
        let step = self.rows.step;
        for c in 0..channels {
            let source = &image[c * height * width..(c + 1) * height * width];
            let plane = &mut copy[c * self.plane_stride..(c + 1) * self.plane_stride];
            for phase in &self.rows.phases {
                let count = rows + phase.extra;
                let top = phase.first + (first * step) as isize;
                let above = before(top, step).min(count);
                let y = usize::try_from(top + (above * step) as isize).unwrap_or(height).min(height);
                let inside = (height - y).div_ceil(step).min(count - above);
                let start = phase.start * self.row_stride;
                let lines = &mut plane[start..start + count * self.row_stride];
                let (above, lines) = lines.split_at_mut(above * self.row_stride);
                let (lines, below) = lines.split_at_mut(inside * self.row_stride);
                if fresh {
                    above.fill(0.0);
                    below.fill(0.0);
                }
                if lines.is_empty() {
                    continue;
                }
                for span in &self.spans {
                    if fresh {
                        lines.chunks_exact_mut(self.row_stride).for_each(|line| span.clear_outside(line));
                    }
                    let source = &source[y * width + span.source..];
                    self.copy_span(simd, span, inside, source, &mut lines[span.start + span.left..]);
                }
            }
        }
    }

    /// What lies inside of a span, of so many rows.
    #[inline(always)]
    fn copy_span<S: Simd>(&self, simd: S, span: &Span, rows: usize, source: &[f32], lines: &mut [f32]) {
        let pitch = self.rows.step * self.input[1];
        if self.columns.step == 1 {
            return copy_block(simd, [rows, span.inside], source, pitch, lines, self.row_stride);
        }
        let lines = lines.chunks_mut(self.row_stride).map(|line| &mut line[..span.inside]);
        for (line, source) in lines.zip(source.chunks(pitch)) {
            match self.columns.step {
                2 => copy_even(simd, &source[..self.input[1] - span.source], line),
                step => line.iter_mut().zip(source.iter().step_by(step)).for_each(|(value, x)| *value = *x),
            }
        }
    }
}

/// How many of the positions `first`, `first + step` ... come before 0.
fn before(first: isize, step: usize) -> usize {
    if first < 0 { first.unsigned_abs().div_ceil(step) } else { 0 }
}

/// A phase of the columns, worked out once: every row is copied by it.
#[derive(Debug, Clone)]
struct Span {
    /// Where it starts in a row of the copy, and its length.
    start: usize,
    len: usize,
    /// Zeros before the input, and elements of the input.
    left: usize,
    inside: usize,
    /// The input column of the first element inside.
    source: usize,
}

impl Span {
    /// Zeros to either side of the input.
    #[inline(always)]
    fn clear_outside(&self, line: &mut [f32]) {
        let line = &mut line[self.start..self.start + self.len];
        line[..self.left].fill(0.0);
        line[self.left + self.inside..].fill(0.0);
    }

    fn new(phase: &Phase, step: usize, outputs: usize, width: usize) -> Self {
        let len = outputs + phase.extra;
        // Element i is column first + i * step of the input.
        let left = before(phase.first, step).min(len);
        let source = usize::try_from(phase.first + (left * step) as isize).unwrap_or(width).min(width);
        let inside = (width - source).div_ceil(step).min(len - left);
        Span { start: phase.start, len, left, inside, source }
    }
}

/// Rows of `len` f32, so far apart. Short ones are copied side by side, a vector of all and then the next: what there is to do once
/// for each row takes longer than copying it.
#[inline(always)]
fn copy_block<S: Simd>(
    simd: S,
    [rows, len]: [usize; 2],
    source: &[f32],
    pitch: usize,
    out: &mut [f32],
    out_pitch: usize,
) {
    let Some(last) = rows.checked_sub(1) else { return };
    assert!(len <= pitch && last * pitch + len <= source.len());
    assert!(len <= out_pitch && last * out_pitch + len <= out.len());
    let (from, to) = (source.as_ptr(), out.as_mut_ptr());
    // SAFETY: row i lies at i * pitch, its `len` elements within the slices, as asserted; a whole vector ends at the last of them
    // at most.
    unsafe {
        if len > 8 * S::LANES {
            for row in 0..rows {
                std::ptr::copy_nonoverlapping(from.add(row * pitch), to.add(row * out_pitch), len);
            }
        } else if len >= S::LANES {
            for start in (0..len).step_by(S::LANES) {
                let start = start.min(len - S::LANES);
                for row in 0..rows {
                    let x = simd.load(from.add(row * pitch + start));
                    simd.store(to.add(row * out_pitch + start), x);
                }
            }
        } else {
            for row in 0..rows {
                let x = simd.load_partial(from.add(row * pitch), len);
                simd.store_partial(to.add(row * out_pitch), len, x);
            }
        }
    }
}

/// Every second element of `source`, as many as `out` takes.
#[inline(always)]
fn copy_even<S: Simd>(simd: S, source: &[f32], out: &mut [f32]) {
    assert!(out.len() <= source.len().div_ceil(2));
    for i in (0..out.len()).step_by(S::LANES) {
        let left = source.len() - 2 * i;
        // SAFETY: at most `left` elements are read from 2 * i on, and out.len() - i written from i on.
        unsafe {
            let p = source.as_ptr().add(2 * i);
            let first = simd.load_up_to(p, left);
            let second = simd.load_up_to(p.wrapping_add(S::LANES), left.saturating_sub(S::LANES));
            let (even, _) = simd.deinterleave(first, second);
            simd.store_up_to(out.as_mut_ptr().add(i), out.len() - i, even);
        }
    }
}
