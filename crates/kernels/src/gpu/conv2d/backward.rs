//! Convolution, backward: the gradient to the input is the transposed convolution with the same weights, that to the weights a
//! matrix product over pixels.

use crate::backend::expect_shape;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::gpu::buffer::{GpuView, GpuViewMut};
use crate::gpu::correlation::{HostWeights, Rows, Weighted, WeightsGradient, WeightsSpec};
use crate::shape::correlation::Correlation;
use crate::shape::{Activation, Conv2dShape, ConvTranspose2dShape, Update, check_weights};

const INPUT: &str = "conv2d_backward_input";
const WEIGHTS: &str = "conv2d_backward_weights";

/// The gradient of a convolution to its input on a GPU.
pub struct GpuConv2dBackwardInput {
    shape: Conv2dShape,
    weighted: Weighted,
}

/// The gradient of a convolution to its weights on a GPU.
pub struct GpuConv2dBackwardWeights {
    shape: Conv2dShape,
    gradient: WeightsGradient,
}

impl GpuConv2dBackwardInput {
    /// The convolution's shape.
    pub fn shape(&self) -> &Conv2dShape {
        &self.shape
    }
}

impl GpuConv2dBackwardWeights {
    /// The convolution's shape.
    pub fn shape(&self) -> &Conv2dShape {
        &self.shape
    }
}

impl Gpu {
    pub(in crate::gpu) fn plan_conv2d_backward_input(
        &self,
        shape: Conv2dShape,
        weights: &[f32],
    ) -> Result<GpuConv2dBackwardInput> {
        let w = shape.weights();
        check_weights(INPUT, weights, w.checked_len(INPUT, "weights")?, None, w.n)?;
        let transposed = ConvTranspose2dShape::of_gradient(&shape)?;
        let weights = HostWeights { values: weights, shape: w, rows: Rows::Channels, bias: None };
        let weighted = self.weighted_phases(INPUT, &transposed, Activation::Identity, weights)?;
        Ok(GpuConv2dBackwardInput { shape, weighted })
    }

    pub(in crate::gpu) fn conv2d_backward_input_set_weights(
        &self,
        plan: &GpuConv2dBackwardInput,
        weights: GpuView<'_>,
    ) -> Result<()> {
        plan.weighted.set_weights(self, weights, None)
    }

    pub(in crate::gpu) fn conv2d_backward_input_into(
        &self,
        plan: &GpuConv2dBackwardInput,
        gy: GpuView<'_>,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        expect_shape(INPUT, "shape of gy", plan.shape.output(), gy.shape)?;
        expect_shape(INPUT, "shape of gx", plan.shape.input(), gx.shape())?;
        plan.weighted.run(self, gy, gx.0, update)
    }

    pub(in crate::gpu) fn plan_conv2d_backward_weights(
        &self,
        shape: Conv2dShape,
    ) -> Result<GpuConv2dBackwardWeights> {
        let (w, groups) = (shape.weights(), shape.params().groups);
        let spec = WeightsSpec { op: WEIGHTS, groups, outputs: w.n / groups, kernel: w.h * w.w };
        let gradient = WeightsGradient::new(self, spec, &Correlation::conv2d(&shape))?;
        Ok(GpuConv2dBackwardWeights { shape, gradient })
    }

    pub(in crate::gpu) fn conv2d_backward_weights_into(
        &self,
        plan: &GpuConv2dBackwardWeights,
        x: GpuView<'_>,
        gy: GpuView<'_>,
        gw: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        expect_shape(WEIGHTS, "shape of x", plan.shape.input(), x.shape)?;
        expect_shape(WEIGHTS, "shape of gy", plan.shape.output(), gy.shape)?;
        expect_shape(WEIGHTS, "shape of gw", plan.shape.weights(), gw.shape())?;
        plan.gradient.run(self, x, gy, gw.0, update)
    }
}
