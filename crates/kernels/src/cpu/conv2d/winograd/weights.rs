//! The weights of a panel of output channels: as they are given, `[channel][tap][lane]`, and transformed,
//! `[point][phase][channel][lane]`. A plan keeps what it does not find again at each run ([`Kept`]).

use std::marker::PhantomData;
use std::ops::Range;

use super::scheme::Scheme;
use super::transform::{Points, weights_2d};
use crate::cpu::conv2d::engine::Filters;
use crate::cpu::gemm::EvenParts;
use crate::cpu::scratch::{Scratch, whole_lines};
use crate::error::Result;
use crate::simd::{Isa, MAX_LANES, Simd, SimdOp};
use crate::tensor::checked_product;

/// Taps of the kernels that are packed by squares.
const TAPS: usize = 9;

/// f32 of transformed weights that are used before the next are transformed: half of an L2 cache of 1 MiB.
const FRESH: usize = 128 * 1024;

/// What a plan has of its weights between two runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    Transformed,
    /// Only as they were given, which are a quarter of those (F4), or half (F2).
    Given,
    /// They come with each run.
    Nothing,
}

#[derive(Debug, Clone)]
pub(super) struct Weights {
    isa: Isa,
    scheme: Scheme,
    channels: usize,
    outputs: usize,
    groups: usize,
    /// The position in the kernel of each tap of the scheme's square, where there is one.
    taps: Vec<Option<usize>>,
    kept: Kept,
    /// Of all panels of all groups, or empty.
    given: Scratch,
    transformed: Scratch,
}

impl Weights {
    /// Zeros.
    pub fn new(
        op: &'static str,
        isa: Isa,
        scheme: Scheme,
        [groups, outputs, channels]: [usize; 3],
        taps: Vec<Option<usize>>,
        kept: Kept,
    ) -> Result<Self> {
        let padded = outputs.next_multiple_of(isa.lanes());
        // Of both, even where they are not kept: then there is scratch for as many.
        let [given, transformed] = [scheme.side.pow(2), scheme.products()]
            .map(|of_one| checked_product(op, "packed weights", &[groups, padded, channels, of_one]));
        let (given, transformed) = (given?, transformed?);
        let scratch = |wanted: bool, len: usize| Scratch::with_len(if wanted { len } else { 0 });
        Ok(Weights {
            isa,
            scheme,
            channels,
            outputs,
            groups,
            taps,
            kept,
            given: scratch(kept != Kept::Nothing, given)?,
            transformed: scratch(kept == Kept::Transformed, transformed)?,
        })
    }

    pub fn kept(&self) -> Kept {
        self.kept
    }

    /// The position in the kernel of each tap of the scheme's square, where there is one.
    pub fn taps(&self) -> &[Option<usize>] {
        &self.taps
    }

    /// Panels of a group.
    pub fn panels(&self) -> usize {
        self.outputs.div_ceil(self.isa.tile().1 * self.isa.lanes())
    }

    /// Panels of all groups.
    pub fn all_panels(&self) -> usize {
        self.groups * self.panels()
    }

    /// The first column of a panel.
    #[inline(always)]
    pub fn column(&self, panel: usize) -> usize {
        panel * self.isa.tile().1 * self.isa.lanes()
    }

    /// Vectors of a panel: fewer in the last.
    #[inline(always)]
    pub fn vectors(&self, panel: usize) -> usize {
        (self.outputs - self.column(panel)).div_ceil(self.isa.lanes()).min(self.isa.tile().1)
    }

    /// f32 of one row of a panel.
    #[inline(always)]
    pub fn width(&self, panel: usize) -> usize {
        self.vectors(panel) * self.isa.lanes()
    }

    /// Where the weights of a panel lie among those of all panels of all groups, `of_one` numbers for each.
    fn range(&self, group: usize, panel: usize, of_one: usize) -> Range<usize> {
        let first = group * self.outputs.next_multiple_of(self.isa.lanes()) + self.column(panel);
        let of_output = self.channels * of_one;
        first * of_output..(first + self.width(panel)) * of_output
    }

