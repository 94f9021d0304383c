//! Im2col: the patches of a few pixels at a time are unfolded into panels `[k][pixel]`.
//!
//! Pays where rows are one or two pixels wide: pixels of several rows, and of several images, fill one tile. The
//! patches are gathered from the same padded copy as the implicit GEMM's.

use crate::cpu::conv2d::engine::Spec;
use crate::cpu::conv2d::patches::Patches;
use crate::cpu::gemm::{Blocking, Epilogue, Output, Panels, Planes, Rows, Stretch, Tile, store_planes};
use crate::cpu::scratch::whole_lines;
use crate::error::Result;
use crate::shape::correlation::Placement;
use crate::simd::{Isa, MAX_LANES, Simd};
use crate::tensor::{TensorView, checked_product};

/// A convolution by im2col, its weights packed.
#[derive(Debug, Clone)]
pub(crate) struct Im2col {
    /// Pixels of a plane, and of a row.
    pixels: usize,
    width: usize,
    channels: usize,
    patches: Patches,
    pub(super) panels: Vec<Panels>,
    pub(super) epilogues: Vec<Epilogue>,
    placement: Placement,
    /// `k * pitch`, where the pitch is the rows of a tile.
    offsets: Vec<usize>,
    pitch: usize,
    /// Of the pixels of all images.
    blocking: Blocking,
    /// Images that one block can touch.
    touched: usize,
}

impl Im2col {
    pub fn new(isa: Isa, spec: &Spec<'_>, panels: Vec<Panels>, epilogues: Vec<Epilogue>) -> Result<Self> {
        let Spec { op, images, correlation, placement, .. } = *spec;
        let [height, width] = correlation.output;
        let (pixels, depth) = (height * width, correlation.depth());
        let pitch = isa.tile().0;
        let tile_len = checked_product(op, "panel", &[depth, pitch])?;
        let blocking = Blocking::new(checked_product(op, "pixels", &[images, pixels])?, pitch, tile_len);
        let touched = (blocking.max_tiles() * pitch).div_ceil(pixels).saturating_add(1).min(images.max(1));
        // A block copies only the rows that its pixels lie in: its first and last may be parts.
        let rows = (blocking.max_tiles() * pitch).div_ceil(width) + 1;
        let patches = Patches::new(op, correlation, rows.min(height))?;
        checked_product(op, "unfolded patches", &[touched, patches.len()])?;
        Ok(Im2col {
            pixels,
            width,
            channels: correlation.channels,
            patches,
            panels,
            epilogues,
            placement,
            offsets: (0..depth).map(|k| k * pitch).collect(),
            pitch,
            blocking,
            touched,
        })
    }

    /// The first pixel of a tile among those of all images, and how many it has.
    #[inline(always)]
    fn pixels(&self, block: usize, tile: usize) -> (usize, usize) {
        self.blocking.tile(block % self.blocking.blocks(), tile)
    }

    fn tile_len(&self) -> usize {
        self.offsets.len() * self.pitch
    }
}

// SAFETY: the panels hold `pitch` pixels for every k; the outputs of a tile are its own pixels, in the planes of its
// group.
unsafe impl Rows for Im2col {
    fn panels(&self) -> &[Panels] {
        &self.panels
    }

    fn blocks(&self, _: usize) -> usize {
        self.panels.len() * self.blocking.blocks()
    }

    #[inline(always)]
    fn group(&self, block: usize) -> usize {
        block / self.blocking.blocks()
    }

    fn load_len(&self) -> usize {
        whole_lines(self.blocking.max_tiles() * self.tile_len()) + self.touched * self.patches.len()
    }

    fn max_tiles(&self) -> usize {
        self.blocking.max_tiles()
    }

    #[inline(always)]
    fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    #[inline(always)]
    fn load<S: Simd>(&self, simd: S, x: TensorView<'_>, block: usize, scratch: &mut [f32]) -> *const f32 {
        let (panels, copies) = scratch.split_at_mut(whole_lines(self.blocking.max_tiles() * self.tile_len()));
        let tiles = self.tiles(block);
        let (first, (last, len)) = (self.pixels(block, 0).0, self.pixels(block, tiles - 1));
        let (first_image, last_image) = (first / self.pixels, (last + len - 1) / self.pixels);
        let top = |image| if image == first_image { first % self.pixels / self.width } else { 0 };
        let group = self.group(block) * self.channels * x.shape().plane_len();
        for (copy, n) in copies.chunks_exact_mut(self.patches.len()).zip(first_image..=last_image) {
            let end = (last + len - n * self.pixels).min(self.pixels).div_ceil(self.width);
            self.patches.copy(simd, &x.image(n)[group..], top(n), end - top(n), copy);
        }
        for tile in 0..tiles {
            let (first, count) = self.pixels(block, tile);
            let mut positions = [0; MAX_LANES];
            for (i, position) in positions.iter_mut().enumerate().take(count) {
                let (image, pixel) = ((first + i) / self.pixels, (first + i) % self.pixels);
                *position = (image - first_image) * self.patches.len()
                    + (pixel / self.width - top(image)) * self.patches.row_stride()
                    + pixel % self.width;
            }
            let panel = &mut panels[tile * self.tile_len()..(tile + 1) * self.tile_len()];
            for (row, &offset) in panel.chunks_exact_mut(self.pitch).zip(self.patches.offsets()) {
                for (value, &position) in row.iter_mut().zip(&positions[..count]) {
                    *value = copies[position + offset];
                }
            }
        }
        panels.as_ptr()
    }

    #[inline(always)]
    fn tiles(&self, block: usize) -> usize {
        self.blocking.tiles(block % self.blocking.blocks())
    }

    #[inline(always)]
    fn tile(&self, block: usize, tile: usize) -> Tile {
        Tile { start: tile * self.tile_len(), rows: self.pixels(block, tile).1 }
    }

    #[inline(always)]
    fn follows(&self, _: usize) -> bool {
        true
    }

    #[inline(always)]
    unsafe fn store<S: Simd>(&self, simd: S, out: Output, block: usize, tile: usize, result: Stretch) {
        let at = &self.placement;
        let group = self.group(block);
        let epilogue = &self.epilogues[group];
        let (first, count) = (self.pixels(block, tile).0, result.rows);
        let mut done = 0;
        // The pixels may cross from one image into the next.
        while done < count {
            let (image, pixel) = ((first + done) / self.pixels, (first + done) % self.pixels);
            let until = count.min(done + self.pixels - pixel);
            let start = group * epilogue.columns * at.plane + pixel;
            // SAFETY: pixels of one image, in the planes of this group.
            unsafe {
                let first = out.at(image, start);
                let to = Planes { first, plane: at.plane, step: 1, update: out.update() };
                store_planes(simd, epilogue, result, done..until, to);
            }
            done = until;
        }
    }
}
