//! Batch normalisation: what its arguments must be, on any device.

use crate::error::{Error, Expected, Result};
use crate::tensor::Shape4;

pub(crate) const OP: &str = "batch_norm";

/// Refuses a tensor that is not one value per channel.
pub(crate) fn expect_per_channel(arg: &'static str, got: Shape4, channels: usize) -> Result<()> {
    let expected = Shape4::new(1, channels, 1, 1);
    if got == expected { Ok(()) } else { Err(Error::invalid(OP, arg, expected, got)) }
}

/// Refuses an `eps` that is negative or not finite.
pub(crate) fn check_eps(eps: f32) -> Result<()> {
    if eps.is_finite() && eps >= 0.0 {
        Ok(())
    } else {
        Err(Error::invalid(OP, "eps", "a finite number, at least 0", eps))
    }
}

/// Refuses a momentum that is not finite.
pub(crate) fn check_momentum(momentum: f32) -> Result<()> {
    if momentum.is_finite() {
        Ok(())
    } else {
        Err(Error::invalid(OP, "momentum", "a finite number", momentum))
    }
}

/// The number of values per channel in training. `None` for an empty batch; a single value has no variance.
pub(crate) fn training_count(shape: Shape4) -> Result<Option<usize>> {
    match shape.n * shape.plane_len() {
        0 => Ok(None),
        1 => Err(Error::invalid(OP, "values per channel in training", Expected::AtLeast(2), 1)),
        count => Ok(Some(count)),
    }
}
