//! Convolution: the laws, for every device and every algorithm.

use proptest::prelude::*;
use tilewise_bench::case::{Case, Inputs, Numbers, Problem};
use tilewise_bench::check::{self, kernels, laws};
use tilewise_bench::{gpu, reference};
use tilewise_kernels::{
    Accuracy, Activation, Conv2dAlgo, Conv2dBackwardInputPlan, Conv2dBackwardWeightsPlan, Conv2dParams,
    Conv2dPlan, Conv2dShape, Cpu, Padding, Shape4, Tensor, TensorView, Training, Update,
};

use crate::strategies::{cases, config, config_of_large, garbage, hold};

/// Anything small: every tail, groups, multipliers, strides past the end, kernels as large as the padded input.
fn problems() -> impl Strategy<Value = Problem> {
    let channels = prop_oneof![
        // groups, channels in and out per group
        (Just(1usize), 1..20usize, 1..40usize),
        (2..5usize, 1..5usize, 1..5usize),
        (1..20usize, Just(1usize), 1..3usize),
    ];
    let window = (
        prop_oneof![4 => (1..6usize, 1..6usize), 1 => Just((1, 1))],
        prop_oneof![Just((1, 1)), Just((2, 2)), (1..6usize, 1..6usize)],
        prop_oneof![2 => Just((1, 1)), 1 => (1..4usize, 1..4usize)],
        prop_oneof![Just([0; 4]), prop::array::uniform4(0..4usize)],
    );
    let room = (prop_oneof![Just(0usize), 0..12usize], prop_oneof![Just(0usize), 0..40usize]);
    let activation =
        prop_oneof![2 => Just(Activation::Identity), 1 => prop::sample::select(&Activation::ALL[..])];
    (0..4usize, channels, window, room, any::<bool>(), activation).prop_map(
        |(
            n,
            (groups, in_per_group, out_per_group),
            (kernel, stride, dilation, sides),
            room,
            bias,
            activation,
        )| {
            let [top, bottom, left, right] = sides;
            let params = Conv2dParams {
                stride: [stride.0, stride.1],
                padding: Padding { top, bottom, left, right },
                dilation: [dilation.0, dilation.1],
                groups,
                ..Conv2dParams::default()
            };
            // `room` beyond the smallest input that the window fits into.
            let h = (dilation.0 * (kernel.0 - 1) + 1).saturating_sub(top + bottom).max(1) + room.0;
            let w = (dilation.1 * (kernel.1 - 1) + 1).saturating_sub(left + right).max(1) + room.1;
            let input = Shape4::new(n, groups * in_per_group, h, w);
            let shape =
                Conv2dShape::new(input, groups * out_per_group, [kernel.0, kernel.1], params).unwrap();
            Problem::Conv2d { shape, bias, activation }
        },
    )
}

/// Kernels and strides that Winograd's algorithm computes.
fn window_of_winograd() -> impl Strategy<Value = (usize, usize)> {
    prop_oneof![
        3 => Just((3, 1)),
        2 => Just((5, 1)),
        3 => (3..6usize).prop_map(|kernel| (kernel, 2)),
        1 => Just((7, 2)),
    ]
}

/// What Winograd's algorithm computes: kernels of 3x3 and 5x5, with stride 2 up to 7x7, planes of any size, more padding than the
/// kernel needs, tiles of several images in a block, enough channels for the table to choose it.
fn of_winograd() -> impl Strategy<Value = Problem> {
    let channels = prop_oneof![
        2 => (Just(1usize), 1..40usize, 1..40usize),
        1 => (Just(1usize), 16..40usize, 16..40usize),
        1 => (2..4usize, 1..20usize, 1..20usize),
    ];
    let plane = (1..22usize, prop_oneof![4 => 1..30usize, 1 => 280..330usize]);
    let sides = prop_oneof![2 => Just([1; 4]), 1 => prop::array::uniform4(0..5usize)];
    let activation =
        prop_oneof![2 => Just(Activation::Identity), 1 => prop::sample::select(&Activation::ALL[..])];
    (0..5usize, channels, window_of_winograd(), plane, sides, any::<bool>(), activation).prop_map(
        |(n, (groups, in_per_group, out_per_group), (kernel, stride), (h, w), sides, bias, activation)| {
            let [top, bottom, left, right] = sides;
            let padding = Padding { top, bottom, left, right };
            let params = Conv2dParams { padding, groups, ..Conv2dParams::default() }.stride(stride);
            let h = h.max(kernel.saturating_sub(top + bottom));
            let w = w.max(kernel.saturating_sub(left + right));
            let input = Shape4::new(n, groups * in_per_group, h, w);
            let shape = Conv2dShape::new(input, groups * out_per_group, [kernel; 2], params).unwrap();
            Problem::Conv2d { shape, bias, activation }
        },
    )
}

