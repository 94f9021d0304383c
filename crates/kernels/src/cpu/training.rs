//! The gradients of the CPU, as [`Training`]: each operator is the method of that name in the file of its stem.

use crate::backend::{Affine, Tracked, expect_shape};
use crate::cpu::backend::{affine, per_channel, per_channel_mut, tracked};
use crate::cpu::{
    Argmax, Conv2dBackwardInputPlan, Conv2dBackwardWeightsPlan, Conv2dPlan, ConvTranspose2dBackwardInputPlan,
    ConvTranspose2dBackwardWeightsPlan, Cpu, LinearBackwardInputPlan, LinearBackwardWeightsPlan, Planned,
};
use crate::error::Result;
use crate::shape::{
    Activation, Adam, AvgPool2dParams, Axis, Conv2dShape, ConvTranspose2dShape, CrossEntropy, LinearShape,
    MaxPool2dParams, Padding, PoolShape, Sgd, Update, UpsampleMode,
};
use crate::tensor::{Shape4, TensorView, TensorViewMut};
use crate::training::{BatchNormGradients, Moments, Training};

impl Training for Cpu {
    type Conv2dBackwardInput = Planned<Conv2dBackwardInputPlan>;
    type Conv2dBackwardWeights = Planned<Conv2dBackwardWeightsPlan>;
    type ConvTranspose2dBackwardInput = Planned<ConvTranspose2dBackwardInputPlan>;
    type ConvTranspose2dBackwardWeights = Planned<ConvTranspose2dBackwardWeightsPlan>;
    type LinearBackwardInput = Planned<LinearBackwardInputPlan>;
    type LinearBackwardWeights = Planned<LinearBackwardWeightsPlan>;
    type Argmax = Argmax;

    fn plan_conv2d_without_weights(
        &self,
        shape: Conv2dShape,
        bias: bool,
        activation: Activation,
    ) -> Result<Self::Conv2d> {
        let plan = Conv2dPlan::without_weights(self, shape, bias, activation)?;
        let scratch_len = plan.scratch_len();
        Planned::new(plan, scratch_len)
    }

    fn conv2d_with_into(
        &self,
        p: &mut Self::Conv2d,
        weights: TensorView<'_>,
        bias: Option<TensorView<'_>>,
        x: TensorView<'_>,
        y: TensorViewMut<'_>,
    ) -> Result<()> {
        let bias = bias.map(bias_values).transpose()?;
        p.run_mut(|plan, scratch| plan.run_with(weights, bias, x, y, scratch))
    }

    fn conv2d_set_weights(
        &self,
        p: &mut Self::Conv2d,
        weights: TensorView<'_>,
        bias: Option<TensorView<'_>>,
    ) -> Result<()> {
        p.plan_mut().set_weights(weights, bias.map(bias_values).transpose()?)
    }

    fn plan_conv2d_backward_input(
        &self,
        shape: Conv2dShape,
        weights: &[f32],
    ) -> Result<Self::Conv2dBackwardInput> {
        let plan = Conv2dBackwardInputPlan::new(self, shape, weights)?;
        let scratch_len = plan.scratch_len();
        Planned::new(plan, scratch_len)
    }

    fn plan_conv2d_backward_input_without_weights(
        &self,
        shape: Conv2dShape,
    ) -> Result<Self::Conv2dBackwardInput> {
        let plan = Conv2dBackwardInputPlan::without_weights(self, shape)?;
        let scratch_len = plan.scratch_len();
        Planned::new(plan, scratch_len)
    }

    fn conv2d_backward_input_with_into(
        &self,
        p: &mut Self::Conv2dBackwardInput,
        weights: TensorView<'_>,
        gy: TensorView<'_>,
        gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        p.run_mut(|plan, scratch| plan.run_with(weights, gy, gx, update, scratch))
    }

    fn conv2d_backward_input_set_weights(
        &self,
        p: &mut Self::Conv2dBackwardInput,
        weights: TensorView<'_>,
    ) -> Result<()> {
        p.plan_mut().set_weights(weights)
    }

    fn conv2d_backward_input_into(
        &self,
        p: &mut Self::Conv2dBackwardInput,
        gy: TensorView<'_>,
        gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        p.run(|plan, scratch| plan.run(gy, gx, update, scratch))
    }

    fn plan_conv2d_backward_weights(&self, shape: Conv2dShape) -> Result<Self::Conv2dBackwardWeights> {
        let plan = Conv2dBackwardWeightsPlan::new(self, shape)?;
        let scratch_len = plan.scratch_len();
        Planned::new(plan, scratch_len)
    }

    fn conv2d_backward_weights_into(
        &self,
        p: &mut Self::Conv2dBackwardWeights,
        x: TensorView<'_>,
        gy: TensorView<'_>,
        gw: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        p.run(|plan, scratch| plan.run(x, gy, gw, update, scratch))
    }

    fn conv_transpose2d_set_weights(
        &self,
        p: &mut Self::ConvTranspose2d,
        weights: TensorView<'_>,
        bias: Option<TensorView<'_>>,
    ) -> Result<()> {
        p.plan_mut().set_weights(weights, bias.map(bias_values).transpose()?)
    }

