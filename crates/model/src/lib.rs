//! Convolutional networks and their data, on [`tilewise_kernels`].

pub mod compare;
pub mod data;
pub mod detect;
mod error;
pub mod files;
pub mod fit;
mod graph;
mod loss;
pub mod metrics;
mod optimiser;
mod parameters;
pub mod picture;
mod plan;
mod predict;
mod schedule;
mod session;
pub mod summary;
pub mod train;
pub mod weights;
pub mod zoo;

pub use error::{Error, Result};
pub use graph::{Graph, Layer, Op, Value};
pub use loss::{Loss, Target};
pub use optimiser::{Optimiser, OptimiserState};
pub use parameters::{Parameter, Role};
pub use predict::{Prediction, Predictor};
pub use schedule::{Decay, Schedule};
pub use session::{Session, Step};
pub use summary::Summary;
pub use weights::Weights;
