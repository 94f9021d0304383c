//! One description of a problem, for the check, the bench and the line to paste back.
//!
//! A case is text: `[operator:]extents[_parameters][+flag...]`, the operator being conv2d unless it is named.
//!
//! ```text
//! n1c3h224w224_o64k7x7s2p3             conv2d: 64 kernels of 7x7, stride 2, padding 3; with bias
//! n2c8h9w9_o16k3x3s2x1p1,0,2,0d2g8     strides 2 and 1; padding top, bottom, left, right; dilation 2; 8 groups
//! n1c64h56w56_o64k3x3p1+relu+nobias    an activation fused to the end; no bias
//! conv_transpose2d:n1c8h5w5_o4k3x3s2p1e1    e: output padding
//! max_pool2d:n1c8h9w9_k3x3s2p1+ceil    avg_pool2d also knows +nopad: the padding does not count
//! leaky_relu:n1c3h5w5_slope0.1         elu: alpha; the other activations take nothing
//! softmax:n2c10h1w1_axis1              axis 0 to 3 is n, c, h, w
//! linear:n4c20h1w1_o10+gelu            features are c * h * w
//! batch_norm:n4c8h5w5_eps0.001         +train: statistics of the batch; momentum0.1: running ones are kept, too
//! upsample_bilinear:n1c2h4w4_size8x8+corners
//! concat:n1c3,5,8h4w4                  channels of each part
//! pad:n1c3h4w4_p1,2,0,3v0.5            crop takes p alone
//! cross_entropy:n2c5h4w4_smoothing0.1ignore2+weighted    weights of classes; bce_with_logits has those of channels
//! dice:n2c1h4w4_smooth1
//! sgd:n1c1h1w99_lr0.1momentum0.9decay0.01+nesterov
//! adam:n1c1h1w99_lr0.001betas0.9,0.999eps0.00000001decay0.01step3+decoupled    decoupled: AdamW
//! clip_norm:n1c1h1w99_max1             the largest norm
//! ```
//!
//! The inputs follow from the case too: `+ints` for small integers, `+special` for NaN and infinities among the reals,
//! `+seed7` for other numbers.

mod display;
mod error;
mod inputs;
mod op;
mod parse;
mod text;

pub use error::CaseError;
pub use inputs::{Inputs, Operand};
pub use op::Op;

use tilewise_kernels::{
    Activation, Adam, AvgPool2dParams, Conv2dShape, ConvTranspose2dShape, CropShape, Error, Expected, Got,
    LinearShape, MaxPool2dParams, PadShape, PoolShape, Sgd, Shape4, SoftmaxShape, UpsampleMode,
    UpsampleShape,
};

/// A case: what to compute, on which numbers.
///
/// ```
/// use tilewise_bench::case::{Case, Op};
/// let case: Case = "n1c3h224w224_o64k7x7s2p3".parse()?;
/// assert_eq!(case.problem.op(), Op::Conv2d);
/// assert_eq!(case.to_string(), "n1c3h224w224_o64k7x7s2p3");
/// // `check --op max_pool2d --case n1c3h4w4_k2x2s2`; a stride that is the window need not be written.
/// let case = Case::parse(Op::MaxPool2d, "n1c3h4w4_k2x2s2")?;
/// assert_eq!(case.to_string(), "max_pool2d:n1c3h4w4_k2x2");
/// # Ok::<(), tilewise_bench::case::CaseError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Operator, extents and parameters.
    pub problem: Problem,
    /// What kind of numbers the inputs are.
    pub numbers: Numbers,
    /// Where the generator of the inputs starts.
    pub seed: u64,
}

impl Case {
    /// A problem on real numbers, seed 1.
    pub fn new(problem: Problem) -> Self {
        Case { problem, numbers: Numbers::Real, seed: 1 }
    }
}

/// The kinds of numbers that inputs are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Numbers {
    /// Reals, of a range that suits the operator.
    Real,
    /// Integers from -8 to 8: sums of their products are exact.
    Integer,
    /// Reals with a few NaN and infinities among them (in the data, not in the weights: whether a kernel multiplies
    /// its padding by an infinite weight is nobody's promise).
    Special,
}

/// The most elements that a case may take and give: the reference and the comparison hold about 40 bytes for each, 5 GiB
/// in all.
const MOST_ELEMENTS: usize = 1 << 27;

