//! Transposed convolution: one correlation per phase of the stride ([`Phases`]).

mod backward;

pub use backward::{GpuConvTranspose2dBackwardInput, GpuConvTranspose2dBackwardWeights};

use crate::backend::expect_shape;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::gpu::buffer::{GpuView, GpuViewMut};
use crate::gpu::correlation::{Geometry, HostWeights, Rows, Spec, Weighted};
use crate::shape::correlation::{Correlation, Phases, Placement};
use crate::shape::{Activation, ConvTranspose2dShape, Update, check_weights};

const OP: &str = "conv_transpose2d";

/// A transposed convolution on a GPU, its weights packed on the device.
pub struct GpuConvTranspose2d {
    shape: ConvTranspose2dShape,
    weighted: Weighted,
}

impl GpuConvTranspose2d {
    /// The transposed convolution's shape.
    pub fn shape(&self) -> &ConvTranspose2dShape {
        &self.shape
    }
}

impl Gpu {
    pub(in crate::gpu) fn plan_conv_transpose2d(
        &self,
        shape: ConvTranspose2dShape,
        weights: &[f32],
        bias: Option<&[f32]>,
        activation: Activation,
    ) -> Result<GpuConvTranspose2d> {
        let w = shape.weights();
        check_weights(OP, weights, w.checked_len(OP, "weights")?, bias, shape.output().c)?;
        activation.validate()?;
        let weights = HostWeights { values: weights, shape: w, rows: Rows::Channels, bias };
        let weighted = self.weighted_phases(OP, &shape, activation, weights)?;
        Ok(GpuConvTranspose2d { shape, weighted })
    }

    /// A correlation for each phase, the first one of all outputs where some are reached by none.
    pub(in crate::gpu) fn weighted_phases(
        &self,
        op: &'static str,
        shape: &ConvTranspose2dShape,
        activation: Activation,
        weights: HostWeights<'_>,
    ) -> Result<Weighted> {
        let (groups, outputs, output) = (shape.params().groups, shape.weights().c, shape.output());
        let Phases { mut reached, leave_gaps } = Phases::new(shape);
        if leave_gaps {
            // A correlation without taps: the bias everywhere.
            let none = Correlation {
                channels: 0,
                input: [shape.input().h, shape.input().w],
                output: [output.h, output.w],
                step: [1, 1],
                taps: Vec::new(),
            };
            reached.insert(0, (none, Placement::dense([output.h, output.w])));
        }
        let geometry = Geometry::new(self, op, [shape.input(), output], reached)?;
        let spec = |geometry: &Geometry, correlation: &Correlation| {
            let method = self.method([groups, outputs], geometry, correlation);
            Spec { op, groups, outputs, activation, method }
        };
        Weighted::new(self, op, geometry, spec, weights)
    }

    pub(in crate::gpu) fn conv_transpose2d_set_weights(
        &self,
        plan: &GpuConvTranspose2d,
        weights: GpuView<'_>,
        bias: Option<GpuView<'_>>,
    ) -> Result<()> {
        plan.weighted.set_weights(self, weights, bias)
    }

    pub(in crate::gpu) fn conv_transpose2d_into(
        &self,
        plan: &GpuConvTranspose2d,
        x: GpuView<'_>,
        y: GpuViewMut<'_>,
    ) -> Result<()> {
        expect_shape(OP, "input shape", plan.shape.input(), x.shape)?;
        expect_shape(OP, "output shape", plan.shape.output(), y.shape())?;
        plan.weighted.run(self, x, y.0, Update::Write)
    }
}
