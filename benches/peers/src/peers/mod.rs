//! The libraries, one file each: data loaded and weights packed in `load`, and nothing but the call within the clock.

mod tilewise;

use crate::problem::Problem;
use crate::{Peer, Result};

/// Hands a problem to a library.
pub fn load(library: &str, problem: &Problem, threads: usize) -> Result<Box<dyn Peer>> {
    match library {
        "tilewise" => tilewise::load(problem, threads),
        _ => Err(format!("{library} is not built in").into()),
    }
}
