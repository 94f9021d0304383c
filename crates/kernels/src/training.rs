//! The backward pass, on any device: the gradients of every operator of [`Backend`], and the optimisers.
//!
//! ```
//! use tilewise_kernels::{Activation, Backend, Conv2dParams, Conv2dShape, Cpu, Result, Shape4, Tensor, Training};
//!
//! /// The gradient to the weights of `loss = mse(relu(conv(x)), target)`.
//! fn weights_gradient<B: Training>(device: &B, x: &Tensor, w: &Tensor, target: &Tensor) -> Result<Tensor> {
//!     let shape = Conv2dShape::new(x.shape(), w.shape().n, [3, 3], Conv2dParams::default())?;
//!     let (x, target) = (device.upload(x)?, device.upload(target)?);
//!     let z = device.conv2d(&x, w, None, shape.params())?;
//!     let y = device.relu(&z)?;
//!     let gy = device.mse_backward(&y, &target, 1.0)?;
//!     let gz = device.activation_backward(&z, Activation::Relu, &gy)?;
//!     device.download(&device.conv2d_backward_weights(&shape, &x, &gz)?)
//! }
//!
//! let x = Tensor::from_fn(Shape4::new(1, 1, 3, 3), |[_, _, h, w]| (h + w) as f32)?;
//! let w = Tensor::from_vec(Shape4::new(1, 1, 3, 3), vec![0.5; 9])?;
//! let target = Tensor::from_vec(Shape4::new(1, 1, 1, 1), vec![8.0])?;
//! // y = 9, so that the loss falls with every weight, by 2 (9 - 8) times the pixel under it.
//! let g = weights_gradient(&Cpu::new()?, &x, &w, &target)?;
//! assert_eq!(g.data(), [0.0, 2.0, 4.0, 2.0, 4.0, 6.0, 4.0, 6.0, 8.0]);
//! # Ok::<(), tilewise_kernels::Error>(())
//! ```

use crate::backend::{Backend, DeviceTensor, View, ViewMut, expect_shape};
use crate::error::Result;
use crate::shape::{
    Activation, Adam, AvgPool2dParams, Axis, Conv2dShape, ConvTranspose2dShape, CrossEntropy, LinearShape,
    MaxPool2dParams, Padding, PoolShape, Sgd, Update, UpsampleMode,
};
use crate::tensor::{Shape4, Tensor};

/// What a batch normalisation in training used, kept for its gradient: tensors of one value per channel, `1 x c x 1 x 1`.
#[derive(Debug, Clone, Copy)]
pub struct Moments<V> {
    /// The mean of the batch.
    pub mean: V,
    /// `1 / sqrt(var + eps)`, of the biased variance of the batch.
    pub inv_std: V,
}

/// The gradients of a batch normalisation.
#[derive(Debug)]
pub struct BatchNormGradients<V> {
    /// To its input, of the same shape.
    pub x: V,
    /// To its factors, `1 x c x 1 x 1`.
    pub gamma: V,
    /// To what it adds, `1 x c x 1 x 1`.
    pub beta: V,
}

/// A device that computes the gradients of every operator, and the steps of the optimisers.
///
/// With `gy` the gradient of a loss with respect to an operator's result, `NAME_backward` gives that with respect to its
/// operand: of the same shape, for a loss that is a mean over the batch as for any other. The `_into` call writes it, or adds it
/// to what is there, as its [`Update`] says; what it writes to must not overlap what it reads. The easy call, defined by the
/// other, returns a new tensor. Operators with weights are planned, a plan for each gradient.
///
/// The order of every sum is fixed: results do not depend on the number of threads, and do not change from run to run.
///
/// What adds values ([`Backend::add`], [`Backend::concat`]) passes `gy` on: [`Training::add_backward_into`] copies it,
/// [`Training::concat_backward_into`] a range of its channels; where nothing is to be added up, a view of `gy` does as well.
/// Flattening is [`DeviceTensor::reshape`], there and back.
pub trait Training: Backend {
    /// The gradient of a convolution to its input: flipped weights packed, and all working memory.
    type Conv2dBackwardInput: Send;
    /// The gradient of a convolution to its weights: all working memory.
    type Conv2dBackwardWeights: Send;
    /// The gradient of a transposed convolution to its input: weights packed, and all working memory.
    type ConvTranspose2dBackwardInput: Send;
    /// The gradient of a transposed convolution to its weights: all working memory.
    type ConvTranspose2dBackwardWeights: Send;
    /// The gradient of a fully connected layer to its input: weights packed, and all working memory.
    type LinearBackwardInput: Send;
    /// The gradient of a fully connected layer to its weights: all working memory.
    type LinearBackwardWeights: Send;
    /// Where the maxima of a pooling were.
    type Argmax: Send + Sync;

