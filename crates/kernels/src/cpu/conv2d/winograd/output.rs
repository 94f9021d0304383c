//! From the products of a panel to the output: transformed, bias and activation applied, transposed to planes.
//!
//! Some tiles of a row at a time: lanes are output channels until the last step, which writes a few pixels of each plane.

use std::marker::PhantomData;

use super::blocks::Block;
use super::repair::Repair;
use super::transform::{Points, output_2d};
use super::{Layout, Winograd};
use crate::cpu::gemm::{Epilogue, Output};
use crate::cpu::scratch::LINE;
use crate::shape::Update;
use crate::simd::{MAX_LANES, Simd, SimdOp};
use crate::tensor::TensorView;

/// Tiles that are finished together: whole cache lines of pixels.
const fn chunk(m: usize) -> usize {
    if m.is_multiple_of(2) { LINE / 2 } else { LINE }
}

/// Lanes of the narrowest vector.
const MIN_LANES: usize = 8;

/// f32 of pixels that wait to be transposed.
pub(super) const fn staged_len(m: usize, lanes: usize) -> usize {
    m * chunk(m) * m * lanes
}

/// Writes a panel of a block.
pub(super) struct TransformOutput<'a, P, const A: usize, const M: usize> {
    pub plan: &'a Winograd,
    /// What the block was computed from.
    pub x: TensorView<'a>,
    pub block: &'a Block,
    pub panel: usize,
    /// The weights of the panel, as they were given.
    pub given: &'a [f32],
    /// `[point][tile][vector][lane]`
    pub products: *const f32,
    /// [`staged_len`] f32.
    pub staged: &'a mut [f32],
    pub out: Output,
    pub points: PhantomData<P>,
}

impl<P: Points<A>, const A: usize, const M: usize> SimdOp for TransformOutput<'_, P, A, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let TransformOutput { plan, x, block, panel, given, products, staged, out, .. } = self;
        assert!(staged.len() >= staged_len(M, S::LANES));
        let staged = staged.as_mut_ptr();
        let at = &plan.placement;
        let [height, width] = plan.output;
        let Layout { products: point, .. } = plan.layout;
        let (vectors, column) = (plan.weights.vectors(panel), plan.weights.column(panel));
        let epilogue = &plan.epilogues[block.group];
        let mut first = 0;
        for run in block.runs() {
            for row in run.row..run.row + run.rows {
                let y = row * M;
                for v in 0..vectors {
                    let column = column + v * S::LANES;
                    for start in (0..block.columns).step_by(chunk(M)) {
                        let tiles = chunk(M).min(block.columns - start);
                        let x0 = (block.column + start) * M;
                        let size = [M.min(height - y), (tiles * M).min(width - x0)];
                        // SAFETY: the products hold every tile of the block, `staged` a chunk; the pixels lie in the output's
                        // planes of this group.
                        unsafe {
                            let from = products.add(((first + start) * vectors + v) * S::LANES);
                            let finish = Finish::<P, A, M> {
                                from,
                                pitch: vectors * S::LANES,
                                point,
                                tiles,
                                staged,
                                epilogue,
                                column,
                                points: PhantomData,
                            };
                            let sound = simd.vectorize(finish);
                            if !sound {
                                let (image, group) = (run.image, block.group);
                                simd.vectorize(Repair {
                                    plan,
                                    x,
                                    image,
                                    group,
                                    given,
                                    row: vectors * S::LANES,
                                    v,
                                    finish,
                                    at: [y, x0],
                                });
                            }
                            let filter = block.group * epilogue.columns + column;
                            let to = out
                                .at(run.image, filter * at.plane + at.origin + y * at.row + x0 * at.column);
                            let planes = S::LANES.min(epilogue.columns - column);
                            let store = Store {
                                staged,
                                pitch: chunk(M) * M,
                                size,
                                planes,
                                to,
                                plane: at.plane,
                                row: at.row,
                                step: at.column,
                                update: out.update(),
                            };
                            simd.vectorize(store);
                        }
                    }
                }
                first += block.columns;
            }
        }
    }
}

/// Transforms some tiles of a row: to `staged`, finished, `[row][column][lane]`. Gives back whether all was finite.
pub(super) struct Finish<'a, P, const A: usize, const M: usize> {
    pub from: *const f32,
    /// From one tile to the next, and from one point to the next.
    pub pitch: usize,
    pub point: usize,
    pub tiles: usize,
    pub staged: *mut f32,
    pub epilogue: &'a Epilogue,
    pub column: usize,
    pub points: PhantomData<P>,
}

