//! Pooling, by its definition.

use super::{Answer, at, positions};
use tilewise_kernels::{AvgPool2dParams, PoolShape, Shape4};

/// The elements of window `[n, c, i, j]` that lie within the input.
fn window(shape: &PoolShape, x: &[f32], [n, c, i, j]: [usize; 4]) -> Vec<f64> {
    places(shape, i, j).into_iter().map(|[row, col]| at(x, shape.input(), [n, c, row, col])).collect()
}

/// Rows and columns of the input that window `[i, j]` covers, in row-major order.
fn places(shape: &PoolShape, i: usize, j: usize) -> Vec<[usize; 2]> {
    let (input, kernel, stride, padding) = (shape.input(), shape.kernel(), shape.stride(), shape.padding());
    let covered = |window: usize, axis: usize, extent: usize| {
        let (first, padding) = (window * stride[axis], padding[axis]);
        first.max(padding) - padding..(first + kernel[axis]).clamp(padding, padding + extent) - padding
    };
    let mut places = Vec::new();
    for row in covered(i, 0, input.h) {
        for col in covered(j, 1, input.w) {
            places.push([row, col]);
        }
    }
    places
}

/// The largest element of each window; NaN if any is.
pub fn max_pool2d(shape: &PoolShape, x: &[f32]) -> Answer {
    Answer::exact(shape.output(), |to| {
        let elements = window(shape, x, to);
        if elements.iter().any(|v| v.is_nan()) {
            f64::NAN
        } else {
            elements.into_iter().fold(f64::NEG_INFINITY, f64::max)
        }
    })
}

/// The mean of each window. The divisor counts the elements of the input, or with `count_include_pad` those of the
/// padded input: what hangs over beyond the padding never counts.
pub fn avg_pool2d(shape: &PoolShape, params: AvgPool2dParams, x: &[f32]) -> Answer {
    let input = shape.input();
    let [kernel_h, kernel_w] = params.kernel;
    Answer::sums(shape.output(), kernel_h.min(input.h) * kernel_w.min(input.w) + 1, |to| {
        let elements = window(shape, x, to);
        let divisor = divisor(shape, params, elements.len(), [to[2], to[3]]);
        let sum: f64 = elements.iter().sum();
        let magnitude: f64 = elements.iter().map(|v| v.abs()).sum();
        (sum / divisor, magnitude / divisor)
    })
}

/// What the sum over window `[i, j]`, of which `inside` elements lie within the input, is divided by.
fn divisor(shape: &PoolShape, params: AvgPool2dParams, inside: usize, [i, j]: [usize; 2]) -> f64 {
    if !params.count_include_pad {
        return inside as f64;
    }
    let input = shape.input();
    let rows = params.kernel[0].min(input.h + 2 * params.padding[0] - i * params.stride[0]);
    let cols = params.kernel[1].min(input.w + 2 * params.padding[1] - j * params.stride[1]);
    (rows * cols) as f64
}

/// The mean of each plane: `[n, c, 1, 1]`.
pub fn global_avg_pool(input: Shape4, x: &[f32]) -> Answer {
    let area = input.h * input.w;
    Answer::sums(Shape4::new(input.n, input.c, 1, 1), area + 1, |[n, c, _, _]| {
        let (mut sum, mut magnitude) = (0.0, 0.0);
        for h in 0..input.h {
            for w in 0..input.w {
                let v = at(x, input, [n, c, h, w]);
                sum += v;
                magnitude += v.abs();
            }
        }
        (sum / area as f64, magnitude / area as f64)
    })
}

/// Each window gives its gradient to its largest element: to the first of equals, in row-major order. A NaN counts as
/// larger than all before it, so the last NaN takes it. (PyTorch, too.)
pub fn max_pool2d_backward(shape: &PoolShape, x: &[f32], gy: &[f32]) -> Answer {
    let (input, output) = (shape.input(), shape.output());
    let mut gx = Answer::zeros(input, most_windows(shape).saturating_sub(1));
    for [n, c, i, j] in positions(output) {
        let (mut largest, mut winner) = (f64::NEG_INFINITY, None);
        for [row, col] in places(shape, i, j) {
            let v = at(x, input, [n, c, row, col]);
            if winner.is_none() || v > largest || v.is_nan() {
                (largest, winner) = (v, Some([n, c, row, col]));
            }
        }
        if let Some(winner) = winner {
            gx.add(winner, at(gy, output, [n, c, i, j]));
        }
    }
    gx
}