    /// Replaces the weights (of shape [`Conv2dShape::weights`]) and the bias (`1 x c x 1 x 1`) of a plan, on the device.
    /// Allocates nothing. A plan made without a bias keeps none; one made with a bias wants one.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for another shape, or a bias that is missing or too many.
    fn conv2d_set_weights(
        &self,
        plan: &mut Self::Conv2d,
        weights: View<'_, Self>,
        bias: Option<View<'_, Self>>,
    ) -> Result<()>;

    /// [`Backend::plan_conv2d`] for weights (and a bias, if there is one) that change from run to run, and come with
    /// [`Training::conv2d_with_into`]. Only that runs the plan.
    ///
    /// # Errors
    /// As there.
    fn plan_conv2d_without_weights(
        &self,
        shape: Conv2dShape,
        bias: bool,
        activation: Activation,
    ) -> Result<Self::Conv2d> {
        let w = shape.weights();
        let zeros = Tensor::zeros(w)?;
        let bias = bias.then(|| vec![0.0; w.n]);
        self.plan_conv2d(shape, zeros.data(), bias.as_deref(), activation, None)
    }

    /// [`Backend::conv2d_into`] with these weights and this bias, as [`Training::conv2d_set_weights`] takes them.
    ///
    /// # Errors
    /// As there.
    fn conv2d_with_into(
        &self,
        plan: &mut Self::Conv2d,
        weights: View<'_, Self>,
        bias: Option<View<'_, Self>>,
        x: View<'_, Self>,
        y: ViewMut<'_, Self>,
    ) -> Result<()> {
        self.conv2d_set_weights(plan, weights, bias)?;
        self.conv2d_into(plan, x, y)
    }

    /// [`crate::Conv2dBackwardInputPlan::new`].
    ///
    /// # Errors
    /// As there.
    fn plan_conv2d_backward_input(
        &self,
        shape: Conv2dShape,
        weights: &[f32],
    ) -> Result<Self::Conv2dBackwardInput>;

    /// Replaces the weights of a plan, as [`Training::conv2d_set_weights`].
    ///
    /// # Errors
    /// As there.
    fn conv2d_backward_input_set_weights(
        &self,
        plan: &mut Self::Conv2dBackwardInput,
        weights: View<'_, Self>,
    ) -> Result<()>;

    /// The gradient to the input, from that to the output: [`crate::Conv2dBackwardInputPlan::run`].
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if a view has another shape than the plan's.
    fn conv2d_backward_input_into(
        &self,
        plan: &mut Self::Conv2dBackwardInput,
        gy: View<'_, Self>,
        gx: ViewMut<'_, Self>,
        update: Update,
    ) -> Result<()>;

    /// [`Training::plan_conv2d_backward_input`] for weights that change from run to run, and come with
    /// [`Training::conv2d_backward_input_with_into`]. Only that runs the plan.
    ///
    /// # Errors
    /// As there.
    fn plan_conv2d_backward_input_without_weights(
        &self,
        shape: Conv2dShape,
    ) -> Result<Self::Conv2dBackwardInput> {
        self.plan_conv2d_backward_input(shape, Tensor::zeros(shape.weights())?.data())
    }

    /// [`Training::conv2d_backward_input_into`] with these weights.
    ///
    /// # Errors
    /// As there.
    fn conv2d_backward_input_with_into(
        &self,
        plan: &mut Self::Conv2dBackwardInput,
        weights: View<'_, Self>,
        gy: View<'_, Self>,
        gx: ViewMut<'_, Self>,
        update: Update,
    ) -> Result<()> {
        self.conv2d_backward_input_set_weights(plan, weights)?;
        self.conv2d_backward_input_into(plan, gy, gx, update)
    }

    /// [`crate::Conv2dBackwardWeightsPlan::new`].
    ///
    /// # Errors
    /// As there.
    fn plan_conv2d_backward_weights(&self, shape: Conv2dShape) -> Result<Self::Conv2dBackwardWeights>;

    /// The gradient to the weights (of shape [`Conv2dShape::weights`]), from the input and the gradient to the output:
    /// [`crate::Conv2dBackwardWeightsPlan::run`].
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if a view has another shape than the plan's.
    fn conv2d_backward_weights_into(
        &self,
        plan: &mut Self::Conv2dBackwardWeights,
        x: View<'_, Self>,
        gy: View<'_, Self>,
        gw: ViewMut<'_, Self>,
        update: Update,
    ) -> Result<()>;

