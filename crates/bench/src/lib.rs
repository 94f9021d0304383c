//! What decides whether tilewise is right, and how fast it is: the naive reference, the checks, the benchmarks.

pub mod case;
pub mod check;
pub mod compare;
pub mod error;
pub mod feature_maps;
pub mod files;
pub mod golden;
pub mod gpu;
pub mod machine;
pub mod plot;
pub mod reference;
pub mod report;
pub mod suites;
pub mod survey;
pub mod team;
pub mod throughput;
pub mod timing;

pub use error::{Error, Result};

/// The examples of the repository's README, compiled and run with those of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
