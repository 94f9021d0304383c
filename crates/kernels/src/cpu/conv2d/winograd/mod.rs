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
//!         for each point                      the microkernel of cpu/gemm, U = G w G' by weights.rs
//!             products[point] = V[point] U[point]
//!         y = A' products A                   output.rs, with bias and activation
//! ```
//!
//! Lanes are channels before the product, output channels behind it. There is no test for an edge in any loop: the input is
//! packed with zeros around it, and what lies beyond the output is not stored.
//!
//! That order reads U once for each block. Where there is more of U than of V it is the other way round, and where there are
//! fewer blocks than threads would need: all blocks are transformed, then each panel meets all of them ([`Order`]). Then U need
//! not be kept: a quarter of it, the weights as they are, come from memory, and some channels of a panel are transformed in the
//! cache, as they are needed.
//!
//! The gradient to the weights has transforms of the same points: gradient.rs.
//!
//! A kernel with fewer taps has zeros for the others. What is not finite is computed again directly: repair.rs.

mod blocks;
mod gradient;
mod input;
mod output;
mod repair;
mod run;
mod scheme;
mod transform;
mod weights;

use self::blocks::{Blocks, Run};
pub(super) use self::gradient::WinogradGradient;
use self::output::staged_len;
use self::run::{Call, Own};
use self::scheme::Scheme;
pub(crate) use self::scheme::Tile;
use self::transform::{Points4, Points5, Points6, Points8};
use self::weights::{Kept, Weights};
use crate::cpu::Cpu;
use crate::cpu::conv2d::engine::{Filters, Spec};
use crate::cpu::gemm::{Epilogue, EvenParts, Output};
use crate::cpu::scratch::{LINE, whole_lines};
use crate::cpu::threads::SharedOut;
use crate::error::{Error, Result};
use crate::shape::Update;
use crate::shape::correlation::{Correlation, Placement};
use crate::simd::Isa;
use crate::tensor::{TensorView, TensorViewMut, checked_product};

/// Whether there are such tiles for a correlation.
pub(super) fn computes(correlation: &Correlation, tile: Tile) -> bool {
    Scheme::new(correlation, tile).is_some()
}

/// What the outer loop goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// The transformed weights are all there, the inputs of one block at a time.
    Blocks,
    /// The transformed inputs are all there, the weights of one panel at a time.
    Panels,
}

/// A correlation by Winograd's algorithm.
#[derive(Debug, Clone)]
pub(crate) struct Winograd {
    isa: Isa,
    scheme: Scheme,
    input: [usize; 2],
    output: [usize; 2],
    /// The input row and column that the first tap reads for output (0, 0).
    before: [isize; 2],
    channels: usize,
    blocks: Blocks,
    layout: Layout,
    offsets: Vec<usize>,
    weights: Weights,
    pub(super) epilogues: Vec<Epilogue>,
    placement: Placement,
    order: Order,
    strands: usize,
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

/// Tiles that a block should have: enough that the transformed weights, which each block reads once, cost little, and so few
/// that its transformed inputs stay in the cache. 48 are eight full register tiles of AVX2.
const TILES: usize = 48;

/// f32 of transformed weights (4 MiB) that are kept rather than found again, though each is used for few tiles.
const FEW: usize = 1 << 20;

/// f32 of transformed weights (16 MiB) that come from memory for each block, rather than from a cache.
const MANY: usize = 4 << 20;

/// f32 of transformed inputs (6 MiB) that are near enough for each panel to meet all of them.
const NEAR: usize = 3 << 19;

impl Winograd {
    /// With weights of zeros; or with none to keep, as they come with each run.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless [`computes`]; [`Error::Overflow`]; [`Error::OutOfMemory`].
    pub fn new(cpu: &Cpu, spec: &Spec<'_>, tile: Tile, epilogues: Vec<Epilogue>, keep: bool) -> Result<Self> {
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
        let blocks = Blocks::new(images, output, scheme.outputs(), TILES);
        let layout = Layout::new(op, isa, scheme, blocks.most()[0], channels)?;
        // Of each phase whole vectors of channels.
        let vector = |phase, c| phase * channels.div_ceil(lanes) + c / lanes;
        let offset = |phase, c| vector(phase, c) * layout.rows * lanes + c % lanes;
        let of_phase = |phase| (0..channels).map(move |c| offset(phase, c));
        let offsets = (0..scheme.phases()).flat_map(of_phase).collect();
        let strands = cpu.thread_count();
        let transformed =
            checked_product(op, "packed weights", &[groups, outputs, channels, scheme.products()])?;
        // Panel by panel 256,56x56 -> 256, whose weights fit a cache, loses a fifth, and so does 1024,32x32 -> 512, whose
        // inputs do not; 512,32x32 -> 512 gains a tenth (AVX2).
        let near = layout.input_len.saturating_mul(blocks.count()) <= NEAR;
        let few_tiles = blocks.tiles() < outputs && (blocks.count() == 1 || (transformed > MANY && near));
        let few_blocks = strands > 1 && blocks.count().saturating_mul(groups) < 2 * strands;
        let kept = match keep {
            false => Kept::Nothing,
            true if few_tiles && transformed > FEW && scheme.phases() == 1 => Kept::Given,
            true => Kept::Transformed,
        };
        Ok(Winograd {
            isa,
            scheme,
            input,
            output,
            before,
            channels,
            blocks,
            layout,
            offsets,
            weights: Weights::new(op, isa, scheme, [groups, outputs, channels], grid, kept)?,
            epilogues,
            placement,
            order: if few_tiles || few_blocks { Order::Panels } else { Order::Blocks },
            strands,
        })
    }