impl<P, const A: usize, const M: usize> Clone for Finish<'_, P, A, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P, const A: usize, const M: usize> Copy for Finish<'_, P, A, M> {}

impl<P: Points<A>, const A: usize, const M: usize> Finish<'_, P, A, M> {
    /// Where a pixel of a tile waits.
    #[inline(always)]
    pub fn pixel<S: Simd>(&self, tile: usize, i: usize, j: usize) -> *mut f32 {
        self.staged.wrapping_add(((i * chunk(M) + tile) * M + j) * S::LANES)
    }

    /// The sums of a tile.
    ///
    /// # Safety
    /// There is such a tile.
    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, simd: S, tile: usize) -> [[S::F32; M]; M] {
        // SAFETY: the caller's promise; every point has the tile.
        unsafe { output_2d::<S, P, A, M>(simd, self.from.add(tile * self.pitch), self.point) }
    }

    /// Whether all sums of a tile are.
    ///
    /// # Safety
    /// There is such a tile.
    #[inline(always)]
    pub unsafe fn is_finite<S: Simd>(&self, simd: S, tile: usize) -> bool {
        let zero = simd.splat(0.0);
        let mut sound = zero;
        // SAFETY: the caller's promise.
        for row in unsafe { self.tile(simd, tile) } {
            for sum in row {
                sound = simd.mul_add(sum, zero, sound);
            }
        }
        simd.reduce_add(sound) == 0.0
    }
}

impl<P: Points<A>, const A: usize, const M: usize> SimdOp for Finish<'_, P, A, M> {
    type Output = bool;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> bool {
        // Zero as long as all sums are finite, NaN afterwards.
        let zero = simd.splat(0.0);
        let mut sound = zero;
        for tile in 0..self.tiles {
            // SAFETY: `from` has so many tiles, and `staged` room for them.
            unsafe {
                for (i, row) in self.tile(simd, tile).into_iter().enumerate() {
                    for (j, sum) in row.into_iter().enumerate() {
                        sound = simd.mul_add(sum, zero, sound);
                        let y = self.epilogue.finish_sum(simd, self.column, sum);
                        simd.store(self.pixel::<S>(tile, i, j), y);
                    }
                }
            }
        }
        simd.reduce_add(sound) == 0.0
    }
}

/// Writes what waits to some planes.
struct Store {
    staged: *const f32,
    /// Vectors from one row to the next.
    pitch: usize,
    /// Rows and columns.
    size: [usize; 2],
    planes: usize,
    to: *mut f32,
    plane: usize,
    row: usize,
    step: usize,
    update: Update,
}

impl SimdOp for Store {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Store { staged, pitch, size: [rows, columns], planes, to, plane, row, step, update } = self;
        for i in 0..rows {
            // A cache line of each plane at a time: planes may lie so that few lines of them fit the cache at once.
            for j in (0..columns).step_by(LINE) {
                let mut squares = [[simd.splat(0.0); MAX_LANES]; LINE / MIN_LANES];
                // SAFETY: a chunk is whole lines of pixels, all of which may be read; of the planes, only the pixels are touched.
                unsafe {
                    let from = staged.add((i * pitch + j) * S::LANES);
                    for (k, square) in squares.iter_mut().enumerate().take(LINE / S::LANES) {
                        for (x, lanes) in square.iter_mut().enumerate().take(S::LANES) {
                            *lanes = simd.load(from.add((k * S::LANES + x) * S::LANES));
                        }
                        simd.transpose(&mut square[..S::LANES]);
                    }
                    let to = to.add(i * row + j * step);
                    for c in 0..planes {
                        for (k, square) in squares.iter().enumerate().take(LINE / S::LANES) {
                            let pixels = columns.saturating_sub(j + k * S::LANES).min(S::LANES);
                            let to = to.wrapping_add(c * plane + k * S::LANES * step);
                            put(simd, to, step, pixels, square[c], update);
                        }
                    }
                }
            }
        }
    }
}

/// Writes `n` lanes, `step` apart, or adds them to what is there.
///
/// # Safety
/// So many can be written there, and read.
#[inline(always)]
unsafe fn put<S: Simd>(simd: S, to: *mut f32, step: usize, n: usize, values: S::F32, update: Update) {
    let accumulate = update == Update::Accumulate;
    // SAFETY: the caller's promise.
    unsafe {
        if step == 1 {
            let values = if accumulate { simd.add(simd.load_up_to(to, n), values) } else { values };
            simd.store_up_to(to, n, values);
        } else {
            for (i, value) in simd.to_lanes(values).into_iter().enumerate().take(n) {
                let to = to.add(i * step);
                *to = if accumulate { *to + value } else { value };
            }
        }
    }
}
