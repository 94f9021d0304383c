//! The gradient to the weights.
//!
//! For a tile of `M x M` outputs a kernel of `R x R` has the gradient of a convolution: of the tile's inputs with the gradients of
//! its outputs, which are the kernel here, of `M x M`, as the gradient is the tile, of `R x R`. So the transforms of the
//! convolution serve, `G` with `M` taps and `A'` with `R` outputs; and as they are linear, the sum over all tiles comes before the
//! last:
//!
//! ```text
//! gw = A' [sum over tiles (B' x B) * (G gy G')] A
//!
//! for each block of tiles
//!     V[vector of channels][point][tile][channel]      B' x B
//!     U[panel of outputs][point][tile][output]         G gy G'
//!     for each span                                    some channels and some panels
//!         for each point                               a matrix product, channels x tiles times tiles x outputs
//!             sums[point] += V[point]' U[point]        the microkernel of cpu/gemm: each row is a channel
//! gw = A' sums A                                       transposed to [output][channel][tap]
//! ```
//!
//! Where the sums are few, they stay in the cache, and blocks are so small that they do too: threads share out the blocks, each of
//! some parts with sums of its own, added up in the end. Where there are many, blocks are large, that the sums be read and
//! written seldom, and threads share out the spans of one block after the other. The shape alone decides on blocks and parts:
//! the order of every sum is fixed.
//!
//! What is not finite is computed again by definition.

use std::marker::PhantomData;
use std::ops::Range;

use super::blocks::{Block, Blocks, Run};
use super::input::pack;
use super::transform::{Points, Points6, input_2d, output_2d, weights_2d};
use crate::cpu::Cpu;
use crate::cpu::conv2d::weights::{Spec, Weights, add_to, store};
use crate::cpu::gemm::EvenParts;
use crate::cpu::gemm::kernel::{Part, accumulate_rows, most_rows};
use crate::cpu::plan::Description;
use crate::cpu::scratch::{LINE, whole_lines};
use crate::cpu::threads::{SharedOut, for_each_item};
use crate::error::{Dims, Error, Result};
use crate::shape::{Accuracy, Conv2dAlgo, Update};
use crate::simd::{MAX_LANES, Simd, SimdOp};
use crate::tensor::{TensorView, TensorViewMut, checked_product};

/// f32 of sums that stay in a cache (1 MiB), and of the transformed operands of a block beside them.
const NEAR: usize = 256 * 1024;

/// The same of a block (16 MiB) whose sums do not.
const FAR: usize = 4 * 1024 * 1024;

/// The fewest and the most tiles of a block: enough to read and write the sums for, and so few that a point of a panel stays in L1.
const TILES: [usize; 2] = [32, 192];

/// Tiles, and channels, that pay for the transforms.
const LEAST_TILES: usize = 8;
const LEAST_CHANNELS: usize = 8;

/// Pixels whose sum has errors that those of the transforms do not treble.
const LEAST_PIXELS: usize = 128;

/// Tiles that are summed at a time, of few tiles and of more than [`FEW_TILES`]: for the same reason shorter sums than those over
/// pixels, whose errors are smaller the fewer there are.
const SLICES: [usize; 2] = [16, 32];
const FEW_TILES: usize = 64;

/// Parts of the blocks that have sums of their own.
const PARTS: usize = 16;

/// Channels and outputs of a span, at most: for each point they are read from L2 or beyond, and used so often.
const SPAN: [usize; 2] = [96, 64];

/// The gradient to the weights of a convolution of stride 1, 3x3 or 5x5: layouts and sizes, worked out once.
#[derive(Debug, Clone)]
pub(crate) struct WinogradGradient {
    cpu: Cpu,
    strands: usize,
    groups: usize,
    /// Channels of a group, in even register tiles.
    channels: usize,
    rows: EvenParts,
    tiles: usize,
    /// Outputs of a group, in panels.
    outputs: usize,
    panels: usize,
    /// Rows, and columns, of the kernel.
    side: usize,
    input: [usize; 2],
    output: [usize; 2],
    /// The input row and column that the first tap reads for output (0, 0).
    before: [isize; 2],
    blocks: Blocks,
    /// Where each tile of a block lies, in lanes.
    offsets: Vec<usize>,
    /// Tiles that are summed in registers, before they are added to others.
    slice: usize,
    /// Register tiles and panels of a span.
    span: [usize; 2],
    parts: usize,
    scratch_len: usize,
}

