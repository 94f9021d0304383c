//! Data to train and to look at.

mod digits;

pub use digits::{DIGITS, Digit, digits_tensor};
