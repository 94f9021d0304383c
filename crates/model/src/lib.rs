//! Convolutional networks and their data, on [`tilewise_kernels`].

pub mod data;
mod error;
pub mod files;
pub mod metrics;
pub mod picture;
pub mod weights;

pub use error::{Error, Result};
