//! The tolerance of Winograd's algorithm, in the place of that of the products of the definition.

use tilewise_kernels::{Conv2dAlgo, Conv2dShape, Tensor};

use crate::case::{Inputs, Problem};
use crate::compare::{EXACT_INTEGERS, Target};
use crate::reference::Winograd;

/// Whether the algorithm adds up other terms than the products of the definition.
pub fn is_winograd(algo: Conv2dAlgo) -> bool {
    of(Some(algo)).is_some()
}

/// The points of an algorithm, if it is Winograd's.
fn of(algo: Option<Conv2dAlgo>) -> Option<Winograd> {
    let (small, large) = (0.5f64.sqrt(), 2f64.sqrt());
    match algo? {
        Conv2dAlgo::WinogradF2 => Some(Winograd::new(&[0.0, 1.0, -1.0])),
        Conv2dAlgo::WinogradF4 => Some(Winograd::new(&[0.0, small, -small, large, -large])),
        Conv2dAlgo::WinogradF6 => Some(Winograd::new(&[0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5])),
        _ => None,
    }
}

/// The target of a convolution by this algorithm; the bias is a term of its own.
pub fn conv2d(
    target: Target,
    algo: Option<Conv2dAlgo>,
    shape: &Conv2dShape,
    [x, w]: [&[f32]; 2],
    bias: Option<&[f32]>,
) -> Target {
    let Some(winograd) = of(algo) else { return target };
    let mut terms = winograd.conv2d(shape, x, w);
    if let Some(bias) = bias {
        let plane = (shape.output().h * shape.output().w).max(1);
        for (terms, bias) in terms.chunks_exact_mut(plane).zip(bias.iter().cycle()) {
            terms.iter_mut().for_each(|term| *term += f64::from(bias.abs()));
        }
    }
    by_way_of(target, algo, &terms, shape.weights().c)
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
    let Some(winograd) = of(Some(algo)) else { return target };
    let term = |&at: &[usize; 4]| winograd.conv2d_at(shape, x, w, at) + f64::from(bias[at[1]].abs());
    by_way_of(target, Some(algo), &positions.iter().map(term).collect::<Vec<_>>(), shape.weights().c)
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
    let Some(winograd) = of(Some(algo)) else { return target };
    let terms = positions.iter().map(|&at| winograd.conv2d_backward_input_at(shape, w, gy, at));
    let channels = shape.weights().n / shape.params().groups;
    by_way_of(target, Some(algo), &terms.collect::<Vec<_>>(), channels)
}

/// The target of a gradient, where this algorithm computes that to the input of a convolution.
pub fn gradient(
    target: &Target,
    algo: Option<Conv2dAlgo>,
    problem: &Problem,
    name: &str,
    inputs: &Inputs,
    gy: &Tensor,
) -> Target {
    match (of(algo), problem) {
        (Some(winograd), Problem::Conv2d { shape, .. }) if name == "gx" => {
            let terms = winograd.conv2d_backward_input(shape, inputs.tensors[1].data(), gy.data());
            by_way_of(target.clone(), algo, &terms, shape.weights().n / shape.params().groups)
        }
        _ => target.clone(),
    }
}

/// F(2x2, 3x3) halves a sum of integers in each dimension, at most: what is exact stays so, in quarters.
fn by_way_of(target: Target, algo: Option<Conv2dAlgo>, terms: &[f64], channels: usize) -> Target {
    let quarters = algo == Some(Conv2dAlgo::WinogradF2) && terms.iter().all(|&m| 4.0 * m <= EXACT_INTEGERS);
    if quarters && target.tolerance.iter().all(|&t| t == 0.0) {
        return target;
    }
    target.by_way_of(terms, Winograd::roundings(channels))
}
