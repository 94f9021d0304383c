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
        self.copy_channels(simd, self.channels, image, first, rows, copy);
    }

    /// [`Patches::copy`] of the first `channels`.
    #[inline(always)]
    pub fn copy_channels<S: Simd>(
        &self,
        simd: S,
        channels: usize,
        image: &[f32],
        first: usize,
        rows: usize,
        copy: &mut [f32],
    ) {
        let [height, width] = self.input;
        debug_assert!(rows <= self.band && channels <= self.channels);
        for c in 0..channels {
            let source = &image[c * height * width..(c + 1) * height * width];
            let plane = &mut copy[c * self.plane_stride..(c + 1) * self.plane_stride];
            for phase in &self.rows.phases {
                let lines = plane[phase.start * self.row_stride..].chunks_exact_mut(self.row_stride);
                for (q, line) in lines.enumerate().take(rows + phase.extra) {
                    let y = phase.first + ((first + q) * self.rows.step) as isize;
                    match usize::try_from(y) {
                        Ok(y) if y < height => self.copy_row(simd, &source[y * width..(y + 1) * width], line),
                        _ => line.fill(0.0),
                    }
                }
            }
        }
    }

    /// One row, its columns sorted into phases, zeros outside.
    #[inline(always)]
    fn copy_row<S: Simd>(&self, simd: S, source: &[f32], line: &mut [f32]) {
        for span in &self.spans {
            let (left, rest) = line[span.start..span.start + span.len].split_at_mut(span.left);
            let (inside, right) = rest.split_at_mut(span.inside);
            left.fill(0.0);
            right.fill(0.0);
            let source = &source[span.source..];
            match self.columns.step {
                1 => inside.copy_from_slice(&source[..span.inside]),
                2 => copy_even(simd, source, inside),
                step => inside.iter_mut().zip(source.iter().step_by(step)).for_each(|(value, x)| *value = *x),
            }
        }
    }
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
    fn new(phase: &Phase, step: usize, outputs: usize, width: usize) -> Self {
        let len = outputs + phase.extra;
        // Element i is column first + i * step of the input.
        let left = if phase.first < 0 { phase.first.unsigned_abs().div_ceil(step) } else { 0 }.min(len);
        let source = usize::try_from(phase.first + (left * step) as isize).unwrap_or(width).min(width);
        let inside = (width - source).div_ceil(step).min(len - left);
        Span { start: phase.start, len, left, inside, source }
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
