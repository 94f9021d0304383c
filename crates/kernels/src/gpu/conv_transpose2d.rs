//! Transposed convolution: one correlation per phase of the stride ([`Phases`]).

use super::Gpu;
use super::buffer::{GpuView, GpuViewMut};
use super::correlation::{Engine, Spec};
use super::tiles::{Axis, Tiles};
use crate::backend::expect_shape;
use crate::error::Result;
use crate::shape::correlation::{Correlation, Phases, Placement};
use crate::shape::{Activation, ConvTranspose2dParams, ConvTranspose2dShape, Padding, check_weights};

const OP: &str = "conv_transpose2d";

/// A transposed convolution on a GPU, its weights packed and uploaded.
pub struct GpuConvTranspose2d {
    shape: ConvTranspose2dShape,
    phases: Vec<Engine>,
    /// What the phases compute at once, where that is not the whole.
    tiles: Option<Tiles>,
}

impl GpuConvTranspose2d {
    /// The transposed convolution's shape.
    pub fn shape(&self) -> &ConvTranspose2dShape {
        &self.shape
    }
}

impl Gpu {
    pub(super) fn plan_conv_transpose2d(
        &self,
        shape: ConvTranspose2dShape,
        weights: &[f32],
        bias: Option<&[f32]>,
        activation: Activation,
    ) -> Result<GpuConvTranspose2d> {
        let w = shape.weights();
        check_weights(OP, weights, w.checked_len(OP, "weights")?, bias, shape.output().c)?;
        activation.validate()?;
        let (groups, outputs, kernel) = (shape.params().groups, w.c, w.h * w.w);
        let (tiles, at_once) = self.conv_transpose2d_parts(&shape)?;
        let output = at_once.output();
        let Phases { mut reached, leave_gaps } = Phases::new(&at_once);
        if leave_gaps {
            // A correlation without taps: the bias everywhere.
            let none = Correlation {
                channels: 0,
                input: [at_once.input().h, at_once.input().w],
                output: [output.h, output.w],
                step: [1, 1],
                taps: Vec::new(),
            };
            let everywhere = Placement { plane: output.plane_len(), origin: 0, row: output.w, column: 1 };
            reached.insert(0, (none, everywhere));
        }
        let phases = reached
            .iter()
            .map(|(correlation, placement)| {
                let channels = correlation.channels;
                let pixels = output.n * correlation.output[0] * correlation.output[1];
                let method = self.method([groups, channels, correlation.depth(), outputs], pixels);
                let spec = Spec { op: OP, groups, outputs, bias, activation, method };
                Engine::new(self, spec, correlation, *placement, |group, output, channel, tap| {
                    weights[((group * channels + channel) * outputs + output) * kernel + tap]
                })
            })
            .collect::<Result<_>>()?;
        Ok(GpuConvTranspose2d { shape, phases, tiles })
    }

    /// How an image is cut into tiles, where it must be, and what is computed at once then.
    fn conv_transpose2d_parts(
        &self,
        shape: &ConvTranspose2dShape,
    ) -> Result<(Option<Tiles>, ConvTranspose2dShape)> {
        let (input, output, params) = (shape.input(), shape.output(), shape.params());
        if input.image_len().max(output.image_len()) <= self.reach() {
            return Ok((None, *shape));
        }
        // Output o takes input i through tap k where o + before = i * stride + k * dilation; `span` is that of the last tap.
        let span = [0, 1].map(|i| (shape.kernel()[i] - 1) * params.dilation[i]);
        let axis = |i: usize, outputs, before: usize| {
            let (stride, before) = (params.stride[i] as isize, before as isize);
            // The first input that output 0 may take (rounded up), but none beyond where it lies itself.
            let first = -(span[i] as isize - before).div_euclid(stride);
            let first = first.min(before / stride);
            let reach = (before - first * stride) as usize;
            Axis { outputs, origin: first, step: 1, unit: params.stride[i], reach }
        };
        let axes = [axis(0, output.h, params.padding.top), axis(1, output.w, params.padding.left)];
        let tiles = Tiles::new(self, OP, [input.c, output.c], axes)?;
        // What the inputs of a tile reach is cut to the tile, or padded where the stride leaves a gap behind them.
        let reached = |i: usize, inputs: usize| (inputs - 1) * params.stride[i] + span[i] + 1;
        let ends = [(tiles.input.h, tiles.output.h), (tiles.input.w, tiles.output.w)];
        let over = [0, 1].map(|i| (reached(i, ends[i].0), axes[i].reach + ends[i].1));
        let [bottom, right] = over.map(|(reached, end)| reached.saturating_sub(end));
        let output_padding = over.map(|(reached, end)| end.saturating_sub(reached));
        let padding = Padding { top: axes[0].reach, bottom, left: axes[1].reach, right };
        let params = ConvTranspose2dParams { padding, output_padding, ..params };
        let tile = ConvTranspose2dShape::new(tiles.input, output.c, shape.kernel(), params)?;
        Ok((Some(tiles), tile))
    }

    pub(super) fn conv_transpose2d_into(
        &self,
        plan: &GpuConvTranspose2d,
        x: GpuView<'_>,
        y: GpuViewMut<'_>,
    ) -> Result<()> {
        expect_shape(OP, "input shape", plan.shape.input(), x.shape)?;
        expect_shape(OP, "output shape", plan.shape.output(), y.shape())?;
        let compute =
            |x: GpuView<'_>, y: GpuView<'_>| plan.phases.iter().try_for_each(|phase| phase.run(self, x, y));
        match &plan.tiles {
            None => compute(x, y.0),
            Some(tiles) => tiles.run(self, OP, x, y.0, compute),
        }
    }
}
