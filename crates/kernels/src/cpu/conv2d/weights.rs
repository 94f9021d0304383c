//! The gradient of a correlation to its weights: a matrix product over pixels.
//!
//! `gw[o][c][tap] = sum over images and outputs of gy[o][output] * x[c][what the tap reads for that output]`. The rows of the
//! product are channels, its columns output channels, and `k` runs over the pixels of all images:
//!
//! ```text
//! for each chunk of the pixels                  images, or a band of rows of one image: what L3 holds
//!     lay out x as [block of channels][position in the padded copy][channel]
//!     lay out gy as [panel of outputs][pixel][output]
//!     for each panel, for each few blocks       (an item for a thread)
//!         for each slice of the pixels          so that the panel's slice stays in L1
//!             for each block, for each tap      the rows of all taps are those of one layout, further on
//!                 accumulate                    the microkernel: rows are channels, lanes are outputs
//! ```
//!
//! With few channels a tile would have few rows: then `x` is unfolded, and the rows are channels x taps.
//!
//! Each tile is summed over a slice in registers, slices are added up in order, and no tile is shared: the order of every sum
//! is fixed, and its error grows with the length of a slice and the number of slices, not with the number of pixels.

use std::ops::Range;

use crate::cpu::Cpu;
use crate::cpu::conv2d::patches::Patches;
use crate::cpu::gemm::EvenParts;
use crate::cpu::gemm::kernel::{Part, accumulate};
use crate::cpu::plan::Description;
use crate::cpu::scratch::whole_lines;
use crate::cpu::threads::{self, SharedOut, for_each_item};
use crate::error::Result;
use crate::shape::Update;
use crate::shape::correlation::Correlation;
use crate::simd::{Isa, MAX_LANES, Simd, SimdOp};
use crate::tensor::{TensorView, TensorViewMut, checked_product};

/// The layouts of a chunk in f32 (8 MiB): a part of L3, and enough pixels to make the sums of a chunk pay for storing them.
const CHUNK_LEN: usize = 2 * 1024 * 1024;

/// Pixels of a slice: with AVX2 a panel's slice takes 16 KiB of L1, and the rows of a block 8 KiB.
const SLICE: usize = 256;

/// Tiles that share a panel's slice while it is in L1.
const TILES_OF_SLICE: usize = 8;

/// Positions of the layout that an item lays out at least, if there are so many: some microseconds.
const ITEM_POSITIONS: usize = 256;

/// What is to be computed.
#[derive(Clone, Copy)]
pub(crate) struct Spec<'a> {
    pub op: &'static str,
    pub images: usize,
    pub groups: usize,
    /// Output channels of a group.
    pub outputs: usize,
    pub correlation: &'a Correlation,
    /// Positions in the kernel.
    pub kernel: usize,
}

/// The gradient to the weights of a correlation: layouts and sizes, worked out once.
#[derive(Debug, Clone)]
pub(crate) struct WeightsGradient {
    cpu: Cpu,
    strands: usize,
    images: usize,
    groups: usize,
    /// Output channels of a group, and their panels.
    outputs: usize,
    panels: usize,
    /// Rows of the product in a group, in blocks of up to a tile.
    rows: EvenParts,
    blocks: usize,
    /// Blocks of an item.
    span: usize,
    reads: Reads,
    /// Where each tap of a row reads, in elements of a plane of the layout.
    taps: Vec<usize>,
    /// For each weight of a row, the tap that it belongs to, if that ever meets the input.
    weights: Vec<Option<usize>>,
    /// Extents of a plane of x, and of gy.
    input: [usize; 2],
    output: [usize; 2],
    /// Rows of a band; all of them if a chunk has whole images.
    band: usize,
    /// Images of a chunk.
    together: usize,
    /// Positions of a plane of the layout.
    plane: usize,
    /// Where the layout has what the first tap reads for each pixel of a chunk.
    offsets: Vec<usize>,
    scratch_len: usize,
}

