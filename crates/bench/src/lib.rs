//! The naive reference, the checks and the benchmarks of [`tilewise_kernels`].

pub mod error;
pub mod files;
pub mod machine;
pub mod suites;
pub mod team;
pub mod timing;

pub use error::{Error, Result};
