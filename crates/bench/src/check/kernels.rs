//! A problem, solved by the kernels of any device: by the easy calls, or into memory of the caller.

use tilewise_kernels::{Affine, Conv2dAlgo, DeviceTensor, Result, Tensor, Tracked, Training, View, ViewMut};

use super::device::per_channel;
use crate::case::{Inputs, Problem, Statistics};

/// Everything that the problem gives, in the order of [`Problem::outputs`]: by the easy calls or, where there are
/// weights, by a plan. `algo` forces an algorithm of conv2d.
///
/// # Errors
/// Whatever the kernels refuse.
pub fn solve<B: Training>(
    device: &B,
    problem: &Problem,
    inputs: &Inputs,
    algo: Option<Conv2dAlgo>,
) -> Result<Vec<Tensor>> {
    let count = problem.data_inputs();
    let data = inputs.tensors.iter().take(count).map(|t| device.upload(t)).collect::<Result<Vec<_>>>()?;
    let vector = |i: usize| per_channel(device, &inputs.tensors[i]);
    let x = &data[0];
    let y = match *problem {
        Problem::Conv2d { .. } | Problem::ConvTranspose2d { .. } | Problem::Linear { .. } => {
            let mut y = device.empty(problem.outputs()[0].shape)?;
            solve_into(device, problem, &[x.view()], inputs, algo, y.view_mut())?;
            y
        }
        Problem::MaxPool2d { params, .. } => device.max_pool2d(x, params)?,
        Problem::AvgPool2d { params, .. } => device.avg_pool2d(x, params)?,
        Problem::GlobalAvgPool { .. } => device.global_avg_pool(x)?,
        Problem::Activation { activation, .. } => device.activation(x, activation)?,
        Problem::Softmax(shape) => device.softmax(x, shape.axis())?,
        Problem::BatchNorm { eps, statistics, .. } => {
            let (gamma, beta) = (vector(1)?, vector(2)?);
            let norm = Affine { gamma: &gamma, beta: &beta, eps };
            match statistics {
                Statistics::Given => device.batch_norm(x, norm, &vector(3)?, &vector(4)?)?,
                Statistics::Batch => device.batch_norm_train(x, norm, None)?,
                Statistics::Tracked { momentum } => {
                    let (mut mean, mut var) = (vector(3)?, vector(4)?);
                    let running = Tracked { mean: &mut mean, var: &mut var, momentum };
                    let y = device.batch_norm_train(x, norm, Some(running))?;
                    let outputs = problem.outputs();
                    let results = [y, mean, var].into_iter().zip(outputs);
                    return results.map(|(t, o)| device.download(&t)?.reshape(o.shape)).collect();
                }
            }
        }
        Problem::Upsample(shape) => {
            let size = [shape.output().h, shape.output().w];
            device.upsample(x, size, shape.mode())?
        }
        Problem::Concat { .. } => device.concat(&data.iter().collect::<Vec<_>>())?,
        Problem::Add { .. } => device.add(x, &data[1])?,
        Problem::Pad { shape, value } => device.pad(x, shape.padding(), value)?,
        Problem::Crop(shape) => device.crop(x, shape.margins())?,
        Problem::CrossEntropy { .. } => {
            device.cross_entropy(x, &inputs.labels, problem.cross_entropy(inputs))?
        }
        Problem::BceWithLogits { .. } => device.bce_with_logits(x, &data[1], problem.pos_weight(inputs))?,
        Problem::Mse { .. } => device.mse(x, &data[1])?,
        Problem::L1 { .. } => device.l1(x, &data[1])?,
        Problem::Dice { smooth, .. } => device.dice(x, &data[1], smooth)?,
        Problem::Sgd { .. } | Problem::Adam { .. } | Problem::ClipNorm { .. } => {
            let (mut y, mut state) = (device.upload(&inputs.tensors[0])?, state(device, problem, inputs)?);
            step(device, problem, y.view_mut(), data.get(1).map(|g| g.view()), &mut state)?;
            return [y].iter().chain(&state).map(|t| device.download(t)).collect();
        }
    };
    Ok(vec![device.download(&y)?])
}

