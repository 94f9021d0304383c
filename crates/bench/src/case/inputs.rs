//! What goes into a problem and what comes out of it: names, extents, numbers.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tilewise_kernels::{CrossEntropy, Result, Shape4, Tensor};

use super::{Case, Numbers, Problem, Statistics};

/// A tensor that a problem takes or gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operand {
    /// As golden files name it: `x`, `w`, `b`, `gamma`, `y`, ...
    pub name: String,
    /// Its extents; a vector is `[len, 1, 1, 1]`.
    pub shape: Shape4,
}

/// The input tensors of a problem, in the order of [`Problem::inputs`].
#[derive(Debug, Clone, PartialEq)]
pub struct Inputs {
    /// One per [`Operand`].
    pub tensors: Vec<Tensor>,
    /// For cross entropy the class of each sample, in the order n, h, w; else empty.
    pub labels: Vec<usize>,
}

impl Problem {
    /// What the problem takes.
    pub fn inputs(&self) -> Vec<Operand> {
        let vector = |len| Shape4::new(len, 1, 1, 1);
        let weighted = |x: Shape4, w: Shape4, out_channels: usize, bias: bool| {
            let mut list = vec![("x", x), ("w", w)];
            list.extend(bias.then_some(("b", vector(out_channels))));
            list
        };
        let list = match self {
            Problem::Conv2d { shape, bias, .. } => {
                weighted(shape.input(), shape.weights(), shape.output().c, *bias)
            }
            Problem::ConvTranspose2d { shape, bias, .. } => {
                weighted(shape.input(), shape.weights(), shape.output().c, *bias)
            }
            Problem::Linear { shape, bias, .. } => {
                weighted(shape.input(), shape.weights(), shape.output().c, *bias)
            }
            Problem::MaxPool2d { shape, .. } | Problem::AvgPool2d { shape, .. } => vec![("x", shape.input())],
            Problem::GlobalAvgPool { input } | Problem::Activation { input, .. } => vec![("x", *input)],
            Problem::Softmax(shape) => vec![("x", shape.input())],
            Problem::BatchNorm { input, statistics, .. } => {
                let mut list = vec![("x", *input), ("gamma", vector(input.c)), ("beta", vector(input.c))];
                if *statistics != Statistics::Batch {
                    list.extend([("mean", vector(input.c)), ("var", vector(input.c))]);
                }
                list
            }
            Problem::Upsample(shape) => vec![("x", shape.input())],
            Problem::Concat { parts } => {
                return parts
                    .iter()
                    .enumerate()
                    .map(|(i, &shape)| Operand { name: format!("x{i}"), shape })
                    .collect();
            }
            Problem::Add { input } => vec![("a", *input), ("b", *input)],
            Problem::Pad { shape, .. } => vec![("x", shape.input())],
            Problem::Crop(shape) => vec![("x", shape.input())],
            Problem::CrossEntropy { input, weighted, .. } => {
                let mut list = vec![("x", *input)];
                list.extend(weighted.then_some(("weight", vector(input.c))));
                list
            }
            Problem::BceWithLogits { input, weighted } => {
                let mut list = vec![("x", *input), ("target", *input)];
                list.extend(weighted.then_some(("pos_weight", vector(input.c))));
                list
            }
            Problem::Mse { input } | Problem::L1 { input } | Problem::Dice { input, .. } => {
                vec![("x", *input), ("target", *input)]
            }
            Problem::Sgd { input, sgd } => {
                let mut list = vec![("p", *input), ("g", *input)];
                list.extend((sgd.momentum != 0.0).then_some(("v", *input)));
                list
            }
            Problem::Adam { input, .. } => vec![("p", *input), ("g", *input), ("m", *input), ("v", *input)],
            Problem::ClipNorm { input, .. } => vec![("g", *input)],
        };
        list.into_iter().map(|(name, shape)| Operand { name: name.to_owned(), shape }).collect()
    }

    /// How many of the inputs are data, in front of the weights and statistics.
    pub fn data_inputs(&self) -> usize {
        match self {
            Problem::Concat { parts } => parts.len(),
            Problem::Add { .. }
            | Problem::BceWithLogits { .. }
            | Problem::Mse { .. }
            | Problem::L1 { .. }
            | Problem::Dice { .. }
            | Problem::Sgd { .. }
            | Problem::Adam { .. } => 2,
            _ => 1,
        }
    }

    /// What the problem gives: `y` and, where batch normalisation tracks statistics or an optimiser has a state, their new
    /// values. A loss is `1x1x1x1`; of an optimiser `y` are the parameters, of clipping the gradient.
    pub fn outputs(&self) -> Vec<Operand> {
        let y = match self {
            Problem::Conv2d { shape, .. } => shape.output(),
            Problem::ConvTranspose2d { shape, .. } => shape.output(),
            Problem::Linear { shape, .. } => shape.output(),
            Problem::MaxPool2d { shape, .. } | Problem::AvgPool2d { shape, .. } => shape.output(),
            Problem::GlobalAvgPool { input } => Shape4 { h: 1, w: 1, ..*input },
            Problem::Softmax(shape) => shape.input(),
            Problem::Upsample(shape) => shape.output(),
            Problem::Concat { parts } => {
                let first = parts.first().copied().unwrap_or(Shape4::new(0, 0, 0, 0));
                // A sum that saturates is refused when the problem is validated.
                Shape4 { c: parts.iter().fold(0, |c: usize, p| c.saturating_add(p.c)), ..first }
            }
            Problem::Pad { shape, .. } => shape.output(),
            Problem::Crop(shape) => shape.output(),
            Problem::Activation { input, .. } | Problem::BatchNorm { input, .. } | Problem::Add { input } => {
                *input
            }
            Problem::CrossEntropy { .. }
            | Problem::BceWithLogits { .. }
            | Problem::Mse { .. }
            | Problem::L1 { .. }
            | Problem::Dice { .. } => Shape4::new(1, 1, 1, 1),
            Problem::Sgd { input, .. } | Problem::Adam { input, .. } | Problem::ClipNorm { input, .. } => {
                *input
            }
        };
        let mut list = vec![Operand { name: "y".to_owned(), shape: y }];
        let mut more = |names: &[&str], shape: Shape4| {
            list.extend(names.iter().map(|&name| Operand { name: name.to_owned(), shape }));
        };
        match self {
            Problem::BatchNorm { input, statistics: Statistics::Tracked { .. }, .. } => {
                more(&["new_mean", "new_var"], Shape4::new(input.c, 1, 1, 1));
            }
            Problem::Sgd { input, sgd } if sgd.momentum != 0.0 => more(&["new_v"], *input),
            Problem::Adam { input, .. } => more(&["new_m", "new_v"], *input),
            Problem::ClipNorm { .. } => more(&["norm"], Shape4::new(1, 1, 1, 1)),
            _ => {}
        }
        list
    }
}

