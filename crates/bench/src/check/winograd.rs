//! The tolerance of Winograd's algorithm, in the place of that of the products of the definition.

use tilewise_kernels::{Conv2dAlgo, Conv2dShape, Tensor};

use crate::case::{Inputs, Problem};
use crate::compare::{EXACT_INTEGERS, Target};
use crate::reference::Winograd;

/// Whether the algorithm adds up other terms than the products of the definition.
pub fn is_winograd(algo: Conv2dAlgo) -> bool {
    outputs(algo).is_some()
}

/// The rows of outputs of a tile, if the algorithm is Winograd's.
fn outputs(algo: Conv2dAlgo) -> Option<usize> {
    match algo {
        Conv2dAlgo::WinogradF2 => Some(2),
        Conv2dAlgo::WinogradF3 => Some(3),
        Conv2dAlgo::WinogradF4 => Some(4),
        Conv2dAlgo::WinogradF6 => Some(6),
        _ => None,
    }
}

/// The points of an algorithm, if it is Winograd's: as many as a tile has outputs, and as the kernel (or its even rows) has
/// taps, less one; the last is infinity.
fn of(algo: Option<Conv2dAlgo>, shape: &Conv2dShape) -> Option<Winograd> {
    let (outputs, step) = (outputs(algo?)?, shape.params().stride[0]);
    let taps = shape.kernel()[0].div_ceil(step);
    Some(with_taps(outputs + taps - 1, taps, step))
}

/// The points of the gradient to the weights: the outputs of a tile are the taps.
fn of_weights(algo: Option<Conv2dAlgo>, shape: &Conv2dShape) -> Option<Winograd> {
    let outputs = outputs(algo?)?;
    Some(with_taps(outputs + shape.kernel()[0] - 1, outputs, 1))
}

/// So many points.
fn with_taps(points: usize, taps: usize, step: usize) -> Winograd {
    let (small, large) = (0.5f64.sqrt(), 2f64.sqrt());
    let points: &[f64] = match points {
        4 => &[0.0, 1.0, -1.0],
        5 => &[0.5, -0.5, 1.5, -1.5],
        6 => &[0.0, small, -small, large, -large],
        8 => &[0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5],
        points => unreachable!("no kernel has {points} points"),
    };
    Winograd::new(points, taps, step)
}

/// The target of a convolution by this algorithm; the bias is a term of its own.
pub fn conv2d(
    target: Target,
    algo: Option<Conv2dAlgo>,
    shape: &Conv2dShape,
    [x, w]: [&[f32]; 2],
    bias: Option<&[f32]>,
) -> Target {
    let Some(winograd) = of(algo, shape) else { return target };
    let mut terms = winograd.conv2d(shape, x, w);
    if let Some(bias) = bias {
        let plane = (shape.output().h * shape.output().w).max(1);
        for (terms, bias) in terms.chunks_exact_mut(plane).zip(bias.iter().cycle()) {
            terms.iter_mut().for_each(|term| *term += f64::from(bias.abs()));
        }
    }
    by_way_of(target, algo, shape, &terms, shape.weights().c)
}

/// [`conv2d`] for some outputs only, those at `positions`.
pub fn conv2d_at(
    target: Target,
    algo: Conv2dAlgo,
    shape: &Conv2dShape,
    [x, w]: [&[f32]; 2],
    bias: &[f32],
    positions: &[[usize; 4]],
) -> Target {
    let Some(winograd) = of(Some(algo), shape) else { return target };
    let term = |&at: &[usize; 4]| winograd.conv2d_at(shape, x, w, at) + f64::from(bias[at[1]].abs());
    let terms: Vec<f64> = positions.iter().map(term).collect();
    by_way_of(target, Some(algo), shape, &terms, shape.weights().c)
}

/// [`gradient`] for some inputs only, those at `positions`.
pub fn conv2d_backward_input_at(
    target: Target,
    algo: Conv2dAlgo,
    shape: &Conv2dShape,
    w: &[f32],
    gy: &[f32],
    positions: &[[usize; 4]],
) -> Target {
    let Some(winograd) = of(Some(algo), shape) else { return target };
    let terms = positions.iter().map(|&at| winograd.conv2d_backward_input_at(shape, w, gy, at));
    let channels = shape.weights().n / shape.params().groups;
    by_way_of(target, Some(algo), shape, &terms.collect::<Vec<_>>(), channels)
}

/// The target of some weights' gradients, those at `positions`.
pub fn conv2d_backward_weights_at(
    target: Target,
    algo: Conv2dAlgo,
    shape: &Conv2dShape,
    x: &[f32],
    gy: &[f32],
    positions: &[[usize; 4]],
) -> Target {
    let Some(winograd) = of_weights(Some(algo), shape) else { return target };
    let terms = positions.iter().map(|&at| winograd.conv2d_backward_weights_at(shape, x, gy, at));
    target.by_way_of(&terms.collect::<Vec<_>>(), Winograd::roundings(tiles(algo, shape)))
}

/// Tiles of outputs of all images.
fn tiles(algo: Conv2dAlgo, shape: &Conv2dShape) -> usize {
    let (output, m) = (shape.output(), outputs(algo).unwrap_or(1));
    output.n * output.h.div_ceil(m) * output.w.div_ceil(m)
}

/// The target of a gradient of a convolution, where this algorithm computes it.
pub fn gradient(
    target: &Target,
    algo: Option<Conv2dAlgo>,
    problem: &Problem,
    name: &str,
    inputs: &Inputs,
    gy: &Tensor,
) -> Target {
    match problem {
        Problem::Conv2d { shape, .. } if name == "gx" => {
            let Some(winograd) = of(algo, shape) else { return target.clone() };
            let terms = winograd.conv2d_backward_input(shape, inputs.tensors[1].data(), gy.data());
            by_way_of(target.clone(), algo, shape, &terms, shape.weights().n / shape.params().groups)
        }
        Problem::Conv2d { shape, .. } if name == "gw" => {
            let Some((winograd, algo)) = of_weights(algo, shape).zip(algo) else { return target.clone() };
            let terms = winograd.conv2d_backward_weights(shape, inputs.tensors[0].data(), gy.data());
            target.clone().by_way_of(&terms, Winograd::roundings(tiles(algo, shape)))
        }
        _ => target.clone(),
    }
}

/// F(2x2, 3x3) halves a sum of integers in each dimension, at most: what is exact stays so, in quarters.
fn by_way_of(
    target: Target,
    algo: Option<Conv2dAlgo>,
    shape: &Conv2dShape,
    terms: &[f64],
    channels: usize,
) -> Target {
    let halves = algo == Some(Conv2dAlgo::WinogradF2) && shape.kernel() == [3, 3];
    let quarters = halves && terms.iter().all(|&m| 4.0 * m <= EXACT_INTEGERS);
    if quarters && target.tolerance.iter().all(|&t| t == 0.0) {
        return target;
    }
    let phases: usize = shape.params().stride.iter().product();
    target.by_way_of(terms, Winograd::roundings(phases * channels))
}
