//! Operators that need all channels of an image at once, on images larger than what one dispatch can reach: the output in
//! tiles, each computed as if it were an image of its own, from a copy of the part of the input that it needs (with zeros for
//! what lies outside), and copied to its place.
//!
//! So no kernel knows of it, and a tile holds as much as one dispatch reaches: whole rows or, where all channels of a row are
//! too many, columns of one.

use super::Gpu;
use super::buffer::{GpuTensor, GpuView, GpuViewMut};
use super::parts::{most, too_large};
use crate::error::Result;
use crate::shape::Activation;
use crate::tensor::Shape4;

/// What outputs along an axis need: those from `first` on, which is a multiple of `unit`, need the inputs from
/// `origin + first / unit * step` on, and `n` of them need `((n - 1) * step + reach) / unit + 1`.
///
/// Either `step` or `unit` is 1: a convolution steps over inputs, a transposed one over outputs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    pub outputs: usize,
    pub origin: isize,
    pub step: usize,
    pub unit: usize,
    pub reach: usize,
}

impl Axis {
    /// How many inputs `outputs` of them need.
    fn inputs(&self, outputs: usize) -> usize {
        ((outputs - 1) * self.step + self.reach) / self.unit + 1
    }

    fn first_input(&self, first: usize) -> isize {
        self.origin.saturating_add_unsigned(first / self.unit * self.step)
    }

    /// The outputs of a tile of so many units.
    fn of_units(&self, units: usize) -> usize {
        self.outputs.min(units.saturating_mul(self.unit))
    }

    fn units(&self) -> usize {
        self.outputs.div_ceil(self.unit)
    }
}

/// How an operator is cut into tiles.
#[derive(Debug, Clone)]
pub(super) struct Tiles {
    axes: [Axis; 2],
    /// A tile of the input, and of the output; of one image.
    pub input: Shape4,
    pub output: Shape4,
}

impl Tiles {
    /// The largest tiles that fit, of so many channels in and out.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if the smallest do not.
    pub fn new(gpu: &Gpu, op: &'static str, channels: [usize; 2], axes: [Axis; 2]) -> Result<Self> {
        let tile = |rows: usize, columns: usize| {
            let [rows, columns] = [axes[0].of_units(rows), axes[1].of_units(columns)];
            let input = Shape4::new(1, channels[0], axes[0].inputs(rows), axes[1].inputs(columns));
            (input, Shape4::new(1, channels[1], rows, columns))
        };
        let needs = |rows, columns| {
            let (input, output) = tile(rows, columns);
            len(input).max(len(output))
        };
        let [rows, columns] = axes.map(|axis| axis.units());
        let (input, output) = match most(rows, |rows| needs(rows, columns) <= gpu.reach()) {
            0 => match most(columns, |columns| needs(1, columns) <= gpu.reach()) {
                0 => {
                    let arg = "elements of all channels that an output needs on this GPU";
                    return Err(too_large(op, arg, gpu.reach(), needs(1, 1)));
                }
                columns => tile(1, columns),
            },
            rows => tile(rows, columns),
        };
        Ok(Tiles { axes, input, output })
    }

    /// Computes `y` of `x`, tile by tile.
    pub fn run(
        &self,
        gpu: &Gpu,
        op: &'static str,
        x: GpuView<'_>,
        y: GpuView<'_>,
        compute: impl Fn(GpuView<'_>, GpuView<'_>) -> Result<()>,
    ) -> Result<()> {
        if x.shape.n == 0 {
            return Ok(());
        }
        let (inputs, outputs) = (GpuTensor::new(gpu, op, self.input)?, GpuTensor::new(gpu, op, self.output)?);
        for n in 0..x.shape.n {
            for top in (0..y.shape.h).step_by(self.output.h) {
                for left in (0..y.shape.w).step_by(self.output.w) {
                    let at = [self.axes[0].first_input(top), self.axes[1].first_input(left)];
                    gpu.shifted(op, x.image(n), at, 0.0, inputs.view())?;
                    compute(inputs.view(), outputs.view())?;
                    self.put(gpu, outputs.view(), y.image(n), top, left)?;
                }
            }
        }
        Ok(())
    }

    /// Copies a tile to where it belongs, as far as that is within the output.
    fn put(&self, gpu: &Gpu, tile: GpuView<'_>, y: GpuView<'_>, top: usize, left: usize) -> Result<()> {
        let (rows, columns) = (self.output.h.min(y.shape.h - top), self.output.w.min(y.shape.w - left));
        // Whole rows are one run.
        let (runs, len) = if columns == y.shape.w { (1, rows * columns) } else { (rows, columns) };
        for run in 0..runs {
            let (from, to) = (run * self.output.w, (top + run) * y.shape.w + left);
            let (from, to) = (tile.planes(0, from..from + len), y.planes(0, to..to + len));
            gpu.activation_into(from, Activation::Identity, GpuViewMut(to))?;
        }
        Ok(())
    }
}

/// The number of elements, or the largest that there is.
fn len(shape: Shape4) -> usize {
    shape.dims().into_iter().fold(1, usize::saturating_mul)
}
