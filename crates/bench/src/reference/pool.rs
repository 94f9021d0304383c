//! Pooling, by its definition.

use super::{Answer, at};
use tilewise_kernels::{AvgPool2dParams, PoolShape, Shape4};

/// The elements of window `[n, c, i, j]` that lie within the input.
fn window(shape: &PoolShape, x: &[f32], [n, c, i, j]: [usize; 4]) -> Vec<f64> {
    let (input, kernel, stride, padding) = (shape.input(), shape.kernel(), shape.stride(), shape.padding());
    let (first_row, first_col) = (i * stride[0], j * stride[1]);
    let mut elements = Vec::new();
    for row in 0..input.h {
        for col in 0..input.w {
            let (padded_row, padded_col) = (row + padding[0], col + padding[1]);
            if padded_row >= first_row
                && padded_row - first_row < kernel[0]
                && padded_col >= first_col
                && padded_col - first_col < kernel[1]
            {
                elements.push(at(x, input, [n, c, row, col]));
            }
        }
    }
    elements
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
        let divisor = if params.count_include_pad {
            let rows = kernel_h.min(input.h + 2 * params.padding[0] - to[2] * params.stride[0]);
            let cols = kernel_w.min(input.w + 2 * params.padding[1] - to[3] * params.stride[1]);
            rows * cols
        } else {
            elements.len()
        };
        let sum: f64 = elements.iter().sum();
        let magnitude: f64 = elements.iter().map(|v| v.abs()).sum();
        (sum / divisor as f64, magnitude / divisor as f64)
    })
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
}