impl Problem {
    /// What a cross entropy counts, with the weights among the inputs. The default for any other problem.
    pub(crate) fn cross_entropy<'a>(&self, inputs: &'a Inputs) -> CrossEntropy<'a> {
        match *self {
            Problem::CrossEntropy { weighted, label_smoothing, ignore_index, .. } => CrossEntropy {
                class_weights: weighted.then(|| inputs.tensors[1].data()),
                label_smoothing,
                ignore_index,
            },
            _ => CrossEntropy::default(),
        }
    }

    /// The weights of positive targets of a binary cross entropy, if it has any.
    pub(crate) fn pos_weight<'a>(&self, inputs: &'a Inputs) -> Option<&'a [f32]> {
        match self {
            Problem::BceWithLogits { weighted: true, .. } => Some(inputs.tensors[2].data()),
            _ => None,
        }
    }
}

impl Inputs {
    /// The numbers of a case: the same on every machine and at every call.
    ///
    /// # Errors
    /// If a tensor is too large to allocate.
    pub fn generate(case: &Case) -> Result<Self> {
        let mut rng = StdRng::seed_from_u64(case.seed);
        let mut tensors = Vec::new();
        for input in case.problem.inputs() {
            let mut tensor = Tensor::zeros(input.shape)?;
            let draw = generator(&case.problem, &input.name, case.numbers);
            tensor.data_mut().fill_with(|| draw(&mut rng));
            // Data, not weights: see `Numbers::Special`.
            if case.numbers == Numbers::Special && input.name.starts_with(['x', 'a']) {
                sprinkle(tensor.data_mut(), &mut rng);
            }
            tensors.push(tensor);
        }
        let labels = match case.problem {
            Problem::CrossEntropy { input, ignore_index, .. } if input.c > 0 => {
                let samples = input.n * input.h * input.w;
                let mut label = || match ignore_index {
                    Some(ignored) if rng.random_bool(0.25) => ignored,
                    _ => rng.random_range(0..input.c),
                };
                (0..samples).map(|_| label()).collect()
            }
            _ => Vec::new(),
        };
        Ok(Inputs { tensors, labels })
    }
}

/// What draws the elements of the tensor `name`.
fn generator(problem: &Problem, name: &str, numbers: Numbers) -> fn(&mut StdRng) -> f32 {
    let integer = numbers == Numbers::Integer;
    match (problem, name) {
        // A variance is positive, a probability within 0..=1.
        (Problem::BatchNorm { .. }, "var") => |r| r.random_range(0.1..2.0),
        (Problem::BceWithLogits { .. } | Problem::Dice { .. }, "target") if integer => {
            |r| f32::from(r.random_bool(0.5))
        }
        (Problem::BceWithLogits { .. } | Problem::Dice { .. }, "target") => |r| r.random_range(0.0..=1.0),
        (Problem::CrossEntropy { .. }, "weight") | (Problem::BceWithLogits { .. }, "pos_weight") => {
            |r| r.random_range(0.25..4.0)
        }
        // A mean of squares.
        (Problem::Adam { .. }, "v") => |r| r.random_range(0.0f32..1.0).powi(4),
        _ if integer => |r| r.random_range(-8i8..=8).into(),
        // Off zero: a variance computed as the difference of two large numbers shows.
        (Problem::BatchNorm { .. }, "x") => |r| 30.0 + r.random_range(-1.0..1.0),
        // All magnitudes from 2^-20 to 2^7, both signs: slopes near zero, tails, saturation.
        (Problem::Activation { .. }, _) => |r| {
            let magnitude = r.random_range(-20.0f32..7.0).exp2();
            if r.random_bool(0.5) { magnitude } else { -magnitude }
        },
        (Problem::Softmax(_) | Problem::CrossEntropy { .. } | Problem::BceWithLogits { .. }, _) => {
            |r| r.random_range(-20.0..20.0)
        }
        (Problem::Dice { .. }, _) => |r| r.random_range(-8.0..8.0),
        _ => |r| r.random_range(-1.0..1.0),
    }
}

/// Overwrites one element in sixteen, and at least three, with NaN, infinities and negative zeros.
fn sprinkle(data: &mut [f32], rng: &mut StdRng) {
    if data.is_empty() {
        return;
    }
    let kinds = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0];
    for i in 0..(data.len() / 16).max(3) {
        let at = rng.random_range(0..data.len());
        data[at] = kinds[i % kinds.len()];
    }
}
