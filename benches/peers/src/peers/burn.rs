//! burn: `conv2d` with its bias, then ReLU, in its CPU backend flex. It packs nothing ahead.

use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor, TensorData, activation};

use crate::problem::Problem;
use crate::{Peer, Result};

struct Burn {
    x: Tensor<4>,
    weights: Tensor<4>,
    bias: Tensor<1>,
    options: ConvOptions<2>,
    last: Option<Tensor<4>>,
}

pub fn load(problem: &Problem, _threads: usize) -> Result<Box<dyn Peer>> {
    let device = Device::flex();
    let data =
        |name, shape: &[usize]| -> Result<TensorData> { Ok(TensorData::new(problem.data(name)?, shape)) };
    Ok(Box::new(Burn {
        x: Tensor::from_data(data("x", &problem.input)?, &device),
        weights: Tensor::from_data(data("w", &problem.weights)?, &device),
        bias: Tensor::from_data(data("b", &problem.weights[..1])?, &device),
        options: ConvOptions::new([problem.stride; 2], [problem.padding; 2], [1; 2], 1),
        last: None,
    }))
}

impl Peer for Burn {
    fn call(&mut self) -> Result<()> {
        self.last = None; // its memory may serve again
        // The clones share their data.
        let (x, weights, bias) = (self.x.clone(), self.weights.clone(), self.bias.clone());
        self.last = Some(activation::relu(conv2d(x, weights, Some(bias), self.options.clone())));
        Ok(())
    }

    fn output(&self) -> Result<Vec<f32>> {
        let last = self.last.as_ref().ok_or("nothing was computed")?;
        Ok(last.try_to_data()?.as_slice::<f32>()?.to_vec())
    }
}
