//! Fully connected layer: the validated shape.

use crate::error::Result;
use crate::shape::at_least_one;
use crate::tensor::Shape4;

const OP: &str = "linear";

/// A fully connected layer whose sizes are known to fit: `y[n][o] = bias[o] + sum over i of x[n][i] * w[o][i]`.
///
/// Each image of the input is one row of `c*h*w` features, so no flatten is needed before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinearShape {
    input: Shape4,
    out_features: usize,
}

impl LinearShape {
    /// Validates the extents: at least one feature in and out (an empty batch is allowed), no overflow.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] or [`crate::Error::Overflow`].
    pub fn new(input: Shape4, out_features: usize) -> Result<Self> {
        let shape = LinearShape { input, out_features };
        input.checked_len(OP, "input")?;
        at_least_one(OP, &[("input features", input.image_len()), ("output features", out_features)])?;
        shape.weights().checked_len(OP, "weights")?;
        shape.output().checked_len(OP, "output")?;
        Ok(shape)
    }

    /// The shape of `x`: `[n, c, h, w]` of `c*h*w` features.
    pub fn input(&self) -> Shape4 {
        self.input
    }

    /// Features per sample: `c*h*w`.
    pub fn in_features(&self) -> usize {
        self.input.image_len()
    }

    /// The shape of the weights: `[out features, in features, 1, 1]`.
    pub fn weights(&self) -> Shape4 {
        Shape4::new(self.out_features, self.input.image_len(), 1, 1)
    }

    /// The shape of `y`: `[n, out features, 1, 1]`.
    pub fn output(&self) -> Shape4 {
        Shape4::new(self.input.n, self.out_features, 1, 1)
    }

    /// Multiply-accumulates.
    pub fn macs(&self) -> f64 {
        self.input.n as f64 * self.in_features() as f64 * self.out_features as f64
    }
}