/// How x is laid out.
#[derive(Debug, Clone)]
enum Reads {
    /// As it lies: the only tap reads each pixel for the output of the same place.
    Planes,
    /// From a padded copy of a block's channels.
    Copy(Patches),
    /// From a padded copy of all channels, a row for each tap of each.
    Unfolded(Patches),
}

/// A part of the pixels: some images, or some rows of one.
#[derive(Clone, Copy)]
struct Chunk {
    first_image: usize,
    images: usize,
    first_row: usize,
    rows: usize,
}

impl WeightsGradient {
    pub fn new(cpu: &Cpu, spec: Spec<'_>) -> Result<Self> {
        let Spec { op, images, groups, outputs, correlation, kernel } = spec;
        let isa = cpu.isa();
        let ((tile_rows, vectors), lanes) = (isa.tile(), isa.lanes());
        let Correlation { channels, input, output, step, ref taps } = *correlation;
        let as_it_lies = matches!(taps[..], [tap] if tap.at == [0, 0]) && step == [1, 1] && input == output;
        let unfolded = !as_it_lies && channels < 4 && taps.len() == kernel;
        let rows = if unfolded { channels * kernel } else { channels };
        let blocks = rows.div_ceil(tile_rows);
        let panels = outputs.div_ceil(vectors * lanes);
        let of_block = Correlation { channels: channels.min(tile_rows), ..correlation.clone() };
        let reads = |band: usize| -> Result<Reads> {
            Ok(match (as_it_lies, unfolded) {
                (true, _) => Reads::Planes,
                (_, true) => Reads::Unfolded(Patches::new(op, correlation, band)?),
                _ => Reads::Copy(Patches::new(op, &of_block, band)?),
            })
        };
        let plane = |reads: &Reads, band: usize| match reads {
            Reads::Copy(patches) => patches.plane_stride(),
            Reads::Planes | Reads::Unfolded(_) => band * output[1],
        };
        // f32 of both layouts for one image.
        let layout_len = |reads: &Reads, band: usize| -> Result<(usize, usize)> {
            let x = checked_product(op, "layout", &[groups, blocks, plane(reads, band), lanes])?;
            let gy = checked_product(op, "layout", &[groups, panels, band, output[1], vectors * lanes])?;
            Ok((x, gy))
        };
        // The layouts grow by the same amount with each row.
        let both = |band| layout_len(&reads(band)?, band).map(|(x, gy)| x.saturating_add(gy));
        let (one, two) = (both(1)?, both(2)?);
        let most = 1 + CHUNK_LEN.saturating_sub(one) / (two - one).max(1);
        let bands = output[0].div_ceil(most.min(output[0]));
        let band = output[0].div_ceil(bands);
        let reads = reads(band)?;
        let plane = plane(&reads, band);
        let (x_len, gy_len) = layout_len(&reads, band)?;
        let together =
            if bands > 1 { 1 } else { (CHUNK_LEN / (x_len + gy_len).max(1)).clamp(1, images.max(1)) };
        // Even chunks.
        let together = images.max(1).div_ceil(images.max(1).div_ceil(together));
        let (row_stride, taps, weights) = match &reads {
            Reads::Planes | Reads::Unfolded(_) => (output[1], vec![0], vec![Some(0)]),
            Reads::Copy(patches) => {
                let mut weights = vec![None; kernel];
                for (i, tap) in taps.iter().enumerate() {
                    weights[tap.index] = Some(i);
                }
                (patches.row_stride(), patches.offsets()[..taps.len()].to_vec(), weights)
            }
        };
        let weights = if as_it_lies && kernel > 1 {
            (0..kernel).map(|k| correlation.taps.iter().position(|tap| tap.index == k)).collect()
        } else {
            weights
        };
        let pixels = (0..together).flat_map(|image| {
            (0..band).flat_map(move |y| (0..output[1]).map(move |x| image * plane + y * row_stride + x))
        });
        let mut gradient = WeightsGradient {
            cpu: *cpu,
            strands: cpu.thread_count(),
            images,
            groups,
            outputs,
            panels,
            rows: EvenParts::new(rows, blocks),
            blocks,
            span: (TILES_OF_SLICE / taps.len().max(1)).clamp(1, blocks.max(1)),
            offsets: pixels.map(|position| position * lanes).collect(),
            reads,
            taps,
            weights,
            input,
            output,
            band,
            together,
            plane,
            scratch_len: 0,
        };
        let (x, gy) = (gradient.block_len(lanes), gradient.panel_len(lanes * vectors));
        let x = checked_product(op, "layout", &[groups, blocks, x])?;
        let gy = checked_product(op, "layout", &[groups, panels, gy])?;
        let strand = checked_product(op, "scratch", &[gradient.strands, gradient.strand_len(isa)])?;
        let slots = if gradient.chunks() > 1 { gradient.items() } else { gradient.strands };
        let sums = checked_product(op, "sums", &[slots, gradient.sums_len(isa)])?;
        gradient.scratch_len = [whole_lines(gy), strand, sums]
            .into_iter()
            .try_fold(whole_lines(x), usize::checked_add)
            .ok_or(crate::error::Error::Overflow {
                op,
                arg: "scratch",
                dims: crate::error::Dims::new(&[x, gy, strand, sums]),
            })?;
        Ok(gradient)
    }