/// The rows of outputs of a tile, for a kernel of so many rows: with 6 points, which errors allow.
fn outputs_of_tile(side: usize) -> usize {
    POINTS + 1 - side
}

const POINTS: usize = 6;

impl WinogradGradient {
    /// Whether there are such tiles, the accuracy allows them, and they are ahead of the product over pixels.
    pub fn pays(cpu: &Cpu, spec: &Spec<'_>, accuracy: Accuracy) -> bool {
        let Spec { correlation, images, outputs, kernel, .. } = *spec;
        let (taps, side) = (&correlation.taps, kernel.isqrt());
        if !matches!(side, 3 | 5) || taps.len() != side * side || correlation.step != [1, 1] {
            return false;
        }
        let dense = taps.iter().enumerate().all(|(i, tap)| {
            let at = [i / side, i % side].map(|at| at as isize);
            tap.index == i && [0, 1].iter().all(|&axis| tap.at[axis] - taps[0].at[axis] == at[axis])
        });
        let of_all = |[rows, columns]: [usize; 2]| images.saturating_mul(rows).saturating_mul(columns);
        let tiles = of_all(correlation.output.map(|extent| extent.div_ceil(outputs_of_tile(side))));
        let enough = correlation.channels >= LEAST_CHANNELS && 2 * outputs >= cpu.isa().lanes();
        let precise = match accuracy {
            Accuracy::Exact => false,
            // Of 5x5, errors are up to six times those of sums over pixels.
            Accuracy::Default => side == 3 && of_all(correlation.output) >= LEAST_PIXELS,
            Accuracy::Fast => true,
        };
        dense && enough && tiles >= LEAST_TILES && precise
    }

    /// For what [`WinogradGradient::pays`] for.
    pub fn new(cpu: &Cpu, spec: &Spec<'_>, accuracy: Accuracy) -> Result<Self> {
        let Spec { op, images, groups, outputs, correlation, kernel } = *spec;
        let isa = cpu.isa();
        let (lanes, width, side) = (isa.lanes(), isa.tile().1 * isa.lanes(), kernel.isqrt());
        let channels = correlation.channels;
        let (tiles, panels) = (channels.div_ceil(most_rows(isa)), outputs.div_ceil(width));
        let all_tiles = checked_product(op, "sums", &[groups, panels, tiles])?;
        // f32 of the operands for a tile of the plane.
        let columns = channels.next_multiple_of(lanes) + panels * width;
        let of_tile = checked_product(op, "transformed operands", &[groups, columns, POINTS * POINTS])?;
        let sums = checked_product(op, "sums", &[groups, outputs, channels, POINTS * POINTS])?;
        let near = sums <= NEAR;
        let most = if near { NEAR } else { FAR } / of_tile.max(1);
        let blocks =
            Blocks::new(images, correlation.output, outputs_of_tile(side), most.clamp(TILES[0], TILES[1]));
        let strands = cpu.thread_count();
        let parts = if near { blocks.count().clamp(1, PARTS) } else { 1 };
        // Smaller spans, and as square as they can be, where some strands would have none.
        let mut span = [SPAN[0] / most_rows(isa), SPAN[1] / width].map(|n| n.max(1));
        let spans = |span: [usize; 2]| groups * panels.div_ceil(span[1]) * tiles.div_ceil(span[0]);
        while parts == 1 && strands > 1 && spans(span) < 2 * strands && span != [1, 1] {
            let axis =
                usize::from(span[0] == 1 || (span[1] > 1 && span[1] * width > span[0] * most_rows(isa)));
            span[axis] = span[axis].div_ceil(2);
        }
        let mut gradient = WinogradGradient {
            cpu: *cpu,
            strands,
            groups,
            channels,
            rows: EvenParts::new(channels, tiles),
            tiles,
            outputs,
            panels,
            side,
            input: correlation.input,
            output: correlation.output,
            before: correlation.taps[0].at,
            blocks,
            offsets: (0..blocks.most()[0]).map(|tile| tile * lanes).collect(),
            slice: match accuracy {
                Accuracy::Fast => TILES[1],
                _ => SLICES[usize::from(blocks.tiles() > FEW_TILES)],
            },
            span,
            parts,
            scratch_len: 0,
        };
        let operands = checked_product(op, "transformed operands", &[gradient.areas(), gradient.area_len()])?;
        let kept = if gradient.at_once() { strands * span[0] * span[1] } else { parts * all_tiles };
        let sums = checked_product(op, "sums", &[kept, gradient.tile_len()])?;
        let own = checked_product(op, "scratch", &[strands, gradient.own_len()])?;
        gradient.scratch_len = [sums, own]
            .into_iter()
            .try_fold(operands, usize::checked_add)
            .ok_or(Error::Overflow { op, arg: "scratch", dims: Dims::new(&[operands, sums, own]) })?;
        Ok(gradient)
    }