/// The relative L2 error against the reference of a plan for this accuracy, and its algorithm.
fn relative_error(
    cpu: &Cpu,
    shape: &Conv2dShape,
    accuracy: Accuracy,
    x: &Tensor,
    w: &Tensor,
) -> (f64, Conv2dAlgo) {
    let params = shape.params().accuracy(accuracy);
    let shape = Conv2dShape::new(shape.input(), shape.output().c, shape.kernel(), params).unwrap();
    let plan = Conv2dPlan::new(cpu, shape, w.data(), None, Activation::Identity, None).unwrap();
    let mut y = Tensor::zeros(shape.output()).unwrap();
    plan.run(x.view(), y.view_mut(), &mut plan.scratch().unwrap()).unwrap();
    let right = reference::conv2d(&shape, x.data(), w.data(), None).value;
    (l2_error(&y, right.into_iter()), plan.algo())
}

/// The gradient to the weights by a plan for this accuracy, on so many threads, and its algorithm.
fn weights_gradient(
    cpu: &Cpu,
    shape: &Conv2dShape,
    accuracy: Accuracy,
    x: &Tensor,
    gy: &Tensor,
) -> (Tensor, Option<Conv2dAlgo>) {
    let params = shape.params().accuracy(accuracy);
    let shape = Conv2dShape::new(shape.input(), shape.output().c, shape.kernel(), params).unwrap();
    let plan = Conv2dBackwardWeightsPlan::new(cpu, shape).unwrap();
    let mut gw = Tensor::zeros(shape.weights()).unwrap();
    plan.run(x.view(), gy.view(), gw.view_mut(), Update::Write, &mut plan.scratch().unwrap()).unwrap();
    (gw, plan.algo())
}

/// The L2 norm of the errors, relative to that of what is right.
fn l2_error(got: &Tensor, right: impl Iterator<Item = f64>) -> f64 {
    let [errors, all] = got.data().iter().zip(right).fold([0.0; 2], |[errors, all], (&got, right)| {
        [errors + (f64::from(got) - right).powi(2), all + right * right]
    });
    (errors / all).sqrt()
}

/// Problems whose sums are exact: no bias, no activation, no algorithm that rounds integers.
fn bare() -> impl Strategy<Value = Conv2dShape> {
    problems().prop_filter_map("an empty batch says nothing", |problem| match problem {
        Problem::Conv2d { shape, .. } if shape.input().n > 0 => {
            let params = shape.params().accuracy(Accuracy::Exact);
            Conv2dShape::new(shape.input(), shape.output().c, shape.kernel(), params).ok()
        }
        _ => None,
    })
}

/// Small integers, so that every sum is exact.
fn integers(shape: Shape4, seed: usize) -> Tensor {
    let mut state = seed as u64;
    Tensor::from_fn(shape, |_| {
        // Knuth's MMIX generator; its high bits are good enough.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 59) as f32) - 16.0
    })
    .unwrap()
}

/// Whether small integers stay exact.
fn is_exact(algo: Conv2dAlgo, shape: &Conv2dShape) -> bool {
    match algo {
        Conv2dAlgo::WinogradF2 => shape.kernel() == [3, 3],
        _ => !is_winograd(algo),
    }
}