    /// [`Training::conv2d_set_weights`] of a transposed convolution.
    ///
    /// # Errors
    /// As there.
    fn conv_transpose2d_set_weights(
        &self,
        plan: &mut Self::ConvTranspose2d,
        weights: View<'_, Self>,
        bias: Option<View<'_, Self>>,
    ) -> Result<()>;

    /// [`crate::ConvTranspose2dBackwardInputPlan::new`].
    ///
    /// # Errors
    /// As there.
    fn plan_conv_transpose2d_backward_input(
        &self,
        shape: ConvTranspose2dShape,
        weights: &[f32],
    ) -> Result<Self::ConvTranspose2dBackwardInput>;

    /// Replaces the weights of a plan, as [`Training::conv2d_set_weights`].
    ///
    /// # Errors
    /// As there.
    fn conv_transpose2d_backward_input_set_weights(
        &self,
        plan: &mut Self::ConvTranspose2dBackwardInput,
        weights: View<'_, Self>,
    ) -> Result<()>;

    /// The gradient to the input, from that to the output: [`crate::ConvTranspose2dBackwardInputPlan::run`].
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if a view has another shape than the plan's.
    fn conv_transpose2d_backward_input_into(
        &self,
        plan: &mut Self::ConvTranspose2dBackwardInput,
        gy: View<'_, Self>,
        gx: ViewMut<'_, Self>,
        update: Update,
    ) -> Result<()>;

    /// [`crate::ConvTranspose2dBackwardWeightsPlan::new`].
    ///
    /// # Errors
    /// As there.
    fn plan_conv_transpose2d_backward_weights(
        &self,
        shape: ConvTranspose2dShape,
    ) -> Result<Self::ConvTranspose2dBackwardWeights>;

    /// The gradient to the weights (of shape [`ConvTranspose2dShape::weights`]), from the input and the gradient to the
    /// output: [`crate::ConvTranspose2dBackwardWeightsPlan::run`].
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if a view has another shape than the plan's.
    fn conv_transpose2d_backward_weights_into(
        &self,
        plan: &mut Self::ConvTranspose2dBackwardWeights,
        x: View<'_, Self>,
        gy: View<'_, Self>,
        gw: ViewMut<'_, Self>,
        update: Update,
    ) -> Result<()>;

    /// [`Training::conv2d_set_weights`] of a fully connected layer.
    ///
    /// # Errors
    /// As there.
    fn linear_set_weights(
        &self,
        plan: &mut Self::Linear,
        weights: View<'_, Self>,
        bias: Option<View<'_, Self>>,
    ) -> Result<()>;

    /// [`crate::LinearBackwardInputPlan::new`].
    ///
    /// # Errors
    /// As there.
    fn plan_linear_backward_input(
        &self,
        shape: LinearShape,
        weights: &[f32],
    ) -> Result<Self::LinearBackwardInput>;

    /// Replaces the weights of a plan, as [`Training::conv2d_set_weights`].
    ///
    /// # Errors
    /// As there.
    fn linear_backward_input_set_weights(
        &self,
        plan: &mut Self::LinearBackwardInput,
        weights: View<'_, Self>,
    ) -> Result<()>;

    /// The gradient to the input, from that to the output: [`crate::LinearBackwardInputPlan::run`].
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if a view has another shape than the plan's.
    fn linear_backward_input_into(
        &self,
        plan: &mut Self::LinearBackwardInput,
        gy: View<'_, Self>,
        gx: ViewMut<'_, Self>,
        update: Update,
    ) -> Result<()>;

    /// [`crate::LinearBackwardWeightsPlan::new`].
    ///
    /// # Errors
    /// As there.
    fn plan_linear_backward_weights(&self, shape: LinearShape) -> Result<Self::LinearBackwardWeights>;

    /// The gradient to the weights (of shape [`LinearShape::weights`]), from the input and the gradient to the output:
    /// [`crate::LinearBackwardWeightsPlan::run`].
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if a view has another shape than the plan's.
    fn linear_backward_weights_into(
        &self,
        plan: &mut Self::LinearBackwardWeights,
        x: View<'_, Self>,
        gy: View<'_, Self>,
        gw: ViewMut<'_, Self>,
        update: Update,
    ) -> Result<()>;