/// An operator with validated extents and parameters.
#[derive(Debug, Clone, PartialEq)]
pub enum Problem {
    /// Convolution.
    Conv2d {
        /// Extents, stride, padding, dilation, groups.
        shape: Conv2dShape,
        /// Whether there is a bias.
        bias: bool,
        /// What is fused to the end.
        activation: Activation,
    },
    /// Transposed convolution.
    ConvTranspose2d {
        /// Extents, stride, padding, output padding, dilation, groups.
        shape: ConvTranspose2dShape,
        /// Whether there is a bias.
        bias: bool,
        /// What is fused to the end.
        activation: Activation,
    },
    /// Max pooling.
    MaxPool2d {
        /// Extents.
        shape: PoolShape,
        /// Window, stride, padding, rounding.
        params: MaxPool2dParams,
    },
    /// Average pooling.
    AvgPool2d {
        /// Extents.
        shape: PoolShape,
        /// Window, stride, padding, rounding, divisor.
        params: AvgPool2dParams,
    },
    /// The mean of each plane.
    GlobalAvgPool {
        /// The extents of x.
        input: Shape4,
    },
    /// A pointwise function alone.
    Activation {
        /// The extents of x.
        input: Shape4,
        /// The function.
        activation: Activation,
    },
    /// Softmax.
    Softmax(SoftmaxShape),
    /// Fully connected layer.
    Linear {
        /// Features in and out.
        shape: LinearShape,
        /// Whether there is a bias.
        bias: bool,
        /// What is fused to the end.
        activation: Activation,
    },
    /// Batch normalisation.
    BatchNorm {
        /// The extents of x.
        input: Shape4,
        /// Added to the variance.
        eps: f32,
        /// Whose statistics are used.
        statistics: Statistics,
    },
    /// Upsampling.
    Upsample(UpsampleShape),
    /// Concatenation of channels.
    Concat {
        /// The extents of each part; all agree but for the channels.
        parts: Vec<Shape4>,
    },
    /// Addition.
    Add {
        /// The extents of both.
        input: Shape4,
    },
    /// Padding.
    Pad {
        /// Extents and widths of the frame.
        shape: PadShape,
        /// What the frame is made of.
        value: f32,
    },
    /// Cropping.
    Crop(CropShape),
    /// Cross entropy.
    CrossEntropy {
        /// The extents of the logits: samples are `n`, `h` and `w`, classes are `c`.
        input: Shape4,
        /// Whether each class has a weight.
        weighted: bool,
        /// The share of the target that all classes have.
        label_smoothing: f32,
        /// The label that counts nothing.
        ignore_index: Option<usize>,
    },
    /// Binary cross entropy.
    BceWithLogits {
        /// The extents of logits and targets.
        input: Shape4,
        /// Whether the positive targets of each channel have a weight.
        weighted: bool,
    },
    /// Mean squared error.
    Mse {
        /// The extents of both.
        input: Shape4,
    },
    /// Mean absolute error.
    L1 {
        /// The extents of both.
        input: Shape4,
    },
    /// Dice loss.
    Dice {
        /// The extents of logits and targets.
        input: Shape4,
        /// Added to both parts of the fraction.
        smooth: f32,
    },
    /// A step of gradient descent.
    Sgd {
        /// The extents of the parameters.
        input: Shape4,
        /// Its hyper-parameters.
        sgd: Sgd,
    },
    /// A step of Adam or AdamW.
    Adam {
        /// The extents of the parameters.
        input: Shape4,
        /// Its hyper-parameters.
        adam: Adam,
        /// Its number, from 1.
        step: u64,
    },
    /// Clipping of a gradient by its norm.
    ClipNorm {
        /// The extents of the gradient.
        input: Shape4,
        /// The largest norm.
        max_norm: f32,
    },
}

/// Whose mean and variance batch normalisation uses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Statistics {
    /// Given ones: inference.
    Given,
    /// Those of the batch: training.
    Batch,
    /// Those of the batch, which also move the running ones.
    Tracked {
        /// The weight of the batch in the running statistics.
        momentum: f32,
    },
}

