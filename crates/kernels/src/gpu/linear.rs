//! Fully connected layer: a 1x1 convolution whose pixels are samples.

use super::Gpu;
use super::buffer::{GpuView, GpuViewMut};
use super::correlation::{Engine, Spec};
use crate::backend::expect_shape;
use crate::error::Result;
use crate::shape::correlation::{Correlation, Placement};
use crate::shape::{Activation, Conv2dParams, Conv2dShape, LinearShape, check_weights};
use crate::tensor::Shape4;

const OP: &str = "linear";

/// A fully connected layer on a GPU, its weights packed and uploaded.
pub struct GpuLinear {
    shape: LinearShape,
    engine: Engine,
}

impl GpuLinear {
    /// The layer's shape.
    pub fn shape(&self) -> &LinearShape {
        &self.shape
    }
}

impl Gpu {
    pub(super) fn plan_linear(
        &self,
        shape: LinearShape,
        weights: &[f32],
        bias: Option<&[f32]>,
        activation: Activation,
    ) -> Result<GpuLinear> {
        let (features, outputs, samples) = (shape.in_features(), shape.output().c, shape.input().n);
        check_weights(OP, weights, shape.weights().checked_len(OP, "weights")?, bias, outputs)?;
        activation.validate()?;
        let as_pixels = Shape4::new(samples, features, 1, 1);
        let conv = Conv2dShape::new(as_pixels, outputs, [1, 1], Conv2dParams::default())?;
        let method = self.method([1, features, features, outputs], samples);
        let spec = Spec { op: OP, groups: 1, outputs, bias, activation, method };
        let correlation = Correlation::conv2d(&conv);
        let engine =
            Engine::new(self, spec, &correlation, Placement::conv2d(&conv), |_, output, channel, _| {
                weights[output * features + channel]
            })?;
        Ok(GpuLinear { shape, engine })
    }

    pub(super) fn linear_into(&self, plan: &GpuLinear, x: GpuView<'_>, y: GpuViewMut<'_>) -> Result<()> {
        expect_shape(OP, "input shape", plan.shape.input(), x.shape)?;
        expect_shape(OP, "output shape", plan.shape.output(), y.shape())?;
        let as_pixels = Shape4::new(x.shape.n, x.shape.image_len(), 1, 1);
        plan.engine.run(self, GpuView { shape: as_pixels, ..x }, y.0)
    }
}
