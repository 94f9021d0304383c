//! tract: the ONNX model, optimised for its shape.

use tract_onnx::prelude::multithread::Executor;
use tract_onnx::prelude::{Framework, InferenceModelExt, RunOptions, TValue, Tensor, TypedSimpleState, tvec};

use crate::problem::Problem;
use crate::{Peer, Result};

struct Tract {
    state: TypedSimpleState,
    x: TValue,
    last: Option<TValue>,
}

pub fn load(problem: &Problem, threads: usize) -> Result<Box<dyn Peer>> {
    // Those of rayon, which it is called in.
    let executor = if threads > 1 { Executor::RayonGlobal } else { Executor::SingleThread };
    let options = RunOptions { executor: Some(executor), ..RunOptions::default() };
    let model = tract_onnx::onnx().model_for_path(problem.file("model.onnx"))?.into_optimized()?;
    let state = model.into_runnable_with_options(&options)?.spawn()?;
    let x = Tensor::from_shape(&problem.input, &problem.data("x")?)?.into();
    Ok(Box::new(Tract { state, x, last: None }))
}

impl Peer for Tract {
    fn call(&mut self) -> Result<()> {
        self.last = None; // its memory may serve again
        self.last = self.state.run(tvec![self.x.clone()])?.pop();
        Ok(())
    }

    fn output(&self) -> Result<Vec<f32>> {
        let last = self.last.as_ref().ok_or("nothing was computed")?;
        Ok(last.to_plain_array_view::<f32>()?.iter().copied().collect())
    }
}
