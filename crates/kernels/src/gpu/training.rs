//! The gradients of the GPU, as [`Training`]: each operator is the method of that name in the file of its stem.

use super::Gpu;
use super::buffer::{GpuView, GpuViewMut};
use super::conv_transpose2d::{GpuConvTranspose2dBackwardInput, GpuConvTranspose2dBackwardWeights};
use super::conv2d::{GpuConv2dBackwardInput, GpuConv2dBackwardWeights};
use super::linear::{GpuLinearBackwardInput, GpuLinearBackwardWeights};
use super::pool::GpuArgmax;
use crate::backend::{Affine, Tracked};
use crate::error::Result;
use crate::shape::{
    Activation, Adam, AvgPool2dParams, Axis, Conv2dShape, ConvTranspose2dShape, CrossEntropy, LinearShape,
    MaxPool2dParams, Padding, PoolShape, Sgd, Update, UpsampleMode,
};
use crate::training::{BatchNormGradients, Moments, Training};

impl Training for Gpu {
    type Conv2dBackwardInput = GpuConv2dBackwardInput;
    type Conv2dBackwardWeights = GpuConv2dBackwardWeights;
    type ConvTranspose2dBackwardInput = GpuConvTranspose2dBackwardInput;
    type ConvTranspose2dBackwardWeights = GpuConvTranspose2dBackwardWeights;
    type LinearBackwardInput = GpuLinearBackwardInput;
    type LinearBackwardWeights = GpuLinearBackwardWeights;
    type Argmax = GpuArgmax;

    fn conv2d_set_weights(
        &self,
        plan: &mut Self::Conv2d,
        weights: GpuView<'_>,
        bias: Option<GpuView<'_>>,
    ) -> Result<()> {
        self.conv2d_set_weights(plan, weights, bias)
    }

    fn plan_conv2d_backward_input(
        &self,
        shape: Conv2dShape,
        weights: &[f32],
    ) -> Result<Self::Conv2dBackwardInput> {
        self.plan_conv2d_backward_input(shape, weights)
    }

    fn conv2d_backward_input_set_weights(
        &self,
        plan: &mut Self::Conv2dBackwardInput,
        weights: GpuView<'_>,
    ) -> Result<()> {
        self.conv2d_backward_input_set_weights(plan, weights)
    }

    fn conv2d_backward_input_into(
        &self,
        plan: &mut Self::Conv2dBackwardInput,
        gy: GpuView<'_>,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.conv2d_backward_input_into(plan, gy, gx, update)
    }

    fn plan_conv2d_backward_weights(&self, shape: Conv2dShape) -> Result<Self::Conv2dBackwardWeights> {
        self.plan_conv2d_backward_weights(shape)
    }

    fn conv2d_backward_weights_into(
        &self,
        plan: &mut Self::Conv2dBackwardWeights,
        x: GpuView<'_>,
        gy: GpuView<'_>,
        gw: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.conv2d_backward_weights_into(plan, x, gy, gw, update)
    }

    fn conv_transpose2d_set_weights(
        &self,
        plan: &mut Self::ConvTranspose2d,
        weights: GpuView<'_>,
        bias: Option<GpuView<'_>>,
    ) -> Result<()> {
        self.conv_transpose2d_set_weights(plan, weights, bias)
    }

    fn plan_conv_transpose2d_backward_input(
        &self,
        shape: ConvTranspose2dShape,
        weights: &[f32],
    ) -> Result<Self::ConvTranspose2dBackwardInput> {
        self.plan_conv_transpose2d_backward_input(shape, weights)
    }

    fn conv_transpose2d_backward_input_set_weights(
        &self,
        plan: &mut Self::ConvTranspose2dBackwardInput,
        weights: GpuView<'_>,
    ) -> Result<()> {
        self.conv_transpose2d_backward_input_set_weights(plan, weights)
    }

