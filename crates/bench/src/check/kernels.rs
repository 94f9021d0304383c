//! A problem, solved by the kernels: by the easy calls, or into memory of the caller.

use tilewise_kernels::{
    BatchNorm, Conv2dAlgo, Conv2dPlan, ConvTranspose2dPlan, Cpu, Error, Expected, Got, LinearPlan, Result,
    RunningStats, Scratch, Shape4, Tensor, TensorView, TensorViewMut,
};

use crate::case::{Inputs, Problem, Statistics};

/// Everything that the problem gives, in the order of [`Problem::outputs`]: by the easy calls or, where an activation is
/// fused or `algo` forces one for conv2d, by a plan.
///
/// # Errors
/// Whatever the kernels refuse.
pub fn solve(cpu: &Cpu, problem: &Problem, inputs: &Inputs, algo: Option<Conv2dAlgo>) -> Result<Vec<Tensor>> {
    let tensors = &inputs.tensors;
    let data = |i: usize| tensors[i].data();
    let x = &tensors[0];
    let y = match *problem {
        Problem::Conv2d { .. } | Problem::ConvTranspose2d { .. } | Problem::Linear { .. } => {
            let mut y = Tensor::zeros(problem.outputs()[0].shape)?;
            solve_into(cpu, problem, &[x.view()], inputs, algo, 0.0, y.view_mut())?;
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

/// Writes the first output of the problem to `y`, by a plan or an `_into` call. `data` are views of the tensors that are
/// no weights or statistics (`x`, or `a` and `b`, or all parts of a concatenation); the others come from `inputs`. The
/// scratch of a plan is filled with `garbage` first.
///
/// # Errors
/// Whatever the kernels refuse; and the losses, whose output is no tensor.
pub fn solve_into(
    cpu: &Cpu,
    problem: &Problem,
    data: &[TensorView<'_>],
    inputs: &Inputs,
    algo: Option<Conv2dAlgo>,
    garbage: f32,
    y: TensorViewMut<'_>,
) -> Result<()> {
    let vector = |i: usize| inputs.tensors[i].data();
    let filled = |scratch: Result<Scratch>| {
        let mut scratch = scratch?;
        scratch.as_mut_slice().fill(garbage);
        Ok(scratch)
    };
    let x = data[0];
    match *problem {
        Problem::Conv2d { shape, bias, activation } => {
            let bias = bias.then(|| vector(2));
            let plan = Conv2dPlan::new(cpu, shape, vector(1), bias, activation, algo)?;
            plan.run(x, y, &mut filled(plan.scratch())?)
        }
        Problem::ConvTranspose2d { shape, bias, activation } => {
            let bias = bias.then(|| vector(2));
            let plan = ConvTranspose2dPlan::new(cpu, shape, vector(1), bias, activation)?;
            plan.run(x, y, &mut filled(plan.scratch())?)
        }
        Problem::Linear { shape, bias, activation } => {
            let bias = bias.then(|| vector(2));
            let plan = LinearPlan::new(cpu, shape, vector(1), bias, activation)?;
            plan.run(x, y, &mut filled(plan.scratch())?)
        }
        Problem::MaxPool2d { params, .. } => cpu.max_pool2d_into(x, params, y),
        Problem::AvgPool2d { params, .. } => cpu.avg_pool2d_into(x, params, y),
        Problem::GlobalAvgPool { .. } => cpu.global_avg_pool_into(x, y),
        Problem::Activation { activation, .. } => cpu.activation_into(x, activation, y),
        Problem::Softmax(shape) => cpu.softmax_into(x, shape.axis(), y),
        Problem::BatchNorm { eps, statistics, .. } => {
            let norm = BatchNorm { gamma: vector(1), beta: vector(2), eps };
            match statistics {
                Statistics::Given => cpu.batch_norm_into(x, norm, vector(3), vector(4), y),
                Statistics::Batch => cpu.batch_norm_train_into(x, norm, None, y),
                Statistics::Tracked { momentum } => {
                    let (mut mean, mut var) = (vector(3).to_vec(), vector(4).to_vec());
                    let running = RunningStats { mean: &mut mean, var: &mut var, momentum };
                    cpu.batch_norm_train_into(x, norm, Some(running), y)
                }
            }
        }
        Problem::Upsample(shape) => cpu.upsample_into(x, shape.mode(), y),
        Problem::Concat { .. } => cpu.concat_into(data, y),
        Problem::Add { .. } => cpu.add_into(x, data[1], y),
        Problem::Pad { shape, value } => cpu.pad_into(x, shape.padding(), value, y),
        Problem::Crop(shape) => cpu.crop_into(x, shape.margins(), y),
        Problem::CrossEntropy { .. } | Problem::BceWithLogits { .. } | Problem::Mse { .. } => {
            let (expected, got) = (Expected::Words("a tensor"), Got::Words("a single number"));
            Err(Error::Invalid { op: problem.op().name(), arg: "output", expected, got })
        }
    }
}

fn scalar(value: f32) -> Result<Tensor> {
    Tensor::from_vec(Shape4::new(1, 1, 1, 1), vec![value])
}
