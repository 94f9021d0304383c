//! The GPU as a [`Backend`]: each operator is the method of that name in the file of its stem.

use super::Gpu;
use super::buffer::{GpuTensor, GpuView, GpuViewMut};
use super::conv_transpose2d::GpuConvTranspose2d;
use super::conv2d::GpuConv2d;
use super::linear::GpuLinear;
use crate::backend::{Affine, Backend, Tracked};
use crate::error::Result;
use crate::shape::{
    Activation, AvgPool2dParams, Axis, Conv2dAlgo, Conv2dShape, ConvTranspose2dShape, CrossEntropy,
    LinearShape, MaxPool2dParams, Padding, UpsampleMode,
};
use crate::tensor::{Shape4, Tensor, TensorView};

impl Backend for Gpu {
    type Tensor = GpuTensor;
    type Conv2d = GpuConv2d;
    type ConvTranspose2d = GpuConvTranspose2d;
    type Linear = GpuLinear;

    fn empty(&self, shape: Shape4) -> Result<GpuTensor> {
        GpuTensor::new(self, "tensor", shape)
    }

    fn upload(&self, x: &Tensor) -> Result<GpuTensor> {
        GpuTensor::uploaded(self, "upload", x.shape(), x.data())
    }

    fn download(&self, x: &GpuTensor) -> Result<Tensor> {
        self.download_view(x.view())
    }

    fn upload_into(&self, x: TensorView<'_>, y: GpuViewMut<'_>) -> Result<()> {
        self.upload_into(x, y)
    }

    fn download_into(&self, x: GpuView<'_>, y: &mut Tensor) -> Result<()> {
        self.download_into(x, y)
    }

    fn plan_conv2d(
        &self,
        shape: Conv2dShape,
        weights: &[f32],
        bias: Option<&[f32]>,
        activation: Activation,
        algo: Option<Conv2dAlgo>,
    ) -> Result<GpuConv2d> {
        self.plan_conv2d(shape, weights, bias, activation, algo)
    }

    fn conv2d_into(&self, plan: &mut GpuConv2d, x: GpuView<'_>, y: GpuViewMut<'_>) -> Result<()> {
        self.conv2d_into(plan, x, y)
    }

    fn plan_conv_transpose2d(
        &self,
        shape: ConvTranspose2dShape,
        weights: &[f32],
        bias: Option<&[f32]>,
        activation: Activation,
    ) -> Result<GpuConvTranspose2d> {
        self.plan_conv_transpose2d(shape, weights, bias, activation)
    }

    fn conv_transpose2d_into(
        &self,
        plan: &mut GpuConvTranspose2d,
        x: GpuView<'_>,
        y: GpuViewMut<'_>,
    ) -> Result<()> {
        self.conv_transpose2d_into(plan, x, y)
    }

    fn plan_linear(
        &self,
        shape: LinearShape,
        weights: &[f32],
        bias: Option<&[f32]>,
        activation: Activation,
    ) -> Result<GpuLinear> {
        self.plan_linear(shape, weights, bias, activation)
    }

    fn linear_into(&self, plan: &mut GpuLinear, x: GpuView<'_>, y: GpuViewMut<'_>) -> Result<()> {
        self.linear_into(plan, x, y)
    }

    fn activation_into(&self, x: GpuView<'_>, f: Activation, y: GpuViewMut<'_>) -> Result<()> {
        self.activation_into(x, f, y)
    }

    fn max_pool2d_into(&self, x: GpuView<'_>, params: MaxPool2dParams, y: GpuViewMut<'_>) -> Result<()> {
        self.max_pool2d_into(x, params, y)
    }

    fn avg_pool2d_into(&self, x: GpuView<'_>, params: AvgPool2dParams, y: GpuViewMut<'_>) -> Result<()> {
        self.avg_pool2d_into(x, params, y)
    }

    fn global_avg_pool_into(&self, x: GpuView<'_>, y: GpuViewMut<'_>) -> Result<()> {
        self.global_avg_pool_into(x, y)
    }

    fn softmax_into(&self, x: GpuView<'_>, axis: Axis, y: GpuViewMut<'_>) -> Result<()> {
        self.softmax_into(x, axis, y)
    }

    fn batch_norm_into(
        &self,
        x: GpuView<'_>,
        norm: Affine<GpuView<'_>>,
        mean: GpuView<'_>,
        var: GpuView<'_>,
        y: GpuViewMut<'_>,
    ) -> Result<()> {
        self.batch_norm_into(x, norm, mean, var, y)
    }

    fn batch_norm_train_into(
        &self,
        x: GpuView<'_>,
        norm: Affine<GpuView<'_>>,
        running: Option<Tracked<GpuViewMut<'_>>>,
        y: GpuViewMut<'_>,
    ) -> Result<()> {
        self.batch_norm_train_into(x, norm, running, y)
    }

    fn upsample_into(&self, x: GpuView<'_>, mode: UpsampleMode, y: GpuViewMut<'_>) -> Result<()> {
        self.upsample_into(x, mode, y)
    }

    fn concat_into(&self, inputs: &[GpuView<'_>], y: GpuViewMut<'_>) -> Result<()> {
        self.concat_into(inputs, y)
    }

    fn add_into(&self, a: GpuView<'_>, b: GpuView<'_>, y: GpuViewMut<'_>) -> Result<()> {
        self.add_into(a, b, y)
    }

    fn pad_into(&self, x: GpuView<'_>, padding: Padding, value: f32, y: GpuViewMut<'_>) -> Result<()> {
        self.pad_into(x, padding, value, y)
    }

    fn crop_into(&self, x: GpuView<'_>, margins: Padding, y: GpuViewMut<'_>) -> Result<()> {
        self.crop_into(x, margins, y)
    }

    fn cross_entropy_into(
        &self,
        x: GpuView<'_>,
        labels: &[usize],
        params: CrossEntropy<'_>,
        y: GpuViewMut<'_>,
    ) -> Result<()> {
        self.cross_entropy_into(x, labels, params, y)
    }

    fn bce_with_logits_into(
        &self,
        x: GpuView<'_>,
        target: GpuView<'_>,
        pos_weight: Option<&[f32]>,
        y: GpuViewMut<'_>,
    ) -> Result<()> {
        self.bce_with_logits_into(x, target, pos_weight, y)
    }

    fn mse_into(&self, x: GpuView<'_>, target: GpuView<'_>, y: GpuViewMut<'_>) -> Result<()> {
        self.mse_into(x, target, y)
    }

    fn l1_into(&self, x: GpuView<'_>, target: GpuView<'_>, y: GpuViewMut<'_>) -> Result<()> {
        self.l1_into(x, target, y)
    }

    fn dice_into(&self, x: GpuView<'_>, target: GpuView<'_>, smooth: f32, y: GpuViewMut<'_>) -> Result<()> {
        self.dice_into(x, target, smooth, y)
    }
}