    fn plan_conv_transpose2d_backward_input(
        &self,
        shape: ConvTranspose2dShape,
        weights: &[f32],
    ) -> Result<Self::ConvTranspose2dBackwardInput> {
        let plan = ConvTranspose2dBackwardInputPlan::new(self, shape, weights)?;
        let scratch_len = plan.scratch_len();
        Planned::new(plan, scratch_len)
    }

    fn conv_transpose2d_backward_input_set_weights(
        &self,
        p: &mut Self::ConvTranspose2dBackwardInput,
        weights: TensorView<'_>,
    ) -> Result<()> {
        p.plan_mut().set_weights(weights)
    }

    fn conv_transpose2d_backward_input_into(
        &self,
        p: &mut Self::ConvTranspose2dBackwardInput,
        gy: TensorView<'_>,
        gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        p.run(|plan, scratch| plan.run(gy, gx, update, scratch))
    }

    fn plan_conv_transpose2d_backward_weights(
        &self,
        shape: ConvTranspose2dShape,
    ) -> Result<Self::ConvTranspose2dBackwardWeights> {
        let plan = ConvTranspose2dBackwardWeightsPlan::new(self, shape)?;
        let scratch_len = plan.scratch_len();
        Planned::new(plan, scratch_len)
    }

    fn conv_transpose2d_backward_weights_into(
        &self,
        p: &mut Self::ConvTranspose2dBackwardWeights,
        x: TensorView<'_>,
        gy: TensorView<'_>,
        gw: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        p.run(|plan, scratch| plan.run(x, gy, gw, update, scratch))
    }

    fn linear_set_weights(
        &self,
        p: &mut Self::Linear,
        weights: TensorView<'_>,
        bias: Option<TensorView<'_>>,
    ) -> Result<()> {
        p.plan_mut().set_weights(weights, bias.map(bias_values).transpose()?)
    }

    fn plan_linear_backward_input(
        &self,
        shape: LinearShape,
        weights: &[f32],
    ) -> Result<Self::LinearBackwardInput> {
        let plan = LinearBackwardInputPlan::new(self, shape, weights)?;
        let scratch_len = plan.scratch_len();
        Planned::new(plan, scratch_len)
    }

    fn linear_backward_input_set_weights(
        &self,
        p: &mut Self::LinearBackwardInput,
        weights: TensorView<'_>,
    ) -> Result<()> {
        p.plan_mut().set_weights(weights)
    }

    fn linear_backward_input_into(
        &self,
        p: &mut Self::LinearBackwardInput,
        gy: TensorView<'_>,
        gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        p.run(|plan, scratch| plan.run(gy, gx, update, scratch))
    }

    fn plan_linear_backward_weights(&self, shape: LinearShape) -> Result<Self::LinearBackwardWeights> {
        let plan = LinearBackwardWeightsPlan::new(self, shape)?;
        let scratch_len = plan.scratch_len();
        Planned::new(plan, scratch_len)
    }

    fn linear_backward_weights_into(
        &self,
        p: &mut Self::LinearBackwardWeights,
        x: TensorView<'_>,
        gy: TensorView<'_>,
        gw: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        p.run(|plan, scratch| plan.run(x, gy, gw, update, scratch))
    }

    fn bias_backward_into(&self, gy: TensorView<'_>, gb: TensorViewMut<'_>, update: Update) -> Result<()> {
        self.bias_backward_into(gy, gb, update)
    }

    fn activation_backward_into(
        &self,
        x: TensorView<'_>,
        f: Activation,
        gy: TensorView<'_>,
        gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.activation_backward_into(x, f, gy, gx, update)
    }

    fn empty_argmax(&self, shape: PoolShape) -> Result<Self::Argmax> {
        self.empty_argmax(shape)
    }

    fn max_pool2d_argmax_into(
        &self,
        x: TensorView<'_>,
        params: MaxPool2dParams,
        y: TensorViewMut<'_>,
        argmax: &mut Self::Argmax,
    ) -> Result<()> {
        self.max_pool2d_argmax_into(x, params, y, argmax)
    }

    fn max_pool2d_backward_into(
        &self,
        argmax: &Self::Argmax,
        gy: TensorView<'_>,
        gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.max_pool2d_backward_into(argmax, gy, gx, update)
    }

    fn avg_pool2d_backward_into(
        &self,
        params: AvgPool2dParams,
        gy: TensorView<'_>,
        gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.avg_pool2d_backward_into(params, gy, gx, update)
    }

    fn global_avg_pool_backward_into(
        &self,
        gy: TensorView<'_>,
        gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.global_avg_pool_backward_into(gy, gx, update)
    }

    fn softmax_backward_into(
        &self,
        y: TensorView<'_>,
        axis: Axis,
        gy: TensorView<'_>,
        gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.softmax_backward_into(y, axis, gy, gx, update)
    }

