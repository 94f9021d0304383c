//! A team of threads of known size, to measure on.

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Error, Result};

/// So many threads. A team of one is the calling thread itself.
#[derive(Debug)]
pub struct Team {
    pool: Option<ThreadPool>,
    threads: usize,
}

impl Team {
    /// Starts the threads; they sleep until there is work.
    ///
    /// # Errors
    /// [`Error::Threads`] if the system refuses.
    pub fn new(threads: usize) -> Result<Self> {
        let threads = threads.max(1);
        let build = || ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = (threads > 1).then(build).transpose();
        Ok(Team { pool: pool.map_err(|source| Error::Threads { threads, source })?, threads })
    }

    /// How many there are.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `f` where the kernels' work is spread over this team.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        match &self.pool {
            Some(pool) => pool.install(f),
            None => f(),
        }
    }

    /// Runs `f(index)` once on every thread, at the same time.
    pub fn broadcast(&self, f: impl Fn(usize) + Sync) {
        match &self.pool {
            Some(pool) => drop(pool.broadcast(|context| f(context.index()))),
            None => f(0),
        }
    }
}
