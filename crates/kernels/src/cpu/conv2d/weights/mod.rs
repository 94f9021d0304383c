//! The gradient of a correlation to its weights: a matrix product over pixels.
//!
//! `gw[o][c][tap] = sum over images and outputs of gy[o][output] * x[c][what the tap reads for that output]`. The rows of the
//! product are the taps of all channels, its columns output channels, and `k` runs over the pixels of all images:
//!
//! ```text
//! for each chunk of the pixels                  images, or a band of rows of one image: what L3 holds
//!     make a padded copy of x                   unless each pixel is read where it lies
//!     lay out gy as [panel of outputs][pixel][output]
//!     for each panel, for each few tiles        (an item for a thread)
//!         for each slice of the pixels          so that the panel's slice stays in L1
//!             for each tile                     some taps of some channels
//!                 accumulate                    the microkernel: each row is a place in the copy, lanes are outputs
//! ```
//!
//! Nothing is unfolded: what two taps read lies a constant distance apart, so that a row of the product is an address.
//!
//! Each tile is summed over a slice in registers, slices are added up in order, and no tile is shared: the order of every sum
//! is fixed, and its error grows with the length of a slice and the number of slices, not with the number of pixels.

mod layout;

use std::ops::Range;

use crate::cpu::Cpu;
use crate::cpu::conv2d::patches::Patches;
use crate::cpu::gemm::EvenParts;
use crate::cpu::gemm::kernel::{Part, accumulate_rows, most_rows};
use crate::cpu::plan::Description;
use crate::cpu::scratch::whole_lines;
use crate::cpu::threads::{self, SharedOut, for_each_item};
use crate::error::Result;
use crate::shape::Update;
use crate::shape::correlation::Correlation;
use crate::simd::{Isa, MAX_LANES, Simd, SimdOp};
use crate::tensor::{TensorView, TensorViewMut, checked_product};
use layout::{Copies, CopiesItem, Panels, PanelsItem};

/// The layouts of a chunk in f32 (8 MiB): a part of L3, and enough pixels to make the sums of a chunk pay for storing them.
const CHUNK_LEN: usize = 2 * 1024 * 1024;

/// Pixels of a slice: with AVX2 a panel's slice takes 16 KiB of L1, and the rows of a tile 6 KiB.
const SLICE: usize = 256;

/// Tiles that share a panel's slice while it is in L1.
const TILES_OF_SLICE: usize = 8;

/// Elements that an item lays out at least, if there are so many: some microseconds.
const ITEM_LEN: usize = 4 * 1024;

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
    channels: usize,
    /// Rows of the product in a group, in even tiles.
    tiles: usize,
    rows: EvenParts,
    reads: Reads,
    /// Positions in the kernel, and that of each tap that ever meets the input.
    kernel: usize,
    taps: Vec<usize>,
    /// Where each row reads for the first output, within a group of one image.
    places: Vec<usize>,
    /// Where each pixel of a chunk is read, relative to the first.
    offsets: Vec<usize>,
    /// Extents of a plane of x, and of gy.
    input: [usize; 2],
    output: [usize; 2],
    /// Rows of a band; all of them if a chunk has whole images.
    band: usize,
    /// Images of a chunk.
    together: usize,
    /// f32 of the copy of a group of one image.
    copy_len: usize,
    scratch_len: usize,
}