    fn batch_norm_activation_into(
        &self,
        x: TensorView<'_>,
        norm: Affine<TensorView<'_>>,
        running: Option<Tracked<TensorViewMut<'_>>>,
        moments: Moments<TensorViewMut<'_>>,
        f: Activation,
        y: TensorViewMut<'_>,
    ) -> Result<()> {
        let c = x.shape().c;
        let running = running.map(|r| tracked(r, c)).transpose()?;
        let moments = Moments {
            mean: per_channel_mut("mean of the batch", moments.mean, c)?,
            inv_std: per_channel_mut("inverse deviation of the batch", moments.inv_std, c)?,
        };
        self.batch_norm_activation_into(x, affine(norm, c)?, running, moments, f, y)
    }

    fn batch_norm_train_backward_into(
        &self,
        x: TensorView<'_>,
        gamma: TensorView<'_>,
        moments: Moments<TensorView<'_>>,
        gy: TensorView<'_>,
        gradients: BatchNormGradients<TensorViewMut<'_>>,
        update: Update,
    ) -> Result<()> {
        let c = x.shape().c;
        let moments = Moments {
            mean: per_channel("mean of the batch", moments.mean, c)?,
            inv_std: per_channel("inverse deviation of the batch", moments.inv_std, c)?,
        };
        let gamma = per_channel("gamma", gamma, c)?;
        self.batch_norm_train_backward_into(x, gamma, moments, gy, gradients, update)
    }

    fn batch_norm_backward_into(
        &self,
        x: TensorView<'_>,
        gamma: TensorView<'_>,
        eps: f32,
        mean: TensorView<'_>,
        var: TensorView<'_>,
        gy: TensorView<'_>,
        gradients: BatchNormGradients<TensorViewMut<'_>>,
        update: Update,
    ) -> Result<()> {
        let c = x.shape().c;
        let gamma = per_channel("gamma", gamma, c)?;
        let (mean, var) = (per_channel("mean", mean, c)?, per_channel("variance", var, c)?);
        self.batch_norm_backward_into(x, gamma, eps, mean, var, gy, gradients, update)
    }

    fn upsample_backward_into(
        &self,
        mode: UpsampleMode,
        gy: TensorView<'_>,
        gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.upsample_backward_into(mode, gy, gx, update)
    }

    fn concat_backward_into(
        &self,
        gy: TensorView<'_>,
        first: usize,
        gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.concat_backward_into(gy, first, gx, update)
    }

    fn add_backward_into(&self, gy: TensorView<'_>, gx: TensorViewMut<'_>, update: Update) -> Result<()> {
        self.add_backward_into(gy, gx, update)
    }

    fn pad_backward_into(
        &self,
        padding: Padding,
        gy: TensorView<'_>,
        gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.pad_backward_into(padding, gy, gx, update)
    }

    fn crop_backward_into(
        &self,
        margins: Padding,
        gy: TensorView<'_>,
        gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.crop_backward_into(margins, gy, gx, update)
    }

    fn cross_entropy_backward_into(
        &self,
        x: TensorView<'_>,
        labels: &[usize],
        params: CrossEntropy<'_>,
        gy: f32,
        gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.cross_entropy_backward_into(x, labels, params, gy, gx, update)
    }

    fn bce_with_logits_backward_into(
        &self,
        x: TensorView<'_>,
        target: TensorView<'_>,
        pos_weight: Option<&[f32]>,
        gy: f32,
        gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.bce_with_logits_backward_into(x, target, pos_weight, gy, gx, update)
    }

    fn mse_backward_into(
        &self,
        x: TensorView<'_>,
        target: TensorView<'_>,
        gy: f32,
        gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.mse_backward_into(x, target, gy, gx, update)
    }

    fn l1_backward_into(
        &self,
        x: TensorView<'_>,
        target: TensorView<'_>,
        gy: f32,
        gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.l1_backward_into(x, target, gy, gx, update)
    }

    fn dice_backward_into(
        &self,
        x: TensorView<'_>,
        target: TensorView<'_>,
        smooth: f32,
        gy: f32,
        gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.dice_backward_into(x, target, smooth, gy, gx, update)
    }

    fn sgd_step(
        &self,
        sgd: &Sgd,
        p: TensorViewMut<'_>,
        g: TensorView<'_>,
        velocity: Option<TensorViewMut<'_>>,
    ) -> Result<()> {
        self.sgd_step(sgd, p, g, velocity)
    }

    fn adam_step(
        &self,
        adam: &Adam,
        step: u64,
        p: TensorViewMut<'_>,
        g: TensorView<'_>,
        m: TensorViewMut<'_>,
        v: TensorViewMut<'_>,
    ) -> Result<()> {
        self.adam_step(adam, step, p, g, m, v)
    }

    fn clip_norm_into(&self, g: TensorViewMut<'_>, max_norm: f32, norm: TensorViewMut<'_>) -> Result<()> {
        self.clip_norm_into(g, max_norm, norm)
    }
}

/// The values of a bias: a tensor of one value per channel.
fn bias_values<'a>(bias: TensorView<'a>) -> Result<&'a [f32]> {
    let expected = Shape4::new(1, bias.shape().c, 1, 1);
    expect_shape("bias", "shape", expected, bias.shape())?;
    Ok(bias.image(0))
}