    fn conv_transpose2d_backward_input_into(
        &self,
        plan: &mut Self::ConvTranspose2dBackwardInput,
        gy: GpuView<'_>,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.conv_transpose2d_backward_input_into(plan, gy, gx, update)
    }

    fn plan_conv_transpose2d_backward_weights(
        &self,
        shape: ConvTranspose2dShape,
    ) -> Result<Self::ConvTranspose2dBackwardWeights> {
        self.plan_conv_transpose2d_backward_weights(shape)
    }

    fn conv_transpose2d_backward_weights_into(
        &self,
        plan: &mut Self::ConvTranspose2dBackwardWeights,
        x: GpuView<'_>,
        gy: GpuView<'_>,
        gw: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.conv_transpose2d_backward_weights_into(plan, x, gy, gw, update)
    }

    fn linear_set_weights(
        &self,
        plan: &mut Self::Linear,
        weights: GpuView<'_>,
        bias: Option<GpuView<'_>>,
    ) -> Result<()> {
        self.linear_set_weights(plan, weights, bias)
    }

    fn plan_linear_backward_input(
        &self,
        shape: LinearShape,
        weights: &[f32],
    ) -> Result<Self::LinearBackwardInput> {
        self.plan_linear_backward_input(shape, weights)
    }

    fn linear_backward_input_set_weights(
        &self,
        plan: &mut Self::LinearBackwardInput,
        weights: GpuView<'_>,
    ) -> Result<()> {
        self.linear_backward_input_set_weights(plan, weights)
    }

    fn linear_backward_input_into(
        &self,
        plan: &mut Self::LinearBackwardInput,
        gy: GpuView<'_>,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.linear_backward_input_into(plan, gy, gx, update)
    }

    fn plan_linear_backward_weights(&self, shape: LinearShape) -> Result<Self::LinearBackwardWeights> {
        self.plan_linear_backward_weights(shape)
    }

    fn linear_backward_weights_into(
        &self,
        plan: &mut Self::LinearBackwardWeights,
        x: GpuView<'_>,
        gy: GpuView<'_>,
        gw: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.linear_backward_weights_into(plan, x, gy, gw, update)
    }

    fn bias_backward_into(&self, gy: GpuView<'_>, gb: GpuViewMut<'_>, update: Update) -> Result<()> {
        self.bias_backward_into(gy, gb, update)
    }

    fn activation_backward_into(
        &self,
        x: GpuView<'_>,
        f: Activation,
        gy: GpuView<'_>,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.activation_backward_into(x, f, gy, gx, update)
    }

    fn empty_argmax(&self, shape: PoolShape) -> Result<Self::Argmax> {
        self.empty_argmax(shape)
    }

    fn max_pool2d_argmax_into(
        &self,
        x: GpuView<'_>,
        params: MaxPool2dParams,
        y: GpuViewMut<'_>,
        argmax: &mut Self::Argmax,
    ) -> Result<()> {
        self.max_pool2d_argmax_into(x, params, y, argmax)
    }

    fn max_pool2d_backward_into(
        &self,
        argmax: &Self::Argmax,
        gy: GpuView<'_>,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.max_pool2d_backward_into(argmax, gy, gx, update)
    }

    fn avg_pool2d_backward_into(
        &self,
        params: AvgPool2dParams,
        gy: GpuView<'_>,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.avg_pool2d_backward_into(params, gy, gx, update)
    }

    fn global_avg_pool_backward_into(
        &self,
        gy: GpuView<'_>,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.global_avg_pool_backward_into(gy, gx, update)
    }

    fn softmax_backward_into(
        &self,
        y: GpuView<'_>,
        axis: Axis,
        gy: GpuView<'_>,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.softmax_backward_into(y, axis, gy, gx, update)
    }

    fn batch_norm_activation_into(
        &self,
        x: GpuView<'_>,
        norm: Affine<GpuView<'_>>,
        running: Option<Tracked<GpuViewMut<'_>>>,
        moments: Moments<GpuViewMut<'_>>,
        f: Activation,
        y: GpuViewMut<'_>,
    ) -> Result<()> {
        self.batch_norm_activation_into(x, norm, running, moments, f, y)
    }

