//! The weights, transformed: per group and panel of output channels `[point][phase][channel][lane]`, and, as they were given,
//! `[channel][tap][lane]`.

use std::marker::PhantomData;

use super::scheme::Scheme;
use super::transform::{Points, weights_2d};
use crate::cpu::scratch::Scratch;
use crate::error::Result;
use crate::simd::{Isa, Simd, SimdOp};
use crate::tensor::checked_product;

#[derive(Debug, Clone)]
pub(super) struct Weights {
    transformed: Scratch,
    /// As they were given; a tap that the kernel lacks is zero.
    given: Scratch,
    scheme: Scheme,
    channels: usize,
    outputs: usize,
    groups: usize,
    lanes: usize,
    /// Vectors of a full panel.
    vectors: usize,
}

impl Weights {
    /// Zeros.
    pub fn new(
        op: &'static str,
        isa: Isa,
        scheme: Scheme,
        [groups, outputs, channels]: [usize; 3],
    ) -> Result<Self> {
        let lanes = isa.lanes();
        let len = |of_one| {
            checked_product(
                op,
                "packed weights",
                &[groups, outputs.next_multiple_of(lanes), channels, of_one],
            )
        };
        Ok(Weights {
            transformed: Scratch::with_len(len(scheme.points().pow(2) * scheme.phases())?)?,
            given: Scratch::with_len(len(scheme.side.pow(2))?)?,
            scheme,
            channels,
            outputs,
            groups,
            lanes,
            vectors: isa.tile().1,
        })
    }

    /// Panels of a group.
    pub fn panels(&self) -> usize {
        self.outputs.div_ceil(self.vectors * self.lanes)
    }

    /// The first column of a panel.
    #[inline(always)]
    pub fn column(&self, panel: usize) -> usize {
        panel * self.vectors * self.lanes
    }

    /// Vectors of a panel: fewer in the last.
    #[inline(always)]
    pub fn vectors(&self, panel: usize) -> usize {
        (self.outputs - self.column(panel)).div_ceil(self.lanes).min(self.vectors)
    }

    /// Where a panel starts, in vectors of output channels of all groups.
    #[inline(always)]
    fn start(&self, group: usize, panel: usize) -> usize {
        group * self.outputs.next_multiple_of(self.lanes) + self.column(panel)
    }

    /// The transformed weights of a point: one row of vectors for each channel of each phase.
    #[inline(always)]
    pub fn point(&self, group: usize, panel: usize, point: usize) -> &[f32] {
        let depth = self.scheme.phases() * self.channels;
        let start = self.start(group, panel) * depth * self.scheme.points().pow(2);
        let len = depth * self.vectors(panel) * self.lanes;
        &self.transformed.as_slice()[start + point * len..][..len]
    }

    /// The weights of a panel as they were given: one row of vectors for each tap of each channel.
    #[inline(always)]
    pub fn given(&self, group: usize, panel: usize) -> &[f32] {
        let depth = self.channels * self.scheme.side.pow(2);
        let len = depth * self.vectors(panel) * self.lanes;
        &self.given.as_slice()[self.start(group, panel) * depth..][..len]
    }

    /// As [`crate::cpu::conv2d::engine::Engine::set_weights`], by the position in the kernel of each tap of the square.
    pub fn set<P: Points<A>, const A: usize, const R: usize>(
        &mut self,
        isa: Isa,
        taps: &[Option<usize>],
        weight: impl Fn(usize, usize, usize, usize) -> f32 + Copy,
    ) {
        let (scheme, channels) = (self.scheme, self.channels);
        let points = A * A * scheme.phases();
        for group in 0..self.groups {
            for panel in 0..self.panels() {
                let (column, width) = (self.column(panel), self.vectors(panel) * self.lanes);
                let start = self.start(group, panel) * channels;
                let used = width.min(self.outputs - column);
                let len = channels * width;
                let given = &mut self.given.as_mut_slice()[start * taps.len()..][..len * taps.len()];
                for (i, row) in given.chunks_exact_mut(width).enumerate() {
                    let Some(tap) = taps[i % taps.len()] else { continue };
                    for (j, value) in row[..used].iter_mut().enumerate() {
                        *value = weight(group, column + j, i / taps.len(), tap);
                    }
                }
                let to = &mut self.transformed.as_mut_slice()[start * points..][..len * points];
                let points = PhantomData::<P>;
                isa.run(TransformWeights::<P, A, R> { scheme, given, to, channels, width, points });
            }
        }
    }
}

/// A panel.
struct TransformWeights<'a, P, const A: usize, const R: usize> {
    scheme: Scheme,
    given: &'a [f32],
    to: &'a mut [f32],
    channels: usize,
    width: usize,
    points: PhantomData<P>,
}

impl<P: Points<A>, const A: usize, const R: usize> SimdOp for TransformWeights<'_, P, A, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let TransformWeights { scheme, given, to, channels, width, .. } = self;
        let Scheme { step, side, .. } = scheme;
        let (taps, phases, len) = (side * side, scheme.phases(), channels * width);
        assert!(R == scheme.taps && width.is_multiple_of(S::LANES));
        assert!(given.len() >= taps * len && to.len() >= A * A * phases * len);
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
                    weights_2d::<S, P, A, R>(simd, from, apart, count, to, phases * len);
                }
            }
        }
    }
}
