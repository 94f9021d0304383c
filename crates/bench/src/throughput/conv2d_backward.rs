//! The gradients of convolution, planned: weights packed beforehand, results and scratch memory reused. The FLOPs of each are
//! those of the plain convolution, counted once.

use tilewise_kernels::{Conv2dShape, DeviceTensor, Shape4, Tensor, Update};

use super::conv2d::sample_positions;
use super::{Measured, Sample, Work, Workload, filled, picked};
use crate::check::winograd;
use crate::compare::Target;
use crate::reference::{self, Answer};

/// A planned gradient to the input with all its memory, on any device.
pub struct ConvInputCall<B: Measured> {
    device: B,
    shape: Conv2dShape,
    plan: B::Conv2dBackwardInput,
    weights: Tensor,
    gy: B::Tensor,
    gx: B::Tensor,
}

impl<B: Measured> ConvInputCall<B> {
    /// Packs the weights and allocates everything.
    ///
    /// # Errors
    /// If memory runs out.
    pub fn new(device: &B, shape: &Conv2dShape) -> tilewise_kernels::Result<Self> {
        let weights = filled(shape.weights(), 2)?;
        let gy = device.upload(&filled(shape.output(), 5)?)?;
        let plan = device.plan_conv2d_backward_input(*shape, weights.data())?;
        let gx = device.empty(shape.input())?;
        Ok(ConvInputCall { device: device.clone(), shape: *shape, plan, weights, gy, gx })
    }

    /// How the plan computes it.
    pub fn algo(&self) -> String {
        B::input_algo(&self.plan)
    }
}

impl<B: Measured> Workload for ConvInputCall<B> {
    fn call(&mut self) -> tilewise_kernels::Result<()> {
        let (gy, gx) = (self.gy.view(), self.gx.view_mut());
        self.device.conv2d_backward_input_into(&mut self.plan, gy, gx, Update::Write)
    }

    fn sample(&self) -> tilewise_kernels::Result<Option<Sample>> {
        let (gy, gx) = (self.device.download(&self.gy)?, self.device.download(&self.gx)?);
        let weights = self.shape.weights();
        let roundings = weights.n / self.shape.params().groups * weights.h * weights.w;
        let at = |to| reference::conv2d_backward_input_at(&self.shape, self.weights.data(), gy.data(), to);
        let (target, got) = sampled(&gx, roundings, at);
        let (w, gy, positions) = (self.weights.data(), gy.data(), sample_positions(gx.shape()));
        let target = match self.algo().parse() {
            Ok(algo) => winograd::conv2d_backward_input_at(target, algo, &self.shape, w, gy, &positions),
            // No algorithm of its own: phases of a stride, or a GPU's.
            Err(_) => target,
        };
        Ok(Some((target, got)))
    }

    fn work(&self) -> Work {
        Work::Flops(2.0 * self.shape.macs())
    }
}

/// A planned gradient to the weights with all its memory, on any device.
pub struct ConvWeightsCall<B: Measured> {
    device: B,
    shape: Conv2dShape,
    plan: B::Conv2dBackwardWeights,
    x: B::Tensor,
    gy: B::Tensor,
    gw: B::Tensor,
}

impl<B: Measured> ConvWeightsCall<B> {
    /// Allocates everything.
    ///
    /// # Errors
    /// If memory runs out.
    pub fn new(device: &B, shape: &Conv2dShape) -> tilewise_kernels::Result<Self> {
        let x = device.upload(&filled(shape.input(), 1)?)?;
        let gy = device.upload(&filled(shape.output(), 5)?)?;
        let plan = device.plan_conv2d_backward_weights(*shape)?;
        let gw = device.empty(shape.weights())?;
        Ok(ConvWeightsCall { device: device.clone(), shape: *shape, plan, x, gy, gw })
    }

    /// How the plan computes it.
    pub fn algo(&self) -> String {
        B::weights_algo(&self.plan)
    }
}

impl<B: Measured> Workload for ConvWeightsCall<B> {
    fn call(&mut self) -> tilewise_kernels::Result<()> {
        let (x, gy, gw) = (self.x.view(), self.gy.view(), self.gw.view_mut());
        self.device.conv2d_backward_weights_into(&mut self.plan, x, gy, gw, Update::Write)
    }

    fn sample(&self) -> tilewise_kernels::Result<Option<Sample>> {
        let download = |t: &B::Tensor| self.device.download(t);
        let (x, gy, gw) = (download(&self.x)?, download(&self.gy)?, download(&self.gw)?);
        let output = self.shape.output();
        let at = |to| reference::conv2d_backward_weights_at(&self.shape, x.data(), gy.data(), to);
        let (target, got) = sampled(&gw, output.n * output.h * output.w, at);
        let (x, gy, positions) = (x.data(), gy.data(), sample_positions(gw.shape()));
        let target = match self.algo().parse() {
            Ok(algo) => winograd::conv2d_backward_weights_at(target, algo, &self.shape, x, gy, &positions),
            Err(_) => target,
        };
        Ok(Some((target, got)))
    }

    fn work(&self) -> Work {
        Work::Flops(2.0 * self.shape.macs())
    }
}

/// A result at some positions, and what `at` says that it should be there.
fn sampled(got: &Tensor, roundings: usize, at: impl Fn([usize; 4]) -> (f64, f64)) -> Sample {
    let positions = sample_positions(got.shape());
    let (value, magnitude) = positions.iter().map(|&to| at(to)).unzip();
    let shape = Shape4::new(1, 1, 1, positions.len());
    (Target::rounded(Answer { shape, value, magnitude, roundings }), picked(got, &positions))
}