/// Where x is read.
#[derive(Debug, Clone)]
enum Reads {
    /// Where it lies: the only tap reads each pixel for the output of the same place.
    Planes,
    /// In a padded copy.
    Copy(Patches),
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
        let Correlation { channels, input, output, step, ref taps } = *correlation;
        let width = isa.tile().1 * isa.lanes();
        let panels = outputs.div_ceil(width);
        let as_it_lies = matches!(taps[..], [tap] if tap.at == [0, 0]) && step == [1, 1] && input == output;
        let reads = |band: usize| -> Result<Reads> {
            Ok(if as_it_lies { Reads::Planes } else { Reads::Copy(Patches::new(op, correlation, band)?) })
        };
        // f32 of both layouts for a band of one image.
        let layout_len = |reads: &Reads, band: usize| -> Result<usize> {
            let x = match reads {
                Reads::Planes => checked_product(op, "input", &[groups, channels, band, output[1]])?,
                Reads::Copy(patches) => checked_product(op, "padded copy", &[groups, patches.len()])?,
            };
            let gy = checked_product(op, "panels", &[groups, panels, band, output[1], width])?;
            Ok(x.saturating_add(gy))
        };
        // They grow by the same amount with each row.
        let (one, two) = (layout_len(&reads(1)?, 1)?, layout_len(&reads(2)?, 2)?);
        let most = 1 + CHUNK_LEN.saturating_sub(one) / (two - one).max(1);
        let bands = output[0].div_ceil(most.min(output[0]));
        let band = output[0].div_ceil(bands);
        let reads = reads(band)?;
        let together = if bands > 1 { 1 } else { CHUNK_LEN / layout_len(&reads, band)?.max(1) };
        let chunks = images.div_ceil(together.clamp(1, images.max(1)));
        let together = images.div_ceil(chunks.max(1)).max(1);

