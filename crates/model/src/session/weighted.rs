//! The three operators that have weights, as one: planned, run, differentiated.

use tilewise_kernels::{
    Activation, Conv2dShape, ConvTranspose2dShape, LinearShape, Result, Shape4, Training, Update, View,
    ViewMut,
};

use crate::graph::Op;

/// An operator with weights, its sizes known to fit.
#[derive(Debug, Clone, Copy)]
pub(super) enum WeightedShape {
    Conv2d(Conv2dShape),
    ConvTranspose2d(ConvTranspose2dShape),
    Linear(LinearShape),
}

impl WeightedShape {
    /// That of a layer; `None` if it has no weights.
    pub fn of(op: &Op, x: Shape4) -> Result<Option<Self>> {
        Ok(Some(match *op {
            Op::Conv2d { out_channels, kernel, params, .. } => {
                WeightedShape::Conv2d(Conv2dShape::new(x, out_channels, kernel, params)?)
            }
            Op::ConvTranspose2d { out_channels, kernel, params, .. } => {
                WeightedShape::ConvTranspose2d(ConvTranspose2dShape::new(x, out_channels, kernel, params)?)
            }
            Op::Linear { out_features, .. } => WeightedShape::Linear(LinearShape::new(x, out_features)?),
            _ => return Ok(None),
        }))
    }

    /// The number of feature maps that come out.
    fn outputs(&self) -> usize {
        match self {
            WeightedShape::Conv2d(shape) => shape.output().c,
            WeightedShape::ConvTranspose2d(shape) => shape.output().c,
            WeightedShape::Linear(shape) => shape.output().c,
        }
    }

    fn weights(&self) -> Shape4 {
        match self {
            WeightedShape::Conv2d(shape) => shape.weights(),
            WeightedShape::ConvTranspose2d(shape) => shape.weights(),
            WeightedShape::Linear(shape) => shape.weights(),
        }
    }

    /// Weights and bias of what is this operator and then `y * scale + shift`, each per output channel.
    pub fn folded(
        &self,
        mut weights: Vec<f32>,
        bias: Option<Vec<f32>>,
        scale: &[f32],
        shift: &[f32],
    ) -> [Vec<f32>; 2] {
        let shape = self.weights();
        let taps = shape.h * shape.w;
        // The output channel of each kernel, in order of memory.
        let channel = |kernel: usize| match self {
            WeightedShape::ConvTranspose2d(t) => {
                let (c, k) = (kernel / shape.c, kernel % shape.c);
                c / (t.input().c / t.params().groups) * shape.c + k
            }
            _ => kernel / shape.c,
        };
        for (i, kernel) in weights.chunks_exact_mut(taps).enumerate() {
            kernel.iter_mut().for_each(|w| *w *= scale[channel(i)]);
        }
        let bias = bias.unwrap_or_else(|| vec![0.0; self.outputs()]);
        [weights, bias.iter().zip(scale).zip(shift).map(|((b, scale), shift)| b * scale + shift).collect()]
    }
}

/// A planned operator with weights.
pub(super) enum Weighted<B: Training> {
    Conv2d(B::Conv2d),
    ConvTranspose2d(B::ConvTranspose2d),
    Linear(B::Linear),
}

impl<B: Training> Weighted<B> {
    pub fn plan(
        device: &B,
        shape: WeightedShape,
        weights: &[f32],
        bias: Option<&[f32]>,
        f: Activation,
    ) -> Result<Self> {
        Ok(match shape {
            WeightedShape::Conv2d(shape) => {
                Weighted::Conv2d(device.plan_conv2d(shape, weights, bias, f, None)?)
            }
            WeightedShape::ConvTranspose2d(shape) => {
                Weighted::ConvTranspose2d(device.plan_conv_transpose2d(shape, weights, bias, f)?)
            }
            WeightedShape::Linear(shape) => Weighted::Linear(device.plan_linear(shape, weights, bias, f)?),
        })
    }

    /// For weights that come with each run.
    pub fn plan_without_weights(device: &B, shape: WeightedShape, bias: bool, f: Activation) -> Result<Self> {
        if let WeightedShape::Conv2d(shape) = shape {
            return Ok(Weighted::Conv2d(device.plan_conv2d_without_weights(shape, bias, f)?));
        }
        let zeros = zeros(shape)?;
        let bias = bias.then(|| vec![0.0; shape.outputs()]);
        Self::plan(device, shape, &zeros, bias.as_deref(), f)
    }

