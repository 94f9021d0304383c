//! How good a network is, in numbers.
//!
//! Every number is an f64. What is not defined (the share of nothing) is NaN, and each function says when; nothing is
//! defined to look better than it is.

mod classification;
mod detection;
mod regions;
mod signal;

pub use classification::{ConfusionMatrix, argmax, predictions};
pub use detection::{auroc, mean_plus_deviations, percentile};
pub use regions::Binary;
pub use signal::{mean_squared_error, psnr};

use crate::error::{Error, Result};

/// `a / b`; NaN where `b` is 0.
fn share(a: u64, b: u64) -> f64 {
    a as f64 / b as f64
}

/// Whether there is one of the second for each of the first.
fn check_pairs(what: &str, expected: usize, got: usize) -> Result<()> {
    if expected == got { Ok(()) } else { Err(Error::invalid(what, expected, got)) }
}
