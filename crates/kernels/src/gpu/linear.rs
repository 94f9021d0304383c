//! Fully connected layer, and its gradients: a 1x1 convolution whose pixels are samples.

use super::Gpu;
use super::buffer::{GpuView, GpuViewMut};
use super::correlation::{Geometry, HostWeights, Rows, Spec, Weighted, WeightsGradient, WeightsSpec};
use crate::backend::expect_shape;
use crate::error::Result;
use crate::shape::correlation::{Correlation, Placement, Tap};
use crate::shape::{Activation, LinearShape, Update, check_weights};
use crate::tensor::Shape4;

const OP: &str = "linear";
const INPUT: &str = "linear_backward_input";
const WEIGHTS: &str = "linear_backward_weights";

/// A fully connected layer on a GPU, its weights packed on the device.
pub struct GpuLinear {
    shape: LinearShape,
    weighted: Weighted,
}

/// The gradient of a fully connected layer to its input on a GPU.
pub struct GpuLinearBackwardInput {
    shape: LinearShape,
    weighted: Weighted,
}

/// The gradient of a fully connected layer to its weights on a GPU.
pub struct GpuLinearBackwardWeights {
    shape: LinearShape,
    gradient: WeightsGradient,
}

impl GpuLinear {
    /// The layer's shape.
    pub fn shape(&self) -> &LinearShape {
        &self.shape
    }
}

impl GpuLinearBackwardInput {
    /// The layer's shape.
    pub fn shape(&self) -> &LinearShape {
        &self.shape
    }
}

impl GpuLinearBackwardWeights {
    /// The layer's shape.
    pub fn shape(&self) -> &LinearShape {
        &self.shape
    }
}

/// Samples as pixels, of which each feature is a channel.
fn as_pixels(x: GpuView<'_>) -> GpuView<'_> {
    GpuView { shape: Shape4::new(x.shape.n, x.shape.image_len(), 1, 1), ..x }
}

/// The sums over so many channels of one pixel.
fn correlation(channels: usize) -> Correlation {
    let tap = Tap { index: 0, at: [0, 0] };
    Correlation { channels, input: [1, 1], output: [1, 1], step: [1, 1], taps: vec![tap] }
}

impl Gpu {
    fn weighted_linear(
        &self,
        op: &'static str,
        samples: usize,
        [channels, outputs]: [usize; 2],
        activation: Activation,
        weights: HostWeights<'_>,
    ) -> Result<Weighted> {
        let shapes = [channels, outputs].map(|features| Shape4::new(samples, features, 1, 1));
        let whole = (correlation(channels), Placement::dense([1, 1]));
        let geometry = Geometry::new(self, op, shapes, vec![whole])?;
        let spec = |geometry: &Geometry, correlation: &Correlation| {
            let method = self.method([1, outputs], geometry, correlation);
            Spec { op, groups: 1, outputs, activation, method }
        };
        Weighted::new(self, op, geometry, spec, weights)
    }

    pub(super) fn plan_linear(
        &self,
        shape: LinearShape,
        weights: &[f32],
        bias: Option<&[f32]>,
        activation: Activation,
    ) -> Result<GpuLinear> {
        let w = shape.weights();
        check_weights(OP, weights, w.checked_len(OP, "weights")?, bias, w.n)?;
        activation.validate()?;
        let weights = HostWeights { values: weights, shape: w, rows: Rows::Outputs, bias };
        let weighted = self.weighted_linear(OP, shape.input().n, [w.c, w.n], activation, weights)?;
        Ok(GpuLinear { shape, weighted })
    }

    pub(super) fn linear_set_weights(
        &self,
        plan: &GpuLinear,
        weights: GpuView<'_>,
        bias: Option<GpuView<'_>>,
    ) -> Result<()> {
        plan.weighted.set_weights(self, weights, bias)
    }

    pub(super) fn linear_into(&self, plan: &GpuLinear, x: GpuView<'_>, y: GpuViewMut<'_>) -> Result<()> {
        expect_shape(OP, "input shape", plan.shape.input(), x.shape)?;
        expect_shape(OP, "output shape", plan.shape.output(), y.shape())?;
        plan.weighted.run(self, as_pixels(x), y.0, Update::Write)
    }

    pub(super) fn plan_linear_backward_input(
        &self,
        shape: LinearShape,
        weights: &[f32],
    ) -> Result<GpuLinearBackwardInput> {
        let w = shape.weights();
        check_weights(INPUT, weights, w.checked_len(INPUT, "weights")?, None, w.n)?;
        let weights = HostWeights { values: weights, shape: w, rows: Rows::Channels, bias: None };
        let of = [w.n, w.c];
        let weighted = self.weighted_linear(INPUT, shape.input().n, of, Activation::Identity, weights)?;
        Ok(GpuLinearBackwardInput { shape, weighted })
    }

    pub(super) fn linear_backward_input_set_weights(
        &self,
        plan: &GpuLinearBackwardInput,
        weights: GpuView<'_>,
    ) -> Result<()> {
        plan.weighted.set_weights(self, weights, None)
    }

    pub(super) fn linear_backward_input_into(
        &self,
        plan: &GpuLinearBackwardInput,
        gy: GpuView<'_>,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        expect_shape(INPUT, "shape of gy", plan.shape.output(), gy.shape)?;
        expect_shape(INPUT, "shape of gx", plan.shape.input(), gx.shape())?;
        plan.weighted.run(self, gy, as_pixels(gx.0), update)
    }

    pub(super) fn plan_linear_backward_weights(
        &self,
        shape: LinearShape,
    ) -> Result<GpuLinearBackwardWeights> {
        let w = shape.weights();
        let spec = WeightsSpec { op: WEIGHTS, groups: 1, outputs: w.n, kernel: 1 };
        Ok(GpuLinearBackwardWeights { shape, gradient: WeightsGradient::new(self, spec, &correlation(w.c))? })
    }

    pub(super) fn linear_backward_weights_into(
        &self,
        plan: &GpuLinearBackwardWeights,
        x: GpuView<'_>,
        gy: GpuView<'_>,
        gw: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        expect_shape(WEIGHTS, "shape of x", plan.shape.input(), x.shape)?;
        expect_shape(WEIGHTS, "shape of gy", plan.shape.output(), gy.shape)?;
        expect_shape(WEIGHTS, "shape of gw", plan.shape.weights(), gw.shape())?;
        plan.gradient.run(self, as_pixels(x), gy, gw.0, update)
    }
}
