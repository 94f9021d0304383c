//! The gradients of a problem: by the kernels of any device, and by the naive reference.
//!
//! Those of what a loss can change: data, weights, bias, factors. Statistics have none, given or running; the targets of a
//! loss have one by the reference alone (kernels take them as constants).

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tilewise_kernels::{
    Activation, Affine, BatchNormGradients, DeviceTensor, DeviceView, Moments, Result, Shape4, Tensor,
    Training, Update, UpsampleMode, View, ViewMut,
};

use super::device::per_channel;
use crate::case::{Case, Inputs, Numbers, Operand, Problem, Statistics};
use crate::compare::Target;
use crate::reference::{self, Answer, BatchNormGradients as Reference};

/// The case whose gradients stand for those of this one. An activation that is fused to the end is left away: its gradient is
/// that of the activation, which stands for itself. And a transposed convolution gets no NaN: each pixel of `x` is multiplied
/// with padding, too, in the sums for its weights, where the oracle skips it.
pub fn of(case: &Case) -> Case {
    let mut case = case.clone();
    match &mut case.problem {
        Problem::Conv2d { activation, .. } | Problem::Linear { activation, .. } => {
            *activation = Activation::Identity;
        }
        Problem::ConvTranspose2d { activation, .. } => {
            *activation = Activation::Identity;
            if case.numbers == Numbers::Special {
                case.numbers = Numbers::Real;
            }
        }
        _ => {}
    }
    case
}

/// Operands without a gradient of the kernels.
const CONSTANT: [&str; 5] = ["mean", "var", "target", "weight", "pos_weight"];

/// The operands that kernels give a gradient to, in the order of [`Problem::inputs`], each named after its operand: `gx` for
/// `x`. None of a step of training.
pub fn operands(problem: &Problem) -> Vec<Operand> {
    let inputs = problem.inputs().into_iter().filter(|_| !problem.op().is_step());
    inputs
        .filter(|operand| !CONSTANT.contains(&operand.name.as_str()))
        .map(|operand| Operand { name: format!("g{}", operand.name), ..operand })
        .collect()
}

/// A gradient with respect to the result, to start from: the same on every machine and at every call.
///
/// # Errors
/// If it is too large to allocate.
pub fn upstream(case: &Case) -> Result<Tensor> {
    let mut rng = StdRng::seed_from_u64(case.seed ^ 0x9e37_79b9);
    let mut gy = Tensor::zeros(case.problem.outputs()[0].shape)?;
    gy.data_mut().fill_with(|| match case.numbers {
        Numbers::Integer => rng.random_range(-4i8..=4).into(),
        _ => rng.random_range(-1.0..1.0),
    });
    Ok(gy)
}

