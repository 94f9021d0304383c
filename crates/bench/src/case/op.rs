//! The operators, by name.

use std::fmt;
use std::str::FromStr;

use tilewise_kernels::Activation;

use super::CaseError;

/// The operators, by the names that the command line and the reports use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Convolution.
    Conv2d,
    /// Transposed convolution.
    ConvTranspose2d,
    /// Max pooling.
    MaxPool2d,
    /// Average pooling.
    AvgPool2d,
    /// The mean of each plane.
    GlobalAvgPool,
    /// [`Activation::Identity`]: a copy.
    Identity,
    /// [`Activation::Relu`].
    Relu,
    /// [`Activation::LeakyRelu`].
    LeakyRelu,
    /// [`Activation::Relu6`].
    Relu6,
    /// [`Activation::Elu`].
    Elu,
    /// [`Activation::Gelu`].
    Gelu,
    /// [`Activation::Silu`].
    Silu,
    /// [`Activation::Sigmoid`].
    Sigmoid,
    /// [`Activation::Tanh`].
    Tanh,
    /// Softmax over one axis.
    Softmax,
    /// Fully connected layer.
    Linear,
    /// Batch normalisation.
    BatchNorm,
    /// Upsampling to the nearest.
    UpsampleNearest,
    /// Bilinear upsampling.
    UpsampleBilinear,
    /// Concatenation of channels.
    Concat,
    /// Addition of equal shapes.
    Add,
    /// Padding with a value.
    Pad,
    /// Cropping.
    Crop,
    /// Cross entropy of logits and labels.
    CrossEntropy,
    /// Binary cross entropy of logits.
    BceWithLogits,
    /// Mean squared error.
    Mse,
    /// Mean absolute error.
    L1,
    /// Dice loss of logits.
    Dice,
    /// A step of gradient descent.
    Sgd,
    /// A step of Adam or AdamW.
    Adam,
    /// Clipping of a gradient by its norm.
    ClipNorm,
}

impl Op {
    /// All of them.
    pub const ALL: [Op; 31] = [
        Op::Conv2d,
        Op::ConvTranspose2d,
        Op::MaxPool2d,
        Op::AvgPool2d,
        Op::GlobalAvgPool,
        Op::Identity,
        Op::Relu,
        Op::LeakyRelu,
        Op::Relu6,
        Op::Elu,
        Op::Gelu,
        Op::Silu,
        Op::Sigmoid,
        Op::Tanh,
        Op::Softmax,
        Op::Linear,
        Op::BatchNorm,
        Op::UpsampleNearest,
        Op::UpsampleBilinear,
        Op::Concat,
        Op::Add,
        Op::Pad,
        Op::Crop,
        Op::CrossEntropy,
        Op::BceWithLogits,
        Op::Mse,
        Op::L1,
        Op::Dice,
        Op::Sgd,
        Op::Adam,
        Op::ClipNorm,
    ];

    /// Whether it is a step of training, which has no gradient.
    pub const fn is_step(self) -> bool {
        matches!(self, Op::Sgd | Op::Adam | Op::ClipNorm)
    }

    /// As PyTorch spells it, where PyTorch has it.
    pub const fn name(self) -> &'static str {
        match self {
            Op::Conv2d => "conv2d",
            Op::ConvTranspose2d => "conv_transpose2d",
            Op::MaxPool2d => "max_pool2d",
            Op::AvgPool2d => "avg_pool2d",
            Op::GlobalAvgPool => "global_avg_pool",
            Op::Identity => "identity",
            Op::Relu => "relu",
            Op::LeakyRelu => "leaky_relu",
            Op::Relu6 => "relu6",
            Op::Elu => "elu",
            Op::Gelu => "gelu",
            Op::Silu => "silu",
            Op::Sigmoid => "sigmoid",
            Op::Tanh => "tanh",
            Op::Softmax => "softmax",
            Op::Linear => "linear",
            Op::BatchNorm => "batch_norm",
            Op::UpsampleNearest => "upsample_nearest",
            Op::UpsampleBilinear => "upsample_bilinear",
            Op::Concat => "concat",
            Op::Add => "add",
            Op::Pad => "pad",
            Op::Crop => "crop",
            Op::CrossEntropy => "cross_entropy",
            Op::BceWithLogits => "bce_with_logits",
            Op::Mse => "mse",
            Op::L1 => "l1",
            Op::Dice => "dice",
            Op::Sgd => "sgd",
            Op::Adam => "adam",
            Op::ClipNorm => "clip_norm",
        }
    }

    /// The operator that is this pointwise function alone.
    pub const fn of_activation(activation: Activation) -> Op {
        match activation {
            Activation::Relu => Op::Relu,
            Activation::LeakyRelu { .. } => Op::LeakyRelu,
            Activation::Relu6 => Op::Relu6,
            Activation::Elu { .. } => Op::Elu,
            Activation::Gelu => Op::Gelu,
            Activation::Silu => Op::Silu,
            Activation::Sigmoid => Op::Sigmoid,
            Activation::Tanh => Op::Tanh,
            _ => Op::Identity,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Op {
    type Err = CaseError;

    fn from_str(name: &str) -> Result<Self, CaseError> {
        Op::ALL
            .into_iter()
            .find(|op| op.name() == name)
            .ok_or_else(|| CaseError::UnknownOp { got: name.to_owned() })
    }
}
