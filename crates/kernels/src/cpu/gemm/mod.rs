//! The one matrix product, on which convolution, transposed convolution and the fully connected layer stand.
//!
//! `C[m x n] = A[m x k] * B[k x n]`. In all uses the rows of A are pixels (or samples) and the columns of B output
//! channels (or features):
//!
//! ```text
//! for each block of rows of A             (an item for a thread, with a range of panels)
//!     lay the block out                   Rows::load: a padded copy, packed panels, or nothing at all
//!     for each panel of B                 2 vectors of columns, packed once per plan
//!         for each slice of k             so that the panel's slice stays in L1 (AVX2) or L2
//!             for each tile of the block  up to 14 rows
//!                 accumulate              the microkernel: tile of C in registers
//!         for each stretch of tiles       some that lie side by side in the output
//!             store                       bias, activation, and the order of the output: Rows::store
//! ```
//!
//! The departure from the textbook is A: row `i` of a tile reads `a[offsets[k] + i]`. A packed panel is the special
//! case `offsets[k] = k * pitch`; a table of tap positions makes it a convolution over an image that is never
//! unfolded ("implicit" im2col). One microkernel serves both.
//!
//! The order of every sum is fixed by the plan: `k` ascending. Threads only share out blocks and panels.

mod blocking;
pub(crate) mod kernel;
mod panels;
mod store;

use std::ops::Range;

pub(crate) use blocking::{Blocking, EvenParts};
pub use kernel::{MicrokernelProbe, probe_microkernel};
pub(crate) use panels::{Panels, transpose_into};
pub(crate) use store::{Epilogue, Planes, store_planes, store_rows, store_spread};

use crate::cpu::scratch::whole_lines;
use crate::cpu::threads::{SharedOut, for_each_item};
use crate::shape::Update;
use crate::simd::{Isa, Simd, SimdOp};
use crate::tensor::{TensorView, TensorViewMut};

/// A tile of C: where its rows of A start, and how many they are.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    pub start: usize,
    pub rows: usize,
}

/// Tiles of C as the microkernel leaves them, one behind the other: `rows` rows of `vectors` vectors, no gaps.
#[derive(Clone, Copy)]
pub(crate) struct Stretch {
    pub acc: *const f32,
    pub rows: usize,
    pub vectors: usize,
    /// The first column.
    pub column: usize,
}

/// The most rows that are stored as one, where tiles join: their sums, of two vectors each, take 4 KiB of L1 (AVX2) or
/// 8 KiB (AVX-512). Transposed one tile at a time, 6 rows of 8 lanes would be stored in two pieces each.
const STRETCH: usize = 64;

/// Where a run writes: the images of the output, `batch_stride` apart.
#[derive(Clone, Copy)]
pub(crate) struct Output {
    first: SharedOut,
    batch_stride: usize,
    update: Update,
}

impl Output {
    pub fn new(y: &mut TensorViewMut<'_>, update: Update) -> Self {
        Output { batch_stride: y.batch_stride(), first: SharedOut::new(y.as_mut_ptr()), update }
    }

    /// Whether results are added to what is there.
    pub fn update(self) -> Update {
        self.update
    }

    /// Elements from one image to the next.
    pub fn batch_stride(self) -> usize {
        self.batch_stride
    }

    /// Element `at` of image `image`.
    ///
    /// # Safety
    /// There is such an element.
    #[inline(always)]
    pub unsafe fn at(self, image: usize, at: usize) -> *mut f32 {
        // SAFETY: the caller's promise.
        unsafe { self.first.get().add(image * self.batch_stride + at) }
    }
}

/// A planned product: where the rows of the left matrix come from, where the results of a row go, and the right
/// matrices, packed.
///
/// # Safety
/// For an input and an output of the shapes that it was planned for:
/// - [`Rows::load`] makes readable, from the pointer that it returns, every row of every [`Rows::tile`] of the block at
///   every one of [`Rows::offsets`], which are as many as the panels are deep;
/// - [`Rows::store`] stays within the output, and no two (block, tile, column) share an element;
/// - no tile has more than [`STRETCH`] rows.
pub(crate) unsafe trait Rows: Sync {
    /// The right matrices: one per group of a grouped convolution.
    fn panels(&self) -> &[Panels];

    /// Blocks of rows. Each can be computed alone.
    fn blocks(&self, images: usize) -> usize;

    /// Which of the right matrices a block is multiplied with.
    fn group(&self, block: usize) -> usize;

    /// f32 that [`Rows::load`] needs.
    fn load_len(&self) -> usize;

    /// Tiles of the largest block.
    fn max_tiles(&self) -> usize;

    /// Where the `k`-th element of a row lies, relative to its tile's start.
    fn offsets(&self) -> &[usize];

    /// How far ahead of each row, at the same offsets, the next are asked for: where they come from beyond L2.
    fn lead(&self) -> usize {
        0
    }

