//! Convolutional networks and their data, on [`tilewise_kernels`].

pub mod data;
mod error;
pub mod files;
mod graph;
mod loss;
mod optimiser;
mod parameters;
mod plan;
mod session;
pub mod weights;
pub mod zoo;

pub use error::{Error, Result};
pub use graph::{Graph, Layer, Op, Value};
pub use loss::{Loss, Target};
pub use optimiser::{Optimiser, OptimiserState};
pub use parameters::{Parameter, Role};
pub use session::{Session, Step};
pub use weights::Weights;
