//! The gradient of a correlation to its weights: a matrix product over pixels.
//!
//! `gw[o][c][tap] = sum over images and outputs of gy[o][output] * x[c][what the tap reads for that output]`. The rows of the
//! product are the taps of all channels, its columns output channels, and `k` runs over the pixels of all images:
//!
//! ```text
//! for each chunk of the pixels                  images, or a band of rows of one image
//!     make a padded copy of x                   unless each pixel is read where it lies
//!     lay out gy as [panel of outputs][pixel][output]
//!     for each panel, for each span             a few tiles
//!         for each slice of the pixels          so that the panel's slice stays in L1
//!             for each tile                     some taps of some channels
//!                 accumulate                    the microkernel: each row is a place in the copy, lanes are outputs
//! ```
//!
//! Nothing is unfolded: what two taps read lies a constant distance apart, so that a row of the product is an address.
//!
//! Threads share out the spans, and chunks are as large as L3 allows. Where there are few spans and many pixels, as in the first
//! layers of a network, they share out the pixels instead: each of some parts has sums of its own, its chunks fit L2, and the
//! sums of the parts are added up in the end.
//!
//! Each tile is summed over a slice in registers, slices are added up in order, then parts, and the shape alone decides which
//! they are: the order of every sum is fixed, and its error grows with the length of a slice and the number of slices, not with
//! the number of pixels.

mod layout;
mod tiles;

use crate::cpu::Cpu;
use crate::cpu::conv2d::patches::Patches;
use crate::cpu::gemm::EvenParts;
use crate::cpu::gemm::kernel::most_rows;
use crate::cpu::plan::Description;
use crate::cpu::scratch::whole_lines;
use crate::cpu::threads::{self, SharedOut, for_each_item};
use crate::error::{Dims, Error, Result};
use crate::shape::Update;
use crate::shape::correlation::Correlation;
use crate::simd::Isa;
use crate::tensor::{TensorView, TensorViewMut, checked_product};
use layout::Layouts;
use tiles::{Finish, Spans};
pub(super) use tiles::{Weights, add_to, store};

/// The layouts of a chunk in f32 (8 MiB): a part of L3, and enough pixels to make the sums of a chunk pay for storing them.
const CHUNK_LEN: usize = 2 * 1024 * 1024;

/// Pixels of a slice: with AVX2 a panel's slice takes 16 KiB of L1, and the rows of a tile 6 KiB.
const SLICE: usize = 256;

/// The same where each thread has chunks of its own (256 KiB): half of L2.
const OWN_CHUNK_LEN: usize = 64 * 1024;

/// With so many spans or fewer, and so many pixels or more, the pixels are shared out, in so many parts at most.
const FEW_SPANS: usize = 16;
const MANY_PIXELS: usize = 8 * 1024;
const MOST_PARTS: usize = 32;

/// Tiles that share a panel's slice while it is in L1.
const TILES_OF_SPAN: usize = 8;