    /// f32 of scratch that [`WinogradGradient::run`] needs.
    pub fn scratch_len(&self) -> usize {
        self.scratch_len
    }

    /// The algorithm: that of the convolution with such tiles.
    pub fn algo(&self) -> Conv2dAlgo {
        if self.side == 3 { Conv2dAlgo::WinogradF4 } else { Conv2dAlgo::WinogradF2 }
    }

    /// What was chosen, and why.
    pub fn describe(&self, op: &str) -> Description {
        let isa = self.cpu.isa();
        let why = match self.side {
            3 => "3x3, stride 1: tiles of 4x4 by a quarter of the multiplications",
            _ => "5x5, stride 1: tiles of 2x2 by a third of the multiplications",
        };
        Description::new(op, self.algo().name(), isa, (most_rows(isa), isa.tile().1), why)
    }

    /// Whether each sum is complete after one block, and need not be kept.
    fn at_once(&self) -> bool {
        self.blocks.count() == 1
    }

    /// Vectors of the channels of a group.
    #[inline(always)]
    fn vectors(&self) -> usize {
        self.channels.div_ceil(self.cpu.isa().lanes())
    }

    /// Vectors of a panel: fewer in the last.
    #[inline(always)]
    fn vectors_of(&self, panel: usize) -> usize {
        let (_, vectors) = self.cpu.isa().tile();
        self.outputs.div_ceil(self.cpu.isa().lanes()).min((panel + 1) * vectors) - panel * vectors
    }

    /// f32 from one point to the next of so many vectors of each tile: an odd number of cache lines, so that the points of a tile do
    /// not fall into one set of a cache.
    #[inline(always)]
    fn point(&self, vectors: usize) -> usize {
        ((self.offsets.len() * vectors * self.cpu.isa().lanes()).div_ceil(LINE) | 1) * LINE
    }

    /// f32 of a vector of channels, and of a panel, transformed.
    #[inline(always)]
    fn operand_len(&self) -> [usize; 2] {
        [1, self.cpu.isa().tile().1].map(|vectors| POINTS * POINTS * self.point(vectors))
    }

    /// f32 of the operands of a block.
    fn area_len(&self) -> usize {
        let [vector, panel] = self.operand_len();
        self.groups * (self.vectors() * vector + self.panels * panel)
    }

    /// Blocks that are transformed at the same time.
    fn areas(&self) -> usize {
        if self.parts > 1 { self.strands } else { 1 }
    }

    /// f32 from one point to the next of a register tile of sums, as that of operands.
    #[inline(always)]
    fn tile_point(&self) -> usize {
        let isa = self.cpu.isa();
        ((most_rows(isa) * isa.tile().1 * isa.lanes()).div_ceil(LINE) | 1) * LINE
    }

    /// f32 of a register tile of sums, all points.
    #[inline(always)]
    fn tile_len(&self) -> usize {
        POINTS * POINTS * self.tile_point()
    }

    /// Rows and columns of pixels that so many tiles side by side have, of the gradient (`M` each), and of the input.
    fn pixels(&self, tiles: usize) -> [usize; 2] {
        let of_outputs = tiles.max(1) * outputs_of_tile(self.side);
        [of_outputs, of_outputs + self.side - 1]
    }

    /// Vectors of x and of gy to transform for each block.
    fn operands(&self) -> usize {
        self.groups * (self.vectors() + self.outputs.div_ceil(self.cpu.isa().lanes()))
    }

    /// Spans of a group: of its register tiles, and of its panels.
    fn spans_of_group(&self) -> [usize; 2] {
        [self.tiles.div_ceil(self.span[0]), self.panels.div_ceil(self.span[1])]
    }

