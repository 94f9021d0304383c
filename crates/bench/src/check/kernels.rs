//! A problem, solved by the kernels.

use tilewise_kernels::{
    BatchNorm, Conv2dAlgo, Conv2dPlan, ConvTranspose2dPlan, Cpu, LinearPlan, Result, RunningStats, Shape4,
    Tensor,
};

use crate::case::{Inputs, Problem, Statistics};

/// Everything that the problem gives, in the order of [`Problem::outputs`]. `algo` forces one for conv2d.
///
/// # Errors
/// Whatever the kernels refuse.
pub fn solve(cpu: &Cpu, problem: &Problem, inputs: &Inputs, algo: Option<Conv2dAlgo>) -> Result<Vec<Tensor>> {
    let tensors = &inputs.tensors;
    let data = |i: usize| tensors[i].data();
    let x = &tensors[0];
    let y = match *problem {
        Problem::Conv2d { shape, bias, activation } => {
            let bias = bias.then(|| data(2));
            let plan = Conv2dPlan::new(cpu, shape, data(1), bias, activation, algo)?;
            let mut y = Tensor::zeros(shape.output())?;
            plan.run(x.view(), y.view_mut(), &mut plan.scratch()?)?;
            y
        }
        Problem::ConvTranspose2d { shape, bias, activation } => {
            let bias = bias.then(|| data(2));
            let plan = ConvTranspose2dPlan::new(cpu, shape, data(1), bias, activation)?;
            let mut y = Tensor::zeros(shape.output())?;
            plan.run(x.view(), y.view_mut(), &mut plan.scratch()?)?;
            y
        }
        Problem::Linear { shape, bias, activation } => {
            let bias = bias.then(|| data(2));
            let plan = LinearPlan::new(cpu, shape, data(1), bias, activation)?;
            let mut y = Tensor::zeros(shape.output())?;
            plan.run(x.view(), y.view_mut(), &mut plan.scratch()?)?;
            y
        }
        Problem::MaxPool2d { params, .. } => cpu.max_pool2d(x, params)?,
        Problem::AvgPool2d { params, .. } => cpu.avg_pool2d(x, params)?,
        Problem::GlobalAvgPool { .. } => cpu.global_avg_pool(x)?,
        Problem::Activation { activation, .. } => cpu.activation(x, activation)?,
        Problem::Softmax(shape) => cpu.softmax(x, shape.axis())?,
        Problem::BatchNorm { eps, statistics, .. } => {
            let norm = BatchNorm { gamma: data(1), beta: data(2), eps };
            match statistics {
                Statistics::Given => cpu.batch_norm(x, norm, data(3), data(4))?,
                Statistics::Batch => cpu.batch_norm_train(x, norm, None)?,
                Statistics::Tracked { momentum } => {
                    let (mut mean, mut var) = (tensors[3].clone(), tensors[4].clone());
                    let running = RunningStats { mean: mean.data_mut(), var: var.data_mut(), momentum };
                    let y = cpu.batch_norm_train(x, norm, Some(running))?;
                    return Ok(vec![y, mean, var]);
                }
            }
        }
        Problem::Upsample(shape) => {
            let size = [shape.output().h, shape.output().w];
            cpu.upsample(x, size, shape.mode())?
        }
        Problem::Concat { .. } => cpu.concat(&tensors.iter().collect::<Vec<_>>())?,
        Problem::Add { .. } => cpu.add(x, &tensors[1])?,
        Problem::Pad { shape, value } => cpu.pad(x, shape.padding(), value)?,
        Problem::Crop(shape) => cpu.crop(x, shape.margins())?,
        Problem::CrossEntropy { .. } => scalar(cpu.cross_entropy(x, &inputs.labels)?)?,
        Problem::BceWithLogits { .. } => scalar(cpu.bce_with_logits(x, &tensors[1])?)?,
        Problem::Mse { .. } => scalar(cpu.mse(x, &tensors[1])?)?,
    };
    Ok(vec![y])
}

fn scalar(value: f32) -> Result<Tensor> {
    Tensor::from_vec(Shape4::new(1, 1, 1, 1), vec![value])
}
