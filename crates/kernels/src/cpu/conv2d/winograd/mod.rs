//! Winograd's convolution, with fewer multiplications than products.
//!
//! A tile of `M x M` outputs of a kernel of `R x R` needs `A x A` inputs, `A = M + R - 1`. Transformed, tile and kernel are
//! multiplied point by point, and the result is transformed back: 36 products instead of 144 for `M = 4`, `R = 3`. With a stride
//! of 2 that is done for each phase of the kernel: scheme.rs. The sums over the channels run between the
//! transforms, so for each of the `A * A` points they are a matrix product, tiles x channels times channels x outputs:
//!
//! ```text
//! for each block                              about 48 tiles: whole rows, of several images where they are small
//!     V[point][tile][channel] = B' x B        input.rs
//!     for each panel of output channels       2 vectors
//!         for each point                      the microkernel of cpu/gemm, U transformed when weights were set
//!             products[point] = V[point] U[point]
//!         y = A' products A                   output.rs, with bias and activation
//! ```
//!
//! Lanes are channels before the product, output channels behind it. There is no test for an edge in any loop: the input is
//! packed with zeros around it, and what lies beyond the output is not stored.
//!
//! Where there are fewer blocks than threads would need, all blocks are transformed first, then all panels of all blocks
//! multiplied.
//!
//! A kernel with fewer taps has zeros for the others. What is not finite is computed again directly: repair.rs.

mod blocks;
mod input;
mod output;
mod repair;
mod scheme;
mod transform;
mod weights;

use std::marker::PhantomData;
use std::ops::Range;

use self::blocks::{Block, Blocks, Run};
use self::input::TransformInput;
use self::output::{TransformOutput, staged_len};
use self::scheme::Scheme;
pub(crate) use self::scheme::Tile;
use self::transform::{Points, Points4, Points5, Points6, Points8};
use self::weights::Weights;
use crate::cpu::Cpu;
use crate::cpu::conv2d::engine::Spec;
use crate::cpu::gemm::kernel::{Part, VectorsApart, accumulate};
use crate::cpu::gemm::{Epilogue, EvenParts, Output, slice};
use crate::cpu::scratch::{LINE, whole_lines};
use crate::cpu::threads::{SharedOut, for_each_item};
use crate::error::{Error, Result};
use crate::shape::Update;
use crate::shape::correlation::{Correlation, Placement};
use crate::simd::{Isa, Simd, SimdOp};
use crate::tensor::{TensorView, TensorViewMut, checked_product};

/// Whether there are such tiles for a correlation.
pub(super) fn computes(correlation: &Correlation, tile: Tile) -> bool {
    Scheme::new(correlation, tile).is_some()
}

/// A correlation by Winograd's algorithm, its weights transformed.
#[derive(Debug, Clone)]
pub(crate) struct Winograd {
    isa: Isa,
    scheme: Scheme,
    input: [usize; 2],
    output: [usize; 2],
    /// The input row and column that the first tap reads for output (0, 0).
    before: [isize; 2],
    /// The position in the kernel of each tap of the scheme's square, where there is one.
    taps: Vec<Option<usize>>,
    channels: usize,
    blocks: Blocks,
    layout: Layout,
    offsets: Vec<usize>,
    weights: Weights,
    pub(super) epilogues: Vec<Epilogue>,
    placement: Placement,
    /// Strands, if they share all transformed inputs.
    shared: Option<usize>,
}

/// Where transformed inputs and products lie, in f32.
#[derive(Debug, Clone, Copy)]
struct Layout {
    /// Tiles of a full strip.
    rows: usize,
    /// From one strip to the next.
    strip: usize,
    /// From one point to the next of the transformed input.
    point: usize,
    /// From one point to the next of the products.
    products: usize,
    /// All points of the transformed input, and of the products of a panel.
    input_len: usize,
    products_len: usize,
}

