//! Convolution, by its definition.

use super::{Answer, at, positions};
use tilewise_kernels::{Conv2dShape, Padding, Shape4};

/// `y[n][o][i][j] = bias[o] + sum over c, p, q of x[n][c][i*sh + p*dh - top][j*sw + q*dw - left] * w[o][c][p][q]`.
/// Taps outside the input add nothing.
pub fn conv2d(shape: &Conv2dShape, x: &[f32], w: &[f32], bias: Option<&[f32]>) -> Answer {
    let k = shape.weights();
    // A product is rounded once, then passes through at most as many additions as there are products.
    Answer::sums(shape.output(), k.c * k.h * k.w + 1, |to| conv2d_at(shape, x, w, bias, to))
}

/// One output of [`conv2d`], at `[n, o, i, j]`: its value and the sum of the absolute values of its terms.
pub fn conv2d_at(
    shape: &Conv2dShape,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    [n, o, i, j]: [usize; 4],
) -> (f64, f64) {
    let (input, weights, params) = (shape.input(), shape.weights(), shape.params());
    let out_channels_per_group = weights.n / params.groups;
    let first_channel = o / out_channels_per_group * weights.c;
    let mut value = bias.map_or(0.0, |b| f64::from(b[o]));
    let mut magnitude = value.abs();
    for c in 0..weights.c {
        for p in 0..weights.h {
            for q in 0..weights.w {
                let padded_row = i * params.stride[0] + p * params.dilation[0];
                let padded_col = j * params.stride[1] + q * params.dilation[1];
                if padded_row < params.padding.top || padded_row >= params.padding.top + input.h {
                    continue;
                }
                if padded_col < params.padding.left || padded_col >= params.padding.left + input.w {
                    continue;
                }
                let (row, col) = (padded_row - params.padding.top, padded_col - params.padding.left);
                let product = at(x, input, [n, first_channel + c, row, col]) * at(w, weights, [o, c, p, q]);
                value += product;
                magnitude += product.abs();
            }
        }
    }
    (value, magnitude)
}

/// The gradient to the input. Each product `x * w` of the definition gives `gy * w` to its `x`.
pub fn conv2d_backward_input(shape: &Conv2dShape, w: &[f32], gy: &[f32]) -> Answer {
    let (weights, params) = (shape.weights(), shape.params());
    // As many products meet at most, each rounded once, then through the additions between them.
    let roundings = weights.n / params.groups * weights.h * weights.w;
    let mut gx = Answer::zeros(shape.input(), roundings);
    for_each_product(shape, |y, x, k| gx.add(x, at(gy, shape.output(), y) * at(w, weights, k)));
    gx
}

/// The gradient to the weights. Each product `x * w` of the definition gives `gy * x` to its `w`.
pub fn conv2d_backward_weights(shape: &Conv2dShape, x: &[f32], gy: &[f32]) -> Answer {
    let (input, output) = (shape.input(), shape.output());
    let mut gw = Answer::zeros(shape.weights(), output.n * output.h * output.w);
    for_each_product(shape, |y, from, k| gw.add(k, at(gy, output, y) * at(x, input, from)));
    gw
}

/// One element of [`conv2d_backward_input`], at `[n, c, row, col]`: its value and the sum of the absolute values of its terms.
pub fn conv2d_backward_input_at(
    shape: &Conv2dShape,
    w: &[f32],
    gy: &[f32],
    [n, c, row, col]: [usize; 4],
) -> (f64, f64) {
    let (weights, output, params) = (shape.weights(), shape.output(), shape.params());
    let outputs_per_group = weights.n / params.groups;
    let group = c / weights.c;
    let (mut value, mut magnitude) = (0.0, 0.0);
    for [o, _, p, q] in positions(Shape4 { n: outputs_per_group, c: 1, ..weights }) {
        let o = group * outputs_per_group + o;
        // The output that reads this pixel through this tap, if there is one.
        let through = |pixel: usize, before: usize, tap: usize, stride: usize, outputs: usize| {
            let distance = (pixel + before).checked_sub(tap)?;
            (distance.is_multiple_of(stride) && distance / stride < outputs).then_some(distance / stride)
        };
        let i = through(row, params.padding.top, p * params.dilation[0], params.stride[0], output.h);
        let j = through(col, params.padding.left, q * params.dilation[1], params.stride[1], output.w);
        if let (Some(i), Some(j)) = (i, j) {
            let product = at(gy, output, [n, o, i, j]) * at(w, weights, [o, c % weights.c, p, q]);
            value += product;
            magnitude += product.abs();
        }
    }
    (value, magnitude)
}