    /// f32 of scratch that [`WeightsGradient::run`] needs.
    pub fn scratch_len(&self) -> usize {
        self.scratch_len
    }

    /// What was chosen, and why.
    pub fn describe(&self, op: &str) -> Description {
        let (algo, why) = match self.reads {
            Reads::Planes => ("pointwise", "the pixels as they lie are the sums of a matrix product"),
            Reads::Copy(_) => {
                ("implicit_gemm", "a matrix product over pixels, each tap further on in one padded copy")
            }
            Reads::Unfolded(_) => ("im2col", "few input channels: their taps are unfolded into full tiles"),
        };
        Description::new(op, algo, self.cpu.isa(), self.cpu.isa().tile(), why)
    }

    /// f32 of a block's rows.
    fn block_len(&self, lanes: usize) -> usize {
        self.together * self.plane * lanes
    }

    /// f32 of a panel, whose rows are `width` long.
    fn panel_len(&self, width: usize) -> usize {
        self.offsets.len() * width
    }

    /// f32 of a tile.
    fn tile_len(isa: Isa) -> usize {
        isa.tile().0 * isa.tile().1 * isa.lanes()
    }

    /// f32 that a strand needs to itself: a padded copy, and a tile.
    fn strand_len(&self, isa: Isa) -> usize {
        let copy = match &self.reads {
            Reads::Planes => 0,
            Reads::Copy(patches) | Reads::Unfolded(patches) => patches.len(),
        };
        whole_lines(copy) + Self::tile_len(isa)
    }

    /// f32 of an item's sums.
    fn sums_len(&self, isa: Isa) -> usize {
        self.span * self.taps.len() * Self::tile_len(isa)
    }

    fn bands(&self) -> usize {
        self.output[0].div_ceil(self.band)
    }

    fn chunks(&self) -> usize {
        self.images.div_ceil(self.together) * self.bands()
    }

    fn chunk(&self, chunk: usize) -> Chunk {
        let (part, band) = (chunk / self.bands(), chunk % self.bands());
        let (first_image, first_row) = (part * self.together, band * self.band);
        Chunk {
            first_image,
            images: self.together.min(self.images - first_image),
            first_row,
            rows: self.band.min(self.output[0] - first_row),
        }
    }

    /// A panel with some blocks of one group.
    fn items(&self) -> usize {
        self.groups * self.panels * self.blocks.div_ceil(self.span)
    }

