//! 1x1 convolution, stride 1: the pixels of an image, as they lie, are the rows of the matrix product, and its
//! channels are k. Nothing is padded or unfolded.
//!
//! AVX-512 reads the planes in place: 14 pixels of a plane are one cache line, and 28 multiplications hide the wait
//! for it. With the smaller tiles of the others that wait shows, so their pixels are packed into panels first
//! (256 channels of 56x56 to 64: in place 92% of the microkernel's speed against 82% packed on AVX-512; 69% against
//! 77% on AVX2).

use crate::cpu::gemm::{self, Blocking, Epilogue, Panels, Rows, Tile, TileResult, store_planes};
use crate::cpu::threads::SharedOut;
use crate::error::Result;
use crate::shape::Conv2dShape;
use crate::simd::{Isa, MAX_LANES, Simd};
use crate::tensor::{TensorView, TensorViewMut, checked_product};

/// Planes read side by side while packing.
const STREAMS: usize = 16;

/// A 1x1 convolution, its weights packed.
#[derive(Debug, Clone)]
pub(crate) struct Pointwise {
    pixels: usize,
    channels: usize,
    panels: Vec<Panels>,
    epilogues: Vec<Epilogue>,
    offsets: Vec<usize>,
    packed: bool,
    pitch: usize,
    /// Of the pixels of one image.
    blocking: Blocking,
}

impl Pointwise {
    pub fn new(isa: Isa, shape: &Conv2dShape, panels: Vec<Panels>, epilogues: Vec<Epilogue>) -> Result<Self> {
        let (pixels, channels) = (shape.input().plane_len(), shape.weights().c);
        let pitch = isa.tile().0;
        let tile_len = checked_product("conv2d", "panel", &[channels, pitch])?;
        let blocking = Blocking::new(pixels, pitch, tile_len);
        let packed = isa != Isa::Avx512;
        let offsets = (0..channels).map(|c| c * if packed { pitch } else { pixels }).collect();
        Ok(Pointwise { pixels, channels, panels, epilogues, offsets, packed, pitch, blocking })
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
        // SAFETY: the panels hold `pitch` pixels for every channel, and so do the planes; the outputs of a block are its own pixels, inside
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
    fn image(&self, block: usize) -> usize {
        block / self.plan.blocking.blocks() / self.plan.panels.len()
    }

    /// The first pixel of a tile in its image, and how many it has.
    #[inline(always)]
    fn pixels(&self, block: usize, tile: usize) -> (usize, usize) {
        self.plan.blocking.tile(block % self.plan.blocking.blocks(), tile)
    }

    fn tile_len(&self) -> usize {
        self.plan.channels * self.plan.pitch + MAX_LANES
    }
}

impl Rows for PixelRows<'_> {
    fn blocks(&self) -> usize {
        self.x.shape().n * self.plan.panels.len() * self.plan.blocking.blocks()
    }

    #[inline(always)]
    fn group(&self, block: usize) -> usize {
        block / self.plan.blocking.blocks() % self.plan.panels.len()
    }

    fn load_len(&self) -> usize {
        if self.plan.packed { self.plan.blocking.max_tiles() * self.tile_len() } else { 0 }
    }

    fn max_tiles(&self) -> usize {
        self.plan.blocking.max_tiles()
    }

    #[inline(always)]
    fn offsets(&self) -> &[usize] {
        &self.plan.offsets
    }

    #[inline(always)]
    fn load<S: Simd>(&self, simd: S, block: usize, scratch: &mut [f32]) -> *const f32 {
        let plan = self.plan;
        let group = self.group(block) * plan.channels * plan.pixels;
        let planes = &self.x.image(self.image(block))[group..group + plan.channels * plan.pixels];
        if !plan.packed {
            return planes.as_ptr();
        }
        // A few channels at a time: each plane is read as one stream, of no more pages than the TLB holds. Whole
        // vectors: what lies past the pitch is overwritten by the next channel, or is the gap between two tiles.
        for (chunk, planes) in planes.chunks(STREAMS * plan.pixels).enumerate() {
            for tile in 0..self.tiles(block) {
                let (first, count) = self.pixels(block, tile);
                let vector = if first + S::LANES <= plan.pixels { S::LANES } else { count };
                let (channels, start) = (planes.len() / plan.pixels, chunk * STREAMS * plan.pitch);
                let rows =
                    &mut scratch[tile * self.tile_len() + start..][..channels * plan.pitch + MAX_LANES];
                for c in 0..channels {
                    // SAFETY: first + vector <= pixels of the plane; row c and LANES more were sliced.
                    unsafe {
                        let pixels = planes.as_ptr().add(c * plan.pixels + first);
                        let values = if vector == S::LANES {
                            simd.load(pixels)
                        } else {
                            simd.load_partial(pixels, vector)
                        };
                        simd.store(rows.as_mut_ptr().add(c * plan.pitch), values);
                    }
                }
            }
        }
        scratch.as_ptr()
    }

    #[inline(always)]
    fn tiles(&self, block: usize) -> usize {
        self.plan.blocking.tiles(block % self.plan.blocking.blocks())
    }

    #[inline(always)]
    fn tile(&self, block: usize, tile: usize) -> Tile {
        let (first, rows) = self.pixels(block, tile);
        Tile { start: if self.plan.packed { tile * self.tile_len() } else { first }, rows }
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