    fn spans(&self) -> usize {
        self.groups * self.spans_of_group().iter().product::<usize>()
    }

    fn span(&self, span: usize) -> Span {
        let [by_tiles, by_panels] = self.spans_of_group();
        let (group, panels, tiles) =
            (span / (by_tiles * by_panels), span / by_tiles % by_panels, span % by_tiles);
        let range = |part: usize, of: usize, most: usize| part * of..most.min((part + 1) * of);
        Span {
            group,
            panels: range(panels, self.span[1], self.panels),
            tiles: range(tiles, self.span[0], self.tiles),
        }
    }

    /// f32 that each strand has for itself: pixels on their way to operands, or sums on their way to weights.
    fn own_len(&self) -> usize {
        let isa = self.cpu.isa();
        let [rows, columns] = [self.blocks.most_rows(), self.blocks.most()[1]].map(|n| self.pixels(n)[1]);
        let staged = self.side * self.side * most_rows(isa) * isa.tile().1;
        whole_lines(isa.lanes() * staged.max(rows * columns))
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
        assert!(scratch.len() >= self.scratch_len, "the caller sized the scratch");
        let (areas, rest) = scratch.split_at_mut(self.areas() * self.area_len());
        let (own, sums) = rest.split_at_mut(self.strands * self.own_len());
        let [areas, own, sums] = [areas, own, sums].map(|part| SharedOut::new(part.as_mut_ptr()));
        let to = Weights { first: SharedOut::new(gw.as_mut_ptr()), stride: gw.batch_stride(), update };
        let call = Call { plan: self, x, gy, to, areas, own, sums };
        match self.side {
            3 => call.run::<Points6, 4, 3>(),
            _ => call.run::<Points6, 2, 5>(),
        }
    }
}

/// One run.
struct Call<'a> {
    plan: &'a WinogradGradient,
    x: TensorView<'a>,
    gy: TensorView<'a>,
    to: Weights,
    /// Operands of blocks, scratch of strands, sums of register tiles.
    areas: SharedOut,
    own: SharedOut,
    sums: SharedOut,
}

/// Some register tiles of a group.
struct Span {
    group: usize,
    panels: Range<usize>,
    tiles: Range<usize>,
}

/// Where the sums of a span are: those of its first register tile, and how many lie from one panel to the next.
#[derive(Clone, Copy)]
struct Sums {
    first: *mut f32,
    panel: usize,
}