    /// Computes the gradient, on as many threads as there are strands. `gw` has an image for each output channel, in each the
    /// weights of that channel.
    ///
    /// # Safety
    /// The views have the planned shapes.
    pub unsafe fn run(
        &self,
        x: TensorView<'_>,
        gy: TensorView<'_>,
        mut gw: TensorViewMut<'_>,
        update: Update,
        scratch: &mut [f32],
    ) {
        let isa = self.cpu.isa();
        let (lanes, width) = (isa.lanes(), isa.tile().1 * isa.lanes());
        if self.images == 0 || self.taps.is_empty() {
            if update == Update::Write {
                threads::for_each_chunk(&self.cpu, gw, threads::CHUNK, |_, _, part| part.fill(0.0));
            }
            return;
        }
        assert!(scratch.len() >= self.scratch_len, "the caller sized the scratch");
        let (x_area, rest) =
            scratch.split_at_mut(whole_lines(self.groups * self.blocks * self.block_len(lanes)));
        let (gy_area, rest) =
            rest.split_at_mut(whole_lines(self.groups * self.panels * self.panel_len(width)));
        let strand_len = self.strand_len(isa);
        let (strand_area, sums) = rest.split_at_mut(self.strands * strand_len);
        let (rows, columns) = (SharedOut::new(x_area.as_mut_ptr()), SharedOut::new(gy_area.as_mut_ptr()));
        let (own, sums) = (SharedOut::new(strand_area.as_mut_ptr()), SharedOut::new(sums.as_mut_ptr()));
        let out = SharedOut::new(gw.as_mut_ptr());
        let own = |strand: usize| {
            // SAFETY: strands have parts of their own, within the area that was split off for them.
            unsafe { std::slice::from_raw_parts_mut(own.get().add(strand * strand_len), strand_len) }
        };
        let of_image = match &self.reads {
            Reads::Unfolded(_) => self.groups,
            Reads::Planes | Reads::Copy(_) => self.groups * self.blocks,
        };
        // Tiny images several at a time, so that an item is worth its dispatch.
        let images_of_item = (ITEM_POSITIONS / self.plane.max(1)).max(1);
        let chunks = self.chunks();
        for c in 0..chunks {
            let chunk = self.chunk(c);
            let few = EvenParts::new(chunk.images, chunk.images.div_ceil(images_of_item));
            let parts = chunk.images.div_ceil(images_of_item);
            let (from_x, from_gy) = (of_image * parts, self.groups * self.panels * parts);
            for_each_item(self.strands, from_x + from_gy, |strand, item| {
                let (first, count) = few.part(item % parts);
                let images = first..first + count;
                if item < from_x {
                    let (part, copy) = (item / parts, own(strand));
                    isa.run(LayOutRows { plan: self, x, chunk, part, images, copy, rows: rows.get() });
                } else {
                    let panel = (item - from_x) / parts;
                    isa.run(LayOutColumns { plan: self, gy, chunk, panel, images, columns: columns.get() });
                }
            });
            for_each_item(self.strands, self.items(), |strand, item| {
                let slot = if chunks > 1 { item } else { strand };
                isa.run(Tiles {
                    plan: self,
                    chunk,
                    item,
                    rows: rows.get(),
                    columns: columns.get(),
                    // SAFETY: there is a slot for each item or, where an item is done at once, for each strand.
                    sums: unsafe { sums.get().add(slot * self.sums_len(isa)) },
                    tile: own(strand).as_mut_ptr(),
                    first: c == 0,
                    store: (c + 1 == chunks).then_some((out.get(), gw.batch_stride(), update)),
                });
            });
        }
    }
}

