//! Which tiles, points and phases compute a correlation.
//!
//! With a step of 2 the even rows of the input, counted from the first tap on, meet the first, third ... row of the kernel only,
//! the odd rows the others; so do columns. Each of these four *phases* of the kernel is a correlation of its own, with a step of
//! 1, of a quarter of the input; so it has tiles, and where the phases use the same points, their products are added up before
//! they are transformed back: one product, four times as deep.
//!
//! Of an odd kernel the second phase has a tap less. Its last tap is zero, and nothing else reaches the point at infinity: what
//! would be multiplied there is left out.

use std::ops::Range;

use crate::shape::correlation::Correlation;

/// The outputs of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tile {
    Two,
    Three,
    Four,
    Six,
}

/// Row phase and column phase: those that a point of infinity leaves out are at either end.
pub(super) const PHASES: [[usize; 2]; 4] = [[1, 1], [0, 1], [0, 0], [1, 0]];

#[derive(Debug, Clone, Copy)]
pub(super) struct Scheme {
    pub tile: Tile,
    /// Taps of a phase, in each dimension; the second may have one less.
    pub taps: usize,
    /// Inputs from one output to the next.
    pub step: usize,
    /// Rows, and columns, of the kernel.
    pub side: usize,
}

impl Scheme {
    /// The tiles for a correlation, if there are: those of the fewest taps that hold the kernel.
    pub fn new(correlation: &Correlation, tile: Tile) -> Option<Self> {
        let extent = |axis: usize| {
            let positions = || correlation.taps.iter().map(|tap| tap.at[axis]);
            positions().max().zip(positions().min()).map_or(0, |(last, first)| (last - first) as usize + 1)
        };
        let extent = extent(0).max(extent(1));
        let [step, of_columns] = correlation.step;
        let kernels: &[usize] = match (tile, step) {
            (Tile::Two | Tile::Four, 1) => &[3, 5],
            (Tile::Six, 1) => &[3],
            (Tile::Four, 2) => &[2, 3],
            (Tile::Three, 2) => &[4],
            _ => &[],
        };
        let taps = kernels.iter().copied().find(|taps| extent <= step * taps && step == of_columns)?;
        let side = extent.max(step * taps - (step - 1));
        Some(Scheme { tile, taps, step, side })
    }

    /// Rows, and columns, of outputs.
    pub fn outputs(&self) -> usize {
        match self.tile {
            Tile::Two => 2,
            Tile::Three => 3,
            Tile::Four => 4,
            Tile::Six => 6,
        }
    }

    /// Points of the transform, in each dimension.
    pub fn points(&self) -> usize {
        self.outputs() + self.taps - 1
    }

    /// Products of a tile and a channel: the points of all phases.
    pub fn products(&self) -> usize {
        self.points().pow(2) * self.phases()
    }

    /// Phases of the kernel.
    pub fn phases(&self) -> usize {
        self.step * self.step
    }

    /// Whether the second phase has a tap less.
    pub fn is_odd(&self) -> bool {
        self.side < self.step * self.taps
    }

    /// The row phase and the column phase, of [`Scheme::phases`].
    #[inline(always)]
    pub fn phase(&self, phase: usize) -> [usize; 2] {
        if self.step == 1 { [0, 0] } else { PHASES[phase] }
    }

    /// The phases that are multiplied at a point.
    #[inline(always)]
    pub fn phases_at(&self, [row, column]: [usize; 2]) -> Range<usize> {
        let infinity = self.points() - 1;
        match [row, column].map(|point| self.is_odd() && point == infinity) {
            [false, false] => 0..self.phases(),
            [true, false] => 1..3,
            [false, true] => 2..4,
            [true, true] => 2..3,
        }
    }

    /// Rows (or columns) of the input that so many tiles side by side read.
    pub fn inputs(&self, tiles: usize) -> usize {
        self.step * ((tiles.max(1) - 1) * self.outputs() + self.points()) - usize::from(self.is_odd())
    }
}
