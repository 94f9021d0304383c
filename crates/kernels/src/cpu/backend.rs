//! The CPU as a [`Backend`]: each operator is the method of that name of [`Cpu`].

use crate::backend::{Affine, Backend, Tracked};
use crate::cpu::{BatchNorm, Conv2dPlan, ConvTranspose2dPlan, Cpu, LinearPlan, Planned, RunningStats};
use crate::error::Result;
use crate::shape::batch_norm::expect_per_channel;
use crate::shape::{
    Activation, AvgPool2dParams, Axis, Conv2dAlgo, Conv2dShape, ConvTranspose2dShape, CrossEntropy,
    LinearShape, MaxPool2dParams, Padding, UpsampleMode,
};
use crate::tensor::{Shape4, Tensor, TensorView, TensorViewMut};

impl Backend for Cpu {
    type Tensor = Tensor;
    type Conv2d = Planned<Conv2dPlan>;
    type ConvTranspose2d = Planned<ConvTranspose2dPlan>;
    type Linear = Planned<LinearPlan>;

    fn empty(&self, shape: Shape4) -> Result<Tensor> {
        Tensor::zeros(shape)
    }

    fn upload(&self, x: &Tensor) -> Result<Tensor> {
        x.view().to_tensor()
    }

    fn download(&self, x: &Tensor) -> Result<Tensor> {
        x.view().to_tensor()
    }

    fn upload_into(&self, x: TensorView<'_>, y: TensorViewMut<'_>) -> Result<()> {
        self.concat_into(&[x], y)
    }

    fn download_into(&self, x: TensorView<'_>, y: &mut Tensor) -> Result<()> {
        self.concat_into(&[x], y.view_mut())
    }

    fn plan_conv2d(
        &self,
        shape: Conv2dShape,
        weights: &[f32],
        bias: Option<&[f32]>,
        activation: Activation,
        algo: Option<Conv2dAlgo>,
    ) -> Result<Self::Conv2d> {
        let plan = Conv2dPlan::new(self, shape, weights, bias, activation, algo)?;
        let scratch_len = plan.scratch_len();
        Planned::new(plan, scratch_len)
    }

    fn conv2d_into(&self, p: &mut Self::Conv2d, x: TensorView<'_>, y: TensorViewMut<'_>) -> Result<()> {
        p.run(|plan, scratch| plan.run(x, y, scratch))
    }

    fn plan_conv_transpose2d(
        &self,
        shape: ConvTranspose2dShape,
        weights: &[f32],
        bias: Option<&[f32]>,
        activation: Activation,
    ) -> Result<Self::ConvTranspose2d> {
        let plan = ConvTranspose2dPlan::new(self, shape, weights, bias, activation)?;
        let scratch_len = plan.scratch_len();
        Planned::new(plan, scratch_len)
    }

    fn conv_transpose2d_into(
        &self,
        p: &mut Self::ConvTranspose2d,
        x: TensorView<'_>,
        y: TensorViewMut<'_>,
    ) -> Result<()> {
        p.run(|plan, scratch| plan.run(x, y, scratch))
    }

    fn plan_linear(
        &self,
        shape: LinearShape,
        weights: &[f32],
        bias: Option<&[f32]>,
        activation: Activation,
    ) -> Result<Self::Linear> {
        let plan = LinearPlan::new(self, shape, weights, bias, activation)?;
        let scratch_len = plan.scratch_len();
        Planned::new(plan, scratch_len)
    }

    fn linear_into(&self, p: &mut Self::Linear, x: TensorView<'_>, y: TensorViewMut<'_>) -> Result<()> {
        p.run(|plan, scratch| plan.run(x, y, scratch))
    }

    fn activation_into(&self, x: TensorView<'_>, f: Activation, y: TensorViewMut<'_>) -> Result<()> {
        self.activation_into(x, f, y)
    }

    fn max_pool2d_into(&self, x: TensorView<'_>, p: MaxPool2dParams, y: TensorViewMut<'_>) -> Result<()> {
        self.max_pool2d_into(x, p, y)
    }

    fn avg_pool2d_into(&self, x: TensorView<'_>, p: AvgPool2dParams, y: TensorViewMut<'_>) -> Result<()> {
        self.avg_pool2d_into(x, p, y)
    }

    fn global_avg_pool_into(&self, x: TensorView<'_>, y: TensorViewMut<'_>) -> Result<()> {
        self.global_avg_pool_into(x, y)
    }

