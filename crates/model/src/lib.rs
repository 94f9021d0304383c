//! Convolutional networks and their data, on [`tilewise_kernels`].

pub mod data;
mod error;
pub mod files;
mod graph;
mod parameters;
pub mod weights;

pub use error::{Error, Result};
pub use graph::{Graph, Layer, Op, Value};
pub use parameters::{Parameter, Role};
pub use weights::Weights;
