//! Softmax: the axis and the validated shape.

use crate::error::Result;
use crate::tensor::Shape4;

/// One of the four dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Axis {
    /// Images of the batch.
    N,
    /// Channels.
    C,
    /// Rows.
    H,
    /// Columns.
    W,
}

impl Axis {
    /// All four, in memory order.
    pub const ALL: [Axis; 4] = [Axis::N, Axis::C, Axis::H, Axis::W];

    /// Its position in [`Shape4::dims`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// A softmax whose sizes are known to fit: `y = exp(x - max) / sum of exp(x - max)` along one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SoftmaxShape {
    input: Shape4,
    axis: Axis,
}

impl SoftmaxShape {
    /// Validates the size. Empty tensors are allowed and give empty results.
    ///
    /// # Errors
    /// [`crate::Error::Overflow`].
    pub fn new(input: Shape4, axis: Axis) -> Result<Self> {
        input.checked_len("softmax", "input")?;
        Ok(SoftmaxShape { input, axis })
    }

    /// The shape of `x` and of `y`.
    pub fn input(&self) -> Shape4 {
        self.input
    }

    /// The axis that sums to one.
    pub fn axis(&self) -> Axis {
        self.axis
    }
}