    /// Makes the rows of a block readable and says where.
    fn load<S: Simd>(&self, simd: S, x: TensorView<'_>, block: usize, scratch: &mut [f32]) -> *const f32;

    /// Tiles of this block.
    fn tiles(&self, block: usize) -> usize;

    /// One of them.
    fn tile(&self, block: usize, tile: usize) -> Tile;

    /// Whether the first row of this tile follows the last of the tile before it in the output, so that [`Rows::store`]
    /// can take both as one.
    fn follows(&self, tile: usize) -> bool;

    /// Writes finished tiles to the output: the one named and those that follow it, as far as there are rows.
    ///
    /// # Safety
    /// `result` is these tiles, and `out` has the planned shape.
    unsafe fn store<S: Simd>(&self, simd: S, out: Output, block: usize, tile: usize, result: Stretch);

    /// f32 of scratch that each strand of [`Rows::run`] needs.
    fn strand_len(&self, isa: Isa) -> usize {
        let (tile_rows, vectors) = isa.tile();
        let depth = self.offsets().len();
        let rows = if slice(isa, depth) < depth { self.max_tiles() * tile_rows } else { STRETCH };
        whole_lines(self.load_len()) + whole_lines(rows * vectors * isa.lanes())
    }

    /// The stretch that begins with this of the block's `tiles` tiles: the tile after its last, and its rows.
    #[inline(always)]
    fn stretch(&self, block: usize, tile: usize, tiles: usize) -> (usize, usize) {
        let (mut end, mut rows) = (tile + 1, self.tile(block, tile).rows);
        while end < tiles && self.follows(end) {
            let more = self.tile(block, end).rows;
            if rows + more > STRETCH {
                break;
            }
            (end, rows) = (end + 1, rows + more);
        }
        (end, rows)
    }

    /// Computes all blocks, on as many threads as there are strands.
    ///
    /// # Safety
    /// The views have the planned shapes.
    unsafe fn run(
        &self,
        isa: Isa,
        x: TensorView<'_>,
        y: &mut TensorViewMut<'_>,
        update: Update,
        strands: usize,
        scratch: &mut [f32],
    ) where
        Self: Sized,
    {
        let out = Output::new(y, update);
        let blocks = self.blocks(x.shape().n);
        // A few items for each strand, so that none waits long for the last.
        let panels = self.panels().first().map_or(0, Panels::count);
        let chunks = if strands == 1 { 1 } else { (4 * strands).div_ceil(blocks.max(1)).min(panels) };
        let len = self.strand_len(isa);
        assert!(scratch.len() >= strands * len, "the plan sized its scratch for {strands} strands");
        let base = SharedOut::new(scratch.as_mut_ptr());
        for_each_item(strands, blocks * chunks, |strand, item| {
            let block = item / chunks;
            let panels = &self.panels()[self.group(block)];
            let (first, count) = EvenParts::new(panels.count(), chunks).part(item % chunks);
            // SAFETY: strands have parts of their own, within the scratch as asserted.
            let scratch = unsafe { std::slice::from_raw_parts_mut(base.get().add(strand * len), len) };
            isa.run(Block { rows: self, x, out, block, panels, which: first..first + count, scratch });
        });
    }
}

/// The longest slice of `k` for an instruction set, measured on convolutions of 56x56x256 and 28x28x128:
/// AVX2 wants its panel slice (256 x 16 x 4 B = 16 KiB) to stay in an L1 of 32 KiB beside the rows, AVX-512 does
/// twice the work for each vector loaded and streams the panel from L2 (2304 x 32 x 4 B = 288 KiB of 1 MiB).
const fn max_slice(isa: Isa) -> usize {
    match isa {
        Isa::Portable => 256,
        Isa::Avx2 => 256,
        Isa::Avx512 => 2304,
    }
}

/// The slice length for this depth: even slices, none longer than [`max_slice`].
pub(crate) fn slice(isa: Isa, depth: usize) -> usize {
    let slices = depth.div_ceil(max_slice(isa)).max(1);
    depth.div_ceil(slices).max(1)
}

/// One block of rows times a range of panels.
struct Block<'a, R> {
    rows: &'a R,
    x: TensorView<'a>,
    out: Output,
    block: usize,
    panels: &'a Panels,
    which: Range<usize>,
    /// [`Rows::strand_len`] f32.
    scratch: &'a mut [f32],
}

impl<R: Rows> SimdOp for Block<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Block { rows, x, out, block, panels, which, scratch } = self;
        let depth = panels.depth();
        let slice = slice(S::ISA, depth);
        let (load_area, acc_area) = scratch.split_at_mut(whole_lines(rows.load_len()));
        let a = rows.load(simd, x, block, load_area);
        let acc = acc_area.as_mut_ptr();
        let tiles = rows.tiles(block);
        // With a single slice each stretch is finished at once, and its sums never leave L1.
        let sliced = slice < depth;
        for panel in which {
            let (vectors, column) = (panels.vectors(panel), panels.column(panel));
            let row_len = vectors * S::LANES;
            let mut tile = 0;
            while tile < tiles {
                let end = if sliced { tiles } else { rows.stretch(block, tile, tiles).0 };
                for k in (0..depth.max(1)).step_by(slice) {
                    let offsets = &rows.offsets()[k..(k + slice).min(depth)];
                    let b = panels.at(panel, k);
                    let mut sums = acc;
                    for t in tile..end {
                        let tile = rows.tile(block, t);
                        // SAFETY: `Rows` promises the tile's rows at every offset; the panel holds `vectors` vectors
                        // per k; the scratch holds the rows of a stretch or, where sliced, of the block.
                        unsafe {
                            // Wrapping, as nothing is read, and nothing need be there, where no tap meets the input.
                            let a = a.wrapping_add(tile.start);
                            let ahead = a.wrapping_add(rows.lead());
                            let part = kernel::Part { offsets, b, first: k == 0, ahead };
                            kernel::accumulate(simd, tile.rows, vectors, a, part, sums);
                            sums = sums.add(tile.rows * row_len);
                        }
                    }
                }
                let mut sums = acc;
                while tile < end {
                    let (next, count) = rows.stretch(block, tile, end);
                    // SAFETY: as above; these tiles were just computed.
                    unsafe {
                        let result = Stretch { acc: sums, rows: count, vectors, column };
                        rows.store(simd, out, block, tile, result);
                        sums = sums.add(count * row_len);
                    }
                    tile = next;
                }
            }
        }
    }
}
