//! 1x1 convolution, stride 1: the pixels of an image, as they lie, are the rows of the matrix product, and its
//! channels are k. Nothing is padded or unfolded.
//!
//! AVX-512 reads the planes in place: 14 pixels of a plane are one cache line, and 28 multiplications hide the wait
//! for it. With the smaller tiles of the others that wait shows, so their pixels are packed into panels first
//! (256 channels of 56x56 to 64: in place 92% of the microkernel's speed against 82% packed on AVX-512; 69% against
//! 77% on AVX2).
//!
//! A transposed convolution whose kernel is its stride ([`Spread`]) is the same product: each tap of each output channel is a column,
//! and only the store differs.

use crate::cpu::conv2d::engine::Spec;
use crate::cpu::gemm::{
    Blocking, Epilogue, Output, Panels, Planes, Rows, Stretch, Tile, store_planes, store_spread,
};
use crate::error::Result;
use crate::shape::correlation::Spread;
use crate::simd::{Isa, MAX_LANES, Simd};
use crate::tensor::{TensorView, checked_product};

/// Planes read side by side while packing.
const STREAMS: usize = 16;

/// Pixels of a plane that is not near as a whole: the next three tiles are asked for (AVX-512, 256,56x56 -> 64: 0.97 -> 0.79 ms on
/// Intel; 14x14 gains nothing).
const LONG: usize = 512;

/// A 1x1 convolution, its weights packed.
#[derive(Debug, Clone)]
pub(crate) struct Pointwise {
    pixels: usize,
    channels: usize,
    pub(super) panels: Vec<Panels>,
    pub(super) epilogues: Vec<Epilogue>,
    offsets: Vec<usize>,
    packed: bool,
    pitch: usize,
    /// Of the pixels of one image.
    blocking: Blocking,
    spread: Option<Spread>,
}

impl Pointwise {
    pub fn new(
        isa: Isa,
        spec: &Spec<'_>,
        spread: Option<Spread>,
        panels: Vec<Panels>,
        epilogues: Vec<Epilogue>,
    ) -> Result<Self> {
        let (pixels, channels) = (spec.correlation.output.iter().product(), spec.correlation.channels);
        let pitch = isa.tile().0;
        let tile_len = checked_product(spec.op, "panel", &[channels, pitch])?;
        let blocking = Blocking::new(pixels, pitch, tile_len);
        let packed = isa != Isa::Avx512;
        let offsets = (0..channels).map(|c| c * if packed { pitch } else { pixels }).collect();
        Ok(Pointwise { pixels, channels, panels, epilogues, offsets, packed, pitch, blocking, spread })
    }

    /// Whether it is a transposed convolution.
    pub fn is_spread(&self) -> bool {
        self.spread.is_some()
    }

    fn image(&self, block: usize) -> usize {
        block / self.blocking.blocks() / self.panels.len()
    }

    /// The first pixel of a tile in its image, and how many it has.
    #[inline(always)]
    fn pixels(&self, block: usize, tile: usize) -> (usize, usize) {
        self.blocking.tile(block % self.blocking.blocks(), tile)
    }

    fn tile_len(&self) -> usize {
        self.channels * self.pitch + MAX_LANES
    }
}

// SAFETY: the panels hold `pitch` pixels for every channel, and so do the planes; the outputs of a tile are its own
// pixels, in the planes of its group.
unsafe impl Rows for Pointwise {
    fn panels(&self) -> &[Panels] {
        &self.panels
    }

    fn blocks(&self, images: usize) -> usize {
        images * self.panels.len() * self.blocking.blocks()
    }

    #[inline(always)]
    fn group(&self, block: usize) -> usize {
        block / self.blocking.blocks() % self.panels.len()
    }

    fn load_len(&self) -> usize {
        if self.packed { self.blocking.max_tiles() * self.tile_len() } else { 0 }
    }

    fn max_tiles(&self) -> usize {
        self.blocking.max_tiles()
    }

    #[inline(always)]
    fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    #[inline(always)]
    fn lead(&self) -> usize {
        if self.packed || self.pixels < LONG { 0 } else { 3 * self.pitch }
    }

    #[inline(always)]
    fn load<S: Simd>(&self, simd: S, x: TensorView<'_>, block: usize, scratch: &mut [f32]) -> *const f32 {
        let group = self.group(block) * self.channels * self.pixels;
        let planes = &x.image(self.image(block))[group..group + self.channels * self.pixels];
        if !self.packed {
            return planes.as_ptr();
        }
        // A few channels at a time: each plane is read as one stream, of no more pages than the TLB holds. Whole
        // vectors: what lies past the pitch is overwritten by the next channel, or is the gap between two tiles.
        for (chunk, planes) in planes.chunks(STREAMS * self.pixels).enumerate() {
            for tile in 0..self.tiles(block) {
                let (first, count) = self.pixels(block, tile);
                let vector = if first + S::LANES <= self.pixels { S::LANES } else { count };
                let (channels, start) = (planes.len() / self.pixels, chunk * STREAMS * self.pitch);
                let rows =
                    &mut scratch[tile * self.tile_len() + start..][..channels * self.pitch + MAX_LANES];
                for c in 0..channels {
                    // SAFETY: first + vector <= pixels of the plane; row c and LANES more were sliced.
                    unsafe {
                        let pixels = planes.as_ptr().add(c * self.pixels + first);
                        // Streams are too short for the hardware to follow: the next planes are asked for.
                        simd.prefetch(pixels.wrapping_add(STREAMS * self.pixels));
                        let values = if vector == S::LANES {
                            simd.load(pixels)
                        } else {
                            simd.load_partial(pixels, vector)
                        };
                        simd.store(rows.as_mut_ptr().add(c * self.pitch), values);
                    }
                }
            }
        }
        scratch.as_ptr()
    }

    #[inline(always)]
    fn tiles(&self, block: usize) -> usize {
        self.blocking.tiles(block % self.blocking.blocks())
    }

    #[inline(always)]
    fn tile(&self, block: usize, tile: usize) -> Tile {
        let (first, rows) = self.pixels(block, tile);
        Tile { start: if self.packed { tile * self.tile_len() } else { first }, rows }
    }

    #[inline(always)]
    fn follows(&self, _: usize) -> bool {
        true
    }

    #[inline(always)]
    unsafe fn store<S: Simd>(&self, simd: S, out: Output, block: usize, tile: usize, result: Stretch) {
        let group = self.group(block);
        let epilogue = &self.epilogues[group];
        let (first, _) = self.pixels(block, tile);
        if let Some(spread) = &self.spread {
            let start = group * (epilogue.columns / spread.taps()) * spread.plane;
            // SAFETY: the outputs of these pixels, in the planes of this group.
            return unsafe {
                let to = out.at(self.image(block), start);
                store_spread(simd, epilogue, result, first, spread, to, out.update())
            };
        }
        let start = group * epilogue.columns * self.pixels + first;
        // SAFETY: pixels of one image, in the planes of this group.
        unsafe {
            let to = Planes {
                first: out.at(self.image(block), start),
                plane: self.pixels,
                step: 1,
                update: out.update(),
            };
            store_planes(simd, epilogue, result, 0..result.rows, to)
        };
    }
}