/// Writes `rows[i][j]` to `out[j * pitch + i]` for `j < count`; lanes beyond the rows are zeros.
///
/// # Safety
/// `count` f32 can be read at each of the rows, of which there are at most `LANES`, and whole vectors written.
#[inline(always)]
unsafe fn transpose_into<S: Simd>(simd: S, rows: &[*const f32], count: usize, out: *mut f32, pitch: usize) {
    for first in (0..count).step_by(S::LANES) {
        let mut square = [simd.splat(0.0); MAX_LANES];
        for (vector, row) in square.iter_mut().zip(rows) {
            // SAFETY: first < count, of which as many are left.
            *vector = unsafe { simd.load_up_to(row.add(first), count - first) };
        }
        simd.transpose(&mut square[..S::LANES]);
        for (j, vector) in square.iter().enumerate().take(S::LANES.min(count - first)) {
            // SAFETY: first + j < count.
            unsafe { simd.store(out.add((first + j) * pitch), *vector) };
        }
    }
}

/// Lays out the rows of some images: of one block or, unfolded, of all blocks of a group.
struct LayOutRows<'a> {
    plan: &'a WeightsGradient,
    x: TensorView<'a>,
    chunk: Chunk,
    /// The block among those of all groups, or the group.
    part: usize,
    /// The images among those of the chunk.
    images: Range<usize>,
    copy: &'a mut [f32],
    rows: *mut f32,
}

impl SimdOp for LayOutRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        for image in self.images.clone() {
            match &self.plan.reads {
                Reads::Planes | Reads::Copy(_) => self.block(simd, image),
                Reads::Unfolded(patches) => self.unfolded(simd, image, patches),
            }
        }
    }
}

impl LayOutRows<'_> {
    /// The layout from a position of an image on.
    fn to(&self, lanes: usize, block: usize, image: usize, position: usize) -> *mut f32 {
        let at = block * self.plan.block_len(lanes) + (image * self.plan.plane + position) * lanes;
        // SAFETY: the area holds the rows of every block, each with all planes of the chunk.
        unsafe { self.rows.add(at) }
    }

    #[inline(always)]
    fn block<S: Simd>(&mut self, simd: S, image: usize) {
        let LayOutRows { plan, x, chunk, part, .. } = *self;
        let input = plan.input[0] * plan.input[1];
        let (group, block) = (part / plan.blocks, part % plan.blocks);
        let (first, count) = plan.rows.part(block);
        let channels = x.shape().c / plan.groups;
        let source = &x.image(chunk.first_image + image)[(group * channels + first) * input..];
        let to = self.to(S::LANES, part, image, 0);
        let (base, stride, len) = match &plan.reads {
            Reads::Copy(patches) => {
                patches.copy_channels(simd, count, source, chunk.first_row, chunk.rows, self.copy);
                (self.copy.as_ptr(), plan.plane, plan.plane)
            }
            _ => {
                let start = chunk.first_row * plan.input[1];
                (source[start..].as_ptr(), input, chunk.rows * plan.input[1])
            }
        };
        if stride == 1 {
            // The channels of a single pixel lie as they are wanted.
            // SAFETY: `count` channels of the image; a whole vector of the layout.
            unsafe { simd.store(to, simd.load_up_to(base, count)) };
            return;
        }
        let mut from = [std::ptr::null::<f32>(); MAX_LANES];
        for (i, row) in from.iter_mut().enumerate().take(count) {
            *row = base.wrapping_add(i * stride);
        }
        // SAFETY: `len` elements of `count` planes of the copy, or of the image; the layout has as many positions.
        unsafe { transpose_into(simd, &from[..count], len, to, S::LANES) };
    }

    #[inline(always)]
    fn unfolded<S: Simd>(&mut self, simd: S, image: usize, patches: &Patches) {
        let LayOutRows { plan, x, chunk, part: group, .. } = *self;
        let channels = x.shape().c / plan.groups;
        let source = &x.image(chunk.first_image + image)[group * channels * plan.input[0] * plan.input[1]..];
        patches.copy(simd, source, chunk.first_row, chunk.rows, self.copy);
        let width = plan.output[1];
        let mut from = [std::ptr::null::<f32>(); MAX_LANES];
        for block in 0..plan.blocks {
            let (first, count) = plan.rows.part(block);
            for y in 0..chunk.rows {
                for (row, offset) in from.iter_mut().zip(&patches.offsets()[first..first + count]) {
                    *row = self.copy[offset + y * patches.row_stride()..].as_ptr();
                }
                let to = self.to(S::LANES, group * plan.blocks + block, image, y * width);
                // SAFETY: the copy holds what each tap reads for all outputs of the row; so many positions of the layout.
                unsafe { transpose_into(simd, &from[..count], width, to, S::LANES) };
            }
        }
    }
}

