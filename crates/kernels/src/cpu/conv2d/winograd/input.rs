//! The inputs of a block: padded, channels as lanes, transformed.
//!
//! ```text
//! for each vector of channels
//!     for each run of rows of tiles of an image
//!         for each row of pixels          transpose channels x pixels to [row][x][lane], zeros around
//!         for each tile and phase         load A x A vectors, transform, store one vector for each point
//! ```
//!
//! The result is `[point][strip][phase][channel / L][tile of the strip][channel % L]`: a strip is a register tile of the products that
//! follow, and reads its part from end to end.

use std::marker::PhantomData;
use std::ops::Range;

use super::blocks::{Block, Run};
use super::scheme::{PHASES, Scheme};
use super::transform::{Points, input_2d};
use super::{Layout, Winograd};
use crate::cpu::gemm::EvenParts;
use crate::simd::{MAX_LANES, Simd, SimdOp};
use crate::tensor::TensorView;

/// Transforms some vectors of channels of a block.
pub(super) struct TransformInput<'a, P, const A: usize, const STEP: usize> {
    pub plan: &'a Winograd,
    pub x: TensorView<'a>,
    pub block: &'a Block,
    /// Vectors of channels.
    pub channels: Range<usize>,
    /// [`Winograd::pack_len`] f32.
    pub packed: &'a mut [f32],
    /// [`Layout::len`] f32, of which those of these channels are written.
    pub to: *mut f32,
    pub points: PhantomData<P>,
}

/// The strips of a block, tile by tile.
struct Places {
    strips: EvenParts,
    strip: usize,
    /// The tile of the strip, and how many it has.
    tile: usize,
    tiles: usize,
}

impl Places {
    #[inline(always)]
    fn next(&mut self) -> (usize, usize) {
        if self.tile == self.tiles {
            self.strip += 1;
            (self.tile, self.tiles) = (0, self.strips.part(self.strip).1);
        }
        self.tile += 1;
        (self.strip, self.tile - 1)
    }
}

impl<P: Points<A>, const A: usize, const STEP: usize> SimdOp for TransformInput<'_, P, A, STEP> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let TransformInput { plan, x, block, channels, packed, to, .. } = self;
        let (layout, scheme) = (plan.layout, plan.scheme);
        let plane = plan.input[0] * plan.input[1];
        let pitch = scheme.inputs(block.columns);
        for vector in channels {
            let first = vector * S::LANES;
            let count = S::LANES.min(plan.channels - first);
            let strips = layout.strips(block.tiles());
            let mut places = Places { strips, strip: 0, tile: 0, tiles: strips.part(0).1 };
            for run in block.runs() {
                let start = (block.group * plan.channels + first) * plane;
                let planes = &x.image(run.image)[start..start + count * plane];
                let corner = plan.corner(&run, block.column);
                let rows = scheme.inputs(run.rows);
                pack(simd, planes, plan.input, corner, [rows, pitch], packed);
                assert!(packed.len() >= rows * pitch * S::LANES);
                simd.vectorize(TransformRun::<P, A, STEP> {
                    scheme,
                    packed: packed.as_ptr(),
                    pitch,
                    run,
                    columns: block.columns,
                    places: &mut places,
                    layout,
                    to: to.wrapping_add(vector * layout.rows * S::LANES),
                    phase: plan.vectors() * layout.rows * S::LANES,
                    points: PhantomData,
                });
            }
        }
    }
}

/// Transposes `rows` x `columns` pixels, from input position `corner` on, of up to a vector of planes: to `[row][column][lane]`.
/// What lies outside the planes is zero.
#[inline(always)]
pub(super) fn pack<S: Simd>(
    simd: S,
    planes: &[f32],
    [height, width]: [usize; 2],
    [top, left]: [isize; 2],
    [rows, columns]: [usize; 2],
    to: &mut [f32],
) {
    let count = planes.len() / (height * width);
    // Columns before the planes, and within them.
    let before = if left < 0 { left.unsigned_abs().min(columns) } else { 0 };
    let source = usize::try_from(left).unwrap_or(0).min(width);
    let inside = (width - source).min(columns - before);
    for (row, line) in to.chunks_exact_mut(columns * S::LANES).take(rows).enumerate() {
        let y = usize::try_from(top + row as isize).ok().filter(|&y| y < height);
        let Some(y) = y else {
            line.fill(0.0);
            continue;
        };
        let (zeros, rest) = line.split_at_mut(before * S::LANES);
        let (pixels, more_zeros) = rest.split_at_mut(inside * S::LANES);
        zeros.fill(0.0);
        more_zeros.fill(0.0);
        for x in (0..inside).step_by(S::LANES) {
            let some = S::LANES.min(inside - x);
            let mut square = [simd.splat(0.0); MAX_LANES];
            // SAFETY: `count` planes of `height` rows of `width` pixels, of which `some` are left from source + x on; as many
            // vectors are left of `pixels`.
            unsafe {
                let from = planes.as_ptr().add(y * width + source + x);
                for (c, line) in square.iter_mut().enumerate().take(count) {
                    *line = simd.load_up_to(from.add(c * height * width), some);
                }
                simd.transpose(&mut square[..S::LANES]);
                let to = pixels.as_mut_ptr().add(x * S::LANES);
                for (i, &lanes) in square.iter().enumerate().take(some) {
                    simd.store(to.add(i * S::LANES), lanes);
                }
            }
        }
    }
}

/// Transforms the tiles of a run, one vector of channels of them.
struct TransformRun<'a, P, const A: usize, const STEP: usize> {
    scheme: Scheme,
    packed: *const f32,
    /// Vectors from one row to the next.
    pitch: usize,
    run: Run,
    columns: usize,
    places: &'a mut Places,
    layout: Layout,
    to: *mut f32,
    /// From one phase to the next.
    phase: usize,
    points: PhantomData<P>,
}

impl<P: Points<A>, const A: usize, const STEP: usize> SimdOp for TransformRun<'_, P, A, STEP> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let TransformRun { scheme, packed, pitch, run, columns, places, layout, to, phase, .. } = self;
        let (row, column) = (pitch * S::LANES, S::LANES);
        let (apart, m) = ([STEP * row, STEP * column], STEP * scheme.outputs());
        for i in 0..run.rows {
            for j in 0..columns {
                let (strip, tile) = places.next();
                let from = packed.wrapping_add(i * m * row + j * m * column);
                let to = to.wrapping_add(strip * layout.strip + tile * S::LANES);
                // Written out, so that what infinity leaves out is known in each.
                macro_rules! transform {
                    ($([$y:expr, $x:expr] to $f:expr, finite $finite:expr;)*) => {$(
                        // SAFETY: the packed pixels reach as far as the last tile reads, as was asserted; the places are those
                        // of the block's tiles, for which the layout has room at every point, for each phase.
                        unsafe {
                            let (from, to) = (from.add($y * row + $x * column), to.add($f * phase));
                            input_2d::<S, P, A>(simd, from, apart, $finite, to, layout.point);
                        }
                    )*};
                }
                if STEP == 1 {
                    transform!([0, 0] to 0, finite [false, false];);
                } else if scheme.is_odd() {
                    transform!(
                        [1, 1] to 0, finite [true, true];
                        [0, 1] to 1, finite [false, true];
                        [0, 0] to 2, finite [false, false];
                        [1, 0] to 3, finite [true, false];
                    );
                } else {
                    for (f, [y, x]) in PHASES.into_iter().enumerate() {
                        transform!([y, x] to f, finite [false, false];);
                    }
                }
            }
        }
    }
}