/// The gradients by the easy calls, in the order of [`operands`]; by [`solve_into`] where there are none.
///
/// # Errors
/// Whatever the kernels refuse.
pub fn solve<B: Training>(
    device: &B,
    problem: &Problem,
    inputs: &Inputs,
    gy: &Tensor,
) -> Result<Vec<Tensor>> {
    let data = inputs.tensors.iter().take(problem.data_inputs());
    let data = data.map(|t| device.upload(t)).collect::<Result<Vec<_>>>()?;
    let (x, weights) = (&data[0], || &inputs.tensors[1]);
    let (scale, on_device) = (scale(gy), device.upload(gy)?);
    let weighted = |gx: B::Tensor, gw: B::Tensor, bias: bool| -> Result<Vec<B::Tensor>> {
        let gb = bias.then(|| device.bias_backward(&on_device)).transpose()?;
        Ok([gx, gw].into_iter().chain(gb).collect())
    };
    let gradients = match *problem {
        Problem::Conv2d { ref shape, bias, .. } => weighted(
            device.conv2d_backward_input(shape, weights(), &on_device)?,
            device.conv2d_backward_weights(shape, x, &on_device)?,
            bias,
        )?,
        Problem::ConvTranspose2d { ref shape, bias, .. } => weighted(
            device.conv_transpose2d_backward_input(shape, weights(), &on_device)?,
            device.conv_transpose2d_backward_weights(shape, x, &on_device)?,
            bias,
        )?,
        Problem::Linear { ref shape, bias, .. } => weighted(
            device.linear_backward_input(shape, weights(), &on_device)?,
            device.linear_backward_weights(shape, x, &on_device)?,
            bias,
        )?,
        Problem::MaxPool2d { params, .. } => {
            let (_, argmax) = device.max_pool2d_argmax(x, params)?;
            vec![device.max_pool2d_backward(x.shape(), &argmax, &on_device)?]
        }
        Problem::AvgPool2d { params, .. } => {
            vec![device.avg_pool2d_backward(x.shape(), params, &on_device)?]
        }
        Problem::GlobalAvgPool { input } => vec![device.global_avg_pool_backward(input, &on_device)?],
        Problem::Activation { activation, .. } => {
            vec![device.activation_backward(x, activation, &on_device)?]
        }
        Problem::Softmax(shape) => {
            vec![device.softmax_backward(&device.softmax(x, shape.axis())?, shape.axis(), &on_device)?]
        }
        Problem::Upsample(shape) => {
            vec![device.upsample_backward(shape.input(), shape.mode(), &on_device)?]
        }
        Problem::Concat { ref parts } => device.concat_backward(parts, &on_device)?,
        Problem::Pad { shape, .. } => {
            vec![device.pad_backward(shape.input(), shape.padding(), &on_device)?]
        }
        Problem::Crop(shape) => vec![device.crop_backward(shape.input(), shape.margins(), &on_device)?],
        Problem::CrossEntropy { .. } => {
            let params = problem.cross_entropy(inputs);
            vec![device.cross_entropy_backward(x, &inputs.labels, params, scale)?]
        }
        Problem::BceWithLogits { .. } => {
            vec![device.bce_with_logits_backward(x, &data[1], problem.pos_weight(inputs), scale)?]
        }
        Problem::Mse { .. } => vec![device.mse_backward(x, &data[1], scale)?],
        Problem::L1 { .. } => vec![device.l1_backward(x, &data[1], scale)?],
        Problem::Dice { smooth, .. } => vec![device.dice_backward(x, &data[1], smooth, scale)?],
        // Steps of training have none.
        Problem::Sgd { .. } | Problem::Adam { .. } | Problem::ClipNorm { .. } => Vec::new(),
        Problem::BatchNorm { .. } | Problem::Add { .. } => {
            let shapes = operands(problem).into_iter().map(|operand| operand.shape);
            let mut gradients = shapes.map(|shape| device.empty(shape)).collect::<Result<Vec<_>>>()?;
            let to = gradients.iter_mut().map(|g| g.view_mut()).collect();
            let data: Vec<_> = data.iter().map(|t| t.view()).collect();
            solve_into(device, problem, &data, inputs, (gy, on_device.view()), to, Update::Write)?;
            gradients
        }
    };
    let results = gradients.iter().zip(operands(problem));
    results.map(|(g, operand)| device.download(g)?.reshape(operand.shape)).collect()
}

/// The gradient to a loss, which is a number of the host.
fn scale(gy: &Tensor) -> f32 {
    gy.data().first().copied().unwrap_or(1.0)
}

