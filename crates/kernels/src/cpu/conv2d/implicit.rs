//! Implicit GEMM: pixels of an output row are the rows of the matrix product, read from a padded copy of the band.

use crate::cpu::Cpu;
use crate::cpu::conv2d::engine::Spec;
use crate::cpu::conv2d::patches::Patches;
use crate::cpu::gemm::{Epilogue, EvenParts, Output, Panels, Planes, Rows, Stretch, Tile, store_planes};
use crate::error::Result;
use crate::shape::correlation::Placement;
use crate::simd::Simd;
use crate::tensor::TensorView;

/// The padded copy of a band in f32 (512 KiB): with a slice of weights it stays within an L2 of 1 MiB, and the rows that
/// two bands both copy are few (384 KiB cost 512 channels of 32x32 a tenth of their speed on AVX2).
const BAND_LEN: usize = 128 * 1024;

/// A correlation by implicit GEMM, its weights packed: one [`Panels`] and one [`Epilogue`] per group.
#[derive(Debug, Clone)]
pub(crate) struct ImplicitGemm {
    output: [usize; 2],
    channels: usize,
    patches: Patches,
    bands: usize,
    /// Tiles of an output row.
    row_tiles: usize,
    tiles_of_row: EvenParts,
    pub(super) panels: Vec<Panels>,
    pub(super) epilogues: Vec<Epilogue>,
    placement: Placement,
}

impl ImplicitGemm {
    pub fn new(cpu: &Cpu, spec: &Spec<'_>, panels: Vec<Panels>, epilogues: Vec<Epilogue>) -> Result<Self> {
        let Spec { op, images, correlation, placement, .. } = *spec;
        // Enough items to keep every thread busy to the end; more bands copy more rows twice.
        let strands = cpu.thread_count();
        let items = images.saturating_mul(panels.iter().map(Panels::count).sum());
        let bands = if strands > 1 { (4 * strands).div_ceil(items.max(1)) } else { 1 };
        let patches = Patches::in_bands(op, correlation, BAND_LEN, bands)?;
        let (output, channels) = (correlation.output, correlation.channels);
        let bands = output[0].div_ceil(patches.band());
        let row_tiles = output[1].div_ceil(cpu.isa().tile().0);
        let tiles_of_row = EvenParts::new(output[1], row_tiles);
        Ok(ImplicitGemm {
            output,
            channels,
            patches,
            bands,
            row_tiles,
            tiles_of_row,
            panels,
            epilogues,
            placement,
        })
    }

    /// The image of a block. Blocks are bands: image by image, group by group, from the top.
    #[inline(always)]
    fn image(&self, block: usize) -> usize {
        block / self.bands / self.panels.len()
    }

    /// The first output row of a block, and how many it has.
    #[inline(always)]
    fn band(&self, block: usize) -> (usize, usize) {
        let first = block % self.bands * self.patches.band();
        (first, self.patches.band().min(self.output[0] - first))
    }
}

// SAFETY: the copy holds what every offset reads from every output of the band; the outputs of a block are its own
// rows, in the planes of its group, those of a tile its own pixels, and tiles follow each other within a row.
unsafe impl Rows for ImplicitGemm {
    fn panels(&self) -> &[Panels] {
        &self.panels
    }

    fn blocks(&self, images: usize) -> usize {
        images * self.panels.len() * self.bands
    }

    #[inline(always)]
    fn group(&self, block: usize) -> usize {
        block / self.bands % self.panels.len()
    }

    fn load_len(&self) -> usize {
        self.patches.len()
    }

    fn max_tiles(&self) -> usize {
        self.patches.band() * self.row_tiles
    }

    #[inline(always)]
    fn offsets(&self) -> &[usize] {
        self.patches.offsets()
    }

    #[inline(always)]
    fn load<S: Simd>(&self, simd: S, x: TensorView<'_>, block: usize, scratch: &mut [f32]) -> *const f32 {
        let (first, rows) = self.band(block);
        let group = self.group(block) * self.channels * x.shape().plane_len();
        self.patches.copy(simd, &x.image(self.image(block))[group..], first, rows, scratch);
        scratch.as_ptr()
    }

    #[inline(always)]
    fn tiles(&self, block: usize) -> usize {
        self.band(block).1 * self.row_tiles
    }

    #[inline(always)]
    fn tile(&self, _: usize, tile: usize) -> Tile {
        let (row, part) = (tile / self.row_tiles, tile % self.row_tiles);
        let (start, rows) = self.tiles_of_row.part(part);
        Tile { start: row * self.patches.row_stride() + start, rows }
    }

    #[inline(always)]
    fn follows(&self, tile: usize) -> bool {
        !tile.is_multiple_of(self.row_tiles)
    }

    #[inline(always)]
    unsafe fn store<S: Simd>(&self, simd: S, out: Output, block: usize, tile: usize, result: Stretch) {
        let at = &self.placement;
        let group = self.group(block);
        let epilogue = &self.epilogues[group];
        let row = self.band(block).0 + tile / self.row_tiles;
        let (start, _) = self.tiles_of_row.part(tile % self.row_tiles);
        let first = group * epilogue.columns * at.plane + at.origin + row * at.row + start * at.column;
        // SAFETY: pixels of one output row from `start` on, in the planes of this group, of this image.
        unsafe {
            let to = Planes {
                first: out.at(self.image(block), first),
                plane: at.plane,
                step: at.column,
                update: out.update(),
            };
            store_planes(simd, epilogue, result, 0..result.rows, to);
        }
    }
}