    /// The gradient to a bias of one value per channel, `1 x c x 1 x 1`: the sum of `gy` over batch and plane.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for another shape of `gb`.
    fn bias_backward_into(&self, gy: View<'_, Self>, gb: ViewMut<'_, Self>, update: Update) -> Result<()>;

    /// The gradient of [`Backend::activation_into`] at `x`: `gx = f'(x) * gy`.
    ///
    /// Where a derivative jumps it is that of the lower side, as in PyTorch (that of ReLU at 0 is 0). For ReLU, ReLU6 and a
    /// leaky ReLU of positive slope, `y` does as well as `x`.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for another shape of `gy` or `gx`, or a parameter that is not finite.
    fn activation_backward_into(
        &self,
        x: View<'_, Self>,
        f: Activation,
        gy: View<'_, Self>,
        gx: ViewMut<'_, Self>,
        update: Update,
    ) -> Result<()>;

    /// Memory for where the maxima of this pooling are.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if positions in a plane do not fit 32 bits; [`crate::Error::OutOfMemory`].
    fn empty_argmax(&self, shape: PoolShape) -> Result<Self::Argmax>;

    /// [`Backend::max_pool2d_into`] that also says where each maximum was: the first one of its window; of a window with NaN
    /// the last NaN, as in PyTorch. The argmax is of this pooling ([`Training::empty_argmax`]).
    ///
    /// # Errors
    /// As there, and [`crate::Error::Invalid`] for an argmax of another shape.
    fn max_pool2d_argmax_into(
        &self,
        x: View<'_, Self>,
        params: MaxPool2dParams,
        y: ViewMut<'_, Self>,
        argmax: &mut Self::Argmax,
    ) -> Result<()>;

    /// The gradient of [`Backend::max_pool2d_into`]: each element of `gy` goes to where its maximum was.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for another shape of `gy` or `gx` than the argmax has.
    fn max_pool2d_backward_into(
        &self,
        argmax: &Self::Argmax,
        gy: View<'_, Self>,
        gx: ViewMut<'_, Self>,
        update: Update,
    ) -> Result<()>;

    /// The gradient of [`Backend::avg_pool2d_into`]: each element of `gy`, divided as there, goes to its whole window.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if `gy` is not of the shape that pooling gives for that of `gx`, or as there.
    fn avg_pool2d_backward_into(
        &self,
        params: AvgPool2dParams,
        gy: View<'_, Self>,
        gx: ViewMut<'_, Self>,
        update: Update,
    ) -> Result<()>;

    /// The gradient of [`Backend::global_avg_pool_into`]. `gy` is `n x c x 1 x 1`.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if `gy` is not of the shape that pooling gives for that of `gx`.
    fn global_avg_pool_backward_into(
        &self,
        gy: View<'_, Self>,
        gx: ViewMut<'_, Self>,
        update: Update,
    ) -> Result<()>;

    /// The gradient of [`Backend::softmax_into`] where it gave `y`: `gx = y * (gy - sum over the axis of gy * y)`.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for another shape of `gy` or `gx`.
    fn softmax_backward_into(
        &self,
        y: View<'_, Self>,
        axis: Axis,
        gy: View<'_, Self>,
        gx: ViewMut<'_, Self>,
        update: Update,
    ) -> Result<()>;

    /// [`Backend::batch_norm_train_into`] that also says what it used, for [`Training::batch_norm_train_backward_into`].
    ///
    /// # Errors
    /// As there, and [`crate::Error::Invalid`] for another shape of the moments.
    fn batch_norm_moments_into(
        &self,
        x: View<'_, Self>,
        norm: crate::backend::Affine<View<'_, Self>>,
        running: Option<crate::backend::Tracked<ViewMut<'_, Self>>>,
        moments: Moments<ViewMut<'_, Self>>,
        y: ViewMut<'_, Self>,
    ) -> Result<()> {
        self.batch_norm_activation_into(x, norm, running, moments, Activation::Identity, y)
    }

    /// [`Training::batch_norm_moments_into`] and then, in the same pass, [`Backend::activation_into`].
    ///
    /// # Errors
    /// As there.
    fn batch_norm_activation_into(
        &self,
        x: View<'_, Self>,
        norm: crate::backend::Affine<View<'_, Self>>,
        running: Option<crate::backend::Tracked<ViewMut<'_, Self>>>,
        moments: Moments<ViewMut<'_, Self>>,
        f: Activation,
        y: ViewMut<'_, Self>,
    ) -> Result<()>;