    /// Whether it runs without being given weights.
    pub fn keeps_weights(&self) -> bool {
        self.weights.kept() != Kept::Nothing
    }

    /// Rows of the weights of a point: channels of all phases.
    fn rows(&self) -> usize {
        self.scheme.phases() * self.channels
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

    /// f32 of what waits to be stored.
    fn staged_len(&self) -> usize {
        whole_lines(staged_len(self.scheme.outputs(), self.isa.lanes()))
    }

    fn all_blocks(&self) -> usize {
        self.blocks.count() * self.epilogues.len()
    }

    /// How many blocks have products at the same time: all that a panel meets, if it meets them slice by slice.
    fn blocks_at_once(&self) -> usize {
        if self.weights.slices().1 == 1 { 1 } else { self.blocks.count() }
    }

    /// f32 of scratch that all strands share: transformed inputs, or weights that the plan does not keep.
    fn shared_len(&self) -> usize {
        match self.order {
            Order::Panels => whole_lines(self.layout.input_len * self.all_blocks()),
            Order::Blocks if self.keeps_weights() => 0,
            Order::Blocks => self.weights.all_len().iter().sum(),
        }
    }

    /// f32 of scratch that each strand has for itself.
    fn own_len(&self) -> usize {
        match self.order {
            Order::Blocks => {
                let input_len = whole_lines(self.layout.input_len);
                input_len + self.pack_len() + self.layout.products_len + self.staged_len()
            }
            Order::Panels => {
                let products_len = self.layout.products_len * self.blocks_at_once();
                let weights_len: usize = self.weights.panel_len().iter().sum();
                self.pack_len().max(weights_len + products_len + self.staged_len())
            }
        }
    }

    /// f32 of scratch for each strand.
    pub fn strand_len(&self) -> usize {
        whole_lines(self.shared_len().div_ceil(self.strands)) + self.own_len()
    }

    /// Takes new weights, if it keeps any.
    pub fn set_weights(&mut self, filters: Filters<'_>) {
        match (self.scheme.points(), self.scheme.taps) {
            (4, _) => self.weights.set::<Points4, 4, 3>(filters),
            (5, _) => self.weights.set::<Points5, 5, 2>(filters),
            (6, 3) => self.weights.set::<Points6, 6, 3>(filters),
            (6, 4) => self.weights.set::<Points6, 6, 4>(filters),
            (6, _) => self.weights.set::<Points6, 6, 5>(filters),
            (_, 3) => self.weights.set::<Points8, 8, 3>(filters),
            _ => self.weights.set::<Points8, 8, 5>(filters),
        }
    }

    /// Computes the convolution, on as many threads as there are strands; with these weights, if it keeps none.
    ///
    /// # Safety
    /// The views have the planned shapes, and the filters those of the specification.
    pub unsafe fn run(
        &self,
        filters: Option<Filters<'_>>,
        x: TensorView<'_>,
        y: &mut TensorViewMut<'_>,
        update: Update,
        strands: usize,
        scratch: &mut [f32],
    ) {
        assert!(filters.is_some() != self.keeps_weights(), "weights are kept, or given");
        let strands = strands.min(self.strands);
        assert!(
            scratch.len() >= self.strands * self.strand_len(),
            "the plan sized its scratch for all strands"
        );
        let (shared, own) = scratch.split_at_mut(self.shared_len());
        let own = Own { base: SharedOut::new(own.as_mut_ptr()), len: self.own_len() };
        let call = Call { plan: self, filters, x, out: Output::new(y, update), strands, own };
        match (self.scheme.points(), self.scheme.taps, self.scheme.step) {
            (4, ..) => call.run::<Points4, 4, 3, 2, 1>(shared),
            (5, ..) => call.run::<Points5, 5, 2, 4, 2>(shared),
            (6, 3, 1) => call.run::<Points6, 6, 3, 4, 1>(shared),
            (6, 3, _) => call.run::<Points6, 6, 3, 4, 2>(shared),
            (6, 4, _) => call.run::<Points6, 6, 4, 3, 2>(shared),
            (6, ..) => call.run::<Points6, 6, 5, 2, 1>(shared),
            (_, 3, _) => call.run::<Points8, 8, 3, 6, 1>(shared),
            _ => call.run::<Points8, 8, 5, 4, 1>(shared),
        }
    }
}