    pub fn set_weights(&mut self, device: &B, weights: View<'_, B>, bias: Option<View<'_, B>>) -> Result<()> {
        match self {
            Weighted::Conv2d(plan) => device.conv2d_set_weights(plan, weights, bias),
            Weighted::ConvTranspose2d(plan) => device.conv_transpose2d_set_weights(plan, weights, bias),
            Weighted::Linear(plan) => device.linear_set_weights(plan, weights, bias),
        }
    }

    /// With these weights, if it was planned without.
    pub fn run_with(
        &mut self,
        device: &B,
        weights: View<'_, B>,
        bias: Option<View<'_, B>>,
        x: View<'_, B>,
        y: ViewMut<'_, B>,
    ) -> Result<()> {
        if let Weighted::Conv2d(plan) = self {
            return device.conv2d_with_into(plan, weights, bias, x, y);
        }
        self.set_weights(device, weights, bias)?;
        self.run(device, x, y)
    }

    pub fn run(&mut self, device: &B, x: View<'_, B>, y: ViewMut<'_, B>) -> Result<()> {
        match self {
            Weighted::Conv2d(plan) => device.conv2d_into(plan, x, y),
            Weighted::ConvTranspose2d(plan) => device.conv_transpose2d_into(plan, x, y),
            Weighted::Linear(plan) => device.linear_into(plan, x, y),
        }
    }
}

/// The gradients of an operator with weights; that to the input where something needs it.
pub(super) enum WeightedBackward<B: Training> {
    Conv2d(Option<B::Conv2dBackwardInput>, B::Conv2dBackwardWeights),
    ConvTranspose2d(Option<B::ConvTranspose2dBackwardInput>, B::ConvTranspose2dBackwardWeights),
    Linear(Option<B::LinearBackwardInput>, B::LinearBackwardWeights),
}

impl<B: Training> WeightedBackward<B> {
    pub fn plan(device: &B, shape: WeightedShape, to_input: bool) -> Result<Self> {
        let zeros = || zeros(shape);
        Ok(match shape {
            WeightedShape::Conv2d(shape) => WeightedBackward::Conv2d(
                to_input.then(|| device.plan_conv2d_backward_input_without_weights(shape)).transpose()?,
                device.plan_conv2d_backward_weights(shape)?,
            ),
            WeightedShape::ConvTranspose2d(shape) => WeightedBackward::ConvTranspose2d(
                to_input
                    .then(|| device.plan_conv_transpose2d_backward_input(shape, &zeros()?))
                    .transpose()?,
                device.plan_conv_transpose2d_backward_weights(shape)?,
            ),
            WeightedShape::Linear(shape) => WeightedBackward::Linear(
                to_input.then(|| device.plan_linear_backward_input(shape, &zeros()?)).transpose()?,
                device.plan_linear_backward_weights(shape)?,
            ),
        })
    }

    /// Writes the gradient to the weights.
    pub fn weights(&mut self, device: &B, x: View<'_, B>, gy: View<'_, B>, gw: ViewMut<'_, B>) -> Result<()> {
        match self {
            WeightedBackward::Conv2d(_, plan) => {
                device.conv2d_backward_weights_into(plan, x, gy, gw, Update::Write)
            }
            WeightedBackward::ConvTranspose2d(_, plan) => {
                device.conv_transpose2d_backward_weights_into(plan, x, gy, gw, Update::Write)
            }
            WeightedBackward::Linear(_, plan) => {
                device.linear_backward_weights_into(plan, x, gy, gw, Update::Write)
            }
        }
    }

    /// Writes the gradient to the input, or adds it there; with these weights.
    pub fn input(
        &mut self,
        device: &B,
        weights: View<'_, B>,
        gy: View<'_, B>,
        gx: ViewMut<'_, B>,
        update: Update,
    ) -> Result<()> {
        match self {
            WeightedBackward::Conv2d(Some(plan), _) => {
                device.conv2d_backward_input_with_into(plan, weights, gy, gx, update)
            }
            WeightedBackward::ConvTranspose2d(Some(plan), _) => {
                device.conv_transpose2d_backward_input_set_weights(plan, weights)?;
                device.conv_transpose2d_backward_input_into(plan, gy, gx, update)
            }
            WeightedBackward::Linear(Some(plan), _) => {
                device.linear_backward_input_set_weights(plan, weights)?;
                device.linear_backward_input_into(plan, gy, gx, update)
            }
            _ => unreachable!("planned where the input has a gradient"),
        }
    }
}

/// As many zeros as the operator has weights.
fn zeros(shape: WeightedShape) -> Result<Vec<f32>> {
    Ok(vec![0.0; shape.weights().checked_len("plan", "weights")?])
}
