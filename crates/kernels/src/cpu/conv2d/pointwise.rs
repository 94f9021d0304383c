//! 1x1 convolution, stride 1: the pixels of an image, as they lie, are the rows of the matrix product, and its
//! channels are k. Nothing is padded or unfolded; pixels are packed into panels only because reading one cache line
//! from each of hundreds of planes, again for every panel of weights, would wait for memory.

use crate::cpu::gemm::{self, Epilogue, Panels, Rows, Tile, TileResult, even_tile, store_planes};
use crate::cpu::threads::SharedOut;
use crate::error::Result;
use crate::shape::Conv2dShape;
use crate::simd::{Isa, MAX_LANES, Simd};
use crate::tensor::{TensorView, TensorViewMut, checked_product};

/// The panels of a block in f32 (256 KiB), unless one tile needs more.
const BLOCK_LEN: usize = 64 * 1024;

/// A 1x1 convolution, its weights packed.
#[derive(Debug, Clone)]
pub(crate) struct Pointwise {
    pixels: usize,
    channels: usize,
    panels: Vec<Panels>,
    epilogues: Vec<Epilogue>,
    offsets: Vec<usize>,
    pitch: usize,
    /// Tiles over the pixels of an image, and of one block.
    tiles: usize,
    block: usize,
}

impl Pointwise {
    pub fn new(isa: Isa, shape: &Conv2dShape, panels: Vec<Panels>, epilogues: Vec<Epilogue>) -> Result<Self> {
        let (pixels, channels) = (shape.input().plane_len(), shape.weights().c);
        let pitch = isa.tile().0;
        let tile_len = checked_product("conv2d", "panel", &[channels, pitch])?;
        let tiles = pixels.div_ceil(pitch);
        let block = (BLOCK_LEN / tile_len).clamp(1, tiles);
        let offsets = (0..channels).map(|c| c * pitch).collect();
        Ok(Pointwise { pixels, channels, panels, epilogues, offsets, pitch, tiles, block })
    }

    /// f32 of scratch for each strand.
    pub fn strand_len(&self, isa: Isa) -> usize {
        let out = SharedOut::new(std::ptr::null_mut());
        let rows = PixelRows { plan: self, x: TensorView::empty(), out, batch_stride: 0 };
        gemm::strand_len(isa, &rows, self.channels)
    }

    /// The views have the shapes that the plan checked.
    pub fn run(
        &self,
        isa: Isa,
        x: TensorView<'_>,
        y: &mut TensorViewMut<'_>,
        strands: usize,
        scratch: &mut [f32],
    ) {
        let batch_stride = y.batch_stride();
        let rows = PixelRows { plan: self, x, out: SharedOut::new(y.as_mut_ptr()), batch_stride };
        // SAFETY: the panels hold `pitch` pixels for every channel; the outputs of a block are its own pixels, inside
        // `y`, whose shape the plan checked.
        unsafe { gemm::run(isa, &rows, &self.panels, strands, scratch) };
    }
}

/// The rows of one run: blocks of tiles, image by image, group by group.
struct PixelRows<'a> {
    plan: &'a Pointwise,
    x: TensorView<'a>,
    out: SharedOut,
    batch_stride: usize,
}

impl PixelRows<'_> {
    fn group_blocks(&self) -> usize {
        self.plan.tiles.div_ceil(self.plan.block)
    }

    fn image(&self, block: usize) -> usize {
        block / self.group_blocks() / self.plan.panels.len()
    }

    /// The tile's number among those of its image.
    fn index(&self, block: usize, tile: usize) -> usize {
        block % self.group_blocks() * self.plan.block + tile
    }

    /// The first pixel of a tile, and how many it has.
    fn pixels(&self, block: usize, tile: usize) -> (usize, usize) {
        even_tile(self.plan.pixels, self.plan.tiles, self.index(block, tile))
    }

    fn tile_len(&self) -> usize {
        self.plan.channels * self.plan.pitch
    }
}

impl Rows for PixelRows<'_> {
    fn blocks(&self) -> usize {
        self.x.shape().n * self.plan.panels.len() * self.group_blocks()
    }

    #[inline(always)]
    fn group(&self, block: usize) -> usize {
        block / self.group_blocks() % self.plan.panels.len()
    }

    fn load_len(&self) -> usize {
        self.plan.block * self.tile_len() + MAX_LANES
    }

    fn max_tiles(&self) -> usize {
        self.plan.block
    }

    #[inline(always)]
    fn offsets(&self) -> &[usize] {
        &self.plan.offsets
    }

    #[inline(always)]
    fn load<S: Simd>(&self, simd: S, block: usize, scratch: &mut [f32]) -> *const f32 {
        let plan = self.plan;
        assert!(scratch.len() >= self.load_len() && plan.pitch <= S::LANES);
        let group = self.group(block) * plan.channels * plan.pixels;
        let planes = &self.x.image(self.image(block))[group..group + plan.channels * plan.pixels];
        for tile in 0..self.tiles(block) {
            let (first, count) = self.pixels(block, tile);
            let panel = &mut scratch[tile * self.tile_len()..];
            for (c, plane) in planes.chunks_exact(plan.pixels).enumerate() {
                // Whole vectors: what lies past the pitch is overwritten by the next channel.
                // SAFETY: first + count <= pixels; the panel goes on for at least LANES f32 past its last row.
                unsafe {
                    let pixels = simd.load_partial(plane.as_ptr().add(first), count);
                    simd.store(panel.as_mut_ptr().add(c * plan.pitch), pixels);
                }
            }
        }
        scratch.as_ptr()
    }

    #[inline(always)]
    fn tiles(&self, block: usize) -> usize {
        self.plan.block.min(self.plan.tiles - self.index(block, 0))
    }

    #[inline(always)]
    fn tile(&self, block: usize, tile: usize) -> Tile {
        Tile { start: tile * self.tile_len(), rows: self.pixels(block, tile).1 }
    }

    #[inline(always)]
    unsafe fn store<S: Simd>(&self, simd: S, block: usize, tile: usize, result: TileResult) {
        let plan = self.plan;
        let group = self.group(block);
        let epilogue = &plan.epilogues[group];
        let (first, count) = self.pixels(block, tile);
        let start = self.image(block) * self.batch_stride + group * epilogue.columns * plan.pixels + first;
        // SAFETY: pixels of one image, in the planes of this group.
        unsafe { store_planes(simd, epilogue, result, 0..count, self.out.get().add(start), plan.pixels, 1) };
    }
}
