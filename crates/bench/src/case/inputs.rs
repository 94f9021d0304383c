//! What goes into a problem and what comes out of it: names, extents, numbers.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tilewise_kernels::{Result, Shape4, Tensor};

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
            Problem::CrossEntropy { input } => vec![("x", *input)],
            Problem::BceWithLogits { input } | Problem::Mse { input } => {
                vec![("x", *input), ("target", *input)]
            }
        };
        list.into_iter().map(|(name, shape)| Operand { name: name.to_owned(), shape }).collect()
    }

    /// How many of the inputs are data, in front of the weights and statistics.
    pub fn data_inputs(&self) -> usize {
        match self {
            Problem::Concat { parts } => parts.len(),
            Problem::Add { .. } | Problem::BceWithLogits { .. } | Problem::Mse { .. } => 2,
            _ => 1,
        }
    }

    /// What the problem gives: `y` and, where batch normalisation tracks statistics, their new values. A loss is
    /// `1x1x1x1`.
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
            Problem::CrossEntropy { .. } | Problem::BceWithLogits { .. } | Problem::Mse { .. } => {
                Shape4::new(1, 1, 1, 1)
            }
        };
        let mut list = vec![Operand { name: "y".to_owned(), shape: y }];
        if let Problem::BatchNorm { input, statistics: Statistics::Tracked { .. }, .. } = self {
            let shape = Shape4::new(input.c, 1, 1, 1);
            list.extend(["new_mean", "new_var"].map(|name| Operand { name: name.to_owned(), shape }));
        }
        list
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
            Problem::CrossEntropy { input } if input.c > 0 => {
                let samples = input.n * input.h * input.w;
                (0..samples).map(|_| rng.random_range(0..input.c)).collect()
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
        (Problem::BceWithLogits { .. }, "target") if integer => |r| f32::from(r.random_bool(0.5)),
        (Problem::BceWithLogits { .. }, "target") => |r| r.random_range(0.0..=1.0),
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