    fn batch_norm_train_backward_into(
        &self,
        x: GpuView<'_>,
        gamma: GpuView<'_>,
        moments: Moments<GpuView<'_>>,
        gy: GpuView<'_>,
        gradients: BatchNormGradients<GpuViewMut<'_>>,
        update: Update,
    ) -> Result<()> {
        self.batch_norm_train_backward_into(x, gamma, moments, gy, gradients, update)
    }

    fn batch_norm_backward_into(
        &self,
        x: GpuView<'_>,
        gamma: GpuView<'_>,
        eps: f32,
        mean: GpuView<'_>,
        var: GpuView<'_>,
        gy: GpuView<'_>,
        gradients: BatchNormGradients<GpuViewMut<'_>>,
        update: Update,
    ) -> Result<()> {
        self.batch_norm_backward_into(x, gamma, eps, mean, var, gy, gradients, update)
    }

    fn upsample_backward_into(
        &self,
        mode: UpsampleMode,
        gy: GpuView<'_>,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.upsample_backward_into(mode, gy, gx, update)
    }

    fn concat_backward_into(
        &self,
        gy: GpuView<'_>,
        first: usize,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.concat_backward_into(gy, first, gx, update)
    }

    fn add_backward_into(&self, gy: GpuView<'_>, gx: GpuViewMut<'_>, update: Update) -> Result<()> {
        self.add_backward_into(gy, gx, update)
    }

    fn pad_backward_into(
        &self,
        padding: Padding,
        gy: GpuView<'_>,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.pad_backward_into(padding, gy, gx, update)
    }

    fn crop_backward_into(
        &self,
        margins: Padding,
        gy: GpuView<'_>,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.crop_backward_into(margins, gy, gx, update)
    }

    fn cross_entropy_backward_into(
        &self,
        x: GpuView<'_>,
        labels: &[usize],
        params: CrossEntropy<'_>,
        gy: f32,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.cross_entropy_backward_into(x, labels, params, gy, gx, update)
    }

    fn bce_with_logits_backward_into(
        &self,
        x: GpuView<'_>,
        target: GpuView<'_>,
        pos_weight: Option<&[f32]>,
        gy: f32,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.bce_with_logits_backward_into(x, target, pos_weight, gy, gx, update)
    }

    fn mse_backward_into(
        &self,
        x: GpuView<'_>,
        target: GpuView<'_>,
        gy: f32,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.mse_backward_into(x, target, gy, gx, update)
    }

    fn l1_backward_into(
        &self,
        x: GpuView<'_>,
        target: GpuView<'_>,
        gy: f32,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.l1_backward_into(x, target, gy, gx, update)
    }

    fn dice_backward_into(
        &self,
        x: GpuView<'_>,
        target: GpuView<'_>,
        smooth: f32,
        gy: f32,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.dice_backward_into(x, target, smooth, gy, gx, update)
    }

    fn sgd_step(
        &self,
        sgd: &Sgd,
        p: GpuViewMut<'_>,
        g: GpuView<'_>,
        velocity: Option<GpuViewMut<'_>>,
    ) -> Result<()> {
        self.sgd_step(sgd, p, g, velocity)
    }

    fn adam_step(
        &self,
        adam: &Adam,
        step: u64,
        p: GpuViewMut<'_>,
        g: GpuView<'_>,
        m: GpuViewMut<'_>,
        v: GpuViewMut<'_>,
    ) -> Result<()> {
        self.adam_step(adam, step, p, g, m, v)
    }

    fn clip_norm_into(&self, g: GpuViewMut<'_>, max_norm: f32, norm: GpuViewMut<'_>) -> Result<()> {
        self.clip_norm_into(g, max_norm, norm)
    }
}