/// Multiply-adds of an item that computes several spans (about 20 us), as long as there are so many items.
const ITEM_PRODUCTS: usize = 1024 * 1024;
const ITEMS: usize = 32;

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
    /// Parts of the pixels that have sums of their own.
    parts: usize,
    /// Spans that an item computes, if there is one part.
    spans_of_item: usize,
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
        let tiles = checked_product(op, "rows", &[channels, taps.len()])?.div_ceil(most_rows(isa));
        let spans = checked_product(op, "panels", &[groups, panels, tiles.div_ceil(TILES_OF_SPAN)])?;
        let apart = spans <= FEW_SPANS && images.saturating_mul(output[0] * output[1]) >= MANY_PIXELS;
        let chunk_len = if apart { OWN_CHUNK_LEN } else { CHUNK_LEN };
        // They grow by the same amount with each row.
        let (one, two) = (layout_len(&reads(1)?, 1)?, layout_len(&reads(2)?, 2)?);
        let most = 1 + chunk_len.saturating_sub(one) / (two - one).max(1);
        let bands = output[0].div_ceil(most.min(output[0]));
        let band = output[0].div_ceil(bands);
        let reads = reads(band)?;
        let together = if bands > 1 { 1 } else { chunk_len / layout_len(&reads, band)?.max(1) };
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
            parts: 1,
            spans_of_item: 1,
            scratch_len: 0,
        };
        if apart {
            gradient.parts = gradient.chunks().clamp(1, MOST_PARTS);
        }
        let products = gradient.offsets.len() * gradient.span_len();
        gradient.spans_of_item = (ITEM_PRODUCTS / products.max(1)).clamp(1, (spans / ITEMS).max(1));

        checked_product(op, "panels", &[groups, panels, gradient.offsets.len(), width])?;
        let areas = checked_product(op, "layouts", &[gradient.areas(), gradient.area_len()])?;
        let sums = checked_product(op, "sums", &[gradient.sums(), gradient.span_len()])?;
        gradient.scratch_len = areas.checked_add(sums).ok_or(Error::Overflow {
            op,
            arg: "scratch",
            dims: Dims::new(&[areas, sums]),
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

    /// Spans of a panel.
    #[inline(always)]
    fn spans_of_panel(&self) -> usize {
        self.tiles.div_ceil(TILES_OF_SPAN)
    }

    /// Those of all panels of all groups.
    fn spans(&self) -> usize {
        self.groups * self.panels * self.spans_of_panel()
    }

    /// f32 of the sums of a span.
    #[inline(always)]
    fn span_len(&self) -> usize {
        TILES_OF_SPAN * Self::tile_len(self.cpu.isa())
    }

    /// Spans whose sums are kept at the same time.
    fn sums(&self) -> usize {
        match (self.parts, self.chunks()) {
            (1, 0 | 1) => self.strands,
            (parts, _) => parts * self.spans(),
        }
    }

    /// f32 of an image of x, or of its copy.
    fn image_len(&self) -> usize {
        self.groups * self.copy_len
    }

    /// f32 of the copies of a chunk.
    fn copies_len(&self) -> usize {
        whole_lines(self.together * self.image_len())
    }

    /// f32 of the layouts of a chunk.
    fn area_len(&self) -> usize {
        let (_, vectors) = self.cpu.isa().tile();
        let columns = self.groups * self.panels * vectors * self.cpu.isa().lanes();
        whole_lines(self.copies_len() + self.offsets.len() * columns)
    }

    /// Chunks that are laid out at the same time.
    fn areas(&self) -> usize {
        if self.parts > 1 { self.strands } else { 1 }
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
        let (areas, sums) = scratch.split_at_mut(self.areas() * self.area_len());
        let [areas, sums] = [areas, sums].map(|part| SharedOut::new(part.as_mut_ptr()));
        let to = Weights { first: SharedOut::new(gw.as_mut_ptr()), stride: gw.batch_stride(), update };
        let layouts = |chunk, area| {
            // SAFETY: there are so many areas.
            let area = unsafe { areas.get().add(area * self.area_len()) };
            Layouts::new(self, x, gy, self.chunk(chunk), area)
        };
        // SAFETY: there are sums of so many spans.
        let sums_at = |span| unsafe { sums.get().add(span * self.span_len()) };
        let add = |layouts: &Layouts<'_>, spans, sums, first, store| {
            isa.run(Spans {
                plan: self,
                spans,
                pixels: layouts.pixels(),
                rows: layouts.rows(),
                columns: layouts.columns(),
                sums: sums_at(sums),
                first,
                store,
            });
        };
        let (chunks, spans) = (self.chunks(), self.spans());
        if self.parts > 1 {
            let chunks_of = EvenParts::new(chunks, self.parts);
            for_each_item(self.strands, self.parts, |strand, part| {
                let (first, count) = chunks_of.part(part);
                for chunk in first..first + count {
                    let layouts = layouts(chunk, strand);
                    (0..layouts.items()).for_each(|item| layouts.lay_out(isa, item));
                    add(&layouts, 0..spans, part * spans, chunk == first, None);
                }
            });
            let stride = spans * self.span_len();
            let strands = threads::strands(&self.cpu, self.parts * stride).min(self.strands);
            for_each_item(strands, spans, |_, span| {
                isa.run(Finish { plan: self, span, sums: sums_at(span), stride, parts: self.parts, to });
            });
            return;
        }
        for chunk in 0..chunks {
            let layouts = layouts(chunk, 0);
            for_each_item(self.strands, layouts.items(), |_, item| layouts.lay_out(isa, item));
            for_each_item(self.strands, spans.div_ceil(self.spans_of_item), |strand, item| {
                let first = item * self.spans_of_item;
                let slot = if chunks > 1 { first } else { strand };
                let store = (chunk + 1 == chunks).then_some(to);
                let spans = first..spans.min(first + self.spans_of_item);
                add(&layouts, spans, slot, chunk == 0, store);
            });
        }
    }
}
