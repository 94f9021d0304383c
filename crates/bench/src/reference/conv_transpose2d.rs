//! Transposed convolution, by its definition: every input is scattered over the output.

use super::{Answer, at, positions};
use tilewise_kernels::{ConvTranspose2dShape, Padding, Shape4};

/// `y[n][o][i*sh + p*dh - top][j*sw + q*dw - left] += x[n][c][i][j] * w[c][o][p][q]`, from `y = bias`; what falls
/// outside the output is dropped.
pub fn conv_transpose2d(shape: &ConvTranspose2dShape, x: &[f32], w: &[f32], bias: Option<&[f32]>) -> Answer {
    let (input, weights, output, params) = (shape.input(), shape.weights(), shape.output(), shape.params());
    let in_channels_per_group = input.c / params.groups;
    // A product is rounded once, then passes through at most one addition per (channel, tap), and the bias.
    let roundings = in_channels_per_group * weights.h * weights.w + 1;
    let mut y = Answer::sums(output, roundings, |[_, o, _, _]| {
        let b = bias.map_or(0.0, |b| f64::from(b[o]));
        (b, b.abs())
    });
    for [n, c, i, j] in positions(input) {
        let group = c / in_channels_per_group;
        for o in 0..weights.c {
            for p in 0..weights.h {
                for q in 0..weights.w {
                    let uncut_row = i * params.stride[0] + p * params.dilation[0];
                    let uncut_col = j * params.stride[1] + q * params.dilation[1];
                    if uncut_row < params.padding.top || uncut_row >= params.padding.top + output.h {
                        continue;
                    }
                    if uncut_col < params.padding.left || uncut_col >= params.padding.left + output.w {
                        continue;
                    }
                    let (row, col) = (uncut_row - params.padding.top, uncut_col - params.padding.left);
                    let channel = group * weights.c + o;
                    let to = ((n * output.c + channel) * output.h + row) * output.w + col;
                    let product = at(x, input, [n, c, i, j]) * at(w, weights, [c, o, p, q]);
                    y.value[to] += product;
                    y.magnitude[to] += product.abs();
                }
            }
        }
    }
    y
}

/// The gradient to the input. Each product `x * w` of the definition gives `gy * w` to its `x`.
pub fn conv_transpose2d_backward_input(shape: &ConvTranspose2dShape, w: &[f32], gy: &[f32]) -> Answer {
    let weights = shape.weights();
    let mut gx = Answer::zeros(shape.input(), weights.c * weights.h * weights.w);
    for_each_product(shape, |y, x, k| gx.add(x, at(gy, shape.output(), y) * at(w, weights, k)));
    gx
}

/// The gradient to the weights. Each product `x * w` of the definition gives `gy * x` to its `w`.
pub fn conv_transpose2d_backward_weights(shape: &ConvTranspose2dShape, x: &[f32], gy: &[f32]) -> Answer {
    let (input, output) = (shape.input(), shape.output());
    let mut gw = Answer::zeros(shape.weights(), input.n * input.h * input.w);
    for_each_product(shape, |y, from, k| gw.add(k, at(gy, output, y) * at(x, input, from)));
    gw
}

/// Calls `f` with the places in output, input and weights of every product in the definition.
fn for_each_product(shape: &ConvTranspose2dShape, mut f: impl FnMut([usize; 4], [usize; 4], [usize; 4])) {
    let (input, weights, output, params) = (shape.input(), shape.weights(), shape.output(), shape.params());
    let Padding { top, left, .. } = params.padding;
    for [n, c, i, j] in positions(input) {
        let group = c / (input.c / params.groups);
        for [_, o, p, q] in positions(Shape4 { n: 1, ..weights }) {
            let uncut_row = i * params.stride[0] + p * params.dilation[0];
            let uncut_col = j * params.stride[1] + q * params.dilation[1];
            let kept =
                (top..top + output.h).contains(&uncut_row) && (left..left + output.w).contains(&uncut_col);
            if kept {
                let to = [n, group * weights.c + o, uncut_row - top, uncut_col - left];
                f(to, [n, c, i, j], [c, o, p, q]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewise_kernels::ConvTranspose2dParams;

    #[test]
    fn by_hand() {
        // Stride 1, so the two copies of the kernel overlap in one column.
        let params = ConvTranspose2dParams::default();
        let shape = ConvTranspose2dShape::new(Shape4::new(1, 1, 1, 2), 1, [1, 2], params).unwrap();
        let y = conv_transpose2d(&shape, &[2.0, 3.0], &[10.0, -1.0], Some(&[1.0]));
        assert_eq!(y.value, [1.0 + 20.0, 1.0 - 2.0 + 30.0, 1.0 - 3.0]);
        assert_eq!(y.magnitude, [21.0, 33.0, 4.0]);
    }

    #[test]
    fn gradients_by_hand() {
        let params = ConvTranspose2dParams::default();
        let shape = ConvTranspose2dShape::new(Shape4::new(1, 1, 1, 2), 1, [1, 2], params).unwrap();
        let (x, w, gy) = ([2.0, 3.0], [10.0, -1.0], [1.0, 5.0, 7.0]);
        assert_eq!(conv_transpose2d_backward_input(&shape, &w, &gy).value, [10.0 - 5.0, 50.0 - 7.0]);
        assert_eq!(conv_transpose2d_backward_weights(&shape, &x, &gy).value, [2.0 + 15.0, 10.0 + 21.0]);
    }
}
