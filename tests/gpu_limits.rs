//! What lies beyond the limits of a GPU: tensors, images, planes and rows of which one dispatch reaches but a part, and grids
//! of more workgroups than it has. The limits are made small for it; one test, ignored because it takes minutes and
//! gigabytes, goes beyond those of the driver.

#[expect(dead_code, reason = "the property suites draw from the rest")]
mod strategies;

use std::sync::OnceLock;

use proptest::prelude::*;
use strategies::{cases, config, hold};
use tilewise_bench::case::{Case, Inputs, Problem, Statistics};
use tilewise_bench::check::{self, CheckOptions, Device, Devices, gradients, kernels, laws};
use tilewise_bench::gpu;
use tilewise_kernels::{
    Activation, AvgPool2dParams, Axis, Backend, Conv2dAlgo, Conv2dParams, Conv2dShape, ConvTranspose2dParams,
    ConvTranspose2dShape, CropShape, CrossEntropy, Error, Gpu, GpuOptions, LinearShape, MaxPool2dParams,
    PadShape, Padding, PoolShape, Shape4, SoftmaxShape, Tensor, Training, UpsampleMode, UpsampleShape,
};

fn passes(gpu: &Gpu, case: &Case) -> Result<(), String> {
    let devices = Devices::Gpu(gpu.clone());
    let options = CheckOptions { devices, case: Some(case.clone()), ..CheckOptions::default() };
    let report = check::run(&options, &|_, _, _| {});
    if report.passed() { Ok(()) } else { Err(format!("{report}")) }
}