/// Lays out a panel of the gradients to some images.
struct LayOutColumns<'a> {
    plan: &'a WeightsGradient,
    gy: TensorView<'a>,
    chunk: Chunk,
    /// The panel among those of all groups.
    panel: usize,
    /// The images among those of the chunk.
    images: Range<usize>,
    columns: *mut f32,
}

impl SimdOp for LayOutColumns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let LayOutColumns { plan, gy, chunk, panel, images, columns } = self;
        let plane = plan.output[0] * plan.output[1];
        let (start, pixels) = (chunk.first_row * plan.output[1], chunk.rows * plan.output[1]);
        let (group, panel_of_group) = (panel / plan.panels, panel % plan.panels);
        let most = S::TILE.1 * S::LANES;
        let first = panel_of_group * most;
        let vectors = (plan.outputs - first).div_ceil(S::LANES).min(S::TILE.1);
        let pitch = vectors * S::LANES;
        let mut from = [std::ptr::null::<f32>(); MAX_LANES];
        for image in images {
            for v in 0..vectors {
                let count = S::LANES.min(plan.outputs - first - v * S::LANES);
                let channel = group * plan.outputs + first + v * S::LANES;
                let source = &gy.image(chunk.first_image + image)[channel * plane..(channel + count) * plane];
                // SAFETY: the area holds the panels of all groups, each with all pixels of the chunk.
                let to = unsafe {
                    columns.add(panel * plan.panel_len(most) + image * pixels * pitch + v * S::LANES)
                };
                if plane == 1 {
                    // The channels of a single pixel lie as they are wanted.
                    // SAFETY: `count` channels of the image; a whole vector of the layout.
                    unsafe { simd.store(to, simd.load_up_to(source.as_ptr(), count)) };
                    continue;
                }
                for (i, row) in from.iter_mut().enumerate().take(count) {
                    *row = source[i * plane + start..].as_ptr();
                }
                // SAFETY: `pixels` elements of `count` planes from the first row of the chunk on; as many rows of the panel.
                unsafe { transpose_into(simd, &from[..count], pixels, to, pitch) };
            }
        }
    }
}

/// One panel with a few blocks: sums over the pixels of a chunk and, after the last, the store.
struct Tiles<'a> {
    plan: &'a WeightsGradient,
    chunk: Chunk,
    item: usize,
    rows: *const f32,
    columns: *const f32,
    /// `[block][tap][row][output]`, each tile as large as the largest.
    sums: *mut f32,
    /// Room for a tile.
    tile: *mut f32,
    /// Whether this is the first chunk.
    first: bool,
    /// After the last chunk: the first weight, the elements from one output channel to the next, and what becomes of them.
    store: Option<(*mut f32, usize, Update)>,
}