    fn softmax_into(&self, x: TensorView<'_>, axis: Axis, y: TensorViewMut<'_>) -> Result<()> {
        self.softmax_into(x, axis, y)
    }

    fn batch_norm_into(
        &self,
        x: TensorView<'_>,
        norm: Affine<TensorView<'_>>,
        mean: TensorView<'_>,
        var: TensorView<'_>,
        y: TensorViewMut<'_>,
    ) -> Result<()> {
        let c = x.shape().c;
        let norm = affine(norm, c)?;
        self.batch_norm_into(x, norm, per_channel("mean", mean, c)?, per_channel("variance", var, c)?, y)
    }

    fn batch_norm_train_into(
        &self,
        x: TensorView<'_>,
        norm: Affine<TensorView<'_>>,
        running: Option<Tracked<TensorViewMut<'_>>>,
        y: TensorViewMut<'_>,
    ) -> Result<()> {
        let c = x.shape().c;
        let running = running.map(|r| tracked(r, c)).transpose()?;
        self.batch_norm_train_into(x, affine(norm, c)?, running, y)
    }

    fn upsample_into(&self, x: TensorView<'_>, mode: UpsampleMode, y: TensorViewMut<'_>) -> Result<()> {
        self.upsample_into(x, mode, y)
    }

    fn concat_into(&self, inputs: &[TensorView<'_>], y: TensorViewMut<'_>) -> Result<()> {
        self.concat_into(inputs, y)
    }

    fn add_into(&self, a: TensorView<'_>, b: TensorView<'_>, y: TensorViewMut<'_>) -> Result<()> {
        self.add_into(a, b, y)
    }

    fn pad_into(&self, x: TensorView<'_>, p: Padding, value: f32, y: TensorViewMut<'_>) -> Result<()> {
        self.pad_into(x, p, value, y)
    }

    fn crop_into(&self, x: TensorView<'_>, margins: Padding, y: TensorViewMut<'_>) -> Result<()> {
        self.crop_into(x, margins, y)
    }

    fn cross_entropy_into(
        &self,
        x: TensorView<'_>,
        labels: &[usize],
        params: CrossEntropy<'_>,
        y: TensorViewMut<'_>,
    ) -> Result<()> {
        self.cross_entropy_into(x, labels, params, y)
    }

    fn bce_with_logits_into(
        &self,
        x: TensorView<'_>,
        target: TensorView<'_>,
        pos_weight: Option<&[f32]>,
        y: TensorViewMut<'_>,
    ) -> Result<()> {
        self.bce_with_logits_into(x, target, pos_weight, y)
    }

    fn mse_into(&self, x: TensorView<'_>, target: TensorView<'_>, y: TensorViewMut<'_>) -> Result<()> {
        self.mse_into(x, target, y)
    }

    fn l1_into(&self, x: TensorView<'_>, target: TensorView<'_>, y: TensorViewMut<'_>) -> Result<()> {
        self.l1_into(x, target, y)
    }

    fn dice_into(
        &self,
        x: TensorView<'_>,
        target: TensorView<'_>,
        smooth: f32,
        y: TensorViewMut<'_>,
    ) -> Result<()> {
        self.dice_into(x, target, smooth, y)
    }
}

pub(super) fn affine<'a>(norm: Affine<TensorView<'a>>, channels: usize) -> Result<BatchNorm<'a>> {
    Ok(BatchNorm {
        gamma: per_channel("gamma", norm.gamma, channels)?,
        beta: per_channel("beta", norm.beta, channels)?,
        eps: norm.eps,
    })
}

pub(super) fn tracked(stats: Tracked<TensorViewMut<'_>>, channels: usize) -> Result<RunningStats<'_>> {
    Ok(RunningStats {
        mean: per_channel_mut("running mean", stats.mean, channels)?,
        var: per_channel_mut("running variance", stats.var, channels)?,
        momentum: stats.momentum,
    })
}

/// The values of a tensor of one value per channel.
pub(super) fn per_channel<'a>(arg: &'static str, x: TensorView<'a>, channels: usize) -> Result<&'a [f32]> {
    expect_per_channel(arg, x.shape(), channels)?;
    Ok(x.image(0))
}

/// [`per_channel`], to be written.
pub(super) fn per_channel_mut<'a>(
    arg: &'static str,
    x: TensorViewMut<'a>,
    channels: usize,
) -> Result<&'a mut [f32]> {
    expect_per_channel(arg, x.shape(), channels)?;
    Ok(x.into_image(0))
}