impl Call<'_> {
    fn run<P: Points<POINTS>, const M: usize, const R: usize>(&self) {
        let plan = self.plan;
        let (blocks, spans) = (plan.blocks.count(), plan.spans());
        if plan.parts > 1 {
            let blocks_of = EvenParts::new(blocks, plan.parts);
            for_each_item(plan.strands, plan.parts, |strand, part| {
                let (first, count) = blocks_of.part(part);
                for index in first..first + count {
                    let block = plan.blocks.block(index);
                    (0..plan.operands())
                        .for_each(|operand| self.load::<P, M>(&block, strand, strand, operand));
                    (0..spans).for_each(|span| self.add(&block, strand, strand, part, span, index == first));
                }
            });
            for_each_item(plan.strands, spans, |strand, span| self.finish::<P, R>(strand, span));
            return;
        }
        for index in 0..blocks {
            let block = plan.blocks.block(index);
            for_each_item(plan.strands, plan.operands(), |strand, operand| {
                self.load::<P, M>(&block, 0, strand, operand);
            });
            for_each_item(plan.strands, spans, |strand, span| {
                self.add(&block, 0, strand, 0, span, index == 0);
                if index + 1 == blocks {
                    self.finish::<P, R>(strand, span);
                }
            });
        }
    }

    /// The operands of a block: of x, and of gy.
    fn operands(&self, area: usize) -> [*mut f32; 2] {
        let (plan, [vector, _]) = (self.plan, self.plan.operand_len());
        let x = self.areas.get().wrapping_add(area * plan.area_len());
        [x, x.wrapping_add(plan.groups * plan.vectors() * vector)]
    }

    /// What a strand has for itself.
    fn own(&self, strand: usize) -> *mut f32 {
        self.own.get().wrapping_add(strand * self.plan.own_len())
    }

    /// The sums of a span.
    fn sums(&self, strand: usize, part: usize, span: &Span) -> Sums {
        let plan = self.plan;
        let (first, panel) = match plan.at_once() {
            true => (strand * plan.span[0] * plan.span[1], span.tiles.len()),
            false => {
                let panel = (part * plan.groups + span.group) * plan.panels + span.panels.start;
                (panel * plan.tiles + span.tiles.start, plan.tiles)
            }
        };
        Sums { first: self.sums.get().wrapping_add(first * plan.tile_len()), panel }
    }

    /// Transforms a vector of channels of x, or of gy.
    fn load<P: Points<POINTS>, const M: usize>(
        &self,
        block: &Block,
        area: usize,
        strand: usize,
        operand: usize,
    ) {
        let (plan, points) = (self.plan, PhantomData::<P>);
        let (isa, own) = (plan.cpu.isa(), self.own(strand));
        let [x, gy] = self.operands(area);
        let of_x = plan.groups * plan.vectors();
        match operand.checked_sub(of_x) {
            None => {
                let (group, vector) = (operand / plan.vectors(), operand % plan.vectors());
                let to = x.wrapping_add(operand * plan.operand_len()[0]);
                isa.run(Load::<P, M, true> { plan, from: self.x, block, group, vector, own, to, points });
            }
            Some(operand) => {
                let vectors = plan.outputs.div_ceil(isa.lanes());
                let (group, vector) = (operand / vectors, operand % vectors);
                let (panel, v) = (vector / isa.tile().1, vector % isa.tile().1);
                let to = (group * plan.panels + panel) * plan.operand_len()[1] + v * isa.lanes();
                let to = gy.wrapping_add(to);
                isa.run(Load::<P, M, false> { plan, from: self.gy, block, group, vector, own, to, points });
            }
        }
    }

    /// Adds the products of a block to the sums of a span.
    fn add(&self, block: &Block, area: usize, strand: usize, part: usize, span: usize, first: bool) {
        let (plan, span) = (self.plan, self.plan.span(span));
        let sums = self.sums(strand, part, &span);
        let operands = self.operands(area);
        plan.cpu.isa().run(Add { plan, tiles: block.tiles(), operands, span, sums, first });
    }

    /// Adds up the parts of a span, and writes its weights.
    fn finish<P: Points<POINTS>, const R: usize>(&self, strand: usize, span: usize) {
        let (plan, span) = (self.plan, self.plan.span(span));
        let sums = self.sums(strand, 0, &span);
        let own = self.own(strand);
        plan.cpu.isa().run(Finish::<P, R> { call: self, span, sums, own, points: PhantomData });
    }
}

/// Transforms a vector of channels of a block: of x to `[point][tile][lane]`, of gy so that those of a panel lie side by side.
struct Load<'a, P, const M: usize, const X: bool> {
    plan: &'a WinogradGradient,
    from: TensorView<'a>,
    block: &'a Block,
    group: usize,
    vector: usize,
    /// Room for the packed pixels.
    own: *mut f32,
    to: *mut f32,
    points: PhantomData<P>,
}

impl<P: Points<POINTS>, const M: usize, const X: bool> SimdOp for Load<'_, P, M, X> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Load { plan, from, block, group, vector, own, to, .. } = self;
        let first = vector * S::LANES;
        let (channels, extents, before, vectors) = match X {
            true => (plan.channels, plan.input, plan.before, 1),
            false => (plan.outputs, plan.output, [0; 2], plan.vectors_of(vector / S::TILE.1)),
        };
        let plane = extents[0] * extents[1];
        let count = S::LANES.min(channels - first);
        let columns = plan.pixels(block.columns)[usize::from(X)];
        let mut tile = 0;
        for run in block.runs() {
            let start = (group * channels + first) * plane;
            let planes = &from.image(run.image)[start..start + count * plane];
            let rows = plan.pixels(run.rows)[usize::from(X)];
            let corner = [run.row, block.column].map(|tile| (tile * M) as isize);
            let corner = [0, 1].map(|axis| corner[axis] + before[axis]);
            // SAFETY: room for the pixels of the longest run, which no other strand has meanwhile.
            let packed = unsafe { std::slice::from_raw_parts_mut(own, rows * columns * S::LANES) };
            pack(simd, planes, extents, corner, [rows, columns], packed);
            simd.vectorize(LoadRun::<P, M, X> {
                packed: own,
                pitch: columns * S::LANES,
                run,
                columns: block.columns,
                to: to.wrapping_add(tile * vectors * S::LANES),
                apart: vectors * S::LANES,
                point: plan.point(vectors),
                points: PhantomData,
            });
            tile += run.rows * block.columns;
        }
    }
}

