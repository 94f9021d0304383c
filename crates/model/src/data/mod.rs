//! Data to train and to look at.

mod augment;
mod dataset;
mod digits;
mod loader;
mod normalise;
mod random;

pub use augment::{Augment, Fill};
pub use dataset::{Dataset, Targets, split_indices};
pub use digits::{DIGITS, Digit, digits, digits_tensor};
pub use loader::{Batch, Loader};
pub use normalise::Normalise;