impl SimdOp for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let plan = self.plan;
        let spans = plan.blocks.div_ceil(plan.span);
        let (panel, span) = (self.item / spans, self.item % spans);
        let group = panel / plan.panels;
        let first_column = panel % plan.panels * S::TILE.1 * S::LANES;
        let vectors = (plan.outputs - first_column).div_ceil(S::LANES).min(S::TILE.1);
        let pitch = vectors * S::LANES;
        let blocks = span * plan.span..plan.blocks.min((span + 1) * plan.span);
        let pixels = self.chunk.images * self.chunk.rows * plan.output[1];
        let slices = EvenParts::new(pixels, pixels.div_ceil(SLICE));
        let tile_len = S::TILE.0 * S::TILE.1 * S::LANES;
        for slice in 0..pixels.div_ceil(SLICE) {
            let (start, len) = slices.part(slice);
            let new = self.first && slice == 0;
            for (i, block) in blocks.clone().enumerate() {
                let count = plan.rows.part(block).1;
                for (t, tap) in plan.taps.iter().enumerate() {
                    // SAFETY: the layouts hold all pixels of the chunk for every block and panel; the sums hold a tile for
                    // each tap of each block of the span.
                    unsafe {
                        let rows = self
                            .rows
                            .add((group * plan.blocks + block) * plan.block_len(S::LANES) + tap * S::LANES);
                        let b =
                            self.columns.add(panel * plan.panel_len(S::TILE.1 * S::LANES) + start * pitch);
                        let sums = self.sums.add((i * plan.taps.len() + t) * tile_len);
                        let part = Part { offsets: &plan.offsets[start..start + len], b, first: true };
                        let to = if new { sums } else { self.tile };
                        accumulate(simd, count, vectors, rows, part, to);
                        if !new {
                            for v in 0..count * vectors {
                                let (sum, part) = (sums.add(v * S::LANES), self.tile.add(v * S::LANES));
                                simd.store(sum, simd.add(simd.load(sum), simd.load(part)));
                            }
                        }
                    }
                }
            }
        }
        if let Some((out, stride, update)) = self.store {
            for (i, block) in blocks.enumerate() {
                let (first_row, count) = plan.rows.part(block);
                let per_row = plan.weights.len();
                for v in 0..vectors {
                    let column = first_column + v * S::LANES;
                    let to = Weights {
                        // SAFETY: the weights of this row of this output channel.
                        first: unsafe {
                            out.add((group * plan.outputs + column) * stride + first_row * per_row)
                        },
                        stride,
                        outputs: S::LANES.min(plan.outputs - column),
                        update,
                    };
                    // SAFETY: the tiles of a block are `taps` tiles, their rows `pitch` apart; no other item has this block
                    // with this panel.
                    unsafe {
                        let sums = self.sums.add(i * plan.taps.len() * tile_len + v * S::LANES);
                        plan.store(simd, sums, pitch, tile_len, 0..count * per_row, to);
                    }
                }
            }
        }
    }
}

/// Where some rows of some output channels are stored.
#[derive(Clone, Copy)]
struct Weights {
    first: *mut f32,
    /// From one output channel to the next.
    stride: usize,
    outputs: usize,
    update: Update,
}

impl WeightsGradient {
    /// Stores weights `range` of a block, row by row, for a vector of output channels.
    ///
    /// # Safety
    /// `sums` holds a tile for each tap, `tile_len` apart, their rows `pitch` apart; the weights can be written (read, if they
    /// are added to).
    #[inline(always)]
    unsafe fn store<S: Simd>(
        &self,
        simd: S,
        sums: *const f32,
        pitch: usize,
        tile_len: usize,
        range: Range<usize>,
        to: Weights,
    ) {
        let per_row = self.weights.len();
        for first in range.clone().step_by(S::LANES) {
            let count = S::LANES.min(range.end - first);
            let mut square = [simd.splat(0.0); MAX_LANES];
            for (j, vector) in square.iter_mut().enumerate().take(count) {
                let (row, weight) = ((first + j) / per_row, (first + j) % per_row);
                if let Some(tap) = self.weights[weight] {
                    // SAFETY: the caller's promise.
                    *vector = unsafe { simd.load(sums.add(tap * tile_len + row * pitch)) };
                }
            }
            simd.transpose(&mut square[..S::LANES]);
            for (o, vector) in square.iter().enumerate().take(to.outputs) {
                // SAFETY: the caller's promise.
                unsafe {
                    let p = to.first.add(o * to.stride + first);
                    let values = match to.update {
                        Update::Write => *vector,
                        Update::Accumulate => simd.add(simd.load_up_to(p, count), *vector),
                    };
                    simd.store_up_to(p, count, values);
                }
            }
        }
    }
}