impl Layout {
    fn new(op: &'static str, isa: Isa, scheme: Scheme, tiles: usize, channels: usize) -> Result<Self> {
        let ((rows, vectors), lanes, points) = (isa.tile(), isa.lanes(), scheme.points().pow(2));
        let depth = [scheme.phases(), channels.next_multiple_of(lanes), rows];
        let strip = checked_product(op, "channels", &depth)?;
        // An odd number of cache lines, so that the points of a tile do not fall into one set of a cache.
        let odd_lines = |len: usize| (len.div_ceil(LINE) | 1) * LINE;
        let point = odd_lines(checked_product(op, "transformed input", &[tiles.div_ceil(rows), strip])?);
        let products = odd_lines(tiles * vectors * lanes);
        Ok(Layout {
            rows,
            strip,
            point,
            products,
            input_len: checked_product(op, "transformed input", &[points, point])?,
            products_len: points * products,
        })
    }

    /// So many tiles, in strips.
    #[inline(always)]
    fn strips(&self, tiles: usize) -> EvenParts {
        EvenParts::new(tiles, tiles.div_ceil(self.rows))
    }
}

impl Winograd {
    /// With weights of zeros.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless [`computes`]; [`Error::Overflow`]; [`Error::OutOfMemory`].
    pub fn new(cpu: &Cpu, spec: &Spec<'_>, tile: Tile, epilogues: Vec<Epilogue>) -> Result<Self> {
        let Spec { op, images, groups, outputs, correlation, placement, .. } = *spec;
        let Correlation { channels, input, output, ref taps, .. } = *correlation;
        let (isa, lanes) = (cpu.isa(), cpu.isa().lanes());
        let scheme = Scheme::new(correlation, tile).ok_or(Error::invalid(
            op,
            "algorithm",
            "one that supports this shape",
            "Winograd's",
        ))?;
        let before = [0, 1].map(|axis| taps.iter().map(|tap| tap.at[axis]).min().unwrap_or(0));
        let mut grid = vec![None; scheme.side.pow(2)];
        for tap in taps {
            let [row, column] = [0, 1].map(|axis| (tap.at[axis] - before[axis]) as usize);
            grid[row * scheme.side + column] = Some(tap.index);
        }
        let blocks = Blocks::new(images, output, scheme.outputs());
        let layout = Layout::new(op, isa, scheme, blocks.most()[0], channels)?;
        let weights = Weights::new(op, isa, scheme, [groups, outputs, channels])?;
        // Of each phase whole vectors of channels.
        let vector = |phase, c| phase * channels.div_ceil(lanes) + c / lanes;
        let offset = |phase, c| vector(phase, c) * layout.rows * lanes + c % lanes;
        let of_phase = |phase| (0..channels).map(move |c| offset(phase, c));
        let offsets = (0..scheme.phases()).flat_map(of_phase).collect();
        let strands = cpu.thread_count();
        let few = blocks.count().saturating_mul(groups) < 2 * strands;
        Ok(Winograd {
            isa,
            scheme,
            input,
            output,
            before,
            taps: grid,
            channels,
            blocks,
            layout,
            offsets,
            weights,
            epilogues,
            placement,
            shared: (strands > 1 && few).then_some(strands),
        })
    }

    /// Vectors of channels.
    #[inline(always)]
    fn vectors(&self) -> usize {
        self.channels.div_ceil(self.isa.lanes())
    }

    /// The input row and column that the first tile of a run reads first.
    #[inline(always)]
    fn corner(&self, run: &Run, column: usize) -> [isize; 2] {
        let apart = self.scheme.step * self.scheme.outputs();
        [(run.row * apart) as isize + self.before[0], (column * apart) as isize + self.before[1]]
    }

    /// f32 of the packed input of a run.
    fn pack_len(&self) -> usize {
        let [rows, columns] = [self.blocks.most_rows(), self.blocks.most()[1]].map(|n| self.scheme.inputs(n));
        whole_lines(rows * columns * self.isa.lanes())
    }

    /// f32 of the products of a panel, and of what waits to be stored.
    fn multiply_len(&self) -> usize {
        self.layout.products_len + staged_len(self.scheme.outputs(), self.isa.lanes())
    }

