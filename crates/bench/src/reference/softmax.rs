//! Softmax along one axis, by its definition.

use super::{Answer, at, index};
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

/// `gx = y * (gy - sum over the axis of gy * y)`.
///
/// Magnitudes as in [`softmax`], of each factor: it does not matter whether `y` was kept, rounded, or computed again.
pub fn softmax_backward(shape: &SoftmaxShape, x: &[f32], gy: &[f32]) -> Answer {
    let (input, axis) = (shape.input(), shape.axis().index());
    let len = input.dims()[axis];
    let y = softmax(shape, x);
    // The value; the sum over the axis; the difference and the product.
    Answer::sums(input, 2 * y.roundings + len + 2, |to| {
        let (mut dot, mut dot_magnitude) = (0.0, 0.0);
        for i in 0..len {
            let mut from = to;
            from[axis] = i;
            let g = at(gy, input, from);
            dot += g * y.value[index(input, from)];
            dot_magnitude += g.abs() * y.magnitude[index(input, from)];
        }
        let (i, g) = (index(input, to), at(gy, input, to));
        (y.value[i] * (g - dot), y.magnitude[i] * (g.abs() + dot_magnitude))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewise_kernels::{Axis, Shape4};

    #[test]
    fn gradient_by_hand() {
        // y = 1/4, 3/4: the sum of gy * y is 4 + 6 = 10.
        let shape = SoftmaxShape::new(Shape4::new(1, 2, 1, 1), Axis::ALL[1]).unwrap();
        let gx = softmax_backward(&shape, &[0.0, 3f32.ln()], &[16.0, 8.0]);
        assert!((gx.value[0] - 1.5).abs() < 1e-6 && (gx.value[1] + 1.5).abs() < 1e-6, "{:?}", gx.value);
    }
}
