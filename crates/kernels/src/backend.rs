//! One vocabulary for all devices: a network written over [`Backend`] runs on the CPU and on a GPU.
//!
//! ```
//! use tilewise_kernels::{Backend, Conv2dParams, Cpu, MaxPool2dParams, Result, Shape4, Tensor};
//!
//! fn network<B: Backend>(device: &B, image: &Tensor, edges: &Tensor) -> Result<Tensor> {
//!     let x = device.upload(image)?;
//!     let y = device.conv2d(&x, edges, None, Conv2dParams::default())?;
//!     let y = device.max_pool2d(&device.relu(&y)?, MaxPool2dParams::new(2))?;
//!     device.download(&y)
//! }
//!
//! let image = Tensor::from_fn(Shape4::new(1, 1, 6, 6), |[_, _, _, w]| if w < 3 { 0.0 } else { 1.0 })?;
//! let edges = Tensor::from_vec(Shape4::new(1, 1, 1, 2), vec![-1.0, 1.0])?;
//! let y = network(&Cpu::new()?, &image, &edges)?; // or network(&Gpu::new()?, ...), with feature `gpu`
//! assert_eq!(y.data(), [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
//! # Ok::<(), tilewise_kernels::Error>(())
//! ```

use std::ops::Range;

use crate::error::{Error, Result};
use crate::shape::{
    Activation, AvgPool2dParams, Axis, Conv2dAlgo, Conv2dParams, Conv2dShape, ConvTranspose2dParams,
    ConvTranspose2dShape, CropShape, CrossEntropy, LinearShape, MaxPool2dParams, PadShape, Padding,
    PoolShape, UpsampleMode, UpsampleShape, concat_shape,
};
use crate::tensor::{Shape4, Tensor, TensorView, TensorViewMut};

/// A tensor in the memory of a device.
pub trait DeviceTensor: Sized {
    /// Borrowed, to be read.
    type View<'a>: DeviceView + Copy
    where
        Self: 'a;
    /// Borrowed, to be written.
    type ViewMut<'a>: DeviceView
    where
        Self: 'a;

    /// The extents.
    fn shape(&self) -> Shape4;

    /// Borrows all of it.
    fn view(&self) -> Self::View<'_>;

    /// Borrows all of it, to be written.
    fn view_mut(&mut self) -> Self::ViewMut<'_>;

    /// The same elements with other extents.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if their number differs.
    fn reshape(self, shape: Shape4) -> Result<Self>;
}

/// Some channels of every image of a tensor, on any device.
pub trait DeviceView: Sized {
    /// The extents.
    fn shape(&self) -> Shape4;

    /// The channels of `range`, in every image.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if the range is not within the channels.
    fn channels(self, range: Range<usize>) -> Result<Self>;

    /// The same elements with other extents: a part of a flat buffer of parameters as the weights of a layer, say.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if their number differs, or something lies between the images.
    fn reshape(self, shape: Shape4) -> Result<Self>;
}

/// What a batch normalisation has learnt: tensors of one value per channel.
#[derive(Debug, Clone, Copy)]
pub struct Affine<V> {
    /// Factors of the normalised values.
    pub gamma: V,
    /// What is added to them.
    pub beta: V,
    /// Added to the variance (PyTorch's default is 1e-5).
    pub eps: f32,
}

/// The running statistics of a batch normalisation in training: tensors of one value per channel.
#[derive(Debug)]
pub struct Tracked<V> {
    /// Becomes `(1 - momentum) * mean + momentum * mean of the batch`.
    pub mean: V,
    /// The same with the unbiased variance of the batch (divided by the count less one), as in PyTorch.
    pub var: V,
    /// The weight of the batch (PyTorch's default is 0.1).
    pub momentum: f32,
}

/// A borrowed tensor of the backend `B`.
pub type View<'a, B> = <<B as Backend>::Tensor as DeviceTensor>::View<'a>;

/// A borrowed tensor of the backend `B`, to be written.
pub type ViewMut<'a, B> = <<B as Backend>::Tensor as DeviceTensor>::ViewMut<'a>;