    fn all_blocks(&self) -> usize {
        self.blocks.count() * self.epilogues.len()
    }

    /// f32 of scratch for each strand.
    pub fn strand_len(&self) -> usize {
        let shared = match self.shared {
            Some(strands) => (self.layout.input_len * self.all_blocks()).div_ceil(strands),
            None => self.layout.input_len,
        };
        whole_lines(shared) + self.pack_len() + whole_lines(self.multiply_len())
    }

    /// As [`crate::cpu::conv2d::engine::Engine::set_weights`].
    pub fn set_weights(&mut self, weight: impl Fn(usize, usize, usize, usize) -> f32 + Copy) {
        let (isa, taps, weights) = (self.isa, &self.taps, &mut self.weights);
        match (self.scheme.points(), self.scheme.taps) {
            (4, _) => weights.set::<Points4, 4, 3>(isa, taps, weight),
            (5, _) => weights.set::<Points5, 5, 2>(isa, taps, weight),
            (6, 3) => weights.set::<Points6, 6, 3>(isa, taps, weight),
            (6, 4) => weights.set::<Points6, 6, 4>(isa, taps, weight),
            (6, _) => weights.set::<Points6, 6, 5>(isa, taps, weight),
            (_, 3) => weights.set::<Points8, 8, 3>(isa, taps, weight),
            _ => weights.set::<Points8, 8, 5>(isa, taps, weight),
        }
    }

    /// Computes the convolution, on as many threads as there are strands.
    ///
    /// # Safety
    /// The views have the planned shapes.
    pub unsafe fn run(
        &self,
        x: TensorView<'_>,
        y: &mut TensorViewMut<'_>,
        update: Update,
        strands: usize,
        scratch: &mut [f32],
    ) {
        let out = Output::new(y, update);
        match (self.scheme.points(), self.scheme.outputs(), self.scheme.step) {
            (4, ..) => self.run_tiles::<Points4, 4, 2, 1>(x, out, strands, scratch),
            (5, ..) => self.run_tiles::<Points5, 5, 4, 2>(x, out, strands, scratch),
            (6, 2, _) => self.run_tiles::<Points6, 6, 2, 1>(x, out, strands, scratch),
            (6, 3, _) => self.run_tiles::<Points6, 6, 3, 2>(x, out, strands, scratch),
            (6, _, 1) => self.run_tiles::<Points6, 6, 4, 1>(x, out, strands, scratch),
            (6, ..) => self.run_tiles::<Points6, 6, 4, 2>(x, out, strands, scratch),
            (_, 4, _) => self.run_tiles::<Points8, 8, 4, 1>(x, out, strands, scratch),
            _ => self.run_tiles::<Points8, 8, 6, 1>(x, out, strands, scratch),
        }
    }

