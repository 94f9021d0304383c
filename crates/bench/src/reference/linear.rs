//! Fully connected layer, by its definition.

use super::Answer;
use tilewise_kernels::LinearShape;

/// `y[n][o] = bias[o] + sum over i of x[n][i] * w[o][i]`.
pub fn linear(shape: &LinearShape, x: &[f32], w: &[f32], bias: Option<&[f32]>) -> Answer {
    let features = shape.in_features();
    Answer::sums(shape.output(), features + 1, |[n, o, _, _]| {
        let mut value = bias.map_or(0.0, |b| f64::from(b[o]));
        let mut magnitude = value.abs();
        for i in 0..features {
            let product = f64::from(x[n * features + i]) * f64::from(w[o * features + i]);
            value += product;
            magnitude += product.abs();
        }
        (value, magnitude)
    })
}