    /// Where a panel lies among all as they are given.
    pub fn given_range(&self, group: usize, panel: usize) -> Range<usize> {
        self.range(group, panel, self.taps.len())
    }

    /// Where a panel lies among all that are transformed.
    pub fn transformed_range(&self, group: usize, panel: usize) -> Range<usize> {
        self.range(group, panel, self.scheme.products())
    }

    /// f32 of all as they are given, and transformed.
    pub fn all_len(&self) -> [usize; 2] {
        let all = self.groups * self.outputs.next_multiple_of(self.isa.lanes()) * self.channels;
        [self.taps.len(), self.scheme.products()].map(|of_one| whole_lines(all * of_one))
    }

    /// f32 of a panel as it is given, and of a slice of its channels (or one more), transformed, for what is not kept.
    pub fn panel_len(&self) -> [usize; 2] {
        let width = self.isa.tile().1 * self.isa.lanes();
        let slice = self.slices().0.part(0).1 + 1;
        let len = |wanted: bool, of_lane: usize| if wanted { whole_lines(of_lane * width) } else { 0 };
        [
            len(self.kept == Kept::Nothing, self.channels * self.taps.len()),
            len(self.kept != Kept::Transformed, slice * self.scheme.products()),
        ]
    }

    /// The channels in slices, of which one is transformed at a time, and how many; one, where the plan keeps them or there
    /// are several phases.
    pub fn slices(&self) -> (EvenParts, usize) {
        let of_channel = self.scheme.products() * self.isa.tile().1 * self.isa.lanes();
        let whole = self.kept == Kept::Transformed || self.scheme.phases() > 1;
        let most = if whole { usize::MAX } else { (FRESH / of_channel).max(1) };
        let count = self.channels.div_ceil(most);
        (EvenParts::new(self.channels, count), count)
    }

    /// What the plan keeps.
    pub fn given(&self) -> &[f32] {
        self.given.as_slice()
    }

    /// What the plan keeps.
    pub fn transformed(&self) -> &[f32] {
        self.transformed.as_slice()
    }

    /// Takes new weights, for a plan that keeps them.
    pub fn set<P: Points<A>, const A: usize, const R: usize>(&mut self, filters: Filters<'_>) {
        let (mut given, mut transformed) =
            (std::mem::take(&mut self.given), std::mem::take(&mut self.transformed));
        for item in 0..self.all_panels() {
            let (group, panel) = (item / self.panels(), item % self.panels());
            let given = &mut given.as_mut_slice()[self.given_range(group, panel)];
            self.pack(filters, group, panel, given);
            if self.kept == Kept::Transformed {
                let to = &mut transformed.as_mut_slice()[self.transformed_range(group, panel)];
                self.transform::<P, A, R>(panel, given, to, self.scheme.phases() * self.channels);
            }
        }
        (self.given, self.transformed) = (given, transformed);
    }

    /// Writes a panel as it is given.
    pub fn pack(&self, filters: Filters<'_>, group: usize, panel: usize, to: &mut [f32]) {
        let (first, width) = (self.column(panel), self.width(panel));
        let used = width.min(self.outputs - first);
        if let (TAPS, Ok(taps)) = (filters.taps(), self.taps.as_slice().try_into()) {
            let outputs = first..first + used;
            self.isa.run(Pack { filters, group, outputs, taps, width, to });
            return;
        }
        let taps = self.taps.len();
        for (i, row) in to.chunks_exact_mut(width).enumerate() {
            row.fill(0.0);
            let Some(tap) = self.taps[i % taps] else { continue };
            for (j, value) in row[..used].iter_mut().enumerate() {
                *value = filters.kernel(group, first + j, i / taps)[tap];
            }
        }
    }