fn all_pass(gpu: &Gpu, cases: &[&str]) {
    let passes = |case: &&str| passes(gpu, &case.parse().unwrap_or_else(|e| panic!("{case}: {e}")));
    let wrong: Vec<String> = cases.iter().filter_map(|case| passes(case).err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each operator on more than one dispatch reaches, and on more workgroups than a dispatch has.
const LARGE: &[&str] = &[
    "n9c5h24w25_o7k3x3p1+relu",
    "n9c6h24w25_o6k3x3p1g6+ints",
    "n9c16h20w20_o9k1x1+relu",
    "n9c2h24w25_o7k5x5s2p2+ints",
    "conv_transpose2d:n9c5h12w13_o6k2x2s2+ints",
    "linear:n150c64h1w1_o50+relu",
    "linear:n3c5000h1w1_o50+ints",
    "linear:n2c3h1w1_o6000+relu",
    "max_pool2d:n9c5h24w25_k3x3s2p1+special",
    "avg_pool2d:n9c5h24w25_k3x3s2p1",
    "global_avg_pool:n9c10h19w21",
    "gelu:n9c5h24w25",
    "softmax:n9c6h24w25_axis0",
    "softmax:n9c6h24w25_axis1",
    "softmax:n9c6h24w25_axis2",
    "softmax:n9c6h24w25_axis3",
    "batch_norm:n9c5h24w25_eps0.00001",
    "batch_norm:n9c5h24w25_eps0.00001momentum0.1+train",
    "upsample_bilinear:n9c3h12w13_size24x25",
    "upsample_nearest:n9c3h12w13_size24x25",
    "concat:n9c3,4h24w25",
    "add:n9c5h24w25",
    "pad:n9c5h20w21_p2v0.5",
    "crop:n9c5h24w25_p2",
    "cross_entropy:n9c6h20w20",
    "bce_with_logits:n9c5h24w25",
    "mse:n9c5h24w25",
    "cross_entropy:n9c6h20w20_smoothing0.1ignore255+weighted",
    "bce_with_logits:n9c5h24w25+weighted",
    "l1:n9c5h24w25",
    "dice:n9c5h24w25_smooth1",
    "dice:n30c70h1w1_smooth1",
    "sgd:n9c5h24w25_lr0.1momentum0.9decay0.01+nesterov",
    "adam:n9c5h24w25_lr0.001step3",
    "clip_norm:n9c5h24w25_max1",
];

#[test]
fn tensors_and_grids_beyond_the_limits_are_cut() {
    if gpu::of_tests().is_none() {
        return;
    }
    for options in [
        GpuOptions::default().max_binding(16 << 10),
        GpuOptions::default().max_workgroups(100),
        GpuOptions::default().max_binding(20 << 10).max_workgroups(110),
    ] {
        all_pass(&options.open().unwrap(), LARGE);
    }
}

/// Each operator on planes that no dispatch of lavapipe reaches: of 5800 x 5800, its limit being 128 MiB.
const BEYOND_THE_DRIVER: &[&str] = &[
    "n1c1h5800w5800_o1k3x3p1+relu",
    "n1c2h4200w4200_o2k3x3s2p1d2",
    "n1c2h4200w4200_o2k3x3p1g2",
    "conv_transpose2d:n1c1h2900w2900_o1k3x3s2p1",
    "max_pool2d:n1c1h5800w5800_k3x3s2p1+special",
    "avg_pool2d:n1c1h5800w5800_k2x2",
    "global_avg_pool:n1c1h5800w5800",
    "gelu:n1c1h5800w5800",
    "softmax:n1c2h4200w4200_axis1",
    "softmax:n1c1h5800w5800_axis2",
    "softmax:n1c1h1w34000000_axis3",
    "batch_norm:n1c1h5800w5800_eps0.00001",
    "batch_norm:n1c1h5800w5800_eps0.00001momentum0.1+train",
    "upsample_bilinear:n1c1h2900w2900_size5800x5800",
    "upsample_nearest:n1c1h2900w2900_size5800x5800",
    "concat:n1c1,1h4200w4200",
    "add:n1c1h5800w5800",
    "pad:n1c1h5798w5798_p1v0.5",
    "crop:n1c1h5800w5800_p1",
    "cross_entropy:n1c2h4200w4200",
    "bce_with_logits:n1c1h5800w5800",
    "mse:n1c1h5800w5800",
];

#[test]
#[ignore = "takes minutes and 6 GB: cargo test --test gpu_limits -- --ignored"]
fn planes_beyond_the_limit_of_the_driver_are_cut() {
    let Some(gpu) = gpu::of_tests() else { return };
    all_pass(gpu, BEYOND_THE_DRIVER);
}

/// Bytes that the smallest GPU binds.
const SMALLEST: u64 = 2 << 10;

/// GPUs of which one dispatch reaches about 500 and about 2000 elements, if there are any.
fn small() -> &'static [Gpu] {
    static SMALL: OnceLock<Vec<Gpu>> = OnceLock::new();
    SMALL.get_or_init(|| {
        let open = |bytes| GpuOptions::default().max_binding(bytes).open().expect("there is one");
        gpu::of_tests().map_or(Vec::new(), |_| [SMALLEST, 8 << 10].map(open).into())
    })
}

/// Planes of up to eight times what those reach, some of them a single row or column.
fn extents(channels: usize) -> impl Strategy<Value = Shape4> {
    let plane = prop_oneof![
        6 => (30..100usize, 30..100usize),
        1 => (Just(1usize), 2000..5000usize),
        1 => (2..4usize, 600..1500usize),
        1 => (2000..5000usize, 1..3usize),
    ];
    (1..3usize, 1..=channels, plane).prop_map(|(n, c, (h, w))| Shape4::new(n, c, h, w))
}

fn pair(range: std::ops::Range<usize>) -> impl Strategy<Value = [usize; 2]> {
    prop::array::uniform2(range)
}

fn sides() -> impl Strategy<Value = Padding> {
    prop::array::uniform4(0..5usize).prop_map(|[top, bottom, left, right]| Padding {
        top,
        bottom,
        left,
        right,
    })
}

fn activation() -> impl Strategy<Value = Activation> {
    prop::sample::select(&Activation::ALL[..])
}

/// Groups, with which channels are multiplied, and outputs of a group.
fn channels() -> impl Strategy<Value = (usize, usize)> {
    prop_oneof![(Just(1usize), 1..6usize), (2..4usize, 1..3usize)]
}

fn convolutions() -> impl Strategy<Value = Problem> {
    let window = (pair(1..5), pair(1..4), pair(1..4), sides());
    (extents(3), channels(), window, any::<bool>(), activation()).prop_filter_map(
        "the window is too large",
        |(input, (groups, outputs), (kernel, stride, dilation, padding), bias, activation)| {
            let input = Shape4 { c: input.c * groups, ..input };
            let params = Conv2dParams { stride, padding, dilation, groups, ..Conv2dParams::default() };
            let shape = Conv2dShape::new(input, groups * outputs, kernel, params).ok()?;
            Some(Problem::Conv2d { shape, bias, activation })
        },
    )
}

fn transposed() -> impl Strategy<Value = Problem> {
    let window = (pair(1..4), pair(1..5), pair(1..4), sides(), pair(0..4));
    (extents(2), channels(), window, any::<bool>(), activation()).prop_filter_map(
        "the padding cuts all of it away",
        |(input, (groups, outputs), (kernel, stride, dilation, padding, extra), bias, activation)| {
            let input =
                Shape4 { c: input.c * groups, h: input.h.div_ceil(2), w: input.w.div_ceil(2), ..input };
            let output_padding = [0, 1].map(|i| extra[i] % stride[i].max(dilation[i]));
            let params = ConvTranspose2dParams { stride, padding, output_padding, dilation, groups };
            let shape = ConvTranspose2dShape::new(input, groups * outputs, kernel, params).ok()?;
            Some(Problem::ConvTranspose2d { shape, bias, activation })
        },
    )
}

fn pools() -> impl Strategy<Value = Problem> {
    let window = (pair(1..7), pair(1..7), pair(0..4), any::<(bool, bool, bool)>());
    (extents(3), window).prop_filter_map("the window is too large", |(input, window)| {
        let (kernel, stride, padding, (max, ceil_mode, count_include_pad)) = window;
        let padding = [0, 1].map(|i| padding[i].min(kernel[i] / 2));
        Some(if max {
            let params = MaxPool2dParams { kernel, stride, padding, ceil_mode };
            Problem::MaxPool2d { shape: PoolShape::max(input, params).ok()?, params }
        } else {
            let params = AvgPool2dParams { kernel, stride, padding, ceil_mode, count_include_pad };
            Problem::AvgPool2d { shape: PoolShape::avg(input, params).ok()?, params }
        })
    })
}

fn large_windows() -> impl Strategy<Value = Problem> {
    let window = (pair(20..70), pair(1..60), pair(0..10), any::<(bool, bool)>());
    (extents(2), window).prop_filter_map(
        "the window is too large",
        |(input, (kernel, stride, padding, kind))| {
            let (max, count_include_pad) = kind;
            let (input, ceil_mode) = (Shape4 { h: input.h.min(90), w: input.w.min(90), ..input }, false);
            // So that not every element is in hundreds of windows.
            let stride = [0, 1].map(|i| stride[i].max(kernel[i] / 6));
            Some(if max {
                let params = MaxPool2dParams { kernel, stride, padding, ceil_mode };
                Problem::MaxPool2d { shape: PoolShape::max(input, params).ok()?, params }
            } else {
                let params = AvgPool2dParams { kernel, stride, padding, ceil_mode, count_include_pad };
                Problem::AvgPool2d { shape: PoolShape::avg(input, params).ok()?, params }
            })
        },
    )
}

fn resizings() -> impl Strategy<Value = Problem> {
    let mode = prop_oneof![
        Just(UpsampleMode::Nearest),
        any::<bool>().prop_map(|align_corners| UpsampleMode::Bilinear { align_corners })
    ];
    let size = prop_oneof![(1..120usize, 1..120usize), (Just(1usize), 2000..4000usize)];
    (extents(3), size, mode)
        .prop_map(|(input, (h, w), mode)| Problem::Upsample(UpsampleShape::new(input, [h, w], mode).unwrap()))
}

fn moves() -> impl Strategy<Value = Problem> {
    let sides = prop::array::uniform4(0..60usize).prop_map(|[top, bottom, left, right]| Padding {
        top,
        bottom,
        left,
        right,
    });
    (extents(3), sides, any::<bool>()).prop_filter_map("nothing is left", |(input, sides, pad)| {
        Some(if pad {
            Problem::Pad { shape: PadShape::new(input, sides).ok()?, value: -3.5 }
        } else {
            Problem::Crop(CropShape::new(input, sides).ok()?)
        })
    })
}

/// Of operators to which each element is one of many.
fn others() -> impl Strategy<Value = Problem> {
    let eps = 1e-3;
    let linear = (1..4usize, 1..5000usize, 1..9usize, any::<bool>()).prop_filter_map(
        "too large",
        |(n, features, outputs, bias)| {
            let shape = LinearShape::new(Shape4::new(n, features, 1, 1), outputs).ok()?;
            Some(Problem::Linear { shape, bias, activation: Activation::Relu })
        },
    );
    prop_oneof![
        linear,
        extents(3).prop_map(|input| Problem::GlobalAvgPool { input }),
        (extents(3), activation()).prop_map(|(input, activation)| Problem::Activation { input, activation }),
        (extents(3), prop::sample::select(&Axis::ALL[..]))
            .prop_map(|(input, axis)| Problem::Softmax(SoftmaxShape::new(input, axis).unwrap())),
        extents(3).prop_map(move |input| Problem::BatchNorm { input, eps, statistics: Statistics::Given }),
        extents(3).prop_map(move |input| {
            let statistics = Statistics::Tracked { momentum: 0.2 };
            Problem::BatchNorm { input, eps, statistics }
        }),
        (extents(2), 1..3usize)
            .prop_map(|(input, c)| Problem::Concat { parts: vec![input, Shape4 { c, ..input }] }),
        extents(3).prop_map(|input| Problem::Add { input }),
        (extents(5), any::<bool>()).prop_map(|(input, weighted)| {
            let label_smoothing = if weighted { 0.1 } else { 0.0 };
            Problem::CrossEntropy { input, weighted, label_smoothing, ignore_index: weighted.then_some(1) }
        }),
        (extents(3), any::<bool>()).prop_map(|(input, weighted)| Problem::BceWithLogits { input, weighted }),
        extents(3).prop_map(|input| Problem::Mse { input }),
        extents(3).prop_map(|input| Problem::L1 { input }),
        extents(3).prop_map(|input| Problem::Dice { input, smooth: 1.0 }),
    ]
}

/// On every small GPU the case and its gradients are right, the same in every run, and what is added to gradients that are
/// there is the same.
fn right_in_parts(case: &Case) -> Result<(), String> {
    small().iter().try_for_each(|gpu| {
        passes(gpu, case)?;
        laws::gradients_keep_their_laws_on(&Device::Gpu(gpu.clone()), case)
    })
}

/// Whether the smallest GPU reaches the weights of all products of a sum, forward and backward, for a tile of outputs: else some
/// channels are summed after the others.
fn sums_stay_whole(problem: &Problem) -> bool {
    const TILE: usize = 16;
    let (weights, groups) = match problem {
        Problem::Conv2d { shape, .. } => (shape.weights(), shape.params().groups),
        Problem::ConvTranspose2d { shape, .. } => (shape.weights(), shape.params().groups),
        _ => return true,
    };
    weights.c.max(weights.n / groups) * weights.plane_len() * TILE * size_of::<f32>() <= SMALLEST as usize
}

/// And the result has the bits that it has where nothing is cut, if its sums are not.
fn same_in_parts(case: &Case) -> Result<(), String> {
    right_in_parts(case)?;
    if !sums_stay_whole(&case.problem) {
        return Ok(());
    }
    let inputs = Inputs::generate(case).map_err(|e| e.to_string())?;
    let algo = match &case.problem {
        Problem::Conv2d { .. } => Some(Conv2dAlgo::Direct),
        _ => None,
    };
    same_as_whole(case, |gpu| kernels::solve(gpu, &case.problem, &inputs, algo))
}

/// And so has its gradient.
fn same_in_parts_backward(case: &Case) -> Result<(), String> {
    same_in_parts(case)?;
    if !sums_stay_whole(&case.problem) {
        return Ok(());
    }
    let case = &gradients::of(case);
    let of_inputs = Inputs::generate(case).and_then(|inputs| Ok((inputs, gradients::upstream(case)?)));
    let (inputs, gy) = of_inputs.map_err(|e| e.to_string())?;
    same_as_whole(case, |gpu| {
        let mut gradients = gradients::solve(gpu, &case.problem, &inputs, &gy)?;
        // Those to weights are sums over pixels, in an order that depends on the parts.
        gradients.truncate(1);
        Ok(gradients)
    })
}

fn same_as_whole(case: &Case, solve: impl Fn(&Gpu) -> Result<Vec<Tensor>, Error>) -> Result<(), String> {
    let Some(whole) = gpu::of_tests() else { return Ok(()) };
    let solve = |gpu| solve(gpu).map_err(|e| format!("{case}: {e}"));
    let want = solve(whole)?;
    for gpu in small() {
        for (want, got) in want.iter().zip(solve(gpu)?) {
            // Any NaN will do: which one comes out of a sum is the driver's affair.
            let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
            if let Some(i) = std::iter::zip(want.data(), got.data()).position(|pair| !same(pair)) {
                return Err(format!("{case}: element {i} is {:e}, not {:e}", got.data()[i], want.data()[i]));
            }
        }
    }
    Ok(())
}

/// A sixteenth of the usual number of cases: they are large, and small GPUs take thousands of dispatches for each.
fn fewer() -> ProptestConfig {
    let config = config();
    ProptestConfig { cases: config.cases.div_ceil(16), ..config }
}

proptest! {
    #![proptest_config(fewer())]

    #[test]
    fn convolutions_are_the_same_in_parts(case in cases(convolutions())) {
        hold(same_in_parts_backward(&case))?;
    }

    #[test]
    fn transposed_convolutions_are_the_same_in_parts(case in cases(transposed())) {
        hold(same_in_parts_backward(&case))?;
    }

    #[test]
    fn pools_are_the_same_in_parts(case in cases(pools())) {
        hold(same_in_parts_backward(&case))?;
    }

    /// Windows of which no dispatch reaches a single one, or all that reach an element.
    #[test]
    fn large_windows_are_right_in_parts(case in cases(large_windows())) {
        hold(right_in_parts(&case))?;
    }

    #[test]
    fn resizings_are_the_same_in_parts(case in cases(resizings())) {
        hold(same_in_parts(&case))?;
    }

    #[test]
    fn moves_are_the_same_in_parts(case in cases(moves())) {
        hold(same_in_parts_backward(&case))?;
    }

    #[test]
    fn other_operators_are_right_in_parts(case in cases(others())) {
        hold(right_in_parts(&case))?;
    }
}

#[test]
fn what_fits_in_no_part_is_refused_in_words() {
    let [gpu, ..] = small() else { return };
    let zeros = |n, c, h, w| gpu.upload(&Tensor::zeros(Shape4::new(n, c, h, w)).unwrap()).unwrap();
    // What is expected depends on how the adapter aligns bindings.
    let refused = |result: Result<(), Error>, what: &str, got: &str| {
        let error = result.unwrap_err();
        let words = error.to_string();
        assert!(matches!(error, Error::Invalid { .. }), "{words}");
        assert!(words.starts_with(what) && words.ends_with(got), "{words}");
    };
    let window = Tensor::zeros(Shape4::new(1, 1, 2, 2)).unwrap();
    refused(
        gpu.conv2d(&zeros(1, 1, 40, 40), &window, None, Conv2dParams::default().dilation(30)).map(drop),
        "conv2d: elements of a window on this GPU: expected at most",
        "got 961",
    );
    let (window, params) = (Tensor::zeros(Shape4::new(1, 1, 12, 12)).unwrap(), Conv2dParams::default());
    refused(
        gpu.conv2d(&zeros(1, 1, 20, 20), &window, None, params).map(drop),
        "conv2d: taps of a kernel on this GPU: expected at most",
        "got 144",
    );
    let shape = Conv2dShape::new(Shape4::new(1, 1, 20, 20), 1, [12, 12], params).unwrap();
    refused(
        gpu.conv2d_backward_weights(&shape, &zeros(1, 1, 20, 20), &zeros(1, 1, 9, 9)).map(drop),
        "conv2d_backward_weights: taps of a kernel on this GPU: expected at most",
        "got 144",
    );
    refused(
        gpu.cross_entropy(&zeros(1, 600, 1, 1), &[0], CrossEntropy::default()).map(drop),
        "cross_entropy: classes on this GPU: expected at most",
        "got 600",
    );
}
