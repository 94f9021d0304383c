//! The libraries, one file each: data loaded and weights packed in `load`, and nothing but the call within the clock.

#[cfg(feature = "burn")]
mod burn;
#[cfg(feature = "candle")]
mod candle;
#[cfg(feature = "rten")]
mod rten;
mod tilewise;
#[cfg(feature = "tract")]
mod tract;

use crate::problem::{Pass, Problem};
use crate::{Peer, Result};

/// Hands a problem to a library.
pub fn load(library: &str, problem: &Problem, threads: usize) -> Result<Box<dyn Peer>> {
    match library {
        "tilewise" => tilewise::load(problem, threads),
        _ if problem.pass != Pass::Forward => Err("only the forward pass".into()),
        #[cfg(feature = "burn")]
        "burn" => burn::load(problem, threads),
        #[cfg(feature = "candle")]
        "candle" => candle::load(problem, threads),
        #[cfg(feature = "rten")]
        "rten" => rten::load(problem, threads),
        #[cfg(feature = "tract")]
        "tract" => tract::load(problem, threads),
        _ => Err(format!("{library} is not built in").into()),
    }
}

/// Serves within the pool that a library uses, so that no call has to wake it first.
pub fn within<R: Send>(library: &str, threads: usize, serve: impl FnOnce() -> R + Send) -> Result<R> {
    match library {
        #[cfg(feature = "rten")]
        "rten" => Ok(rten::pool(threads).run(serve)),
        _ => {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
            Ok(rayon::scope(|_| serve()))
        }
    }
}