    /// Transforms channels of a panel; one point of the result is `pitch` rows from the next, a row for each channel of each
    /// phase.
    pub fn transform<P: Points<A>, const A: usize, const R: usize>(
        &self,
        panel: usize,
        given: &[f32],
        to: &mut [f32],
        pitch: usize,
    ) {
        let (scheme, width, points) = (self.scheme, self.width(panel), PhantomData::<P>);
        let pitch = pitch * width;
        self.isa.run(TransformWeights::<P, A, R> { scheme, given, to, width, pitch, points });
    }
}

/// Lays the filters of some outputs out as `[channel][tap][lane]`; a tap that the kernel lacks is zero.
struct Pack<'a> {
    filters: Filters<'a>,
    group: usize,
    outputs: Range<usize>,
    taps: &'a [Option<usize>; TAPS],
    width: usize,
    to: &'a mut [f32],
}

impl SimdOp for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Pack { filters, group, outputs, taps, width, to } = self;
        for (channel, to) in to.chunks_exact_mut(TAPS * width).enumerate() {
            for v in (0..width).step_by(S::LANES) {
                let count = outputs.len().saturating_sub(v).min(S::LANES);
                let mut columns = [simd.splat(0.0); TAPS + MAX_LANES];
                // Kernels are the rows of a square, whose columns are taps; with eight lanes of two, which overlap.
                let squares = if S::LANES < TAPS { 2 } else { 1 };
                for first in [TAPS.saturating_sub(S::LANES), 0].into_iter().take(squares) {
                    let square = &mut columns[first..first + S::LANES];
                    square.fill(simd.splat(0.0));
                    for (i, row) in square[..count].iter_mut().enumerate() {
                        let kernel = filters.kernel(group, outputs.start + v + i, channel);
                        assert!(kernel.len() == TAPS);
                        // SAFETY: no more than are left of nine taps.
                        *row = unsafe { simd.load_up_to(kernel.as_ptr().add(first), TAPS - first) };
                    }
                    simd.transpose(square);
                }
                for (row, tap) in to.chunks_exact_mut(width).zip(taps) {
                    let value = tap.map_or(simd.splat(0.0), |tap| columns[tap]);
                    // SAFETY: a vector was sliced.
                    unsafe { simd.store(row[v..v + S::LANES].as_mut_ptr(), value) };
                }
            }
        }
    }
}

/// Some channels of a panel.
struct TransformWeights<'a, P, const A: usize, const R: usize> {
    scheme: Scheme,
    given: &'a [f32],
    to: &'a mut [f32],
    width: usize,
    /// From one point to the next.
    pitch: usize,
    points: PhantomData<P>,
}

impl<P: Points<A>, const A: usize, const R: usize> SimdOp for TransformWeights<'_, P, A, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let TransformWeights { scheme, given, to, width, pitch, .. } = self;
        let Scheme { step, side, .. } = scheme;
        let (taps, phases) = (side * side, scheme.phases());
        let channels = given.len() / (taps * width);
        let len = phases * channels * width;
        assert!(R == scheme.taps && width.is_multiple_of(S::LANES));
        assert!(len <= pitch && to.len() >= (A * A - 1) * pitch + len);
        for (phase, channel) in (0..phases).flat_map(|phase| (0..channels).map(move |c| (phase, c))) {
            let first = scheme.phase(phase);
            // The taps of the phase.
            let count = first.map(|first| (side - first).div_ceil(step));
            for v in (0..width).step_by(S::LANES) {
                // SAFETY: whole vectors of a row, which the lengths cover.
                unsafe {
                    let tap = first[0] * side + first[1];
                    let from = given.as_ptr().add((channel * taps + tap) * width + v);
                    let to = to.as_mut_ptr().add((phase * channels + channel) * width + v);
                    let apart = [step * side * width, step * width];
                    weights_2d::<S, P, A, R>(simd, from, apart, count, to, pitch);
                }
            }
        }
    }
}
