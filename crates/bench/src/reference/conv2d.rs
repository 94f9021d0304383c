//! Convolution, by its definition.

use super::{Answer, at};
use tilewise_kernels::Conv2dShape;

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

#[cfg(test)]
mod tests {
    use super::*;
    use tilewise_kernels::{Conv2dParams, Shape4};

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
}
