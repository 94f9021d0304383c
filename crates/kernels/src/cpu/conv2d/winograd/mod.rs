//! Winograd's convolution: 3x3 taps, stride 1, with fewer multiplications than products.
//!
//! A tile of `M x M` outputs needs `A x A` inputs, `A = M + 2`. Transformed, tile and kernel are multiplied point by point, and
//! the result is transformed back: 36 products instead of 144 for `M = 4`. The sums over the channels run between the
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
//! That order reads U once for each block. Where there is more of U than of V it is the other way round: all blocks are
//! transformed, then each panel meets all of them ([`Order`]). Then U need not be kept: a quarter of it, the weights as they are,
//! come from memory, and some channels of a panel are transformed in the cache, as they are needed.
//!
//! Lanes are channels before the product, output channels behind it. There is no test for an edge in any loop: the input is
//! packed with zeros around it, and what lies beyond the output is not stored.
//!
//! A kernel with fewer taps has zeros for the others. What is not finite is computed again directly: repair.rs.

mod blocks;
mod input;
mod output;
mod repair;
mod run;
mod transform;
mod weights;

use self::blocks::{Blocks, Run};
use self::output::staged_len;
use self::run::{Call, Own};
use self::transform::{F2, F4, F6};
use self::weights::{Kept, Weights};
use crate::cpu::Cpu;
use crate::cpu::conv2d::engine::{Filters, Spec};
use crate::cpu::gemm::{Epilogue, EvenParts, Output};
use crate::cpu::scratch::{LINE, whole_lines};
use crate::cpu::threads::SharedOut;
use crate::error::Result;
use crate::shape::Update;
use crate::shape::correlation::{Correlation, Placement};
use crate::simd::Isa;
use crate::tensor::{TensorView, TensorViewMut, checked_product};

/// Taps of a kernel.
const TAPS: usize = 9;

/// The outputs of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tile {
    Two,
    Four,
    Six,
}

impl Tile {
    /// Rows, and columns, of outputs.
    fn outputs(self) -> usize {
        match self {
            Tile::Two => 2,
            Tile::Four => 4,
            Tile::Six => 6,
        }
    }

    /// Points of the transform.
    fn points(self) -> usize {
        (self.outputs() + 2) * (self.outputs() + 2)
    }
}

/// Whether all taps lie in a square of three by three, and the outputs step by one.
pub(super) fn computes(correlation: &Correlation) -> bool {
    let within = |axis: usize| {
        let positions = || correlation.taps.iter().map(|tap| tap.at[axis]);
        positions().max().zip(positions().min()).is_none_or(|(last, first)| last - first < 3)
    };
    correlation.step == [1, 1] && within(0) && within(1)
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
    tile: Tile,
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
    fn new(op: &'static str, isa: Isa, points: usize, tiles: usize, channels: usize) -> Result<Self> {
        let ((rows, vectors), lanes) = (isa.tile(), isa.lanes());
        let strip = checked_product(op, "channels", &[channels.next_multiple_of(lanes), rows])?;
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

/// f32 of transformed weights (4 MiB) that are kept rather than found again, though each is used for few tiles.
const CACHED: usize = 1 << 20;

impl Winograd {
    /// With weights of zeros; or with none to keep, as they come with each run.
    pub fn new(cpu: &Cpu, spec: &Spec<'_>, tile: Tile, epilogues: Vec<Epilogue>, keep: bool) -> Result<Self> {
        let Spec { op, images, groups, outputs, correlation, placement, .. } = *spec;
        let Correlation { channels, input, output, ref taps, .. } = *correlation;
        let isa = cpu.isa();
        let before = [0, 1].map(|axis| taps.iter().map(|tap| tap.at[axis]).min().unwrap_or(0));
        let mut grid = [None; TAPS];
        for tap in taps {
            let [row, column] = [0, 1].map(|axis| (tap.at[axis] - before[axis]) as usize);
            grid[row * 3 + column] = Some(tap.index);
        }
        let blocks = Blocks::new(images, output, tile.outputs());
        let layout = Layout::new(op, isa, tile.points(), blocks.most()[0], channels)?;
        let strands = cpu.thread_count();
        let few_tiles = blocks.tiles() < outputs;
        let few_blocks = strands > 1 && blocks.count().saturating_mul(groups) < 2 * strands;
        let transformed = checked_product(op, "packed weights", &[groups, outputs, channels, tile.points()])?;
        let kept = match keep {
            false => Kept::Nothing,
            true if few_tiles && transformed > CACHED => Kept::Given,
            true => Kept::Transformed,
        };
        Ok(Winograd {
            isa,
            tile,
            input,
            output,
            before,
            channels,
            blocks,
            layout,
            offsets: (0..channels)
                .map(|c| c / isa.lanes() * layout.rows * isa.lanes() + c % isa.lanes())
                .collect(),
            weights: Weights::new(op, isa, tile, [groups, outputs, channels], grid, kept)?,
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

    /// The input row and column that the first tile of a run reads first.
    #[inline(always)]
    fn corner(&self, run: &Run, column: usize) -> [isize; 2] {
        let m = self.tile.outputs();
        [(run.row * m) as isize + self.before[0], (column * m) as isize + self.before[1]]
    }

    /// f32 of the packed input of a run.
    fn pack_len(&self) -> usize {
        let m = self.tile.outputs();
        whole_lines((self.blocks.most_rows() * m + 2) * (self.blocks.most()[1] * m + 2) * self.isa.lanes())
    }

    /// f32 of what waits to be stored.
    fn staged_len(&self) -> usize {
        whole_lines(staged_len(self.tile.outputs(), self.isa.lanes()))
    }

    /// Vectors of channels.
    fn vectors(&self) -> usize {
        self.channels.div_ceil(self.isa.lanes())
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
        match self.tile {
            Tile::Two => self.weights.set(F2, filters),
            Tile::Four => self.weights.set(F4, filters),
            Tile::Six => self.weights.set(F6, filters),
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
        match self.tile {
            Tile::Two => call.run::<F2, 4, 2>(shared),
            Tile::Four => call.run::<F4, 6, 4>(shared),
            Tile::Six => call.run::<F6, 8, 6>(shared),
        }
    }
}
