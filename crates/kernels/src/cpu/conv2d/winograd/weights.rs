//! The weights, transformed: per group and panel of output channels `[point][channel][lane]`, and, as they were given,
//! `[channel][tap][lane]`.

use super::transform::{Transform, weights_2d};
use super::{TAPS, Tile};
use crate::cpu::scratch::Scratch;
use crate::error::Result;
use crate::simd::{Isa, Simd, SimdOp};
use crate::tensor::checked_product;

#[derive(Debug, Clone)]
pub(super) struct Weights {
    transformed: Scratch,
    /// As they were given; a tap that the kernel lacks is zero.
    given: Scratch,
    points: usize,
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
        tile: Tile,
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
        let points = tile.points();
        Ok(Weights {
            transformed: Scratch::with_len(len(points)?)?,
            given: Scratch::with_len(len(TAPS)?)?,
            points,
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

    /// The transformed weights of a point: one row of vectors for each channel.
    #[inline(always)]
    pub fn point(&self, group: usize, panel: usize, point: usize) -> &[f32] {
        let len = self.channels * self.vectors(panel) * self.lanes;
        &self.transformed.as_slice()[self.start(group, panel) * self.channels * self.points + point * len..]
            [..len]
    }

    /// The weights of a panel as they were given: one row of vectors for each tap of each channel.
    #[inline(always)]
    pub fn given(&self, group: usize, panel: usize) -> &[f32] {
        let len = self.channels * TAPS * self.vectors(panel) * self.lanes;
        &self.given.as_slice()[self.start(group, panel) * self.channels * TAPS..][..len]
    }

    /// As [`crate::cpu::conv2d::engine::Engine::set_weights`], by the position in the kernel of each of the nine taps.
    pub fn set<T: Transform<A, M>, const A: usize, const M: usize>(
        &mut self,
        _: T,
        isa: Isa,
        taps: &[Option<usize>; TAPS],
        weight: impl Fn(usize, usize, usize, usize) -> f32 + Copy,
    ) {
        let (channels, points) = (self.channels, self.points);
        for group in 0..self.groups {
            for panel in 0..self.panels() {
                let (column, width) = (self.column(panel), self.vectors(panel) * self.lanes);
                let start = self.start(group, panel) * channels;
                let used = width.min(self.outputs - column);
                let given = &mut self.given.as_mut_slice()[start * TAPS..][..channels * TAPS * width];
                for (i, row) in given.chunks_exact_mut(width).enumerate() {
                    let Some(tap) = taps[i % TAPS] else { continue };
                    for (j, value) in row[..used].iter_mut().enumerate() {
                        *value = weight(group, column + j, i / TAPS, tap);
                    }
                }
                let to = &mut self.transformed.as_mut_slice()[start * points..][..channels * points * width];
                isa.run(TransformWeights::<T, A, M> {
                    given,
                    to,
                    channels,
                    width,
                    transform: Default::default(),
                });
            }
        }
    }
}

/// A panel.
struct TransformWeights<'a, T, const A: usize, const M: usize> {
    given: &'a [f32],
    to: &'a mut [f32],
    channels: usize,
    width: usize,
    transform: std::marker::PhantomData<T>,
}

impl<T: Transform<A, M>, const A: usize, const M: usize> SimdOp for TransformWeights<'_, T, A, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let TransformWeights { given, to, channels, width, .. } = self;
        let pitch = channels * width;
        assert!(
            given.len() >= channels * TAPS * width
                && to.len() >= A * A * pitch
                && width.is_multiple_of(S::LANES)
        );
        for channel in 0..channels {
            for v in (0..width).step_by(S::LANES) {
                // SAFETY: whole vectors of a row, which the lengths cover.
                unsafe {
                    let from = given.as_ptr().add(channel * TAPS * width + v);
                    let to = to.as_mut_ptr().add(channel * width + v);
                    weights_2d::<S, T, A, M>(simd, from, 3 * width, width, to, pitch);
                }
            }
        }
    }
}