/// Writes the gradients to `to`, in the order of [`operands`], or adds them. `data` is as for [`super::kernels::solve_into`];
/// `gy` is given twice, in the memory of the host and in that of the device.
///
/// # Errors
/// Whatever the kernels refuse.
pub fn solve_into<B: Training>(
    device: &B,
    problem: &Problem,
    data: &[View<'_, B>],
    inputs: &Inputs,
    (host_gy, gy): (&Tensor, View<'_, B>),
    to: Vec<ViewMut<'_, B>>,
    update: Update,
) -> Result<()> {
    let vector = |i: usize| per_channel(device, &inputs.tensors[i]);
    let weights = || inputs.tensors[1].data();
    let scale = scale(host_gy);
    let mut to = to.into_iter();
    let mut next = || to.next().expect("a view for each of the operands");
    let x = data[0];
    let bias_into = |gb: ViewMut<'_, B>| {
        let len = gb.shape().n;
        device.bias_backward_into(gy, gb.reshape(Shape4::new(1, len, 1, 1))?, update)
    };
    let has_bias = match *problem {
        Problem::Conv2d { shape, bias, .. } => {
            let mut plan = device.plan_conv2d_backward_input(shape, weights())?;
            device.conv2d_backward_input_into(&mut plan, gy, next(), update)?;
            let mut plan = device.plan_conv2d_backward_weights(shape)?;
            device.conv2d_backward_weights_into(&mut plan, x, gy, next(), update)?;
            bias
        }
        Problem::ConvTranspose2d { shape, bias, .. } => {
            let mut plan = device.plan_conv_transpose2d_backward_input(shape, weights())?;
            device.conv_transpose2d_backward_input_into(&mut plan, gy, next(), update)?;
            let mut plan = device.plan_conv_transpose2d_backward_weights(shape)?;
            device.conv_transpose2d_backward_weights_into(&mut plan, x, gy, next(), update)?;
            bias
        }
        Problem::Linear { shape, bias, .. } => {
            let mut plan = device.plan_linear_backward_input(shape, weights())?;
            device.linear_backward_input_into(&mut plan, gy, next(), update)?;
            let mut plan = device.plan_linear_backward_weights(shape)?;
            device.linear_backward_weights_into(&mut plan, x, gy, next(), update)?;
            bias
        }
        _ => false,
    };
    match *problem {
        Problem::Conv2d { .. } | Problem::ConvTranspose2d { .. } | Problem::Linear { .. } => {
            if has_bias {
                bias_into(next())?;
            }
            Ok(())
        }
        Problem::MaxPool2d { shape, params } => {
            let mut argmax = device.empty_argmax(shape)?;
            let mut y = device.empty(shape.output())?;
            device.max_pool2d_argmax_into(x, params, y.view_mut(), &mut argmax)?;
            device.max_pool2d_backward_into(&argmax, gy, next(), update)
        }
        Problem::AvgPool2d { params, .. } => device.avg_pool2d_backward_into(params, gy, next(), update),
        Problem::GlobalAvgPool { .. } => device.global_avg_pool_backward_into(gy, next(), update),
        Problem::Activation { activation, .. } => {
            device.activation_backward_into(x, activation, gy, next(), update)
        }
        Problem::Softmax(shape) => {
            let mut y = device.empty(shape.input())?;
            device.softmax_into(x, shape.axis(), y.view_mut())?;
            device.softmax_backward_into(y.view(), shape.axis(), gy, next(), update)
        }
        Problem::BatchNorm { input, eps, statistics } => {
            let (gamma, beta) = (vector(1)?, vector(2)?);
            let one = Shape4::new(1, input.c, 1, 1);
            let gradients =
                BatchNormGradients { x: next(), gamma: next().reshape(one)?, beta: next().reshape(one)? };
            if statistics == Statistics::Given {
                let (mean, var) = (vector(3)?, vector(4)?);
                let (mean, var) = (mean.view(), var.view());
                return device.batch_norm_backward_into(
                    x,
                    gamma.view(),
                    eps,
                    mean,
                    var,
                    gy,
                    gradients,
                    update,
                );
            }
            let norm = Affine { gamma: gamma.view(), beta: beta.view(), eps };
            let (mut mean, mut inv_std) = (device.empty(one)?, device.empty(one)?);
            let mut y = device.empty(input)?;
            let moments = Moments { mean: mean.view_mut(), inv_std: inv_std.view_mut() };
            device.batch_norm_moments_into(x, norm, None, moments, y.view_mut())?;
            let moments = Moments { mean: mean.view(), inv_std: inv_std.view() };
            device.batch_norm_train_backward_into(x, gamma.view(), moments, gy, gradients, update)
        }
        Problem::Upsample(shape) => device.upsample_backward_into(shape.mode(), gy, next(), update),
        Problem::Concat { ref parts } => {
            let mut first = 0;
            parts.iter().try_for_each(|part| {
                let at = first;
                first += part.c;
                device.concat_backward_into(gy, at, next(), update)
            })
        }
        Problem::Add { .. } => {
            device.add_backward_into(gy, next(), update)?;
            device.add_backward_into(gy, next(), update)
        }
        Problem::Pad { shape, .. } => device.pad_backward_into(shape.padding(), gy, next(), update),
        Problem::Crop(shape) => device.crop_backward_into(shape.margins(), gy, next(), update),
        Problem::CrossEntropy { .. } => {
            let params = problem.cross_entropy(inputs);
            device.cross_entropy_backward_into(x, &inputs.labels, params, scale, next(), update)
        }
        Problem::BceWithLogits { .. } => {
            let pos_weight = problem.pos_weight(inputs);
            device.bce_with_logits_backward_into(x, data[1], pos_weight, scale, next(), update)
        }
        Problem::Mse { .. } => device.mse_backward_into(x, data[1], scale, next(), update),
        Problem::L1 { .. } => device.l1_backward_into(x, data[1], scale, next(), update),
        Problem::Dice { smooth, .. } => device.dice_backward_into(x, data[1], smooth, scale, next(), update),
        // Steps of training have no gradients.
        Problem::Sgd { .. } | Problem::Adam { .. } | Problem::ClipNorm { .. } => Ok(()),
    }
}

/// What each gradient of [`operands`] must be.
pub fn targets(problem: &Problem, inputs: &Inputs, gy: &[f32], numbers: Numbers) -> Vec<Target> {
    let sums = |answer: Answer| match (problem, numbers) {
        // Sums of integers and of their products are exact in any order.
        (
            Problem::Conv2d { .. }
            | Problem::ConvTranspose2d { .. }
            | Problem::Linear { .. }
            | Problem::MaxPool2d { .. },
            Numbers::Integer,
        ) => Target::integers(answer),
        (Problem::Upsample(shape), Numbers::Integer) if shape.mode() == UpsampleMode::Nearest => {
            Target::integers(answer)
        }
        _ => Target::rounded(answer),
    };
    let wanted = operands(problem);
    let answers = reference(problem, inputs, gy).into_iter();
    answers
        .filter(|(name, _)| wanted.iter().any(|w| w.name == *name))
        .map(|(_, answer)| sums(answer))
        .collect()
}

/// The gradient to each input that has one, by its name: `gx` for `x`; given `gy`, the gradient of a loss with respect to
/// `y`. The problem has no activation fused to its end ([`of`]).
pub fn reference(problem: &Problem, inputs: &Inputs, gy: &[f32]) -> Vec<(String, Answer)> {
    let data = |i: usize| inputs.tensors[i].data();
    let x = data(0);
    let weighted = |gx: Answer, gw: Answer, gb: Option<Answer>| [gx, gw].into_iter().chain(gb).collect();
    // In the order of `Problem::inputs`.
    let answers: Vec<Answer> = match problem {
        Problem::Conv2d { shape, bias, .. } => weighted(
            reference::conv2d_backward_input(shape, data(1), gy),
            reference::conv2d_backward_weights(shape, x, gy),
            bias.then(|| reference::bias_backward(shape.output(), gy)),
        ),
        Problem::ConvTranspose2d { shape, bias, .. } => weighted(
            reference::conv_transpose2d_backward_input(shape, data(1), gy),
            reference::conv_transpose2d_backward_weights(shape, x, gy),
            bias.then(|| reference::bias_backward(shape.output(), gy)),
        ),
        Problem::Linear { shape, bias, .. } => weighted(
            reference::linear_backward_input(shape, data(1), gy),
            reference::linear_backward_weights(shape, x, gy),
            bias.then(|| reference::bias_backward(shape.output(), gy)),
        ),
        Problem::MaxPool2d { shape, .. } => vec![reference::max_pool2d_backward(shape, x, gy)],
        Problem::AvgPool2d { shape, params } => vec![reference::avg_pool2d_backward(shape, *params, gy)],
        Problem::GlobalAvgPool { input } => vec![reference::global_avg_pool_backward(*input, gy)],
        Problem::Activation { input, activation } => {
            vec![reference::activation_backward(*input, *activation, x, gy)]
        }
        Problem::Softmax(shape) => vec![reference::softmax_backward(shape, x, gy)],
        Problem::BatchNorm { input, eps, statistics } => {
            let gamma = data(1);
            let Reference { gx, ggamma, gbeta } = match statistics {
                Statistics::Given => {
                    reference::batch_norm_backward(*input, x, [gamma, data(3), data(4)], *eps, gy)
                }
                Statistics::Batch | Statistics::Tracked { .. } => {
                    reference::batch_norm_train_backward(*input, x, gamma, *eps, gy)
                }
            };
            vec![gx, ggamma, gbeta]
        }
        Problem::Upsample(shape) => vec![reference::upsample_backward(shape, gy)],
        Problem::Concat { parts } => reference::concat_backward(parts, gy),
        Problem::Add { input } => reference::add_backward(*input, gy).into(),
        Problem::Pad { shape, .. } => vec![reference::pad_backward(shape, gy)],
        Problem::Crop(shape) => vec![reference::crop_backward(shape, gy)],
        Problem::CrossEntropy { input, .. } => {
            let params = problem.cross_entropy(inputs);
            vec![reference::cross_entropy_backward(*input, x, &inputs.labels, params, gy[0])]
        }
        Problem::BceWithLogits { input, .. } => {
            let pos_weight = problem.pos_weight(inputs);
            reference::bce_with_logits_backward(*input, x, data(1), pos_weight, gy[0]).into()
        }
        Problem::Mse { input } => reference::mse_backward(*input, x, data(1), gy[0]).into(),
        Problem::L1 { input } => reference::l1_backward(*input, x, data(1), gy[0]).into(),
        Problem::Dice { input, smooth } => {
            reference::dice_backward(*input, x, data(1), *smooth, gy[0]).into()
        }
        // Steps of training have none.
        Problem::Sgd { .. } | Problem::Adam { .. } | Problem::ClipNorm { .. } => Vec::new(),
    };
    let names = problem.inputs().into_iter().map(|input| format!("g{}", input.name));
    names.zip(answers).collect()
}