        let (places, row_stride, copy_len) = match &reads {
            // Of a band no more than its rows, should they have to be copied.
            Reads::Planes => {
                let plane = input[0] * input[1];
                ((0..channels).map(|c| c * plane).collect(), input[1], channels * plane)
            }
            Reads::Copy(patches) => (patches.offsets().to_vec(), patches.row_stride(), patches.len()),
        };
        let image_len = checked_product(op, "padded copy", &[groups, copy_len])?;
        checked_product(op, "padded copies", &[together, image_len])?;
        let pixels = (0..together).flat_map(|image| {
            (0..band).flat_map(move |y| (0..output[1]).map(move |x| image * image_len + y * row_stride + x))
        });
        let tiles = places.len().div_ceil(most_rows(isa));
        let mut gradient = WeightsGradient {
            cpu: *cpu,
            strands: cpu.thread_count(),
            images,
            groups,
            outputs,
            panels,
            channels,
            tiles,
            rows: EvenParts::new(places.len(), tiles),
            reads,
            kernel,
            taps: taps.iter().map(|tap| tap.index).collect(),
            offsets: pixels.collect(),
            places,
            input,
            output,
            band,
            together,
            copy_len,
            scratch_len: 0,
        };
        let copies = checked_product(op, "padded copies", &[together, image_len])?;
        let panels = checked_product(op, "panels", &[groups, panels, gradient.offsets.len(), width])?;
        let tiles = checked_product(op, "scratch", &[gradient.strands, Self::tile_len(isa)])?;
        let slots = if gradient.chunks() > 1 { gradient.items() } else { gradient.strands };
        let sums = checked_product(op, "sums", &[slots, TILES_OF_SLICE, Self::tile_len(isa)])?;
        let parts = [whole_lines(copies), panels, tiles, sums];
        gradient.scratch_len =
            parts.into_iter().try_fold(0, usize::checked_add).ok_or(crate::error::Error::Overflow {
                op,
                arg: "scratch",
                dims: crate::error::Dims::new(&parts),
            })?;
        Ok(gradient)
    }

    /// f32 of scratch that [`WeightsGradient::run`] needs.
    pub fn scratch_len(&self) -> usize {
        self.scratch_len
    }

    /// What was chosen, and why.
    pub fn describe(&self, op: &str) -> Description {
        let isa = self.cpu.isa();
        let (algo, why) = match self.reads {
            Reads::Planes => ("pointwise", "a matrix product over the pixels as they lie"),
            Reads::Copy(_) => {
                ("implicit_gemm", "a matrix product over pixels, read from a padded copy without unfolding")
            }
        };
        Description::new(op, algo, isa, (most_rows(isa), isa.tile().1), why)
    }

    /// f32 of a tile of sums.
    fn tile_len(isa: Isa) -> usize {
        most_rows(isa) * isa.tile().1 * isa.lanes()
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

    /// Few tiles of a panel, for all panels of all groups.
    fn items(&self) -> usize {
        self.groups * self.panels * self.tiles.div_ceil(TILES_OF_SLICE)
    }

    /// Computes the gradient, on as many threads as there are strands. `gw` has an image for each output channel: the weights of
    /// that channel.
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
        let nothing = self.images == 0 || self.taps.is_empty();
        if update == Update::Write && (nothing || self.taps.len() < self.kernel) {
            // The weights that meet padding alone.
            threads::for_each_chunk(&self.cpu, gw.reborrow(), threads::CHUNK, |_, _, part| part.fill(0.0));
        }
        if nothing {
            return;
        }
        assert!(scratch.len() >= self.scratch_len, "the caller sized the scratch");
        let width = isa.tile().1 * isa.lanes();
        let image_len = self.groups * self.copy_len;
        let (copies, rest) = scratch.split_at_mut(whole_lines(self.together * image_len));
        let (columns, rest) = rest.split_at_mut(self.groups * self.panels * self.offsets.len() * width);
        let (tiles, sums) = rest.split_at_mut(self.strands * Self::tile_len(isa));
        let (copies, columns) = (SharedOut::new(copies.as_mut_ptr()), SharedOut::new(columns.as_mut_ptr()));
        let (tiles, sums) = (SharedOut::new(tiles.as_mut_ptr()), SharedOut::new(sums.as_mut_ptr()));
        let (out, stride) = (SharedOut::new(gw.as_mut_ptr()), gw.batch_stride());
        let in_place = matches!(self.reads, Reads::Planes) && x.batch_stride() == image_len;
        let chunks = self.chunks();
        for c in 0..chunks {
            let chunk = self.chunk(c);
            let panels = Panels { plan: self, gy, chunk, to: columns };
            let copies_of_x = Copies { plan: self, x, chunk, to: copies };
            let from_gy = panels.items();
            let from_x = if in_place { 0 } else { copies_of_x.items() };
            for_each_item(self.strands, from_gy + from_x, |_, item| match item.checked_sub(from_gy) {
                None => isa.run(PanelsItem(&panels, item)),
                Some(item) => isa.run(CopiesItem(&copies_of_x, item)),
            });
            let rows = if in_place {
                let start = chunk.first_image * image_len + chunk.first_row * self.input[1];
                x.as_ptr().wrapping_add(start)
            } else {
                copies.get().cast_const()
            };
            let rows = SharedOut::new(rows.cast_mut());
            for_each_item(self.strands, self.items(), |strand, item| {
                let slot = if chunks > 1 { item } else { strand };
                isa.run(Tiles {
                    plan: self,
                    pixels: chunk.images * chunk.rows * self.output[1],
                    item,
                    rows: rows.get(),
                    columns: columns.get(),
                    // SAFETY: there is a slot for each item or, where an item is done at once, for each strand.
                    sums: unsafe { sums.get().add(slot * TILES_OF_SLICE * Self::tile_len(isa)) },
                    // SAFETY: there is a tile for each strand.
                    tile: unsafe { tiles.get().add(strand * Self::tile_len(isa)) },
                    first: c == 0,
                    store: (c + 1 == chunks).then_some((out.get(), stride, update)),
                });
            });
        }
    }
}

