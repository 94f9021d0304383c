//! Softmax along one axis, by its definition.

use super::{Answer, at};
use tilewise_kernels::SoftmaxShape;

/// `exp(x - max) / sum of exp(x - max)` along the axis.
///
/// The magnitude of an element is its value times `1 + |x - max|`: the difference is rounded once, and the
/// exponential turns that error into a relative one as large as the difference.
pub fn softmax(shape: &SoftmaxShape, x: &[f32]) -> Answer {
    let (input, axis) = (shape.input(), shape.axis().index());
    let len = input.dims()[axis];
    Answer::sums(input, len + 8, |to| {
        let line: Vec<f64> = (0..len)
            .map(|i| {
                let mut from = to;
                from[axis] = i;
                at(x, input, from)
            })
            .collect();
        let max = line.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = line.iter().map(|v| (v - max).exp()).sum();
        let below_max = line[to[axis]] - max;
        let value = below_max.exp() / sum;
        let magnitude = if value == 0.0 { 0.0 } else { value * (1.0 + below_max.abs()) };
        (value, magnitude)
    })
}
