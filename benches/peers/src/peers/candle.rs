//! candle: `conv2d`, its bias and its ReLU, one after the other. It packs nothing ahead.

use candle_core::{Device, Tensor};

use crate::problem::Problem;
use crate::{Peer, Result};

struct Candle {
    x: Tensor,
    weights: Tensor,
    /// One number for each channel, as it is added.
    bias: Tensor,
    stride: usize,
    padding: usize,
    last: Option<Tensor>,
}

pub fn load(problem: &Problem, _threads: usize) -> Result<Box<dyn Peer>> {
    let tensor = |name, shape: [usize; 4]| -> Result<Tensor> {
        Ok(Tensor::from_vec(problem.data(name)?, &shape, &Device::Cpu)?)
    };
    Ok(Box::new(Candle {
        x: tensor("x", problem.input)?,
        weights: tensor("w", problem.weights)?,
        bias: tensor("b", [1, problem.weights[0], 1, 1])?,
        stride: problem.stride,
        padding: problem.padding,
        last: None,
    }))
}

impl Peer for Candle {
    fn call(&mut self) -> Result<()> {
        self.last = None; // its memory may serve again
        let sum = self.x.conv2d(&self.weights, self.padding, self.stride, 1, 1)?;
        self.last = Some(sum.broadcast_add(&self.bias)?.relu()?);
        Ok(())
    }

    fn output(&self) -> Result<Vec<f32>> {
        let last = self.last.as_ref().ok_or("nothing was computed")?;
        Ok(last.flatten_all()?.to_vec1()?)
    }
}