/// Transforms the tiles of a run, one vector of channels of them.
struct LoadRun<P, const M: usize, const X: bool> {
    packed: *const f32,
    /// From one row to the next.
    pitch: usize,
    run: Run,
    columns: usize,
    to: *mut f32,
    /// From one tile to the next, and from one point to the next.
    apart: usize,
    point: usize,
    points: PhantomData<P>,
}

impl<P: Points<POINTS>, const M: usize, const X: bool> SimdOp for LoadRun<P, M, X> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let LoadRun { packed, pitch, run, columns, mut to, apart, point, .. } = self;
        for i in 0..run.rows {
            for j in 0..columns {
                // SAFETY: the packed pixels reach as far as the last tile reads; the operand has room for every tile of the block
                // at every point.
                unsafe {
                    let from = packed.add(i * M * pitch + j * M * S::LANES);
                    if X {
                        input_2d::<S, P, POINTS>(simd, from, [pitch, S::LANES], [false; 2], to, point);
                    } else {
                        weights_2d::<S, P, POINTS, M>(simd, from, [pitch, S::LANES], [M; 2], to, point);
                    }
                }
                to = to.wrapping_add(apart);
            }
        }
    }
}

/// Adds the products of the tiles of a block to the sums of a span.
struct Add<'a> {
    plan: &'a WinogradGradient,
    /// Of the block.
    tiles: usize,
    operands: [*mut f32; 2],
    span: Span,
    sums: Sums,
    /// Whether the sums start here.
    first: bool,
}

impl SimdOp for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Add { plan, tiles, operands: [x, gy], span, sums, first } = self;
        let [vector, panel_len] = plan.operand_len();
        let chain = tiles.div_ceil(tiles.div_ceil(plan.slice));
        let mut rows = [std::ptr::null(); MAX_LANES];
        for p in 0..POINTS * POINTS {
            for (i, panel) in span.panels.clone().enumerate() {
                let vectors = plan.vectors_of(panel);
                let b = (span.group * plan.panels + panel) * panel_len + p * plan.point(vectors);
                let b = gy.wrapping_add(b);
                let part = Part { offsets: &plan.offsets[..tiles], b, first, ahead: b };
                for (j, tile) in span.tiles.clone().enumerate() {
                    let (channel, count) = plan.rows.part(tile);
                    for (row, c) in rows.iter_mut().zip(channel..channel + count) {
                        let at = (span.group * plan.vectors() + c / S::LANES) * vector + p * plan.point(1);
                        *row = x.wrapping_add(at + c % S::LANES).cast_const();
                    }
                    let to = (i * sums.panel + j) * plan.tile_len() + p * plan.tile_point();
                    let to = sums.first.wrapping_add(to);
                    // SAFETY: the operands have every tile of the block at every point, the sums room for register tiles at
                    // every point.
                    unsafe { accumulate_rows(simd, &rows[..count], vectors, part, chain, to) };
                }
            }
        }
    }
}

/// Adds up the parts of a span, transforms it and writes it to the weights.
struct Finish<'a, P, const R: usize> {
    call: &'a Call<'a>,
    span: Span,
    sums: Sums,
    /// Room for the weights of a register tile.
    own: *mut f32,
    points: PhantomData<P>,
}