/// A few tiles of a panel: sums over the pixels of a chunk and, after the last, the store.
struct Tiles<'a> {
    plan: &'a WeightsGradient,
    /// Pixels of the chunk.
    pixels: usize,
    item: usize,
    /// x or its copy, from the first row of the chunk on.
    rows: *const f32,
    columns: *const f32,
    /// `[row][output]`.
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
        let spans = plan.tiles.div_ceil(TILES_OF_SLICE);
        let (panel, span) = (self.item / spans, self.item % spans);
        let tiles = span * TILES_OF_SLICE..plan.tiles.min((span + 1) * TILES_OF_SLICE);
        let group = panel / plan.panels;
        let width = S::TILE.1 * S::LANES;
        let column = panel % plan.panels * width;
        let vectors = (plan.outputs - column).div_ceil(S::LANES).min(S::TILE.1);
        let pitch = vectors * S::LANES;
        let (first_row, (last, len)) = (plan.rows.part(tiles.start).0, plan.rows.part(tiles.end - 1));
        let end_row = last + len;
        let slices = self.pixels.div_ceil(SLICE);
        let even = EvenParts::new(self.pixels, slices);
        let mut rows = [std::ptr::null(); MAX_LANES];
        for slice in 0..slices {
            let (start, len) = even.part(slice);
            let new = self.first && slice == 0;
            // SAFETY: the layouts hold all pixels of the chunk for each row and panel, the sums `TILES_OF_SLICE` tiles.
            unsafe {
                let b = self.columns.add(panel * plan.offsets.len() * width + start * pitch);
                let part = Part { offsets: &plan.offsets[start..start + len], b, first: true };
                for tile in tiles.clone() {
                    let (first, count) = plan.rows.part(tile);
                    for (row, place) in rows.iter_mut().zip(&plan.places[first..first + count]) {
                        *row = self.rows.add(group * plan.copy_len + place);
                    }
                    let sums = self.sums.add((first - first_row) * pitch);
                    let to = if new { sums } else { self.tile };
                    accumulate_rows(simd, &rows[..count], vectors, part, to);
                    if !new {
                        for v in 0..count * vectors {
                            let (sum, part) = (sums.add(v * S::LANES), self.tile.add(v * S::LANES));
                            simd.store(sum, simd.add(simd.load(sum), simd.load(part)));
                        }
                    }
                }
            }
        }
        let Some((out, stride, update)) = self.store else { return };
        for v in 0..vectors {
            let column = column + v * S::LANES;
            let output = group * plan.outputs + column;
            // SAFETY: the weights of so many output channels; no other item has these rows of them.
            unsafe {
                let to = Weights {
                    first: out.add(output * stride),
                    stride,
                    outputs: S::LANES.min(plan.outputs - column),
                    update,
                };
                plan.store(simd, self.sums.add(v * S::LANES), pitch, first_row..end_row, to);
            }
        }
    }
}

/// Where some output channels are stored.
#[derive(Clone, Copy)]
struct Weights {
    first: *mut f32,
    /// From one output channel to the next.
    stride: usize,
    outputs: usize,
    update: Update,
}

impl WeightsGradient {
    /// Stores some rows for a vector of output channels.
    ///
    /// # Safety
    /// `sums` holds these rows, `pitch` apart; the weights can be written (read, if they are added to).
    #[inline(always)]
    unsafe fn store<S: Simd>(
        &self,
        simd: S,
        sums: *const f32,
        pitch: usize,
        rows: Range<usize>,
        to: Weights,
    ) {
        let accumulate = to.update == Update::Accumulate;
        let weight = |row: usize| row / self.taps.len() * self.kernel + self.taps[row % self.taps.len()];
        for first in rows.clone().step_by(S::LANES) {
            let count = S::LANES.min(rows.end - first);
            let mut square = [simd.splat(0.0); MAX_LANES];
            for (i, vector) in square.iter_mut().enumerate().take(count) {
                // SAFETY: one of the rows.
                *vector = unsafe { simd.load(sums.add((first - rows.start + i) * pitch)) };
            }
            simd.transpose(&mut square[..S::LANES]);
            for (o, vector) in square.iter().enumerate().take(to.outputs) {
                // SAFETY: weights of this output channel.
                unsafe {
                    let p = to.first.add(o * to.stride);
                    if self.taps.len() == self.kernel {
                        // Those of neighbouring rows are neighbours.
                        let p = p.add(first);
                        let sum =
                            if accumulate { simd.add(simd.load_up_to(p, count), *vector) } else { *vector };
                        simd.store_up_to(p, count, sum);
                    } else {
                        for (i, x) in simd.to_lanes(*vector).into_iter().enumerate().take(count) {
                            let p = p.add(weight(first + i));
                            *p = if accumulate { *p + x } else { x };
                        }
                    }
                }
            }
        }
    }
}

const _: () = assert!(MAX_LANES >= 12, "the rows of a tile");
