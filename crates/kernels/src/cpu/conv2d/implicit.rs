//! Implicit GEMM: pixels of an output row are the rows of the matrix product, read from a padded copy of the band.

use crate::cpu::conv2d::patches::{Correlation, Patches};
use crate::cpu::gemm::{self, Epilogue, Panels, Rows, Tile, TileResult, even_part, store_planes};
use crate::cpu::threads::SharedOut;
use crate::error::Result;
use crate::simd::{Isa, Simd};
use crate::tensor::{TensorView, TensorViewMut};

/// The padded copy of a band in f32 (384 KiB): with a slice of weights it stays within an L2 of 1 MiB.
const BAND_LEN: usize = 96 * 1024;

/// Where output (i, j) of a [`Correlation`] lies in its plane: `origin + i * row + j * column`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placement {
    /// Elements of a plane of the whole output.
    pub plane: usize,
    pub origin: usize,
    pub row: usize,
    pub column: usize,
}

/// A correlation by implicit GEMM, its weights packed: one [`Panels`] and one [`Epilogue`] per group.
#[derive(Debug, Clone)]
pub(crate) struct ImplicitGemm {
    output: [usize; 2],
    channels: usize,
    patches: Patches,
    band: usize,
    panels: Vec<Panels>,
    epilogues: Vec<Epilogue>,
    placement: Placement,
}

impl ImplicitGemm {
    pub fn new(
        op: &'static str,
        correlation: &Correlation,
        panels: Vec<Panels>,
        epilogues: Vec<Epilogue>,
        placement: Placement,
    ) -> Result<Self> {
        let height = correlation.output[0];
        // The copy grows with the band by about one row's share for each row.
        let one = Patches::new(op, correlation, 1)?.len();
        let two = Patches::new(op, correlation, 2)?.len();
        let most = 1 + BAND_LEN.saturating_sub(one) / (two - one).max(1);
        let bands = height.div_ceil(most.min(height));
        let band = height.div_ceil(bands);
        let patches = Patches::new(op, correlation, band)?;
        let (output, channels) = (correlation.output, correlation.channels);
        Ok(ImplicitGemm { output, channels, patches, band, panels, epilogues, placement })
    }

    /// f32 of scratch for each strand.
    pub fn strand_len(&self, isa: Isa) -> usize {
        let depth = self.patches.offsets().len();
        let out = SharedOut::new(std::ptr::null_mut());
        gemm::strand_len(isa, &self.rows(isa, TensorView::empty(), out, 0), depth)
    }

    /// Writes this correlation's outputs; those of other phases are left alone.
    ///
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
        let out = SharedOut::new(y.as_mut_ptr());
        let rows = self.rows(isa, x, out, batch_stride);
        // SAFETY: the copy holds what every offset reads from every output of the band; the outputs of a block are
        // its own rows, inside `y`, whose shape the plan checked.
        unsafe { gemm::run(isa, &rows, &self.panels, strands, scratch) };
    }

    fn rows<'a>(&'a self, isa: Isa, x: TensorView<'a>, out: SharedOut, batch_stride: usize) -> BandRows<'a> {
        let row_tiles = self.output[1].div_ceil(isa.tile().0);
        let bands = self.output[0].div_ceil(self.band);
        BandRows { plan: self, x, out, batch_stride, row_tiles, bands }
    }
}

/// The rows of one run. Blocks are bands: image by image, group by group, from the top.
struct BandRows<'a> {
    plan: &'a ImplicitGemm,
    x: TensorView<'a>,
    out: SharedOut,
    batch_stride: usize,
    row_tiles: usize,
    bands: usize,
}

impl BandRows<'_> {
    /// The first output row of a block, and how many it has.
    fn band(&self, block: usize) -> (usize, usize) {
        let first = block % self.bands * self.plan.band;
        (first, self.plan.band.min(self.plan.output[0] - first))
    }

    fn image(&self, block: usize) -> usize {
        block / self.bands / self.plan.panels.len()
    }
}

impl Rows for BandRows<'_> {
    fn blocks(&self) -> usize {
        self.x.shape().n * self.plan.panels.len() * self.bands
    }

    #[inline(always)]
    fn group(&self, block: usize) -> usize {
        block / self.bands % self.plan.panels.len()
    }

    fn load_len(&self) -> usize {
        self.plan.patches.len()
    }

    fn max_tiles(&self) -> usize {
        self.plan.band * self.row_tiles
    }

    #[inline(always)]
    fn offsets(&self) -> &[usize] {
        self.plan.patches.offsets()
    }

    #[inline(always)]
    fn load<S: Simd>(&self, _: S, block: usize, scratch: &mut [f32]) -> *const f32 {
        let (first, rows) = self.band(block);
        let shape = self.x.shape();
        let group = self.group(block) * self.plan.channels * shape.plane_len();
        self.plan.patches.copy(&self.x.image(self.image(block))[group..], first, rows, scratch);
        scratch.as_ptr()
    }

    #[inline(always)]
    fn tiles(&self, block: usize) -> usize {
        self.band(block).1 * self.row_tiles
    }

    #[inline(always)]
    fn tile(&self, _: usize, tile: usize) -> Tile {
        let (row, part) = (tile / self.row_tiles, tile % self.row_tiles);
        let (start, rows) = even_part(self.plan.output[1], self.row_tiles, part);
        Tile { start: row * self.plan.patches.row_stride() + start, rows }
    }

    #[inline(always)]
    unsafe fn store<S: Simd>(&self, simd: S, block: usize, tile: usize, result: TileResult) {
        let at = &self.plan.placement;
        let group = self.group(block);
        let epilogue = &self.plan.epilogues[group];
        let row = self.band(block).0 + tile / self.row_tiles;
        let (start, rows) = even_part(self.plan.output[1], self.row_tiles, tile % self.row_tiles);
        let first = self.image(block) * self.batch_stride
            + group * epilogue.columns * at.plane
            + at.origin
            + row * at.row
            + start * at.column;
        // SAFETY: pixels start..start + rows of an output row, in the planes of this group, of this image.
        unsafe {
            store_planes(simd, epilogue, result, 0..rows, self.out.get().add(first), at.plane, at.column)
        };
    }
}
