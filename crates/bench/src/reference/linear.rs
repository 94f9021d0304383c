//! Fully connected layer, by its definition.

use super::{Answer, positions};
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

/// The gradient to the input: `gx[n][i] = sum over o of gy[n][o] * w[o][i]`.
pub fn linear_backward_input(shape: &LinearShape, w: &[f32], gy: &[f32]) -> Answer {
    let (features, outputs) = (shape.in_features(), shape.output().c);
    let mut gx = Answer::zeros(shape.input(), outputs);
    for (at, to) in positions(shape.input()).enumerate() {
        let (n, i) = (at / features, at % features);
        for o in 0..outputs {
            gx.add(to, f64::from(gy[n * outputs + o]) * f64::from(w[o * features + i]));
        }
    }
    gx
}

/// The gradient to the weights: `gw[o][i] = sum over n of gy[n][o] * x[n][i]`.
pub fn linear_backward_weights(shape: &LinearShape, x: &[f32], gy: &[f32]) -> Answer {
    let (samples, features, outputs) = (shape.input().n, shape.in_features(), shape.output().c);
    let mut gw = Answer::zeros(shape.weights(), samples);
    for [o, i, _, _] in positions(shape.weights()) {
        for n in 0..samples {
            gw.add([o, i, 0, 0], f64::from(gy[n * outputs + o]) * f64::from(x[n * features + i]));
        }
    }
    gw
}
