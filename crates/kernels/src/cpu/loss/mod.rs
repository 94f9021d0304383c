//! Losses, reduced to the mean, and their gradients: cross-entropy over channels, binary cross-entropy with logits, mean
//! squared and mean absolute error, Dice.
//!
//! Each loss is a sum of parts that do not depend on the number of threads, in f64, added in order. The mean over nothing is
//! NaN, as in PyTorch. A gradient takes the one of the loss as a number, and allocates nothing; nor does a loss.

mod bce;
mod cross_entropy;
mod dice;
mod pairs;

use crate::backend::SCALAR;
use crate::cpu::expect_shape;
use crate::error::Result;
use crate::tensor::TensorViewMut;

/// Writes what `loss` gives to the single element of `y`.
fn write_scalar(op: &'static str, y: TensorViewMut<'_>, loss: impl FnOnce() -> Result<f32>) -> Result<()> {
    expect_shape(op, "output shape", SCALAR, y.shape())?;
    y.into_image(0)[0] = loss()?;
    Ok(())
}
