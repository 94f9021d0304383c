//! Transposed convolution: one correlation per phase of the stride ([`Phases`]).

use super::Gpu;
use super::buffer::{GpuView, GpuViewMut};
use super::correlation::{Engine, Spec};
use crate::backend::expect_shape;
use crate::error::Result;
use crate::shape::correlation::{Correlation, Phases, Placement};
use crate::shape::{Activation, ConvTranspose2dShape, check_weights};

const OP: &str = "conv_transpose2d";

/// A transposed convolution on a GPU, its weights packed and uploaded.
pub struct GpuConvTranspose2d {
    shape: ConvTranspose2dShape,
    phases: Vec<Engine>,
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
        let (w, output) = (shape.weights(), shape.output());
        check_weights(OP, weights, w.checked_len(OP, "weights")?, bias, output.c)?;
        activation.validate()?;
        let (groups, outputs, kernel) = (shape.params().groups, w.c, w.h * w.w);
        let Phases { mut reached, leave_gaps } = Phases::new(&shape);
        if leave_gaps {
            // A correlation without taps: the bias everywhere.
            let none = Correlation {
                channels: 0,
                input: [shape.input().h, shape.input().w],
                output: [output.h, output.w],
                step: [1, 1],
                taps: Vec::new(),
            };
            let everywhere = Placement { plane: output.plane_len(), origin: 0, row: output.w, column: 1 };
            reached.insert(0, (none, everywhere));
        }
        let image = shape.input().image_len().max(output.image_len());
        let phases = reached
            .iter()
            .map(|(correlation, placement)| {
                let channels = correlation.channels;
                let pixels = output.n * correlation.output[0] * correlation.output[1];
                let method = self.method([groups, channels, outputs], pixels, image);
                let spec = Spec { op: OP, groups, outputs, bias, activation, method };
                Engine::new(self, spec, correlation, *placement, |group, output, channel, tap| {
                    weights[((group * channels + channel) * outputs + output) * kernel + tap]
                })
            })
            .collect::<Result<_>>()?;
        Ok(GpuConvTranspose2d { shape, phases })
    }

    pub(super) fn conv_transpose2d_into(
        &self,
        plan: &GpuConvTranspose2d,
        x: GpuView<'_>,
        y: GpuViewMut<'_>,
    ) -> Result<()> {
        expect_shape(OP, "input shape", plan.shape.input(), x.shape)?;
        expect_shape(OP, "output shape", plan.shape.output(), y.shape())?;
        plan.phases.iter().try_for_each(|phase| phase.run(self, x, y.0))
    }
}