    /// The gradients of [`Backend::batch_norm_train_into`] at `x`: the moments of the batch move with `x`. With
    /// `x^ = (x - mean) * inv_std` and means over batch and plane,
    /// `gx = gamma * inv_std * (gy - mean(gy) - x^ * mean(gy * x^))`, `ggamma = sum(gy * x^)`, `gbeta = sum(gy)`.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for another shape of any.
    fn batch_norm_train_backward_into(
        &self,
        x: View<'_, Self>,
        gamma: View<'_, Self>,
        moments: Moments<View<'_, Self>>,
        gy: View<'_, Self>,
        gradients: BatchNormGradients<ViewMut<'_, Self>>,
        update: Update,
    ) -> Result<()>;

    /// The gradients of [`Backend::batch_norm_into`] at `x`, with a mean and a variance that are given:
    /// `gx = gamma / sqrt(var + eps) * gy`, and the others as above.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for another shape of any, or an `eps` that is negative or not finite.
    #[expect(clippy::too_many_arguments, reason = "each is an operand of the operator or a gradient")]
    fn batch_norm_backward_into(
        &self,
        x: View<'_, Self>,
        gamma: View<'_, Self>,
        eps: f32,
        mean: View<'_, Self>,
        var: View<'_, Self>,
        gy: View<'_, Self>,
        gradients: BatchNormGradients<ViewMut<'_, Self>>,
        update: Update,
    ) -> Result<()>;

    /// The gradient of [`Backend::upsample_into`]: each element of `gy` goes to the pixels that it came from, by its weights.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if `gy` is no upsampling of something of the shape of `gx`.
    fn upsample_backward_into(
        &self,
        mode: UpsampleMode,
        gy: View<'_, Self>,
        gx: ViewMut<'_, Self>,
        update: Update,
    ) -> Result<()>;

    /// The gradient of [`Backend::concat_into`] to the input whose first channel is `first` in the output.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if `gy` has no such channels, or other images.
    fn concat_backward_into(
        &self,
        gy: View<'_, Self>,
        first: usize,
        gx: ViewMut<'_, Self>,
        update: Update,
    ) -> Result<()>;

    /// The gradient of [`Backend::add_into`] to either operand: `gy` itself.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for another shape of `gx`.
    fn add_backward_into(&self, gy: View<'_, Self>, gx: ViewMut<'_, Self>, update: Update) -> Result<()>;

    /// The gradient of [`Backend::pad_into`]: `gy` without the padding.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if `gy` is not of the shape that padding gives for that of `gx`.
    fn pad_backward_into(
        &self,
        padding: Padding,
        gy: View<'_, Self>,
        gx: ViewMut<'_, Self>,
        update: Update,
    ) -> Result<()>;

    /// The gradient of [`Backend::crop_into`]: `gy` with zeros around it.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if `gy` is not of the shape that cropping gives for that of `gx`.
    fn crop_backward_into(
        &self,
        margins: Padding,
        gy: View<'_, Self>,
        gx: ViewMut<'_, Self>,
        update: Update,
    ) -> Result<()>;

    /// The gradient of [`Backend::cross_entropy_into`] at `x`, times `gy`.
    ///
    /// # Errors
    /// As there, and [`crate::Error::Invalid`] for another shape of `gx`.
    fn cross_entropy_backward_into(
        &self,
        x: View<'_, Self>,
        labels: &[usize],
        params: CrossEntropy<'_>,
        gy: f32,
        gx: ViewMut<'_, Self>,
        update: Update,
    ) -> Result<()>;

    /// The gradient of [`Backend::bce_with_logits_into`] at `x`, times `gy`.
    ///
    /// # Errors
    /// As there, and [`crate::Error::Invalid`] for another shape of `gx`.
    fn bce_with_logits_backward_into(
        &self,
        x: View<'_, Self>,
        target: View<'_, Self>,
        pos_weight: Option<&[f32]>,
        gy: f32,
        gx: ViewMut<'_, Self>,
        update: Update,
    ) -> Result<()>;

    /// The gradient of [`Backend::mse_into`] at `x`, times `gy`; to the target it is the opposite.
    ///
    /// # Errors
    /// As there, and [`crate::Error::Invalid`] for another shape of `gx`.
    fn mse_backward_into(
        &self,
        x: View<'_, Self>,
        target: View<'_, Self>,
        gy: f32,
        gx: ViewMut<'_, Self>,
        update: Update,
    ) -> Result<()>;