/// A device that computes every operator: the CPU or a GPU.
///
/// Operators come twice, as on [`crate::Cpu`]: the easy call takes tensors and returns a new one; the `_into` call writes
/// to a view. Operators with weights are planned: the weights are packed (on a GPU: uploaded) once. Operators of a GPU are
/// queued, and run when a result is downloaded; nothing is read back between them.
///
/// Shapes, semantics and errors are those of the methods of the same name of [`crate::Cpu`] and of the plans there; what a
/// device adds to the errors is said at [`crate::Error`].
pub trait Backend: Send + Sync {
    /// A tensor in the memory of the device.
    type Tensor: DeviceTensor + Send + Sync + 'static;
    /// A convolution with packed weights and all working memory.
    type Conv2d: Send;
    /// A transposed convolution with packed weights and all working memory.
    type ConvTranspose2d: Send;
    /// A fully connected layer with packed weights and all working memory.
    type Linear: Send;

    /// A tensor of the device with any contents.
    ///
    /// # Errors
    /// [`crate::Error::Overflow`] or [`crate::Error::OutOfMemory`] if it is too large.
    fn empty(&self, shape: Shape4) -> Result<Self::Tensor>;

    /// A copy of `x` on the device.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    fn upload(&self, x: &Tensor) -> Result<Self::Tensor>;

    /// A copy of `x` from the device; waits for all that it depends on.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`]; on a GPU, whatever went wrong in the operators that were queued.
    fn download(&self, x: &Self::Tensor) -> Result<Tensor>;

    /// Copies a tensor from the host to a view of its shape, behind all that was queued before; allocates nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] for another shape; those of the device.
    fn upload_into(&self, x: TensorView<'_>, y: ViewMut<'_, Self>) -> Result<()>;

