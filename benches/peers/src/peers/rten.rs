//! rten: the ONNX model, its weights packed as it is read, in a pool of its own.

use std::sync::{Arc, OnceLock};

use rten::{Model, ModelOptions, RunOptions, ThreadPool, Value};

use crate::problem::Problem;
use crate::{Peer, Result};

struct Rten {
    model: Model,
    options: RunOptions,
    x: Value,
    last: Option<Value>,
}

/// Its threads: it does not take those of others.
pub fn pool(threads: usize) -> &'static Arc<ThreadPool> {
    static POOL: OnceLock<Arc<ThreadPool>> = OnceLock::new();
    POOL.get_or_init(|| Arc::new(ThreadPool::with_num_threads(threads)))
}

pub fn load(problem: &Problem, threads: usize) -> Result<Box<dyn Peer>> {
    let model = ModelOptions::with_all_ops().prepack_weights(true).load_file(problem.file("model.onnx"))?;
    let options = RunOptions::default().with_thread_pool(Some(pool(threads).clone()));
    let x = Value::from_shape(problem.input, problem.data("x")?)?;
    Ok(Box::new(Rten { model, options, x, last: None }))
}

impl Peer for Rten {
    fn call(&mut self) -> Result<()> {
        self.last = None; // its memory may serve again
        self.last = Some(self.model.run_one((&self.x).into(), Some(self.options.clone()))?);
        Ok(())
    }

    fn output(&self) -> Result<Vec<f32>> {
        let last = self.last.clone().ok_or("nothing was computed")?;
        let (_, values) = last.into_shape_vec::<f32, 4>()?;
        Ok(values)
    }
}
