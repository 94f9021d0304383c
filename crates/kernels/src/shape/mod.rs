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
mod optimiser;
mod pad;
mod pool;
mod softmax;
mod update;
pub(crate) mod upsample;
pub mod window;

pub use activation::Activation;
pub use algo::Conv2dAlgo;
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

/// Refuses extents of zero.
pub(crate) fn at_least_one(op: &'static str, args: &[(&'static str, usize)]) -> Result<()> {
    match args.iter().find(|(_, v)| *v == 0) {
        Some((arg, v)) => Err(Error::invalid(op, arg, Expected::AtLeast(1), *v)),
        None => Ok(()),
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