impl<P: Points<POINTS>, const R: usize> SimdOp for Finish<'_, P, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Finish { call, span, sums, own, .. } = self;
        let plan = call.plan;
        let apart = plan.groups * plan.panels * plan.tiles * plan.tile_len();
        for (i, panel) in span.panels.clone().enumerate() {
            let vectors = plan.vectors_of(panel);
            let output = panel * S::TILE.1 * S::LANES;
            let outputs = (plan.outputs - output).min(S::TILE.1 * S::LANES);
            let first_output = span.group * plan.outputs + output;
            for (j, tile) in span.tiles.clone().enumerate() {
                let sums = sums.first.wrapping_add((i * sums.panel + j) * plan.tile_len());
                let (channel, count) = plan.rows.part(tile);
                // SAFETY: each part has sums of this register tile, which nobody else reads or writes meanwhile; there is room
                // for its weights, and they are this span's alone.
                unsafe {
                    // By halves: few roundings for each.
                    let mut parts = plan.parts;
                    while parts > 1 {
                        let (half, behind) = (parts / 2, parts.div_ceil(2));
                        for part in 0..half {
                            let to = sums.add(part * apart);
                            add_to(simd, to, to.add(behind * apart), plan.tile_len());
                        }
                        parts = behind;
                    }
                    let point = plan.tile_point();
                    let sound = simd.vectorize(Transform::<P, R> {
                        sums,
                        point,
                        rows: count,
                        vectors,
                        own,
                        points: PhantomData,
                    });
                    if !sound {
                        let weights = std::slice::from_raw_parts_mut(own, count * R * R * vectors * S::LANES);
                        for (row, weights) in weights.chunks_exact_mut(R * R * vectors * S::LANES).enumerate()
                        {
                            let channel = span.group * plan.channels + channel + row;
                            call.repair(channel, first_output..first_output + outputs, weights);
                        }
                    }
                    let rows = channel * R * R..(channel + count) * R * R;
                    store(simd, own, rows, outputs, call.to.of_output(first_output), |row| row, true);
                }
            }
        }
    }
}

/// Transforms a register tile of sums to weights, `[channel][tap][output]`. Gives back whether all are finite.
struct Transform<P, const R: usize> {
    sums: *const f32,
    /// From one point to the next.
    point: usize,
    rows: usize,
    vectors: usize,
    own: *mut f32,
    points: PhantomData<P>,
}

impl<P: Points<POINTS>, const R: usize> SimdOp for Transform<P, R> {
    type Output = bool;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> bool {
        let Transform { sums, point, rows, vectors, own, .. } = self;
        // Zero as long as all are finite, NaN afterwards.
        let zero = simd.splat(0.0);
        let mut sound = zero;
        for row in 0..rows {
            for v in 0..vectors {
                // SAFETY: the register tile has a vector there at every point, and there is room for as many at every tap.
                unsafe {
                    let weights =
                        output_2d::<S, P, POINTS, R>(simd, sums.add((row * vectors + v) * S::LANES), point);
                    for (tap, &weight) in weights.as_flattened().iter().enumerate() {
                        sound = simd.mul_add(weight, zero, sound);
                        simd.store(own.add(((row * R * R + tap) * vectors + v) * S::LANES), weight);
                    }
                }
            }
        }
        simd.reduce_add(sound) == 0.0
    }
}

impl Call<'_> {
    /// A NaN or an infinity among the operands, and a sum that leaves f32 on its way, spread over all taps: those of an output
    /// with one that is not finite are computed again, by definition. `weights` are those of a channel and some outputs,
    /// `[tap][output]`.
    fn repair(&self, channel: usize, outputs: Range<usize>, weights: &mut [f32]) {
        let taps = self.plan.side * self.plan.side;
        let pitch = weights.len() / taps;
        for (i, output) in outputs.enumerate() {
            if (0..taps).any(|tap| !weights[tap * pitch + i].is_finite()) {
                (0..taps).for_each(|tap| weights[tap * pitch + i] = self.weight(channel, output, tap));
            }
        }
    }

    /// One weight's gradient.
    fn weight(&self, channel: usize, output: usize, tap: usize) -> f32 {
        let WinogradGradient { side, input: [height, width], output: [rows, columns], before, .. } =
            *self.plan;
        let mut sum = 0.0;
        for image in 0..self.x.shape().n {
            let x = &self.x.image(image)[channel * height * width..][..height * width];
            let gy = &self.gy.image(image)[output * rows * columns..][..rows * columns];
            let row = |i: usize| usize::try_from((i + tap / side) as isize + before[0]).ok();
            let column = |j: usize| usize::try_from((j + tap % side) as isize + before[1]).ok();
            for (i, line) in gy.chunks_exact(columns).enumerate() {
                let Some(y) = row(i).filter(|&y| y < height) else { continue };
                for (j, gy) in line.iter().enumerate() {
                    if let Some(x0) = column(j).filter(|&x| x < width) {
                        sum += gy * x[y * width + x0];
                    }
                }
            }
        }
        sum
    }
}