/// Writes the first output of the problem to `y`, by a plan or an `_into` call; a step of training changes `y`, which holds
/// the first input. `data` are views of the tensors that are
/// no weights or statistics (`x`, or `a` and `b`, or all parts of a concatenation); the others come from `inputs`.
///
/// # Errors
/// Whatever the kernels refuse.
pub fn solve_into<B: Training>(
    device: &B,
    problem: &Problem,
    data: &[View<'_, B>],
    inputs: &Inputs,
    algo: Option<Conv2dAlgo>,
    y: ViewMut<'_, B>,
) -> Result<()> {
    let values = |i: usize| inputs.tensors[i].data();
    let vector = |i: usize| per_channel(device, &inputs.tensors[i]);
    let x = data[0];
    match *problem {
        Problem::Conv2d { shape, bias, activation } => {
            let bias = bias.then(|| values(2));
            let mut plan = device.plan_conv2d(shape, values(1), bias, activation, algo)?;
            device.conv2d_into(&mut plan, x, y)
        }
        Problem::ConvTranspose2d { shape, bias, activation } => {
            let bias = bias.then(|| values(2));
            let mut plan = device.plan_conv_transpose2d(shape, values(1), bias, activation)?;
            device.conv_transpose2d_into(&mut plan, x, y)
        }
        Problem::Linear { shape, bias, activation } => {
            let bias = bias.then(|| values(2));
            let mut plan = device.plan_linear(shape, values(1), bias, activation)?;
            device.linear_into(&mut plan, x, y)
        }
        Problem::MaxPool2d { params, .. } => device.max_pool2d_into(x, params, y),
        Problem::AvgPool2d { params, .. } => device.avg_pool2d_into(x, params, y),
        Problem::GlobalAvgPool { .. } => device.global_avg_pool_into(x, y),
        Problem::Activation { activation, .. } => device.activation_into(x, activation, y),
        Problem::Softmax(shape) => device.softmax_into(x, shape.axis(), y),
        Problem::BatchNorm { eps, statistics, .. } => {
            let (gamma, beta) = (vector(1)?, vector(2)?);
            let norm = Affine { gamma: gamma.view(), beta: beta.view(), eps };
            match statistics {
                Statistics::Given => device.batch_norm_into(x, norm, vector(3)?.view(), vector(4)?.view(), y),
                Statistics::Batch => device.batch_norm_train_into(x, norm, None, y),
                Statistics::Tracked { momentum } => {
                    let (mut mean, mut var) = (vector(3)?, vector(4)?);
                    let running = Tracked { mean: mean.view_mut(), var: var.view_mut(), momentum };
                    device.batch_norm_train_into(x, norm, Some(running), y)
                }
            }
        }
        Problem::Upsample(shape) => device.upsample_into(x, shape.mode(), y),
        Problem::Concat { .. } => device.concat_into(data, y),
        Problem::Add { .. } => device.add_into(x, data[1], y),
        Problem::Pad { shape, value } => device.pad_into(x, shape.padding(), value, y),
        Problem::Crop(shape) => device.crop_into(x, shape.margins(), y),
        Problem::CrossEntropy { .. } => {
            device.cross_entropy_into(x, &inputs.labels, problem.cross_entropy(inputs), y)
        }
        Problem::BceWithLogits { .. } => {
            device.bce_with_logits_into(x, data[1], problem.pos_weight(inputs), y)
        }
        Problem::Mse { .. } => device.mse_into(x, data[1], y),
        Problem::L1 { .. } => device.l1_into(x, data[1], y),
        Problem::Dice { smooth, .. } => device.dice_into(x, data[1], smooth, y),
        Problem::Sgd { .. } | Problem::Adam { .. } | Problem::ClipNorm { .. } => {
            step(device, problem, y, data.get(1).copied(), &mut state(device, problem, inputs)?)
        }
    }
}

/// What a step of training changes beside `y`, or writes.
fn state<B: Training>(device: &B, problem: &Problem, inputs: &Inputs) -> Result<Vec<B::Tensor>> {
    match problem {
        Problem::ClipNorm { .. } => Ok(vec![device.empty(problem.outputs()[1].shape)?]),
        _ => inputs.tensors.iter().skip(2).map(|t| device.upload(t)).collect(),
    }
}

/// A step of training: it changes `y`, and the state.
fn step<B: Training>(
    device: &B,
    problem: &Problem,
    y: ViewMut<'_, B>,
    g: Option<View<'_, B>>,
    state: &mut [B::Tensor],
) -> Result<()> {
    match (problem, g, state) {
        (Problem::Sgd { sgd, .. }, Some(g), state) => {
            device.sgd_step(sgd, y, g, state.first_mut().map(|v| v.view_mut()))
        }
        (Problem::Adam { adam, step, .. }, Some(g), [m, v]) => {
            device.adam_step(adam, *step, y, g, m.view_mut(), v.view_mut())
        }
        (Problem::ClipNorm { max_norm, .. }, None, [norm]) => {
            device.clip_norm_into(y, *max_norm, norm.view_mut())
        }
        (other, ..) => panic!("{} is no step of training", other.op()),
    }
}
