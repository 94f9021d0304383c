//! Pooling: the laws, for every device.

use proptest::prelude::*;
use tilewise_bench::case::Problem;
use tilewise_bench::check::{self, laws};
use tilewise_kernels::{AvgPool2dParams, Conv2dParams, MaxPool2dParams, Padding, PoolShape, Shape4, Tensor};

use crate::strategies::{cases, config, extents, garbage, hold};

fn windows() -> impl Strategy<Value = AvgPool2dParams> {
    let pair = |range: std::ops::Range<usize>| (range.clone(), range);
    (pair(1..7), pair(1..7), pair(0..4), any::<bool>(), any::<bool>()).prop_map(
        |(kernel, stride, padding, ceil_mode, count_include_pad)| AvgPool2dParams {
            kernel: [kernel.0, kernel.1],
            stride: [stride.0, stride.1],
            padding: [padding.0.min(kernel.0 / 2), padding.1.min(kernel.1 / 2)],
            ceil_mode,
            count_include_pad,
        },
    )
}

fn max_params(p: AvgPool2dParams) -> MaxPool2dParams {
    MaxPool2dParams { kernel: p.kernel, stride: p.stride, padding: p.padding, ceil_mode: p.ceil_mode }
}

fn max_pools() -> impl Strategy<Value = Problem> {
    (extents(5, 45), windows()).prop_filter_map("the window is too large", |(input, params)| {
        let params = max_params(params);
        Some(Problem::MaxPool2d { shape: PoolShape::max(input, params).ok()?, params })
    })
}

fn avg_pools() -> impl Strategy<Value = Problem> {
    (extents(5, 45), windows()).prop_filter_map("the window is too large", |(input, params)| {
        Some(Problem::AvgPool2d { shape: PoolShape::avg(input, params).ok()?, params })
    })
}

fn pools() -> impl Strategy<Value = Problem> {
    let global = extents(9, 30).prop_map(|input| Problem::GlobalAvgPool { input });
    prop_oneof![max_pools(), avg_pools(), global]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn max_pool2d_matches_reference(case in cases(max_pools())) {
        hold(check::verify(&case))?;
    }

    #[test]
    fn avg_pool2d_matches_reference(case in cases(avg_pools())) {
        hold(check::verify(&case))?;
    }

    #[test]
    fn global_avg_pool_matches_reference(case in cases(extents(20, 30).prop_map(|input| Problem::GlobalAvgPool { input }))) {
        hold(check::verify(&case))?;
    }

    #[test]
    fn threads_do_not_change_bits(case in cases(pools())) {
        hold(laws::threads_do_not_change_bits(&case))?;
    }

    #[test]
    fn nothing_outside_the_output_is_written(case in cases(pools())) {
        hold(laws::nothing_outside_the_output_is_written(&case))?;
    }

    #[test]
    fn gradients_keep_their_laws(case in cases(pools())) {
        hold(laws::gradients_keep_their_laws(&case))?;
    }

    /// The sum of a window is a depthwise convolution with ones; so is its mean, times the window's size, where all
    /// of the padding counts.
    #[test]
    fn avg_pool2d_is_a_convolution_with_ones(input in extents(4, 30), params in windows()) {
        let params = params.ceil_mode(false).count_include_pad(true);
        prop_assume!(PoolShape::avg(input, params).is_ok());
        let [kh, kw] = params.kernel;
        let x = Tensor::from_fn(input, |[n, c, h, w]| ((n + c + 3 * h + 5 * w) % 17) as f32).unwrap();
        let ones = Tensor::from_fn(Shape4::new(input.c, 1, kh, kw), |_| 1.0).unwrap();
        let [top, left] = params.padding;
        let conv = Conv2dParams { padding: Padding::symmetric(top, left), stride: params.stride, groups: input.c, ..Default::default() };
        for cpu in laws::devices() {
            let sums = cpu.conv2d(&x, &ones, None, conv).unwrap();
            let means = cpu.avg_pool2d(&x, params).unwrap();
            for (sum, mean) in sums.data().iter().zip(means.data()) {
                prop_assert!((mean * (kh * kw) as f32 - sum).abs() <= 1e-6 * sum.abs(), "{} {}", mean, sum);
            }
        }
    }

    /// Every maximum is an element of the input, and the maximum over everything is among them if windows leave no gap.
    #[test]
    fn max_pool2d_commutes_with_growing_functions(input in extents(3, 40), params in windows()) {
        let params = max_params(params);
        prop_assume!(PoolShape::max(input, params).is_ok());
        let x = Tensor::from_fn(input, |[n, c, h, w]| ((n + 3 * c + 5 * h + 11 * w) % 23) as f32 - 11.0).unwrap();
        let grown = Tensor::from_fn(input, |[n, c, h, w]| x.at(n, c, h, w) * 4.0 + 1.0).unwrap();
        for cpu in laws::devices() {
            let first = cpu.max_pool2d(&x, params).unwrap();
            let then = Tensor::from_fn(first.shape(), |[n, c, h, w]| first.at(n, c, h, w) * 4.0 + 1.0).unwrap();
            prop_assert_eq!(cpu.max_pool2d(&grown, params).unwrap(), then);
        }
    }

    #[test]
    fn garbage_never_panics(
        kernel in prop::array::uniform2(garbage()),
        stride in prop::array::uniform2(garbage()),
        padding in prop::array::uniform2(garbage()),
        input in prop::array::uniform4(garbage()),
        flags in any::<(bool, bool)>(),
    ) {
        let avg = AvgPool2dParams { kernel, stride, padding, ceil_mode: flags.0, count_include_pad: flags.1 };
        let _ = PoolShape::avg(input.into(), avg);
        let x = Tensor::from_fn(Shape4::new(1, 2, 3, 5), |_| 1.0).unwrap();
        for cpu in laws::devices() {
            // What does not fit is an error; what fits has the right result, however large the window.
            if let Ok(y) = cpu.max_pool2d(&x, max_params(avg)) {
                prop_assert!(y.data().iter().all(|&v| v == 1.0), "{:?}", y);
            }
            if let Ok(y) = cpu.avg_pool2d(&x, avg.count_include_pad(false)) {
                prop_assert!(y.data().iter().all(|&v| (v - 1.0).abs() < 1e-6), "{:?}", y);
            }
            let _ = cpu.avg_pool2d(&x, avg);
        }
    }
}

#[test]
fn a_nan_in_the_window_comes_out() {
    for cpu in laws::devices() {
        for at in 0..40 {
            let mut x = Tensor::from_fn(Shape4::new(1, 1, 1, 40), |[_, _, _, w]| w as f32).unwrap();
            x.data_mut()[at] = f32::NAN;
            let params =
                MaxPool2dParams { kernel: [1, 3], stride: [1, 1], padding: [0, 1], ceil_mode: false };
            let y = cpu.max_pool2d(&x, params).unwrap();
            for (i, v) in y.data().iter().enumerate() {
                assert_eq!(
                    v.is_nan(),
                    i.abs_diff(at) <= 1,
                    "NaN at {at}, output {i} is {v} on {}",
                    cpu.isa()
                );
            }
        }
    }
}

#[test]
fn threads_do_not_change_bits_of_large_problems() {
    for text in
        ["max_pool2d:n2c30h40w41_k3x3s2p1", "avg_pool2d:n2c30h40w41_k2x2", "global_avg_pool:n4c300h9w11"]
    {
        laws::threads_do_not_change_bits(&text.parse().unwrap()).unwrap();
    }
}