    fn run_tiles<P: Points<A>, const A: usize, const M: usize, const STEP: usize>(
        &self,
        x: TensorView<'_>,
        out: Output,
        strands: usize,
        scratch: &mut [f32],
    ) {
        let len = self.strand_len();
        assert!(scratch.len() >= strands * len, "the plan sized its scratch for {strands} strands");
        let (vectors, points) = (self.vectors(), PhantomData::<P>);
        let panels = self.weights.panels();
        let base = SharedOut::new(scratch.as_mut_ptr());
        let (pack_len, products_len, input_len) =
            (self.pack_len(), self.multiply_len(), self.layout.input_len);
        let blocks = self.all_blocks();
        let load = |block: &Block, channels, input: *mut f32, own: *mut f32| {
            // SAFETY: a strand's own part of the scratch.
            let packed = unsafe { std::slice::from_raw_parts_mut(own, pack_len) };
            let to = input;
            self.isa.run(TransformInput::<P, A, STEP> { plan: self, x, block, channels, packed, to, points });
        };
        let multiply = |block: &Block, panels, input: *mut f32, own: *mut f32| {
            // SAFETY: a strand's own part of the scratch, behind what is packed.
            let scratch = unsafe { std::slice::from_raw_parts_mut(own.add(pack_len), products_len) };
            let plan = self;
            self.isa.run(Multiply::<P, A, M> { plan, x, block, panels, input, scratch, out, points });
        };
        if self.shared.is_none() {
            for_each_item(strands, blocks, |strand, item| {
                let block = self.blocks.block(item);
                // SAFETY: strands have parts of their own, within the scratch as asserted.
                let input = unsafe { base.get().add(strand * len) };
                let own = input.wrapping_add(whole_lines(input_len));
                load(&block, 0..vectors, input, own);
                multiply(&block, 0..panels, input, own);
            });
            return;
        }
        // A few items for each strand, so that none waits long for the last.
        let chunks = |most: usize| (4 * strands).div_ceil(blocks.max(1)).min(most);
        // SAFETY: within the scratch, as its parts for all strands cover the inputs of all blocks.
        let input = |block: usize| unsafe { base.get().add(block * input_len) };
        let own = |strand: usize| {
            let own_len = pack_len + whole_lines(products_len);
            // SAFETY: behind the inputs, for each strand its own.
            unsafe { base.get().add(whole_lines(blocks * input_len) + strand * own_len) }
        };
        let parts = chunks(vectors);
        for_each_item(strands, blocks * parts, |strand, item| {
            let (first, count) = EvenParts::new(vectors, parts).part(item % parts);
            let block = item / parts;
            load(&self.blocks.block(block), first..first + count, input(block), own(strand));
        });
        let parts = chunks(panels);
        for_each_item(strands, blocks * parts, |strand, item| {
            let (first, count) = EvenParts::new(panels, parts).part(item % parts);
            let block = item / parts;
            multiply(&self.blocks.block(block), first..first + count, input(block), own(strand));
        });
    }
}

/// Some panels of a block whose input is transformed.
struct Multiply<'a, P, const A: usize, const M: usize> {
    plan: &'a Winograd,
    x: TensorView<'a>,
    block: &'a Block,
    panels: Range<usize>,
    input: *const f32,
    /// [`Winograd::multiply_len`] f32.
    scratch: &'a mut [f32],
    out: Output,
    points: PhantomData<P>,
}

impl<P: Points<A>, const A: usize, const M: usize> SimdOp for Multiply<'_, P, A, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Multiply { plan, x, block, panels, input, scratch, out, points } = self;
        let Layout { strip: strip_len, point, products, products_len, .. } = plan.layout;
        let (sums, staged) = scratch.split_at_mut(products_len);
        let sums = sums.as_mut_ptr();
        let tiles = block.tiles();
        let (strips, count) = (plan.layout.strips(tiles), tiles.div_ceil(plan.layout.rows));
        for panel in panels {
            let row = plan.weights.vectors(panel) * S::LANES;
            for p in 0..A * A {
                let phases = plan.scheme.phases_at([p / A, p % A]);
                let (first, end) = (phases.start * plan.channels, phases.end * plan.channels);
                let slice = slice(S::ISA, end - first);
                for k in (first..end).step_by(slice) {
                    let offsets = &plan.offsets[k..(k + slice).min(end)];
                    let b = plan.weights.point(block.group, panel, p)[k * row..].as_ptr();
                    let part = Part { offsets, b, first: k == first };
                    for strip in 0..count {
                        let (tile, rows) = strips.part(strip);
                        // SAFETY: the layout has room for every strip at every offset of a point, and for the sums of its
                        // tiles; the weights of a point have a row for each channel.
                        unsafe {
                            let a = VectorsApart(input.add(p * point + strip * strip_len));
                            accumulate(
                                simd,
                                rows,
                                row / S::LANES,
                                a,
                                part,
                                sums.add(p * products + tile * row),
                            );
                        }
                    }
                }
            }
            let products = sums.cast_const();
            TransformOutput::<P, A, M> { plan, x, block, panel, products, staged, out, points }.run(simd);
        }
    }
}