    /// The gradient of [`Backend::l1_into`] at `x`, times `gy`: 0 where `x` is the target; to the target it is the opposite.
    ///
    /// # Errors
    /// As there, and [`crate::Error::Invalid`] for another shape of `gx`.
    fn l1_backward_into(
        &self,
        x: View<'_, Self>,
        target: View<'_, Self>,
        gy: f32,
        gx: ViewMut<'_, Self>,
        update: Update,
    ) -> Result<()>;

    /// The gradient of [`Backend::dice_into`] at `x`, times `gy`.
    ///
    /// # Errors
    /// As there, and [`crate::Error::Invalid`] for another shape of `gx`.
    fn dice_backward_into(
        &self,
        x: View<'_, Self>,
        target: View<'_, Self>,
        smooth: f32,
        gy: f32,
        gx: ViewMut<'_, Self>,
        update: Update,
    ) -> Result<()>;

    /// A step of [`Sgd`]: changes the parameters `p` and, where there is momentum, the velocity (zeros before the first
    /// step). All have one shape, whatever it is.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for hyper-parameters that make no step ([`Sgd::validate`]), shapes that differ, or momentum
    /// without a velocity.
    fn sgd_step(
        &self,
        sgd: &Sgd,
        p: ViewMut<'_, Self>,
        g: View<'_, Self>,
        velocity: Option<ViewMut<'_, Self>>,
    ) -> Result<()>;

    /// Step number `step` (from 1) of [`Adam`]: changes the parameters `p`, the mean `m` of the gradients and that of their
    /// squares, `v` (zeros before the first step). All have one shape, whatever it is.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for hyper-parameters that make no step ([`Adam::validate`]), shapes that differ, or step 0.
    fn adam_step(
        &self,
        adam: &Adam,
        step: u64,
        p: ViewMut<'_, Self>,
        g: View<'_, Self>,
        m: ViewMut<'_, Self>,
        v: ViewMut<'_, Self>,
    ) -> Result<()>;

    /// Scales `g` so that its L2 norm is at most `max_norm`, and writes the norm that it had to the single element of `norm`
    /// (`1 x 1 x 1 x 1`): `g *= min(1, max_norm / (norm + 1e-6))`, as `torch.nn.utils.clip_grad_norm_`. Nothing is read back.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for another shape of `norm`, or a `max_norm` that is negative or NaN.
    fn clip_norm_into(&self, g: ViewMut<'_, Self>, max_norm: f32, norm: ViewMut<'_, Self>) -> Result<()>;

    /// The gradient of a convolution of this shape to its input. Plans every time.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if a shape does not fit.
    fn conv2d_backward_input(
        &self,
        shape: &Conv2dShape,
        weights: &Tensor,
        gy: &Self::Tensor,
    ) -> Result<Self::Tensor> {
        expect_shape("conv2d_backward_input", "weights shape", shape.weights(), weights.shape())?;
        let mut plan = self.plan_conv2d_backward_input(*shape, weights.data())?;
        self.written(shape.input(), |gx| {
            self.conv2d_backward_input_into(&mut plan, gy.view(), gx, Update::Write)
        })
    }

    /// The gradient of a convolution of this shape to its weights. Plans every time.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if a shape does not fit.
    fn conv2d_backward_weights(
        &self,
        shape: &Conv2dShape,
        x: &Self::Tensor,
        gy: &Self::Tensor,
    ) -> Result<Self::Tensor> {
        let mut plan = self.plan_conv2d_backward_weights(*shape)?;
        self.written(shape.weights(), |gw| {
            self.conv2d_backward_weights_into(&mut plan, x.view(), gy.view(), gw, Update::Write)
        })
    }

    /// The gradient of a transposed convolution of this shape to its input. Plans every time.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if a shape does not fit.
    fn conv_transpose2d_backward_input(
        &self,
        shape: &ConvTranspose2dShape,
        weights: &Tensor,
        gy: &Self::Tensor,
    ) -> Result<Self::Tensor> {
        expect_shape("conv_transpose2d_backward_input", "weights shape", shape.weights(), weights.shape())?;
        let mut plan = self.plan_conv_transpose2d_backward_input(*shape, weights.data())?;
        self.written(shape.input(), |gx| {
            self.conv_transpose2d_backward_input_into(&mut plan, gy.view(), gx, Update::Write)
        })
    }

    /// The gradient of a transposed convolution of this shape to its weights. Plans every time.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if a shape does not fit.
    fn conv_transpose2d_backward_weights(
        &self,
        shape: &ConvTranspose2dShape,
        x: &Self::Tensor,
        gy: &Self::Tensor,
    ) -> Result<Self::Tensor> {
        let mut plan = self.plan_conv_transpose2d_backward_weights(*shape)?;
        self.written(shape.weights(), |gw| {
            self.conv_transpose2d_backward_weights_into(&mut plan, x.view(), gy.view(), gw, Update::Write)
        })
    }

