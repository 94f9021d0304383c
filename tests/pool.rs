//! Pooling: the laws, for every device.

use proptest::prelude::*;
use tilewise_bench::case::{Case, Inputs, Numbers, Problem};
use tilewise_bench::check::{self, gradients, laws};
use tilewise_bench::gpu;
use tilewise_kernels::{
    Argmax, AvgPool2dParams, Conv2dParams, DeviceTensor, MaxPool2dParams, Padding, PoolShape, Shape4, Tensor,
    Training, Update,
};

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

/// The maximum of each window, whether or not its place is remembered; and each element of `gy` arrives once, in a maximum
/// of its window.
fn each_gradient_arrives_once<B: Training>(
    device: &B,
    shape: &PoolShape,
    params: MaxPool2dParams,
    x: &Tensor,
    gy: &Tensor,
) -> Result<(), TestCaseError> {
    let on_device = device.upload(x).unwrap();
    let (y, argmax) = device.max_pool2d_argmax(&on_device, params).unwrap();
    let y = device.download(&y).unwrap();
    let plain = device.download(&device.max_pool2d(&on_device, params).unwrap()).unwrap();
    hold(laws::same_bits(plain.data(), y.data()))?;

    let (input, output) = (shape.input(), shape.output());
    let routed = |gy: &Tensor| {
        let gy = device.upload(gy).unwrap();
        device.download(&device.max_pool2d_backward(input, &argmax, &gy).unwrap()).unwrap()
    };
    // Integers, so that sums are exact.
    let gx = routed(gy);
    for n in 0..output.n {
        for c in 0..output.c {
            let sum = |t: &Tensor| t.view().plane(n, c).iter().sum::<f32>();
            prop_assert_eq!(sum(&gx), sum(gy));
        }
    }
    // A single one at a time, in a plane of its own.
    for i in 0..output.h.min(4) {
        for j in 0..output.w.min(4) {
            let hot = |at: [usize; 4]| f32::from(u8::from(at[2..] == [i, j]));
            let gx = routed(&Tensor::from_fn(output, hot).unwrap());
            for n in 0..output.n {
                for c in 0..output.c {
                    let (gx, x) = (gx.view(), x.view());
                    let (gx, x) = (gx.plane(n, c), x.plane(n, c));
                    let hit: Vec<_> = (0..gx.len()).filter(|&at| gx[at] != 0.0).collect();
                    prop_assert_eq!(hit.len(), 1);
                    prop_assert_eq!((gx[hit[0]], x[hit[0]]), (1.0, y.at(n, c, i, j)));
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn max_pool2d_gives_each_gradient_to_one_maximum(problem in max_pools(), seed in any::<u16>()) {
        let case = Case { problem, numbers: Numbers::Integer, seed: seed.into() };
        let (x, gy) = (Inputs::generate(&case).unwrap().tensors.remove(0), gradients::upstream(&case).unwrap());
        let Problem::MaxPool2d { shape, params } = case.problem else { unreachable!() };
        for cpu in laws::devices() {
            each_gradient_arrives_once(&cpu, &shape, params, &x, &gy)?;
        }
        if let Some(gpu) = gpu::of_tests() {
            each_gradient_arrives_once(gpu, &shape, params, &x, &gy)?;
        }
    }

    /// The gradients of means add up to what came, if padding takes no part.
    #[test]
    fn avg_pool2d_shares_each_gradient_out(problem in avg_pools(), seed in any::<u16>()) {
        let Problem::AvgPool2d { shape, params } = problem else { unreachable!() };
        let params = params.count_include_pad(false);
        let case = Case { problem: Problem::AvgPool2d { shape, params }, seed: seed.into(), numbers: Numbers::Real };
        let gy = gradients::upstream(&case).unwrap();
        for cpu in laws::devices() {
            let gx = Training::avg_pool2d_backward(&cpu, shape.input(), params, &gy).unwrap();
            let sum = |t: &Tensor| t.data().iter().map(|&v| f64::from(v)).sum::<f64>();
            prop_assert!((sum(&gx) - sum(&gy)).abs() <= 1e-5 * (1.0 + gy.data().len() as f64), "{:?}", gx);
        }
    }

    /// Windows and positions that fit nothing: errors, on every device.
    #[test]
    fn gradients_of_garbage_never_panic(
        kernel in prop::array::uniform2(garbage()),
        stride in prop::array::uniform2(garbage()),
        padding in prop::array::uniform2(garbage()),
        sizes in prop::array::uniform4(0..5usize),
        flags in any::<(bool, bool)>(),
        positions in prop::collection::vec(any::<u32>(), 0..9),
    ) {
        fn try_it<B: Training>(device: &B, avg: AvgPool2dParams, [gh, gw, h, w]: [usize; 4]) {
            let gy = device.upload(&Tensor::zeros(Shape4::new(1, 2, gh, gw)).unwrap()).unwrap();
            let input = Shape4::new(1, 2, h, w);
            let _ = device.avg_pool2d_backward(input, avg, &gy);
            let _ = device.global_avg_pool_backward(input, &gy);
            let x = device.upload(&Tensor::zeros(input).unwrap()).unwrap();
            if let Ok((_, argmax)) = device.max_pool2d_argmax(&x, max_params(avg)) {
                let _ = device.max_pool2d_backward(input, &argmax, &gy);
            }
        }
        let avg = AvgPool2dParams { kernel, stride, padding, ceil_mode: flags.0, count_include_pad: flags.1 };
        for cpu in laws::devices() {
            try_it(&cpu, avg, sizes);
        }
        if let Some(gpu) = gpu::of_tests() {
            try_it(gpu, avg, sizes);
        }
        // Four windows side by side: position i of them is 2 i or 2 i + 1.
        let shape = PoolShape::max(Shape4::new(1, 1, 1, 8), MaxPool2dParams { kernel: [1, 2], stride: [1, 2], padding: [0, 0], ceil_mode: false }).unwrap();
        let fits = positions.len() == 4 && (0..).zip(&positions).all(|(i, &p)| p / 2 == i);
        prop_assert_eq!(Argmax::new(shape, positions).is_ok(), fits);
    }

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

    #[test]
    fn gradients_are_adjoint(problem in pools(), seed in any::<u16>()) {
        hold(laws::gradients_are_adjoint(&problem, seed))?;
    }

    #[test]
    fn gradients_refuse_other_shapes(case in cases(pools())) {
        hold(laws::other_shapes_are_refused(&case))?;
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
fn an_argmax_of_another_pooling_is_refused() {
    fn refused<B: Training>(device: &B) {
        let x = device.upload(&Tensor::zeros(Shape4::new(1, 1, 4, 4)).unwrap()).unwrap();
        let (params, other) = (MaxPool2dParams::new(2), MaxPool2dParams::new(2).stride(1));
        let mut argmax = device.empty_argmax(PoolShape::max(x.shape(), other).unwrap()).unwrap();
        let mut y = device.empty(Shape4::new(1, 1, 2, 2)).unwrap();
        assert!(device.max_pool2d_argmax_into(x.view(), params, y.view_mut(), &mut argmax).is_err());
        let mut gx = device.empty(x.shape()).unwrap();
        assert!(device.max_pool2d_backward_into(&argmax, y.view(), gx.view_mut(), Update::Write).is_err());
    }
    laws::devices().for_each(|cpu| refused(&cpu));
    gpu::of_tests().into_iter().for_each(refused);
}

#[test]
fn threads_do_not_change_bits_of_large_problems() {
    for text in
        ["max_pool2d:n2c30h40w41_k3x3s2p1", "avg_pool2d:n2c30h40w41_k2x2", "global_avg_pool:n4c300h9w11"]
    {
        laws::threads_do_not_change_bits(&text.parse().unwrap()).unwrap();
    }
}