fn is_winograd(algo: Conv2dAlgo) -> bool {
    algo.name().starts_with("winograd")
}

/// `x` convolved with `w`, in every way that is exact.
fn in_every_way(shape: &Conv2dShape, x: &Tensor, w: &Tensor) -> Vec<(String, Tensor)> {
    let mut results = Vec::new();
    for cpu in laws::devices() {
        for algo in Conv2dAlgo::ALL.into_iter().filter(|&algo| is_exact(algo, shape) && algo.supports(shape))
        {
            let plan =
                Conv2dPlan::new(&cpu, *shape, w.data(), None, Activation::Identity, Some(algo)).unwrap();
            let mut y = Tensor::zeros(shape.output()).unwrap();
            plan.run(x.view(), y.view_mut(), &mut plan.scratch().unwrap()).unwrap();
            results.push((format!("{} by {algo}", cpu.isa()), y));
        }
    }
    results
}

proptest! {
    #![proptest_config(config_of_large())]

    #[test]
    fn winograd_matches_reference(case in cases(of_winograd())) {
        hold(check::verify(&case))?;
    }

    #[test]
    fn winograd_keeps_the_laws(case in cases(of_winograd())) {
        hold(laws::threads_do_not_change_bits(&case))?;
        hold(laws::nothing_outside_the_output_is_written(&case))?;
        hold(laws::scratch_garbage_does_not_matter(&case))?;
        hold(laws::weights_can_be_replaced(&case))?;
        hold(laws::weights_may_come_with_a_run(&case))?;
    }

    #[test]
    fn gradients_by_winograd_keep_their_laws(case in cases(of_winograd())) {
        hold(laws::gradients_keep_their_laws(&case))?;
    }

    /// What the table chooses by default is at most three times as far off as the direct algorithms, and what it chooses for
    /// `Exact` is one of them.
    #[test]
    fn accuracy_is_what_was_asked_for(
        n in 1..3usize, c in 1..80usize, o in 1..40usize, (kernel, stride) in window_of_winograd(), h in 8..30usize,
        w in 8..30usize, seed in any::<u16>()
    ) {
        let params = Conv2dParams::default().padding(kernel / 2).stride(stride);
        let shape = Conv2dShape::new(Shape4::new(n, c, h, w), o, [kernel; 2], params).unwrap();
        let problem = Problem::Conv2d { shape, bias: false, activation: Activation::Identity };
        let inputs = Inputs::generate(&Case { problem, numbers: Numbers::Real, seed: seed.into() }).unwrap();
        let [x, w] = &inputs.tensors[..] else { unreachable!() };
        for cpu in laws::devices() {
            let (exact, algo) = relative_error(&cpu, &shape, Accuracy::Exact, x, w);
            prop_assert!(!is_winograd(algo), "{} for exact", algo);
            let (default, algo) = relative_error(&cpu, &shape, Accuracy::Default, x, w);
            prop_assert!(default <= 3.0 * exact, "{:e} by {}, {:e} directly", default, algo, exact);
            prop_assert_ne!(algo, Conv2dAlgo::WinogradF6);
            let (fast, algo) = relative_error(&cpu, &shape, Accuracy::Fast, x, w);
            prop_assert!(fast <= 15.0 * exact, "{:e} by {}, {:e} directly", fast, algo, exact);
        }
    }

    /// And so is the gradient to the weights.
    #[test]
    fn accuracy_of_the_weights_gradient_is_what_was_asked_for(
        n in 1..3usize, c in 1..40usize, o in 1..40usize, kernel in prop_oneof![Just(3usize), Just(5)], h in 4..30usize,
        w in 4..30usize, seed in any::<u16>()
    ) {
        let params = Conv2dParams::default().padding(kernel / 2);
        let shape = Conv2dShape::new(Shape4::new(n, c, h, w), o, [kernel; 2], params).unwrap();
        let problem = Problem::Conv2d { shape, bias: false, activation: Activation::Identity };
        let case = Case { problem, numbers: Numbers::Real, seed: seed.into() };
        let (inputs, gy) = (Inputs::generate(&case).unwrap(), check::gradients::upstream(&case).unwrap());
        let x = &inputs.tensors[0];
        let right = reference::conv2d_backward_weights(&shape, x.data(), gy.data()).value;
        for cpu in laws::devices() {
            let error = |accuracy| {
                let (gw, algo) = weights_gradient(&cpu, &shape, accuracy, x, &gy);
                (l2_error(&gw, right.iter().copied()), algo)
            };
            let (exact, algo) = error(Accuracy::Exact);
            prop_assert_eq!(algo, None);
            let (default, algo) = error(Accuracy::Default);
            prop_assert!(default <= 3.0 * exact, "{:e} by {:?}, {:e} directly", default, algo, exact);
        }
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn conv2d_matches_reference(case in cases(problems())) {
        hold(check::verify(&case))?;
    }

    #[test]
    fn threads_do_not_change_bits(case in cases(problems())) {
        hold(laws::threads_do_not_change_bits(&case))?;
    }

    #[test]
    fn nothing_outside_the_output_is_written(case in cases(problems())) {
        hold(laws::nothing_outside_the_output_is_written(&case))?;
    }

    #[test]
    fn gradients_keep_their_laws(case in cases(problems())) {
        hold(laws::gradients_keep_their_laws(&case))?;
    }

    #[test]
    fn gradients_are_adjoint(problem in problems(), seed in any::<u16>()) {
        hold(laws::gradients_are_adjoint(&problem, seed))?;
    }

    #[test]
    fn weights_can_be_replaced(case in cases(problems())) {
        hold(laws::weights_can_be_replaced(&case))?;
        hold(laws::weights_may_come_with_a_run(&case))?;
    }

    #[test]
    fn gradients_refuse_other_shapes(case in cases(problems())) {
        hold(laws::other_shapes_are_refused(&case))?;
    }

    #[test]
    fn scratch_garbage_does_not_matter(case in cases(problems())) {
        hold(laws::scratch_garbage_does_not_matter(&case))?;
    }

    /// The plan of the table's choice gives the bits of the easy call.
    #[test]
    fn plan_gives_what_the_easy_call_gives(case in cases(problems())) {
        let Problem::Conv2d { shape, bias, .. } = case.problem else { unreachable!() };
        let inputs = Inputs::generate(&case).unwrap();
        let bare = Problem::Conv2d { shape, bias, activation: Activation::Identity };
        let [x, w, ..] = &inputs.tensors[..] else { unreachable!() };
        let bias = bias.then(|| inputs.tensors[2].data());
        for cpu in laws::devices() {
            let easy = cpu.conv2d(x, w, bias, shape.params()).unwrap();
            let planned = kernels::solve(&cpu, &bare, &inputs, None).unwrap();
            hold(laws::same_bits(easy.data(), planned[0].data()))?;
        }
    }

    /// `conv(2 a - 3 b) = 2 conv(a) - 3 conv(b)`, exactly, for integers.
    #[test]
    fn conv2d_is_linear(shape in bare(), seed in any::<u16>()) {
        let seed = usize::from(seed);
        let (a, b) = (integers(shape.input(), seed), integers(shape.input(), seed + 1));
        let w = integers(shape.weights(), seed + 2);
        let combined = |a: &Tensor, b: &Tensor| {
            let data = a.data().iter().zip(b.data()).map(|(a, b)| 2.0 * a - 3.0 * b).collect();
            Tensor::from_vec(a.shape(), data).unwrap()
        };
        let of_sum = in_every_way(&shape, &combined(&a, &b), &w);
        let (of_a, of_b) = (in_every_way(&shape, &a, &w), in_every_way(&shape, &b, &w));
        for (((way, of_sum), (_, a)), (_, b)) in of_sum.iter().zip(&of_a).zip(&of_b) {
            prop_assert_eq!(of_sum, &combined(a, b), "{}", way);
        }
    }

    /// Moving the input down and right by one stride moves the output by one, where no edge is near.
    #[test]
    fn conv2d_commutes_with_translation(shape in bare(), seed in any::<u16>()) {
        let ([sh, sw], input) = (shape.params().stride, shape.input());
        // The same picture, moved, in a larger frame: its edges stay zero, so padding does not matter.
        let frame = Shape4 { h: input.h + 2 * sh, w: input.w + 2 * sw, ..input };
        let picture = integers(input, seed.into());
        let placed = |down: usize, right: usize| Tensor::from_fn(frame, |[n, c, h, w]| {
            let inside = (down..down + input.h).contains(&h) && (right..right + input.w).contains(&w);
            if inside { picture.at(n, c, h - down, w - right) } else { 0.0 }
        }).unwrap();
        let framed = Conv2dShape::new(frame, shape.output().c, shape.kernel(), shape.params()).unwrap();
        let w = integers(shape.weights(), usize::from(seed) + 1);
        let here = in_every_way(&framed, &placed(sh, sw), &w);
        let there = in_every_way(&framed, &placed(2 * sh, 2 * sw), &w);
        let out = framed.output();
        for ((way, here), (_, there)) in here.iter().zip(&there) {
            for n in 0..out.n {
                for c in 0..out.c {
                    for h in 1..out.h {
                        for w in 1..out.w {
                            prop_assert_eq!(here.at(n, c, h - 1, w - 1), there.at(n, c, h, w), "{}", way);
                        }
                    }
                }
            }
        }
    }

    /// A single one in the input brings out the kernel, turned by half a circle.
    #[test]
    fn conv2d_of_a_delta_is_the_kernel(
        kernel in (1..6usize, 1..6usize), outputs in 1..40usize, channels in 1..6usize, seed in any::<u16>()
    ) {
        let (kh, kw) = kernel;
        let params = Conv2dParams { padding: Padding::symmetric(kh - 1, kw - 1), ..Conv2dParams::default() };
        let shape = Conv2dShape::new(Shape4::new(1, channels, 1, 1), outputs, [kh, kw], params).unwrap();
        let w = integers(shape.weights(), seed.into());
        for hot in 0..channels {
            let delta = Tensor::from_fn(shape.input(), |[_, c, _, _]| f32::from(u8::from(c == hot))).unwrap();
            let turned =
                Tensor::from_fn(shape.output(), |[_, o, i, j]| w.at(o, hot, kh - 1 - i, kw - 1 - j)).unwrap();
            for (way, y) in in_every_way(&shape, &delta, &w) {
                prop_assert_eq!(&y, &turned, "{}", way);
            }
        }
    }

    /// Two convolutions written into ranges of channels of one tensor are the convolution with all kernels; and a
    /// convolution of concatenated inputs is the sum of the convolutions of the parts.
    #[test]
    fn channels_of_one_output_are_convolutions_of_their_own(shape in bare(), cut in any::<prop::sample::Index>(), seed in any::<u16>()) {
        prop_assume!(shape.params().groups == 1);
        let outputs = shape.output().c;
        let cut = cut.index(outputs + 1);
        let (x, w) = (integers(shape.input(), seed.into()), integers(shape.weights(), usize::from(seed) + 1));
        let per_output = w.data().len() / outputs;
        for (way, whole) in in_every_way(&shape, &x, &w) {
            for cpu in laws::devices() {
                let mut parts = Tensor::zeros(shape.output()).unwrap();
                for range in [0..cut, cut..outputs] {
                    if range.is_empty() {
                        continue;
                    }
                    let part = Conv2dShape::new(shape.input(), range.len(), shape.kernel(), shape.params()).unwrap();
                    let weights = &w.data()[range.start * per_output..range.end * per_output];
                    let plan = Conv2dPlan::new(&cpu, part, weights, None, Activation::Identity, None).unwrap();
                    let y = parts.view_mut().channels(range).unwrap();
                    plan.run(x.view(), y, &mut plan.scratch().unwrap()).unwrap();
                }
                prop_assert_eq!(&parts, &whole, "{} against {}", cpu.isa(), way);
            }
        }
    }

    #[test]
    fn conv2d_of_a_concatenation_is_the_sum_over_its_parts(shape in bare(), cut in any::<prop::sample::Index>(), seed in any::<u16>()) {
        prop_assume!(shape.params().groups == 1 && shape.input().c > 1);
        let channels = shape.input().c;
        let cut = 1 + cut.index(channels - 1);
        let (x, w) = (integers(shape.input(), seed.into()), integers(shape.weights(), usize::from(seed) + 1));
        for cpu in laws::devices() {
            let convolved = |range: std::ops::Range<usize>| {
                let x: TensorView = x.view().channels(range.clone()).unwrap();
                let w = w.view().channels(range).unwrap().to_tensor().unwrap();
                let part = Conv2dShape::new(x.shape(), shape.output().c, shape.kernel(), shape.params()).unwrap();
                let plan = Conv2dPlan::new(&cpu, part, w.data(), None, Activation::Identity, None).unwrap();
                let mut y = Tensor::zeros(part.output()).unwrap();
                plan.run(x, y.view_mut(), &mut plan.scratch().unwrap()).unwrap();
                y
            };
            let sum = cpu.add(&convolved(0..cut), &convolved(cut..channels)).unwrap();
            prop_assert_eq!(sum, convolved(0..channels), "{}", cpu.isa());
        }
    }

    /// Any sizes at all: a result or an error, never a panic.
    #[test]
    fn garbage_never_panics(
        stride in prop::array::uniform2(garbage()),
        sides in prop::array::uniform4(garbage()),
        dilation in prop::array::uniform2(garbage()),
        groups in garbage(),
        input in prop::array::uniform4(garbage()),
        outputs in garbage(),
        kernel in prop::array::uniform2(garbage()),
    ) {
        let [top, bottom, left, right] = sides;
        let params = Conv2dParams { stride, padding: Padding { top, bottom, left, right }, dilation, groups, ..Default::default() };
        if let Ok(shape) = Conv2dShape::new(input.into(), outputs, kernel, params) {
            // Lengths that fit nothing.
            for cpu in laws::devices() {
                let plan = Conv2dPlan::new(&cpu, shape, &[0.0; 3], Some(&[0.0; 2]), Activation::Relu, None);
                let three = shape.weights().dims().iter().product::<usize>() == 3;
                prop_assert!(plan.is_err() || three);
                prop_assert_eq!(Conv2dBackwardInputPlan::new(&cpu, shape, &[0.0; 3]).is_ok(), three);
                let _ = Conv2dBackwardWeightsPlan::new(&cpu, shape).and_then(|plan| plan.scratch());
            }
            if let Some(gpu) = gpu::of_tests() {
                let _ = gpu.plan_conv2d_backward_input(shape, &[0.0; 3]);
                let _ = gpu.plan_conv2d_backward_weights(shape);
            }
            let _ = params.same_padding(input.into(), kernel);
        }
        // Small tensors, large parameters.
        let x = Tensor::zeros(Shape4::new(1, 2, 3, 3)).unwrap();
        let w = Tensor::zeros(Shape4::new(2, 2, 2, 2)).unwrap();
        for cpu in laws::devices() {
            if let Ok(y) = cpu.conv2d(&x, &w, None, params) {
                prop_assert!(y.data().iter().all(|&v| v == 0.0));
            }
        }
    }
}

/// Large enough that every algorithm splits its work.
#[test]
fn threads_do_not_change_bits_of_large_problems() {
    for text in [
        "n2c16h40w41_o40k3x3p1+relu",
        "n1c3h90w90_o17k5x5s2p2",
        "n3c24h30w31_o24k3x3p1g24",
        "n2c64h20w21_o70k1x1",
        // Fewer blocks than threads, and blocks of several images.
        "n1c40h14w14_o70k3x3p1+relu",
        "n9c40h7w7_o70k3x3p1",
        // Rows of tiles in parts.
        "n1c16h9w700_o16k3x3p1",
        DEEP,
    ] {
        let case: Case = text.parse().unwrap();
        laws::threads_do_not_change_bits(&case).unwrap();
    }
}

/// Large enough that threads share out the pixels, or the weights in more than one way.
#[test]
fn gradients_of_large_problems_keep_their_laws() {
    for text in [
        "n1c3h97w101_o20k3x3p1",
        "n1c3h97w101_o20k3x3p1+ints",
        "n2c4h131w139_o18k5x4s2p2g2",
        "n150c2h9w10_o9k5x5p2",
        "n3c9h53w61_o33k1x1",
        "n1c200h5w6_o70k3x3p1",
        "n1c300h3w5_o70k1x1",
    ] {
        laws::gradients_keep_their_laws(&text.parse().unwrap()).unwrap();
    }
}

/// More weights than tiles: they are transformed a few channels at a time, as they are needed.
const DEEP: &str = "n1c260h12w13_o130k3x3p1+relu";

#[test]
fn weights_that_are_transformed_as_they_are_needed_keep_the_laws() {
    for text in [DEEP, "n2c70h21w23_o70k3x3s2p1+relu", "n1c40h9w10_o90k5x5p2"] {
        let case: Case = text.parse().unwrap();
        check::verify(&case).unwrap();
        laws::nothing_outside_the_output_is_written(&case).unwrap();
        laws::scratch_garbage_does_not_matter(&case).unwrap();
        laws::weights_can_be_replaced(&case).unwrap();
        laws::weights_may_come_with_a_run(&case).unwrap();
    }
}

#[test]
fn wrong_lengths_and_algorithms_are_refused() {
    let cpu = laws::devices().next().unwrap();
    let shape = Conv2dShape::new(Shape4::new(1, 2, 5, 5), 3, [3, 3], Conv2dParams::default()).unwrap();
    let weights = vec![0.0; 3 * 2 * 9];
    let plan = |w: &[f32], b: Option<&[f32]>, f, algo| Conv2dPlan::new(&cpu, shape, w, b, f, algo);
    assert!(plan(&weights[1..], None, Activation::Identity, None).is_err());
    assert!(plan(&weights, Some(&[0.0; 2]), Activation::Identity, None).is_err());
    assert!(plan(&weights, None, Activation::Elu { alpha: f32::NAN }, None).is_err());
    let error = plan(&weights, None, Activation::Identity, Some(Conv2dAlgo::Pointwise)).unwrap_err();
    assert_eq!(error.to_string(), "conv2d: algorithm: expected one that supports this shape, got pointwise");
    let plan = plan(&weights, None, Activation::Identity, None).unwrap();
    let (x, mut y) = (Tensor::zeros(shape.input()).unwrap(), Tensor::zeros(shape.input()).unwrap());
    assert!(plan.run(x.view(), y.view_mut(), &mut plan.scratch().unwrap()).is_err());
}

/// Sums of so many weights that blocks of tiles are added to them one after the other, on all threads.
#[test]
fn gradients_of_many_weights_are_summed_block_by_block() {
    let params = Conv2dParams::default().padding(1);
    let shape = Conv2dShape::new(Shape4::new(2, 128, 62, 63), 66, [3, 3], params).unwrap();
    let [x, gy] = [integers(shape.input(), 1), integers(shape.output(), 2)];
    for cpu in laws::devices() {
        let (exact, _) = weights_gradient(&cpu, &shape, Accuracy::Exact, &x, &gy);
        let (one, algo) = weights_gradient(&cpu.threads(1), &shape, Accuracy::Default, &x, &gy);
        assert_eq!(algo, Some(Conv2dAlgo::WinogradF4), "{}", cpu.isa());
        let error = l2_error(&one, exact.data().iter().map(|&right| right.into()));
        assert!(error < 2e-6, "{error:e} on {}", cpu.isa());
        for threads in [2, 7] {
            let (many, _) = weights_gradient(&cpu.threads(threads), &shape, Accuracy::Default, &x, &gy);
            assert_eq!(one.data(), many.data(), "{threads} threads on {}", cpu.isa());
        }
    }
}
