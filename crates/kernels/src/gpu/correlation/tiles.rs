//! Correlations of images larger than what one dispatch can reach: the output in
//! tiles, each computed as if it were an image of its own, from a copy of the part of the input that it needs (with zeros for
//! what lies outside).
//!
//! So no kernel knows of it, and a tile holds as much as one dispatch reaches: whole rows or, where all channels of a row are
//! too many, columns of one.

use std::ops::Range;

use crate::error::Result;
use crate::gpu::Gpu;
use crate::gpu::buffer::{GpuTensor, GpuView, GpuViewMut};
use crate::gpu::parts::{most, pieces, too_large};
use crate::shape::Update;
use crate::shape::correlation::{Correlation, Placement, Tap};
use crate::tensor::Shape4;

/// What outputs along an axis need: those from `first` on, which is a multiple of `unit`, need the inputs from
/// `origin + first / unit * step` on, and `n` units of them need `(n - 1) * step + reach`.
///
/// A convolution steps over inputs, one output a unit; the outputs of a transposed one that share inputs are a unit.
#[derive(Debug, Clone, Copy)]
struct Axis {
    outputs: usize,
    origin: isize,
    step: usize,
    unit: usize,
    reach: usize,
}

impl Axis {
    /// That of correlations which make one output of `extent` together.
    fn new(axis: usize, extent: [usize; 2], correlations: &[(Correlation, Placement)]) -> Self {
        let taps =
            || correlations.iter().flat_map(|(correlation, _)| &correlation.taps).map(|tap| tap.at[axis]);
        let (first, last) = (taps().min().unwrap_or(0), taps().max().unwrap_or(0));
        // Those without taps reach nothing, step where they like.
        let with_taps = || correlations.iter().filter(|(correlation, _)| !correlation.taps.is_empty());
        Axis {
            outputs: extent[axis],
            origin: first,
            step: with_taps().map(|(correlation, _)| correlation.step[axis]).max().unwrap_or(1),
            unit: correlations
                .iter()
                .map(|(_, place)| Place::of(*place, extent).unit[axis])
                .max()
                .unwrap_or(1),
            reach: first.abs_diff(last) + 1,
        }
    }

    /// How many inputs `outputs` of them need.
    fn inputs(&self, outputs: usize) -> usize {
        (outputs.div_ceil(self.unit) - 1).saturating_mul(self.step).saturating_add(self.reach)
    }

    /// The first input that the outputs from `first` on need.
    fn first_input(&self, first: usize) -> isize {
        self.origin.saturating_add_unsigned(first / self.unit * self.step)
    }

    /// The outputs of so many units.
    fn of_units(&self, units: usize) -> usize {
        self.outputs.min(units.saturating_mul(self.unit))
    }

    fn units(&self) -> usize {
        self.outputs.div_ceil(self.unit)
    }
}

/// A [`Placement`] in rows and columns.
struct Place {
    first: [usize; 2],
    unit: [usize; 2],
}

impl Place {
    fn of(placement: Placement, [_, width]: [usize; 2]) -> Self {
        let Placement { origin, row, column, .. } = placement;
        Place { first: [origin / width, origin % width], unit: [row / width, column] }
    }
}

/// How an operator is cut into tiles.
#[derive(Debug, Clone)]
pub(in crate::gpu) struct Tiles {
    axes: [Axis; 2],
    /// A tile of the input, and of the output; of one image.
    input: Shape4,
    output: Shape4,
}

impl Tiles {
    /// Correlations of an image of `input` channels, rows and columns, which make one of `output` together: `None`, if one
    /// dispatch reaches both, or what they have of a group or of a channel where all channels are too many; else the tiles,
    /// and the correlations become those of a tile.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if no dispatch can reach what one output needs of a channel.
    pub fn cut(
        gpu: &Gpu,
        op: &'static str,
        input: Shape4,
        output: Shape4,
        correlations: &mut [(Correlation, Placement)],
    ) -> Result<Option<Self>> {
        let extent = [output.h, output.w];
        let axes = [0, 1].map(|axis| Axis::new(axis, extent, correlations));
        let of_a_group = correlations.first().map_or(0, |(correlation, _)| correlation.channels);
        let groups = input.c.checked_div(of_a_group).unwrap_or(1).max(1);
        // Of all channels; or, if those that one output needs are too many, of those of a group, of which a dispatch then
        // has one; or as if there were one: then a dispatch has some, and they are added up.
        let mut largest = None;
        for channels in [[input.c, output.c], [input.c / groups, output.c / groups], [1, 1]] {
            if (channels[0] * input.plane_len()).max(channels[1] * output.plane_len()) <= gpu.reach() {
                return Ok(None);
            }
            largest = Self::largest(gpu, axes, channels);
            if largest.is_some() {
                break;
            }
        }
        let Some([rows, columns]) = largest else {
            let [height, width] = axes.map(|axis| axis.inputs(1));
            let needed = height.saturating_mul(width).max(axes[0].of_units(1) * axes[1].of_units(1));
            return Err(too_large(op, "elements of a window on this GPU", gpu.reach(), needed));
        };
        let inputs = Shape4::new(1, input.c, axes[0].inputs(rows), axes[1].inputs(columns));
        let tiles = Tiles { axes, input: inputs, output: Shape4::new(1, output.c, rows, columns) };
        for (correlation, placement) in correlations {
            tiles.fit(correlation, placement, extent);
        }
        Ok(Some(tiles))
    }