/// One element of [`conv2d_backward_weights`], at `[o, c, p, q]`: its value and the sum of the absolute values of its terms.
pub fn conv2d_backward_weights_at(
    shape: &Conv2dShape,
    x: &[f32],
    gy: &[f32],
    [o, c, p, q]: [usize; 4],
) -> (f64, f64) {
    let (input, weights, output, params) = (shape.input(), shape.weights(), shape.output(), shape.params());
    let channel = o / (weights.n / params.groups) * weights.c + c;
    let (mut value, mut magnitude) = (0.0, 0.0);
    for [n, _, i, j] in positions(Shape4 { c: 1, ..output }) {
        let row = (i * params.stride[0] + p * params.dilation[0]).checked_sub(params.padding.top);
        let col = (j * params.stride[1] + q * params.dilation[1]).checked_sub(params.padding.left);
        if let (Some(row), Some(col)) = (row.filter(|&r| r < input.h), col.filter(|&c| c < input.w)) {
            let product = at(gy, output, [n, o, i, j]) * at(x, input, [n, channel, row, col]);
            value += product;
            magnitude += product.abs();
        }
    }
    (value, magnitude)
}

/// Calls `f` with the places in output, input and weights of every product in the definition.
fn for_each_product(shape: &Conv2dShape, mut f: impl FnMut([usize; 4], [usize; 4], [usize; 4])) {
    let (input, weights, params) = (shape.input(), shape.weights(), shape.params());
    let Padding { top, left, .. } = params.padding;
    for [n, o, i, j] in positions(shape.output()) {
        let group = o / (weights.n / params.groups);
        for [_, c, p, q] in positions(Shape4 { n: 1, ..weights }) {
            let padded_row = i * params.stride[0] + p * params.dilation[0];
            let padded_col = j * params.stride[1] + q * params.dilation[1];
            let inside =
                (top..top + input.h).contains(&padded_row) && (left..left + input.w).contains(&padded_col);
            if inside {
                let from = [n, group * weights.c + c, padded_row - top, padded_col - left];
                f([n, o, i, j], from, [o, c, p, q]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewise_kernels::Conv2dParams;

    #[test]
    fn by_hand() {
        // 1 2 3      taps at distance 2, so that only the corners meet: 1*1 + 3*10 + 7*100 + 9*1000 + 0.5
        // 4 5 6
        // 7 8 9
        let x: Vec<f32> = (1..10).map(|v| v as f32).collect();
        let params = Conv2dParams::default().dilation(2);
        let shape = Conv2dShape::new(Shape4::new(1, 1, 3, 3), 1, [2, 2], params).unwrap();
        let y = conv2d(&shape, &x, &[1.0, 10.0, 100.0, -1000.0], Some(&[0.5]));
        assert_eq!(y.value, [1.0 + 30.0 + 700.0 - 9000.0 + 0.5]);
        assert_eq!(y.magnitude, [1.0 + 30.0 + 700.0 + 9000.0 + 0.5]);
    }

    #[test]
    fn gradients_by_hand() {
        // Stride 2 over 0 | 1 2 3 4: outputs read (pad, 1) and (2, 3); 4 is never read.
        let padding = Padding { left: 1, ..Padding::default() };
        let params = Conv2dParams { stride: [1, 2], padding, ..Conv2dParams::default() };
        let shape = Conv2dShape::new(Shape4::new(1, 1, 1, 4), 1, [1, 2], params).unwrap();
        let (x, w, gy) = ([1.0, 2.0, 3.0, 4.0], [10.0, -100.0], [5.0, 7.0]);
        assert_eq!(conv2d_backward_input(&shape, &w, &gy).value, [-500.0, 70.0, -700.0, 0.0]);
        assert_eq!(conv2d_backward_weights(&shape, &x, &gy).value, [7.0 * 2.0, 5.0 * 1.0 + 7.0 * 3.0]);
        assert_eq!(super::super::bias_backward(shape.output(), &gy).value, [12.0]);
    }

    #[test]
    fn elements_are_those_of_the_whole() {
        let padding = Padding { top: 2, bottom: 0, left: 1, right: 3 };
        let params =
            Conv2dParams { stride: [2, 3], padding, dilation: [1, 2], groups: 2, ..Conv2dParams::default() };
        let shape = Conv2dShape::new(Shape4::new(2, 4, 7, 9), 6, [3, 2], params).unwrap();
        let numbers = |s: Shape4| -> Vec<f32> {
            (0..s.n * s.c * s.h * s.w).map(|i| (i * 7 % 17) as f32 - 8.0).collect()
        };
        let (x, w, gy) = (numbers(shape.input()), numbers(shape.weights()), numbers(shape.output()));
        let (gx, gw) = (conv2d_backward_input(&shape, &w, &gy), conv2d_backward_weights(&shape, &x, &gy));
        for (i, to) in positions(shape.input()).enumerate() {
            let want = (gx.value[i], gx.magnitude[i]);
            assert_eq!(conv2d_backward_input_at(&shape, &w, &gy, to), want, "{to:?}");
        }
        for (i, to) in positions(shape.weights()).enumerate() {
            let want = (gw.value[i], gw.magnitude[i]);
            assert_eq!(conv2d_backward_weights_at(&shape, &x, &gy, to), want, "{to:?}");
        }
    }
}
