//! Transposed convolution, backward: the gradient to the input is the convolution of `gy` with the same weights, that to the
//! weights a matrix product over the pixels of the input.

use crate::backend::expect_shape;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::gpu::buffer::{GpuView, GpuViewMut};
use crate::gpu::correlation::{Geometry, HostWeights, Rows, Spec, Weighted, WeightsGradient, WeightsSpec};
use crate::shape::correlation::{Correlation, Placement};
use crate::shape::{Activation, ConvTranspose2dShape, Update, check_weights};

const INPUT: &str = "conv_transpose2d_backward_input";
const WEIGHTS: &str = "conv_transpose2d_backward_weights";

/// The gradient of a transposed convolution to its input on a GPU.
pub struct GpuConvTranspose2dBackwardInput {
    shape: ConvTranspose2dShape,
    weighted: Weighted,
}

/// The gradient of a transposed convolution to its weights on a GPU.
pub struct GpuConvTranspose2dBackwardWeights {
    shape: ConvTranspose2dShape,
    gradient: WeightsGradient,
}

impl GpuConvTranspose2dBackwardInput {
    /// The transposed convolution's shape.
    pub fn shape(&self) -> &ConvTranspose2dShape {
        &self.shape
    }
}

impl GpuConvTranspose2dBackwardWeights {
    /// The transposed convolution's shape.
    pub fn shape(&self) -> &ConvTranspose2dShape {
        &self.shape
    }
}

impl Gpu {
    pub(in crate::gpu) fn plan_conv_transpose2d_backward_input(
        &self,
        shape: ConvTranspose2dShape,
        weights: &[f32],
    ) -> Result<GpuConvTranspose2dBackwardInput> {
        let (w, input, groups) = (shape.weights(), shape.input(), shape.params().groups);
        check_weights(INPUT, weights, w.checked_len(INPUT, "weights")?, None, w.n)?;
        let outputs = w.n / groups;
        let whole = (Correlation::conv_transpose2d_backward(&shape), Placement::dense([input.h, input.w]));
        let geometry = Geometry::new(self, INPUT, [shape.output(), input], vec![whole])?;
        let spec = |geometry: &Geometry, correlation: &Correlation| {
            let method = self.method([groups, outputs], geometry, correlation);
            Spec { op: INPUT, groups, outputs, activation: Activation::Identity, method }
        };
        let weights = HostWeights { values: weights, shape: w, rows: Rows::Outputs, bias: None };
        let weighted = Weighted::new(self, INPUT, geometry, spec, weights)?;
        Ok(GpuConvTranspose2dBackwardInput { shape, weighted })
    }

    pub(in crate::gpu) fn conv_transpose2d_backward_input_set_weights(
        &self,
        plan: &GpuConvTranspose2dBackwardInput,
        weights: GpuView<'_>,
    ) -> Result<()> {
        plan.weighted.set_weights(self, weights, None)
    }

    pub(in crate::gpu) fn conv_transpose2d_backward_input_into(
        &self,
        plan: &GpuConvTranspose2dBackwardInput,
        gy: GpuView<'_>,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        expect_shape(INPUT, "shape of gy", plan.shape.output(), gy.shape)?;
        expect_shape(INPUT, "shape of gx", plan.shape.input(), gx.shape())?;
        plan.weighted.run(self, gy, gx.0, update)
    }

    pub(in crate::gpu) fn plan_conv_transpose2d_backward_weights(
        &self,
        shape: ConvTranspose2dShape,
    ) -> Result<GpuConvTranspose2dBackwardWeights> {
        let (w, groups) = (shape.weights(), shape.params().groups);
        let spec = WeightsSpec { op: WEIGHTS, groups, outputs: w.n / groups, kernel: w.h * w.w };
        let correlation = Correlation::conv_transpose2d_backward(&shape);
        let gradient = WeightsGradient::new(self, spec, &correlation)?;
        Ok(GpuConvTranspose2dBackwardWeights { shape, gradient })
    }

    pub(in crate::gpu) fn conv_transpose2d_backward_weights_into(
        &self,
        plan: &GpuConvTranspose2dBackwardWeights,
        x: GpuView<'_>,
        gy: GpuView<'_>,
        gw: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        expect_shape(WEIGHTS, "shape of x", plan.shape.input(), x.shape)?;
        expect_shape(WEIGHTS, "shape of gy", plan.shape.output(), gy.shape)?;
        expect_shape(WEIGHTS, "shape of gw", plan.shape.weights(), gw.shape())?;
        // In the sums for the weights, the two are in each other's place.
        plan.gradient.run(self, gy, x, gw.0, update)
    }
}