impl Problem {
    /// The operator.
    pub fn op(&self) -> Op {
        match self {
            Problem::Conv2d { .. } => Op::Conv2d,
            Problem::ConvTranspose2d { .. } => Op::ConvTranspose2d,
            Problem::MaxPool2d { .. } => Op::MaxPool2d,
            Problem::AvgPool2d { .. } => Op::AvgPool2d,
            Problem::GlobalAvgPool { .. } => Op::GlobalAvgPool,
            Problem::Activation { activation, .. } => Op::of_activation(*activation),
            Problem::Softmax(_) => Op::Softmax,
            Problem::Linear { .. } => Op::Linear,
            Problem::BatchNorm { .. } => Op::BatchNorm,
            Problem::Upsample(shape) => match shape.mode() {
                UpsampleMode::Nearest => Op::UpsampleNearest,
                UpsampleMode::Bilinear { .. } => Op::UpsampleBilinear,
            },
            Problem::Concat { .. } => Op::Concat,
            Problem::Add { .. } => Op::Add,
            Problem::Pad { .. } => Op::Pad,
            Problem::Crop(_) => Op::Crop,
            Problem::CrossEntropy { .. } => Op::CrossEntropy,
            Problem::BceWithLogits { .. } => Op::BceWithLogits,
            Problem::Mse { .. } => Op::Mse,
            Problem::L1 { .. } => Op::L1,
            Problem::Dice { .. } => Op::Dice,
            Problem::Sgd { .. } => Op::Sgd,
            Problem::Adam { .. } => Op::Adam,
            Problem::ClipNorm { .. } => Op::ClipNorm,
        }
    }

    /// Itself, if all that it takes and gives can be held, nothing is empty that must not be, and the operator allows
    /// its parameters.
    ///
    /// # Errors
    /// [`Error::Overflow`] or [`Error::Invalid`].
    pub(crate) fn validated(self) -> Result<Self, Error> {
        let op = self.op().name();
        let mut elements: usize = 0;
        for operand in self.inputs().into_iter().chain(self.outputs()) {
            elements = elements.saturating_add(operand.shape.checked_len(op, "operand")?);
        }
        if elements > MOST_ELEMENTS {
            return Err(Error::Invalid {
                op,
                arg: "elements of inputs and outputs",
                expected: Expected::AtMost(MOST_ELEMENTS),
                got: Got::Value(elements),
            });
        }
        match self {
            Problem::BatchNorm { input, statistics, .. }
                if statistics != Statistics::Given && input.n * input.h * input.w == 1 =>
            {
                let (arg, expected) = ("values per channel in training", Expected::AtLeast(2));
                Err(Error::Invalid { op, arg, expected, got: Got::Value(1) })
            }
            Problem::BatchNorm { eps, .. } if !(eps.is_finite() && eps >= 0.0) => {
                let expected = Expected::Words("a finite number, at least 0");
                Err(Error::Invalid { op, arg: "eps", expected, got: Got::Real(eps) })
            }
            Problem::GlobalAvgPool { input } | Problem::CrossEntropy { input, .. }
                if [input.c, input.h, input.w].contains(&0) =>
            {
                let (expected, got) = (Expected::Words("no extent of 0 but the batch"), Got::Shape(input));
                Err(Error::Invalid { op, arg: "input", expected, got })
            }
            Problem::CrossEntropy { label_smoothing, .. } if !(0.0..=1.0).contains(&label_smoothing) => {
                let expected = Expected::Words("a number within 0..=1");
                Err(Error::Invalid { op, arg: "label smoothing", expected, got: Got::Real(label_smoothing) })
            }
            Problem::Dice { smooth: value, .. } | Problem::ClipNorm { max_norm: value, .. }
                if !(value.is_finite() && value >= 0.0) =>
            {
                let (arg, expected) = ("parameter", Expected::Words("a finite number, at least 0"));
                Err(Error::Invalid { op, arg, expected, got: Got::Real(value) })
            }
            Problem::Sgd { sgd, .. } => sgd.validate().map(|()| self),
            Problem::Adam { step: 0, .. } => {
                Err(Error::Invalid { op, arg: "step", expected: Expected::AtLeast(1), got: Got::Value(0) })
            }
            Problem::Adam { adam, .. } => adam.validate().map(|()| self),
            _ => Ok(self),
        }
    }
}