/// Each window gives each of its elements its gradient over its divisor.
pub fn avg_pool2d_backward(shape: &PoolShape, params: AvgPool2dParams, gy: &[f32]) -> Answer {
    let output = shape.output();
    // The reciprocal and the product, then the additions.
    let mut gx = Answer::zeros(shape.input(), most_windows(shape) + 1);
    for [n, c, i, j] in positions(output) {
        let places = places(shape, i, j);
        let divisor = divisor(shape, params, places.len(), [i, j]);
        for [row, col] in places {
            gx.add([n, c, row, col], at(gy, output, [n, c, i, j]) / divisor);
        }
    }
    gx
}

/// Every element of a plane gets the plane's gradient over the area.
pub fn global_avg_pool_backward(input: Shape4, gy: &[f32]) -> Answer {
    let output = Shape4 { h: 1, w: 1, ..input };
    Answer::sums(input, 2, |[n, c, _, _]| {
        let term = at(gy, output, [n, c, 0, 0]) / (input.h * input.w) as f64;
        (term, term.abs())
    })
}

/// How many windows an element lies in, at most.
fn most_windows(shape: &PoolShape) -> usize {
    let (kernel, stride, output) = (shape.kernel(), shape.stride(), shape.output());
    kernel[0].div_ceil(stride[0]).min(output.h) * kernel[1].div_ceil(stride[1]).min(output.w)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewise_kernels::MaxPool2dParams;

    #[test]
    fn what_hangs_over_the_padding_never_counts() {
        let input = Shape4::new(1, 1, 1, 4);
        let params = AvgPool2dParams {
            kernel: [1, 3],
            stride: [1, 2],
            padding: [0, 1],
            ceil_mode: true,
            count_include_pad: true,
        };
        // Windows {pad, 0, 1}, {1, 2, 3}, {3, pad, beyond}: the last divides by 2.
        let shape = PoolShape::avg(input, params).unwrap();
        let y = avg_pool2d(&shape, params, &[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(y.value, [1.0, 3.0, 2.0]);
        let params = params.count_include_pad(false);
        assert_eq!(avg_pool2d(&shape, params, &[1.0, 2.0, 3.0, 4.0]).value, [1.5, 3.0, 4.0]);
    }

    #[test]
    fn nan_comes_out_and_padding_never_wins() {
        let params = MaxPool2dParams { kernel: [1, 2], stride: [1, 2], padding: [0, 1], ceil_mode: false };
        let shape = PoolShape::max(Shape4::new(1, 1, 1, 4), params).unwrap();
        let y = max_pool2d(&shape, &[-3.0, f32::NAN, 7.0, f32::NEG_INFINITY]);
        assert_eq!(y.value[0], -3.0);
        assert!(y.value[1].is_nan());
        assert_eq!(y.value[2], f64::NEG_INFINITY);
    }

    #[test]
    fn the_first_maximum_and_the_last_nan_take_the_gradient() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        let params = MaxPool2dParams { kernel: [2, 2], stride: [2, 2], padding: [0, 0], ceil_mode: false };
        let shape = PoolShape::max(Shape4::new(1, 1, 2, 8), params).unwrap();
        let x = [
            5.0, 5.0, nan, 1.0, -inf, -inf, 1.0, 2.0, //
            5.0, 2.0, 2.0, nan, -inf, -inf, 2.0, 0.0,
        ];
        let gx = max_pool2d_backward(&shape, &x, &[1.0, 2.0, 3.0, 4.0]).value;
        let mut want = [0.0; 16];
        (want[0], want[11], want[4], want[7]) = (1.0, 2.0, 3.0, 4.0);
        assert_eq!(gx, want);
    }
}
