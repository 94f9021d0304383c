//! The gradients of a problem, by the naive reference.

use tilewise_kernels::Activation;

use crate::case::{Inputs, Problem, Statistics};
use crate::reference::{self, Answer, BatchNormGradients};

/// The gradient to each input that has one, by its name: `gx` for `x`; given `gy`, the gradient of a loss with respect to
/// `y`. Statistics have none, given or running.
///
/// `None` if an activation is fused to the end: `gy` would have to pass through it first.
pub fn gradients(problem: &Problem, inputs: &Inputs, gy: &[f32]) -> Option<Vec<(String, Answer)>> {
    let data = |i: usize| inputs.tensors[i].data();
    let x = data(0);
    let weighted = |gx: Answer, gw: Answer, gb: Option<Answer>| [gx, gw].into_iter().chain(gb).collect();
    // In the order of `Problem::inputs`.
    let answers: Vec<Answer> = match problem {
        Problem::Conv2d { shape, bias, activation: Activation::Identity } => weighted(
            reference::conv2d_backward_input(shape, data(1), gy),
            reference::conv2d_backward_weights(shape, x, gy),
            bias.then(|| reference::bias_backward(shape.output(), gy)),
        ),
        Problem::ConvTranspose2d { shape, bias, activation: Activation::Identity } => weighted(
            reference::conv_transpose2d_backward_input(shape, data(1), gy),
            reference::conv_transpose2d_backward_weights(shape, x, gy),
            bias.then(|| reference::bias_backward(shape.output(), gy)),
        ),
        Problem::Linear { shape, bias, activation: Activation::Identity } => weighted(
            reference::linear_backward_input(shape, data(1), gy),
            reference::linear_backward_weights(shape, x, gy),
            bias.then(|| reference::bias_backward(shape.output(), gy)),
        ),
        Problem::Conv2d { .. } | Problem::ConvTranspose2d { .. } | Problem::Linear { .. } => return None,
        Problem::MaxPool2d { shape, .. } => vec![reference::max_pool2d_backward(shape, x, gy)],
        Problem::AvgPool2d { shape, params } => vec![reference::avg_pool2d_backward(shape, *params, gy)],
        Problem::GlobalAvgPool { input } => vec![reference::global_avg_pool_backward(*input, gy)],
        Problem::Activation { input, activation } => {
            vec![reference::activation_backward(*input, *activation, x, gy)]
        }
        Problem::Softmax(shape) => vec![reference::softmax_backward(shape, x, gy)],
        Problem::BatchNorm { input, eps, statistics } => {
            let gamma = data(1);
            let BatchNormGradients { gx, ggamma, gbeta } = match statistics {
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
    Some(names.zip(answers).collect())
}