    /// The largest rows and columns of tiles of so many channels in and out, if any fit.
    fn largest(gpu: &Gpu, axes: [Axis; 2], [input, output]: [usize; 2]) -> Option<[usize; 2]> {
        let of_units = |rows: usize, columns: usize| [axes[0].of_units(rows), axes[1].of_units(columns)];
        let fits = |rows, columns| {
            let [rows, columns] = of_units(rows, columns);
            let inputs = [input, axes[0].inputs(rows), axes[1].inputs(columns)];
            let len = |extents: [usize; 3]| extents.into_iter().fold(1, usize::saturating_mul);
            len(inputs).max(len([output, rows, columns])) <= gpu.reach()
        };
        let [rows, columns] = axes.map(|axis| axis.units());
        match most(rows, |rows| fits(rows, columns)) {
            0 => match most(columns, |columns| fits(1, columns)) {
                0 => None,
                columns => Some(of_units(1, columns)),
            },
            rows => Some(of_units(rows, columns)),
        }
    }

    /// Makes a correlation that of a tile.
    fn fit(&self, correlation: &mut Correlation, placement: &mut Placement, extent: [usize; 2]) {
        let Place { first, unit } = Place::of(*placement, extent);
        let [rows, columns] = [self.output.h, self.output.w];
        correlation.input = [self.input.h, self.input.w];
        correlation.output = [(rows - first[0]).div_ceil(unit[0]), (columns - first[1]).div_ceil(unit[1])];
        for Tap { at, .. } in &mut correlation.taps {
            *at = [0, 1].map(|axis| at[axis] - self.axes[axis].origin);
        }
        *placement = Placement {
            plane: rows * columns,
            origin: first[0] * columns + first[1],
            row: unit[0] * columns,
            column: unit[1],
        };
    }

    /// A tile of the input, and of the output; of one image.
    pub fn shapes(&self) -> [Shape4; 2] {
        [self.input, self.output]
    }

    /// Computes `y` of `x`, or adds it to `y`, tile by tile.
    pub fn run(
        &self,
        gpu: &Gpu,
        op: &'static str,
        x: GpuView<'_>,
        y: GpuView<'_>,
        update: Update,
        compute: impl Fn(GpuView<'_>, GpuView<'_>) -> Result<()>,
    ) -> Result<()> {
        let tiles = GpuTensor::new(gpu, op, self.output)?;
        self.for_each(gpu, op, x, |n, rows, columns, input| {
            compute(input, tiles.view())?;
            self.put(gpu, tiles.view(), y.image(n), rows, columns, update)
        })
    }

    /// Calls `f` for each tile of the output with its image, rows and columns and the tile of the input.
    pub fn for_each(
        &self,
        gpu: &Gpu,
        op: &'static str,
        x: GpuView<'_>,
        mut f: impl FnMut(usize, Range<usize>, Range<usize>, GpuView<'_>) -> Result<()>,
    ) -> Result<()> {
        let input = GpuTensor::new(gpu, op, self.input)?;
        let pieces = |axis: usize, most| pieces(self.axes[axis].outputs, most);
        for n in 0..x.shape.n {
            for rows in pieces(0, self.output.h) {
                for columns in pieces(1, self.output.w) {
                    let at = [self.axes[0].first_input(rows.start), self.axes[1].first_input(columns.start)];
                    gpu.shifted(op, x.image(n), at, 0.0, input.view(), Update::Write)?;
                    f(n, rows.clone(), columns, input.view())?;
                }
            }
        }
        Ok(())
    }

    /// Copies a tile to where it belongs, or adds it, as far as that is within the output.
    fn put(
        &self,
        gpu: &Gpu,
        tile: GpuView<'_>,
        y: GpuView<'_>,
        rows: Range<usize>,
        columns: Range<usize>,
        update: Update,
    ) -> Result<()> {
        // Whole rows are one run.
        let whole = columns.len() == y.shape.w;
        let (runs, len) = if whole { (1, rows.len() * columns.len()) } else { (rows.len(), columns.len()) };
        for run in 0..runs {
            let (from, to) = (run * self.output.w, (rows.start + run) * y.shape.w + columns.start);
            let (from, to) = (tile.planes(0, from..from + len), y.planes(0, to..to + len));
            gpu.add_backward_into(from, GpuViewMut(to), update)?;
        }
        Ok(())
    }
}
