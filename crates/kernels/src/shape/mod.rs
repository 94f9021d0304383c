//! Parameters become validated shapes here, once; kernels, reference and benchmarks take the shapes.
//!
//! One file per family of operators. The formulas for the size of a feature map are in [`window`], nowhere else.

mod activation;
mod algo;
pub(crate) mod batch_norm;
pub(crate) mod concat;
mod conv2d;
mod conv_transpose2d;
pub(crate) mod correlation;
mod linear;
pub(crate) mod loss;
pub(crate) mod optimiser;
mod pad;
mod pool;
mod softmax;
mod update;
pub(crate) mod upsample;
pub mod window;

pub use activation::Activation;
pub use algo::{Accuracy, Conv2dAlgo};
pub use concat::concat_shape;
pub use conv_transpose2d::{ConvTranspose2dParams, ConvTranspose2dShape};
pub use conv2d::{Conv2dParams, Conv2dShape};
pub use linear::LinearShape;
pub use loss::CrossEntropy;
pub use optimiser::{Adam, Sgd};
pub use pad::{CropShape, PadShape, Padding};
pub use pool::{AvgPool2dParams, MaxPool2dParams, PoolShape};
pub use softmax::{Axis, SoftmaxShape};
pub use update::Update;
pub use upsample::{UpsampleMode, UpsampleShape};

use crate::error::{Error, Expected, Result};
use crate::tensor::Shape4;

/// Refuses extents of zero.
pub(crate) fn at_least_one(op: &'static str, args: &[(&'static str, usize)]) -> Result<()> {
    match args.iter().find(|(_, v)| *v == 0) {
        Some((arg, v)) => Err(Error::invalid(op, arg, Expected::AtLeast(1), *v)),
        None => Ok(()),
    }
}

/// The shape of weights, and the length of a bias where a plan has one, that replace those of the plan.
pub(crate) fn check_new_weights(
    op: &'static str,
    expected: Shape4,
    got: Shape4,
    bias_len: Option<usize>,
    bias: Option<usize>,
) -> Result<()> {
    if got != expected {
        return Err(Error::invalid(op, "weights shape", expected, got));
    }
    match (bias_len, bias) {
        (Some(len), Some(got)) if got != len => Err(Error::invalid(op, "bias length", len, got)),
        (Some(_), None) => Err(Error::invalid(op, "bias", "one, as the plan has one", "none")),
        (None, Some(_)) => Err(Error::invalid(op, "bias", "none, as the plan has none", "one")),
        _ => Ok(()),
    }
}

/// The lengths of weights and bias.
pub(crate) fn check_weights(
    op: &'static str,
    weights: &[f32],
    expected: usize,
    bias: Option<&[f32]>,
    outputs: usize,
) -> Result<()> {
    if weights.len() != expected {
        return Err(Error::invalid(op, "weights length", expected, weights.len()));
    }
    match bias {
        Some(bias) if bias.len() != outputs => Err(Error::invalid(op, "bias length", outputs, bias.len())),
        _ => Ok(()),
    }
}