    /// Copies a view to a tensor of its shape on the host; on a GPU, all that was queued runs now.
    ///
    /// # Errors
    /// [`Error::Invalid`] for another shape; those of the device.
    fn download_into(&self, x: View<'_, Self>, y: &mut Tensor) -> Result<()>;

    /// [`crate::Conv2dPlan::new`].
    ///
    /// # Errors
    /// As there.
    fn plan_conv2d(
        &self,
        shape: Conv2dShape,
        weights: &[f32],
        bias: Option<&[f32]>,
        activation: Activation,
        algo: Option<Conv2dAlgo>,
    ) -> Result<Self::Conv2d>;

    /// `y = activation(conv(x) + bias)`, as [`crate::Conv2dPlan::run`].
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if a view has another shape than the plan's.
    fn conv2d_into(&self, plan: &mut Self::Conv2d, x: View<'_, Self>, y: ViewMut<'_, Self>) -> Result<()>;

    /// [`crate::ConvTranspose2dPlan::new`].
    ///
    /// # Errors
    /// As there.
    fn plan_conv_transpose2d(
        &self,
        shape: ConvTranspose2dShape,
        weights: &[f32],
        bias: Option<&[f32]>,
        activation: Activation,
    ) -> Result<Self::ConvTranspose2d>;

    /// `y = activation(conv_transpose(x) + bias)`, as [`crate::ConvTranspose2dPlan::run`].
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if a view has another shape than the plan's.
    fn conv_transpose2d_into(
        &self,
        plan: &mut Self::ConvTranspose2d,
        x: View<'_, Self>,
        y: ViewMut<'_, Self>,
    ) -> Result<()>;

    /// [`crate::LinearPlan::new`].
    ///
    /// # Errors
    /// As there.
    fn plan_linear(
        &self,
        shape: LinearShape,
        weights: &[f32],
        bias: Option<&[f32]>,
        activation: Activation,
    ) -> Result<Self::Linear>;

    /// `y = activation(x * weights^T + bias)`, as [`crate::LinearPlan::run`].
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if a view has another shape than the plan's.
    fn linear_into(&self, plan: &mut Self::Linear, x: View<'_, Self>, y: ViewMut<'_, Self>) -> Result<()>;

    /// [`crate::Cpu::activation_into`].
    ///
    /// # Errors
    /// As there.
    fn activation_into(&self, x: View<'_, Self>, f: Activation, y: ViewMut<'_, Self>) -> Result<()>;

    /// [`crate::Cpu::max_pool2d_into`].
    ///
    /// # Errors
    /// As there.
    fn max_pool2d_into(&self, x: View<'_, Self>, params: MaxPool2dParams, y: ViewMut<'_, Self>)
    -> Result<()>;

    /// [`crate::Cpu::avg_pool2d_into`].
    ///
    /// # Errors
    /// As there.
    fn avg_pool2d_into(&self, x: View<'_, Self>, params: AvgPool2dParams, y: ViewMut<'_, Self>)
    -> Result<()>;

    /// [`crate::Cpu::global_avg_pool_into`].
    ///
    /// # Errors
    /// As there.
    fn global_avg_pool_into(&self, x: View<'_, Self>, y: ViewMut<'_, Self>) -> Result<()>;

    /// [`crate::Cpu::softmax_into`].
    ///
    /// # Errors
    /// As there.
    fn softmax_into(&self, x: View<'_, Self>, axis: Axis, y: ViewMut<'_, Self>) -> Result<()>;

    /// [`crate::Cpu::batch_norm_into`]; every statistic is a tensor of one value per channel, `1 x c x 1 x 1`.
    ///
    /// # Errors
    /// As there.
    fn batch_norm_into(
        &self,
        x: View<'_, Self>,
        norm: Affine<View<'_, Self>>,
        mean: View<'_, Self>,
        var: View<'_, Self>,
        y: ViewMut<'_, Self>,
    ) -> Result<()>;

    /// [`crate::Cpu::batch_norm_train_into`]; every statistic is a tensor of one value per channel, `1 x c x 1 x 1`.
    ///
    /// # Errors
    /// As there.
    fn batch_norm_train_into(
        &self,
        x: View<'_, Self>,
        norm: Affine<View<'_, Self>>,
        running: Option<Tracked<ViewMut<'_, Self>>>,
        y: ViewMut<'_, Self>,
    ) -> Result<()>;

    /// [`crate::Cpu::upsample_into`].
    ///
    /// # Errors
    /// As there.
    fn upsample_into(&self, x: View<'_, Self>, mode: UpsampleMode, y: ViewMut<'_, Self>) -> Result<()>;

    /// [`crate::Cpu::concat_into`].
    ///
    /// # Errors
    /// As there.
    fn concat_into(&self, inputs: &[View<'_, Self>], y: ViewMut<'_, Self>) -> Result<()>;

    /// [`crate::Cpu::add_into`].
    ///
    /// # Errors
    /// As there.
    fn add_into(&self, a: View<'_, Self>, b: View<'_, Self>, y: ViewMut<'_, Self>) -> Result<()>;

    /// [`crate::Cpu::pad_into`].
    ///
    /// # Errors
    /// As there.
    fn pad_into(&self, x: View<'_, Self>, padding: Padding, value: f32, y: ViewMut<'_, Self>) -> Result<()>;

    /// [`crate::Cpu::crop_into`].
    ///
    /// # Errors
    /// As there.
    fn crop_into(&self, x: View<'_, Self>, margins: Padding, y: ViewMut<'_, Self>) -> Result<()>;

    /// [`crate::Cpu::cross_entropy_into`].
    ///
    /// # Errors
    /// As there.
    fn cross_entropy_into(
        &self,
        x: View<'_, Self>,
        labels: &[usize],
        params: CrossEntropy<'_>,
        y: ViewMut<'_, Self>,
    ) -> Result<()>;

    /// [`crate::Cpu::bce_with_logits_into`].
    ///
    /// # Errors
    /// As there.
    fn bce_with_logits_into(
        &self,
        x: View<'_, Self>,
        target: View<'_, Self>,
        pos_weight: Option<&[f32]>,
        y: ViewMut<'_, Self>,
    ) -> Result<()>;

    /// [`crate::Cpu::mse_into`].
    ///
    /// # Errors
    /// As there.
    fn mse_into(&self, x: View<'_, Self>, target: View<'_, Self>, y: ViewMut<'_, Self>) -> Result<()>;

    /// [`crate::Cpu::l1_into`].
    ///
    /// # Errors
    /// As there.
    fn l1_into(&self, x: View<'_, Self>, target: View<'_, Self>, y: ViewMut<'_, Self>) -> Result<()>;

    /// [`crate::Cpu::dice_into`].
    ///
    /// # Errors
    /// As there.
    fn dice_into(
        &self,
        x: View<'_, Self>,
        target: View<'_, Self>,
        smooth: f32,
        y: ViewMut<'_, Self>,
    ) -> Result<()>;

    /// [`crate::Cpu::conv2d`]. Plans every time: for weights that are used again, see [`Backend::plan_conv2d`].
    ///
    /// # Errors
    /// As there.
    fn conv2d(
        &self,
        x: &Self::Tensor,
        weights: &Tensor,
        bias: Option<&[f32]>,
        params: Conv2dParams,
    ) -> Result<Self::Tensor> {
        let w = weights.shape();
        let shape = Conv2dShape::new(x.shape(), w.n, [w.h, w.w], params)?;
        expect_shape("conv2d", "weights shape", shape.weights(), w)?;
        let mut plan = self.plan_conv2d(shape, weights.data(), bias, Activation::Identity, None)?;
        self.written(shape.output(), |y| self.conv2d_into(&mut plan, x.view(), y))
    }

    /// [`crate::Cpu::conv_transpose2d`]. Plans every time.
    ///
    /// # Errors
    /// As there.
    fn conv_transpose2d(
        &self,
        x: &Self::Tensor,
        weights: &Tensor,
        bias: Option<&[f32]>,
        params: ConvTranspose2dParams,
    ) -> Result<Self::Tensor> {
        let w = weights.shape();
        let out_channels = w.c.saturating_mul(params.groups);
        let shape = ConvTranspose2dShape::new(x.shape(), out_channels, [w.h, w.w], params)?;
        expect_shape("conv_transpose2d", "weights shape", shape.weights(), w)?;
        let mut plan = self.plan_conv_transpose2d(shape, weights.data(), bias, Activation::Identity)?;
        self.written(shape.output(), |y| self.conv_transpose2d_into(&mut plan, x.view(), y))
    }

    /// [`crate::Cpu::linear`]. Plans every time.
    ///
    /// # Errors
    /// As there.
    fn linear(&self, x: &Self::Tensor, weights: &Tensor, bias: Option<&[f32]>) -> Result<Self::Tensor> {
        let shape = LinearShape::new(x.shape(), weights.shape().n)?;
        expect_shape("linear", "weights shape", shape.weights(), weights.shape())?;
        let mut plan = self.plan_linear(shape, weights.data(), bias, Activation::Identity)?;
        self.written(shape.output(), |y| self.linear_into(&mut plan, x.view(), y))
    }

    /// [`crate::Cpu::activation`].
    ///
    /// # Errors
    /// As there.
    fn activation(&self, x: &Self::Tensor, f: Activation) -> Result<Self::Tensor> {
        self.written(x.shape(), |y| self.activation_into(x.view(), f, y))
    }

    /// [`crate::Cpu::relu`].
    ///
    /// # Errors
    /// As there.
    fn relu(&self, x: &Self::Tensor) -> Result<Self::Tensor> {
        self.activation(x, Activation::Relu)
    }

    /// [`crate::Cpu::max_pool2d`].
    ///
    /// # Errors
    /// As there.
    fn max_pool2d(&self, x: &Self::Tensor, params: MaxPool2dParams) -> Result<Self::Tensor> {
        let shape = PoolShape::max(x.shape(), params)?;
        self.written(shape.output(), |y| self.max_pool2d_into(x.view(), params, y))
    }

    /// [`crate::Cpu::avg_pool2d`].
    ///
    /// # Errors
    /// As there.
    fn avg_pool2d(&self, x: &Self::Tensor, params: AvgPool2dParams) -> Result<Self::Tensor> {
        let shape = PoolShape::avg(x.shape(), params)?;
        self.written(shape.output(), |y| self.avg_pool2d_into(x.view(), params, y))
    }

    /// [`crate::Cpu::global_avg_pool`].
    ///
    /// # Errors
    /// As there.
    fn global_avg_pool(&self, x: &Self::Tensor) -> Result<Self::Tensor> {
        let output = Shape4 { h: 1, w: 1, ..x.shape() };
        self.written(output, |y| self.global_avg_pool_into(x.view(), y))
    }

    /// [`crate::Cpu::softmax`].
    ///
    /// # Errors
    /// As there.
    fn softmax(&self, x: &Self::Tensor, axis: Axis) -> Result<Self::Tensor> {
        self.written(x.shape(), |y| self.softmax_into(x.view(), axis, y))
    }

    /// [`crate::Cpu::batch_norm`]; every statistic is a tensor of one value per channel, `1 x c x 1 x 1`.
    ///
    /// # Errors
    /// As there.
    fn batch_norm(
        &self,
        x: &Self::Tensor,
        norm: Affine<&Self::Tensor>,
        mean: &Self::Tensor,
        var: &Self::Tensor,
    ) -> Result<Self::Tensor> {
        let norm = Affine { gamma: norm.gamma.view(), beta: norm.beta.view(), eps: norm.eps };
        self.written(x.shape(), |y| self.batch_norm_into(x.view(), norm, mean.view(), var.view(), y))
    }

    /// [`crate::Cpu::batch_norm_train`]; every statistic is a tensor of one value per channel, `1 x c x 1 x 1`.
    ///
    /// # Errors
    /// As there.
    fn batch_norm_train(
        &self,
        x: &Self::Tensor,
        norm: Affine<&Self::Tensor>,
        running: Option<Tracked<&mut Self::Tensor>>,
    ) -> Result<Self::Tensor> {
        let norm = Affine { gamma: norm.gamma.view(), beta: norm.beta.view(), eps: norm.eps };
        let running = running.map(|Tracked { mean, var, momentum }| Tracked {
            mean: mean.view_mut(),
            var: var.view_mut(),
            momentum,
        });
        self.written(x.shape(), |y| self.batch_norm_train_into(x.view(), norm, running, y))
    }

    /// [`crate::Cpu::upsample`].
    ///
    /// # Errors
    /// As there.
    fn upsample(&self, x: &Self::Tensor, size: [usize; 2], mode: UpsampleMode) -> Result<Self::Tensor> {
        let shape = UpsampleShape::new(x.shape(), size, mode)?;
        self.written(shape.output(), |y| self.upsample_into(x.view(), mode, y))
    }

    /// [`crate::Cpu::concat`].
    ///
    /// # Errors
    /// As there.
    fn concat(&self, inputs: &[&Self::Tensor]) -> Result<Self::Tensor> {
        let shape = concat_shape(inputs.iter().map(|x| x.shape()))?;
        let views: Vec<_> = inputs.iter().map(|x| x.view()).collect();
        self.written(shape, |y| self.concat_into(&views, y))
    }

    /// [`crate::Cpu::add`].
    ///
    /// # Errors
    /// As there.
    fn add(&self, a: &Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor> {
        self.written(a.shape(), |y| self.add_into(a.view(), b.view(), y))
    }

    /// [`crate::Cpu::pad`].
    ///
    /// # Errors
    /// As there.
    fn pad(&self, x: &Self::Tensor, padding: Padding, value: f32) -> Result<Self::Tensor> {
        let shape = PadShape::new(x.shape(), padding)?;
        self.written(shape.output(), |y| self.pad_into(x.view(), padding, value, y))
    }

    /// [`crate::Cpu::crop`].
    ///
    /// # Errors
    /// As there.
    fn crop(&self, x: &Self::Tensor, margins: Padding) -> Result<Self::Tensor> {
        let shape = CropShape::new(x.shape(), margins)?;
        self.written(shape.output(), |y| self.crop_into(x.view(), margins, y))
    }

    /// [`crate::Cpu::cross_entropy`], as a tensor of one element.
    ///
    /// # Errors
    /// As there.
    fn cross_entropy(
        &self,
        x: &Self::Tensor,
        labels: &[usize],
        params: CrossEntropy<'_>,
    ) -> Result<Self::Tensor> {
        self.written(SCALAR, |y| self.cross_entropy_into(x.view(), labels, params, y))
    }

    /// [`crate::Cpu::bce_with_logits`], as a tensor of one element.
    ///
    /// # Errors
    /// As there.
    fn bce_with_logits(
        &self,
        x: &Self::Tensor,
        target: &Self::Tensor,
        pos_weight: Option<&[f32]>,
    ) -> Result<Self::Tensor> {
        self.written(SCALAR, |y| self.bce_with_logits_into(x.view(), target.view(), pos_weight, y))
    }

    /// [`crate::Cpu::mse`], as a tensor of one element.
    ///
    /// # Errors
    /// As there.
    fn mse(&self, x: &Self::Tensor, target: &Self::Tensor) -> Result<Self::Tensor> {
        self.written(SCALAR, |y| self.mse_into(x.view(), target.view(), y))
    }

    /// [`crate::Cpu::l1`], as a tensor of one element.
    ///
    /// # Errors
    /// As there.
    fn l1(&self, x: &Self::Tensor, target: &Self::Tensor) -> Result<Self::Tensor> {
        self.written(SCALAR, |y| self.l1_into(x.view(), target.view(), y))
    }

    /// [`crate::Cpu::dice`], as a tensor of one element.
    ///
    /// # Errors
    /// As there.
    fn dice(&self, x: &Self::Tensor, target: &Self::Tensor, smooth: f32) -> Result<Self::Tensor> {
        self.written(SCALAR, |y| self.dice_into(x.view(), target.view(), smooth, y))
    }

    /// The sum of [`Backend::bce_with_logits`] and [`Backend::dice`], as segmentations of small objects want it.
    ///
    /// # Errors
    /// As there.
    fn bce_dice(
        &self,
        x: &Self::Tensor,
        target: &Self::Tensor,
        pos_weight: Option<&[f32]>,
        smooth: f32,
    ) -> Result<Self::Tensor> {
        self.add(&self.bce_with_logits(x, target, pos_weight)?, &self.dice(x, target, smooth)?)
    }

    /// A new tensor, all of which `write` writes.
    ///
    /// # Errors
    /// Those of [`Backend::empty`] and of `write`.
    fn written(
        &self,
        shape: Shape4,
        write: impl FnOnce(ViewMut<'_, Self>) -> Result<()>,
    ) -> Result<Self::Tensor> {
        let mut y = self.empty(shape)?;
        write(y.view_mut())?;
        Ok(y)
    }
}

/// The extents of a loss.
pub(crate) const SCALAR: Shape4 = Shape4::new(1, 1, 1, 1);

/// Refuses a shape that is not the expected one.
pub(crate) fn expect_shape(op: &'static str, arg: &'static str, expected: Shape4, got: Shape4) -> Result<()> {
    if got == expected { Ok(()) } else { Err(Error::invalid(op, arg, expected, got)) }
}

impl DeviceTensor for Tensor {
    type View<'a> = TensorView<'a>;
    type ViewMut<'a> = TensorViewMut<'a>;

    fn shape(&self) -> Shape4 {
        self.shape()
    }

    fn view(&self) -> TensorView<'_> {
        self.view()
    }

    fn view_mut(&mut self) -> TensorViewMut<'_> {
        self.view_mut()
    }

    fn reshape(self, shape: Shape4) -> Result<Self> {
        self.reshape(shape)
    }
}

impl DeviceView for TensorView<'_> {
    fn shape(&self) -> Shape4 {
        self.shape()
    }

    fn channels(self, range: Range<usize>) -> Result<Self> {
        self.channels(range)
    }

    fn reshape(self, shape: Shape4) -> Result<Self> {
        self.reshape(shape)
    }
}

impl DeviceView for TensorViewMut<'_> {
    fn shape(&self) -> Shape4 {
        self.shape()
    }

    fn channels(self, range: Range<usize>) -> Result<Self> {
        self.channels(range)
    }

    fn reshape(self, shape: Shape4) -> Result<Self> {
        self.reshape(shape)
    }
}
