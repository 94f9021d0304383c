//! Im2col: the patches of a few pixels at a time are unfolded into panels `[k][pixel]`.
//!
//! Pays where rows are narrower than a tile: pixels of several rows, and of several images, fill one tile. The
//! patches are gathered from the same padded copy as the implicit GEMM's.

use crate::cpu::conv2d::implicit::Placement;
use crate::cpu::conv2d::patches::{Correlation, Patches};
use crate::cpu::gemm::{self, Blocking, Epilogue, Panels, Rows, Tile, TileResult, store_planes};
use crate::cpu::scratch::whole_lines;
use crate::cpu::threads::SharedOut;
use crate::error::Result;
use crate::simd::{Isa, MAX_LANES, Simd};
use crate::tensor::{TensorView, TensorViewMut, checked_product};

/// A convolution by im2col, its weights packed.
#[derive(Debug, Clone)]
pub(crate) struct Im2col {
    /// Pixels of a plane, and of a row.
    pixels: usize,
    width: usize,
    channels: usize,
    patches: Patches,
    panels: Vec<Panels>,
    epilogues: Vec<Epilogue>,
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
    pub fn new(
        op: &'static str,
        isa: Isa,
        correlation: &Correlation,
        images: usize,
        panels: Vec<Panels>,
        epilogues: Vec<Epilogue>,
        placement: Placement,
    ) -> Result<Self> {
        let [height, width] = correlation.output;
        let patches = Patches::new(op, correlation, height)?;
        let (pixels, depth) = (height * width, correlation.depth());
        let pitch = isa.tile().0;
        let tile_len = checked_product(op, "panel", &[depth, pitch])?;
        let blocking = Blocking::new(checked_product(op, "pixels", &[images, pixels])?, pitch, tile_len);
        let touched = (blocking.max_tiles() * pitch).div_ceil(pixels).saturating_add(1).min(images.max(1));
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

    /// f32 of scratch for each strand.
    pub fn strand_len(&self, isa: Isa) -> usize {
        let out = SharedOut::new(std::ptr::null_mut());
        let rows = PixelRows { plan: self, x: TensorView::empty(), out, batch_stride: 0 };
        gemm::strand_len(isa, &rows, self.offsets.len())
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
        // SAFETY: the panels hold `pitch` pixels for every k; the outputs of a block are its own pixels, inside `y`,
        // whose shape the plan checked.
        unsafe { gemm::run(isa, &rows, &self.panels, strands, scratch) };
    }
}

/// The rows of one run: pixels of all images in order. Blocks are whole tiles, group by group.
struct PixelRows<'a> {
    plan: &'a Im2col,
    x: TensorView<'a>,
    out: SharedOut,
    batch_stride: usize,
}

impl PixelRows<'_> {
    /// The first pixel of a tile among those of all images, and how many it has.
    #[inline(always)]
    fn pixels(&self, block: usize, tile: usize) -> (usize, usize) {
        self.plan.blocking.tile(block % self.plan.blocking.blocks(), tile)
    }

    fn tile_len(&self) -> usize {
        self.plan.offsets.len() * self.plan.pitch
    }
}

impl Rows for PixelRows<'_> {
    fn blocks(&self) -> usize {
        self.plan.panels.len() * self.plan.blocking.blocks()
    }

    #[inline(always)]
    fn group(&self, block: usize) -> usize {
        block / self.plan.blocking.blocks()
    }

    fn load_len(&self) -> usize {
        whole_lines(self.plan.blocking.max_tiles() * self.tile_len())
            + self.plan.touched * self.plan.patches.len()
    }

    fn max_tiles(&self) -> usize {
        self.plan.blocking.max_tiles()
    }

    #[inline(always)]
    fn offsets(&self) -> &[usize] {
        &self.plan.offsets
    }

    #[inline(always)]
    fn load<S: Simd>(&self, _: S, block: usize, scratch: &mut [f32]) -> *const f32 {
        let plan = self.plan;
        let (panels, copies) = scratch.split_at_mut(whole_lines(plan.blocking.max_tiles() * self.tile_len()));
        let tiles = self.tiles(block);
        let (first_image, last_image) = {
            let (last, len) = self.pixels(block, tiles - 1);
            (self.pixels(block, 0).0 / plan.pixels, (last + len - 1) / plan.pixels)
        };
        let group = self.group(block) * plan.channels * self.x.shape().plane_len();
        let height = plan.pixels / plan.width;
        for (copy, n) in copies.chunks_exact_mut(plan.patches.len()).zip(first_image..=last_image) {
            plan.patches.copy(&self.x.image(n)[group..], 0, height, copy);
        }
        for tile in 0..tiles {
            let (first, count) = self.pixels(block, tile);
            let mut positions = [0; MAX_LANES];
            for (i, position) in positions.iter_mut().enumerate().take(count) {
                let (image, pixel) = ((first + i) / plan.pixels, (first + i) % plan.pixels);
                *position = (image - first_image) * plan.patches.len()
                    + pixel / plan.width * plan.patches.row_stride()
                    + pixel % plan.width;
            }
            let panel = &mut panels[tile * self.tile_len()..(tile + 1) * self.tile_len()];
            for (row, &offset) in panel.chunks_exact_mut(plan.pitch).zip(plan.patches.offsets()) {
                for (value, &position) in row.iter_mut().zip(&positions[..count]) {
                    *value = copies[position + offset];
                }
            }
        }
        panels.as_ptr()
    }

    #[inline(always)]
    fn tiles(&self, block: usize) -> usize {
        self.plan.blocking.tiles(block % self.plan.blocking.blocks())
    }

    #[inline(always)]
    fn tile(&self, block: usize, tile: usize) -> Tile {
        Tile { start: tile * self.tile_len(), rows: self.pixels(block, tile).1 }
    }

    #[inline(always)]
    unsafe fn store<S: Simd>(&self, simd: S, block: usize, tile: usize, result: TileResult) {
        let (plan, at) = (self.plan, &self.plan.placement);
        let group = self.group(block);
        let epilogue = &plan.epilogues[group];
        let (first, count) = self.pixels(block, tile);
        let mut done = 0;
        // A tile may cross from one image into the next.
        while done < count {
            let (image, pixel) = ((first + done) / plan.pixels, (first + done) % plan.pixels);
            let until = count.min(done + plan.pixels - pixel);
            let start = image * self.batch_stride + group * epilogue.columns * at.plane + pixel;
            // SAFETY: pixels of one image, in the planes of this group.
            unsafe {
                store_planes(simd, epilogue, result, done..until, self.out.get().add(start), at.plane, 1)
            };
            done = until;
        }
    }
}