    /// The gradient of a fully connected layer of this shape to its input. Plans every time.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if a shape does not fit.
    fn linear_backward_input(
        &self,
        shape: &LinearShape,
        weights: &Tensor,
        gy: &Self::Tensor,
    ) -> Result<Self::Tensor> {
        expect_shape("linear_backward_input", "weights shape", shape.weights(), weights.shape())?;
        let mut plan = self.plan_linear_backward_input(*shape, weights.data())?;
        self.written(shape.input(), |gx| {
            self.linear_backward_input_into(&mut plan, gy.view(), gx, Update::Write)
        })
    }

    /// The gradient of a fully connected layer of this shape to its weights. Plans every time.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if a shape does not fit.
    fn linear_backward_weights(
        &self,
        shape: &LinearShape,
        x: &Self::Tensor,
        gy: &Self::Tensor,
    ) -> Result<Self::Tensor> {
        let mut plan = self.plan_linear_backward_weights(*shape)?;
        self.written(shape.weights(), |gw| {
            self.linear_backward_weights_into(&mut plan, x.view(), gy.view(), gw, Update::Write)
        })
    }

    /// [`Training::bias_backward_into`] as a new tensor.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    fn bias_backward(&self, gy: &Self::Tensor) -> Result<Self::Tensor> {
        let shape = Shape4::new(1, gy.shape().c, 1, 1);
        self.written(shape, |gb| self.bias_backward_into(gy.view(), gb, Update::Write))
    }

    /// [`Training::activation_backward_into`] as a new tensor.
    ///
    /// # Errors
    /// As there.
    fn activation_backward(
        &self,
        x: &Self::Tensor,
        f: Activation,
        gy: &Self::Tensor,
    ) -> Result<Self::Tensor> {
        self.written(x.shape(), |gx| self.activation_backward_into(x.view(), f, gy.view(), gx, Update::Write))
    }

    /// [`Training::max_pool2d_argmax_into`] as a new tensor and a new argmax.
    ///
    /// # Errors
    /// As there.
    fn max_pool2d_argmax(
        &self,
        x: &Self::Tensor,
        params: MaxPool2dParams,
    ) -> Result<(Self::Tensor, Self::Argmax)> {
        let shape = PoolShape::max(x.shape(), params)?;
        let mut argmax = self.empty_argmax(shape)?;
        let y =
            self.written(shape.output(), |y| self.max_pool2d_argmax_into(x.view(), params, y, &mut argmax))?;
        Ok((y, argmax))
    }

    /// [`Training::max_pool2d_backward_into`] as a new tensor, of the shape `input`.
    ///
    /// # Errors
    /// As there.
    fn max_pool2d_backward(
        &self,
        input: Shape4,
        argmax: &Self::Argmax,
        gy: &Self::Tensor,
    ) -> Result<Self::Tensor> {
        self.written(input, |gx| self.max_pool2d_backward_into(argmax, gy.view(), gx, Update::Write))
    }

    /// [`Training::avg_pool2d_backward_into`] as a new tensor, of the shape `input`.
    ///
    /// # Errors
    /// As there.
    fn avg_pool2d_backward(
        &self,
        input: Shape4,
        params: AvgPool2dParams,
        gy: &Self::Tensor,
    ) -> Result<Self::Tensor> {
        self.written(input, |gx| self.avg_pool2d_backward_into(params, gy.view(), gx, Update::Write))
    }

    /// [`Training::global_avg_pool_backward_into`] as a new tensor, of the shape `input`.
    ///
    /// # Errors
    /// As there.
    fn global_avg_pool_backward(&self, input: Shape4, gy: &Self::Tensor) -> Result<Self::Tensor> {
        self.written(input, |gx| self.global_avg_pool_backward_into(gy.view(), gx, Update::Write))
    }

    /// [`Training::softmax_backward_into`] as a new tensor.
    ///
    /// # Errors
    /// As there.
    fn softmax_backward(&self, y: &Self::Tensor, axis: Axis, gy: &Self::Tensor) -> Result<Self::Tensor> {
        self.written(y.shape(), |gx| self.softmax_backward_into(y.view(), axis, gy.view(), gx, Update::Write))
    }

    /// [`Training::upsample_backward_into`] as a new tensor, of the shape `input`.
    ///
    /// # Errors
    /// As there.
    fn upsample_backward(
        &self,
        input: Shape4,
        mode: UpsampleMode,
        gy: &Self::Tensor,
    ) -> Result<Self::Tensor> {
        self.written(input, |gx| self.upsample_backward_into(mode, gy.view(), gx, Update::Write))
    }

    /// [`Training::concat_backward_into`] as new tensors, one for each of the inputs, which had these shapes.
    ///
    /// # Errors
    /// As there.
    fn concat_backward(&self, inputs: &[Shape4], gy: &Self::Tensor) -> Result<Vec<Self::Tensor>> {
        let mut first = 0usize;
        inputs
            .iter()
            .map(|&input| {
                let at = first;
                first = first.saturating_add(input.c);
                self.written(input, |gx| self.concat_backward_into(gy.view(), at, gx, Update::Write))
            })
            .collect()
    }

    /// [`Training::pad_backward_into`] as a new tensor, of the shape `input`.
    ///
    /// # Errors
    /// As there.
    fn pad_backward(&self, input: Shape4, padding: Padding, gy: &Self::Tensor) -> Result<Self::Tensor> {
        self.written(input, |gx| self.pad_backward_into(padding, gy.view(), gx, Update::Write))
    }

    /// [`Training::crop_backward_into`] as a new tensor, of the shape `input`.
    ///
    /// # Errors
    /// As there.
    fn crop_backward(&self, input: Shape4, margins: Padding, gy: &Self::Tensor) -> Result<Self::Tensor> {
        self.written(input, |gx| self.crop_backward_into(margins, gy.view(), gx, Update::Write))
    }

    /// [`Training::cross_entropy_backward_into`] as a new tensor.
    ///
    /// # Errors
    /// As there.
    fn cross_entropy_backward(
        &self,
        x: &Self::Tensor,
        labels: &[usize],
        params: CrossEntropy<'_>,
        gy: f32,
    ) -> Result<Self::Tensor> {
        self.written(x.shape(), |gx| {
            self.cross_entropy_backward_into(x.view(), labels, params, gy, gx, Update::Write)
        })
    }

    /// [`Training::bce_with_logits_backward_into`] as a new tensor.
    ///
    /// # Errors
    /// As there.
    fn bce_with_logits_backward(
        &self,
        x: &Self::Tensor,
        target: &Self::Tensor,
        pos_weight: Option<&[f32]>,
        gy: f32,
    ) -> Result<Self::Tensor> {
        self.written(x.shape(), |gx| {
            self.bce_with_logits_backward_into(x.view(), target.view(), pos_weight, gy, gx, Update::Write)
        })
    }

    /// [`Training::mse_backward_into`] as a new tensor.
    ///
    /// # Errors
    /// As there.
    fn mse_backward(&self, x: &Self::Tensor, target: &Self::Tensor, gy: f32) -> Result<Self::Tensor> {
        self.written(x.shape(), |gx| self.mse_backward_into(x.view(), target.view(), gy, gx, Update::Write))
    }

    /// [`Training::l1_backward_into`] as a new tensor.
    ///
    /// # Errors
    /// As there.
    fn l1_backward(&self, x: &Self::Tensor, target: &Self::Tensor, gy: f32) -> Result<Self::Tensor> {
        self.written(x.shape(), |gx| self.l1_backward_into(x.view(), target.view(), gy, gx, Update::Write))
    }

    /// [`Training::dice_backward_into`] as a new tensor.
    ///
    /// # Errors
    /// As there.
    fn dice_backward(
        &self,
        x: &Self::Tensor,
        target: &Self::Tensor,
        smooth: f32,
        gy: f32,
    ) -> Result<Self::Tensor> {
        self.written(x.shape(), |gx| {
            self.dice_backward_into(x.view(), target.view(), smooth, gy, gx, Update::Write)
        })
    }

    /// The gradient of [`Backend::bce_dice`] as a new tensor: that of Dice, added to that of the binary cross-entropy.
    ///
    /// # Errors
    /// As there.
    fn bce_dice_backward(
        &self,
        x: &Self::Tensor,
        target: &Self::Tensor,
        pos_weight: Option<&[f32]>,
        smooth: f32,
        gy: f32,
    ) -> Result<Self::Tensor> {
        let mut gx = self.bce_with_logits_backward(x, target, pos_weight, gy)?;
        let (x, target) = (x.view(), target.view());
        self.dice_backward_into(x, target, smooth, gy, gx.view_mut(), Update::Accumulate)?;
        Ok(gx)
    }
}
