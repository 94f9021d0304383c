//! What is not finite.
//!
//! A NaN or an infinity among the inputs or the weights, and a sum that leaves f32 on its way, spread over a whole tile: every
//! output that it should reach is not finite, but others are not either. So a tile with such an output is computed again,
//! directly.

use super::Winograd;
use super::output::Finish;
use super::transform::Points;
use crate::simd::{Simd, SimdOp};
use crate::tensor::TensorView;

/// Some tiles of a row, a vector of output channels of them, of which some are not finite.
pub(super) struct Repair<'a, P, const A: usize, const M: usize> {
    pub plan: &'a Winograd,
    pub x: TensorView<'a>,
    pub image: usize,
    pub group: usize,
    /// The weights of the panel, as they were given; f32 of a row of them, and which of its vectors.
    pub given: &'a [f32],
    pub row: usize,
    pub v: usize,
    pub finish: Finish<'a, P, A, M>,
    /// The first output.
    pub at: [usize; 2],
}

impl<P: Points<A>, const A: usize, const M: usize> SimdOp for Repair<'_, P, A, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (finish, [y, x], [height, width]) = (&self.finish, self.at, self.plan.output);
        for tile in 0..finish.tiles {
            let x = x + tile * M;
            // SAFETY: one of the tiles.
            if unsafe { finish.is_finite(simd, tile) } {
                continue;
            }
            for i in 0..M.min(height - y) {
                for j in 0..M.min(width - x) {
                    let sum = self.sum(simd, [y + i, x + j]);
                    // SAFETY: a pixel of a tile that has a place; the column is the epilogue's.
                    unsafe {
                        let value = finish.epilogue.finish_sum(simd, finish.column, sum);
                        simd.store(finish.pixel::<S>(tile, i, j), value);
                    }
                }
            }
        }
    }
}

impl<P: Points<A>, const A: usize, const M: usize> Repair<'_, P, A, M> {
    /// The sums of products of one output, by definition.
    #[inline(always)]
    fn sum<S: Simd>(&self, simd: S, at: [usize; 2]) -> S::F32 {
        let plan = self.plan;
        let [height, width] = plan.input;
        let planes = &self.x.image(self.image)[self.group * plan.channels * height * width..];
        let side = plan.scheme.side;
        let taps = plan.weights.taps();
        let position = |axis: usize, tap: usize| {
            let input = plan.before[axis] + (at[axis] * plan.scheme.step + tap) as isize;
            usize::try_from(input).ok().filter(|&input| input < plan.input[axis])
        };
        let mut sum = simd.splat(0.0);
        for (c, plane) in planes.chunks_exact(height * width).take(plan.channels).enumerate() {
            for (tap, _) in taps.iter().enumerate().filter(|(_, tap)| tap.is_some()) {
                let (Some(y), Some(x)) = (position(0, tap / side), position(1, tap % side)) else { continue };
                let weights =
                    &self.given[(c * taps.len() + tap) * self.row + self.v * S::LANES..][..S::LANES];
                // SAFETY: a vector was sliced.
                let weights = unsafe { simd.load(weights.as_ptr()) };
                sum = simd.mul_add(simd.splat(plane[y * width + x]), weights, sum);
            }
        }
        sum
    }
}
