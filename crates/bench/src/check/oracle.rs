//! A problem, solved by the naive reference: what the kernels must give, and how closely.

use tilewise_kernels::Conv2dAlgo;

use super::winograd;
use crate::case::{Inputs, Numbers, Problem, Statistics};
use crate::compare::Target;
use crate::reference::{self, Answer, TrainedBatchNorm};

/// What each output must be, in the order of [`Problem::outputs`]; of a convolution, by this algorithm.
pub fn targets(
    problem: &Problem,
    inputs: &Inputs,
    numbers: Numbers,
    algo: Option<Conv2dAlgo>,
) -> Vec<Target> {
    let data = |i: usize| inputs.tensors[i].data();
    // Sums of products of integers are exact in any order, if the kernel does nothing but such sums.
    let sums = |answer: Answer| match numbers {
        Numbers::Integer => Target::integers(answer),
        _ => Target::rounded(answer),
    };
    let x = data(0);
    let target = match problem {
        Problem::Conv2d { shape, bias, activation } => {
            let bias = bias.then(|| data(2));
            let target = sums(reference::conv2d(shape, x, data(1), bias));
            winograd::conv2d(target, algo, shape, [x, data(1)], bias).then(*activation)
        }
        Problem::ConvTranspose2d { shape, bias, activation } => {
            sums(reference::conv_transpose2d(shape, x, data(1), bias.then(|| data(2)))).then(*activation)
        }
        Problem::Linear { shape, bias, activation } => {
            sums(reference::linear(shape, x, data(1), bias.then(|| data(2)))).then(*activation)
        }
        Problem::MaxPool2d { shape, .. } => Target::rounded(reference::max_pool2d(shape, x)),
        Problem::AvgPool2d { shape, params } => Target::rounded(reference::avg_pool2d(shape, *params, x)),
        Problem::GlobalAvgPool { input } => Target::rounded(reference::global_avg_pool(*input, x)),
        Problem::Activation { input, activation } => {
            Target::rounded(reference::activation(*input, *activation, x))
        }
        Problem::Softmax(shape) => Target::rounded(reference::softmax(shape, x)),
        Problem::BatchNorm { input, eps, statistics } => {
            let affine = [data(1), data(2)];
            match statistics {
                Statistics::Given => {
                    let [gamma, beta] = affine;
                    Target::rounded(reference::batch_norm(*input, x, [gamma, beta, data(3), data(4)], *eps))
                }
                Statistics::Batch => {
                    Target::rounded(reference::batch_norm_train(*input, x, affine, *eps, None).y)
                }
                Statistics::Tracked { momentum } => {
                    let running = Some(([data(3), data(4)], *momentum));
                    let TrainedBatchNorm { y, running } =
                        reference::batch_norm_train(*input, x, affine, *eps, running);
                    return std::iter::once(y).chain(running).map(Target::rounded).collect();
                }
            }
        }
        Problem::Upsample(shape) => Target::rounded(reference::upsample(shape, x)),
        Problem::Concat { parts } => {
            let parts: Vec<_> = parts.iter().copied().zip(inputs.tensors.iter().map(|t| t.data())).collect();
            Target::rounded(reference::concat(&parts))
        }
        Problem::Add { input } => Target::rounded(reference::add(*input, x, data(1))),
        Problem::Pad { shape, value } => Target::rounded(reference::pad(shape, *value, x)),
        Problem::Crop(shape) => Target::rounded(reference::crop(shape, x)),
        Problem::CrossEntropy { input, .. } => {
            let params = problem.cross_entropy(inputs);
            Target::rounded(reference::cross_entropy(*input, x, &inputs.labels, params))
        }
        Problem::BceWithLogits { input, weighted } => {
            let pos_weight = weighted.then(|| data(2));
            Target::rounded(reference::bce_with_logits(*input, x, data(1), pos_weight))
        }
        Problem::Mse { .. } => Target::rounded(reference::mse(x, data(1))),
        Problem::L1 { .. } => Target::rounded(reference::l1(x, data(1))),
        Problem::Dice { input, smooth } => Target::rounded(reference::dice(*input, x, data(1), *smooth)),
        Problem::Sgd { input, sgd } => {
            let velocity = (sgd.momentum != 0.0).then(|| data(2));
            let answers = reference::sgd(*input, sgd, x, data(1), velocity);
            return answers.into_iter().map(Target::rounded).collect();
        }
        Problem::Adam { input, adam, step } => {
            let answers = reference::adam(*input, adam, *step, [x, data(1), data(2), data(3)]);
            return answers.map(Target::rounded).into();
        }
        Problem::ClipNorm { input, max_norm } => {
            return reference::clip_norm(*input, x, *max_norm).map(Target::rounded).into();
        }
    };
    vec![target]
}
