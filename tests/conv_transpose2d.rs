//! Transposed convolution: the laws, for every device.

use proptest::prelude::*;
use tilewise_bench::case::{Case, Inputs, Numbers, Problem};
use tilewise_bench::check::{self, kernels, laws};
use tilewise_bench::gpu;
use tilewise_kernels::{
    Activation, Conv2dParams, ConvTranspose2dBackwardInputPlan, ConvTranspose2dBackwardWeightsPlan,
    ConvTranspose2dParams, ConvTranspose2dShape, Padding, Shape4, Tensor, Training,
};

use crate::strategies::{cases, config, garbage, hold};

fn problems() -> impl Strategy<Value = Problem> {
    let channels = prop_oneof![(Just(1usize), 1..12usize, 1..36usize), (2..5usize, 1..4usize, 1..4usize)];
    let pair = |range: std::ops::Range<usize>| (range.clone(), range);
    let window = (pair(1..5), pair(1..5), pair(1..4), prop::array::uniform4(0..3usize), pair(0..4));
    // The kernel is the stride, and nothing is cut off: an algorithm of its own.
    let spread = pair(1..5).prop_map(|kernel| (kernel, kernel, (1, 1), [0; 4], (0, 0)));
    let window = prop_oneof![3 => window, 1 => spread];
    let size = (1..12usize, 1..20usize);
    (0..3usize, channels, window, size, any::<bool>(), prop::sample::select(&Activation::ALL[..]))
        .prop_filter_map(
            "the padding cuts all of it away",
            |(
                n,
                (groups, inputs, outputs),
                (kernel, stride, dilation, sides, extra),
                size,
                bias,
                activation,
            )| {
                let [top, bottom, left, right] = sides;
                let params = ConvTranspose2dParams {
                    stride: [stride.0, stride.1],
                    padding: Padding { top, bottom, left, right },
                    output_padding: [extra.0 % stride.0.max(dilation.0), extra.1 % stride.1.max(dilation.1)],
                    dilation: [dilation.0, dilation.1],
                    groups,
                };
                let input = Shape4::new(n, groups * inputs, size.0, size.1);
                let kernel = [kernel.0, kernel.1];
                let shape = ConvTranspose2dShape::new(input, groups * outputs, kernel, params).ok()?;
                Some(Problem::ConvTranspose2d { shape, bias, activation })
            },
        )
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn conv_transpose2d_matches_reference(case in cases(problems())) {
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
    }

    #[test]
    fn gradients_refuse_other_shapes(case in cases(problems())) {
        hold(laws::other_shapes_are_refused(&case))?;
    }

    #[test]
    fn scratch_garbage_does_not_matter(case in cases(problems())) {
        hold(laws::scratch_garbage_does_not_matter(&case))?;
    }

    /// `<conv(y), x> = <y, conv_transpose(x)>`: the two are adjoint, with the same weights. Exact for integers.
    #[test]
    fn conv_transpose2d_is_the_adjoint_of_conv2d(problem in problems(), seed in any::<u16>()) {
        let Problem::ConvTranspose2d { shape, .. } = problem else { unreachable!() };
        // More output padding than that is the size of another convolution's input.
        let p = shape.params();
        prop_assume!((0..2).all(|i| p.output_padding[i] < p.stride[i]));
        let bare = Problem::ConvTranspose2d { shape, bias: false, activation: Activation::Identity };
        let case = Case { problem: bare, numbers: Numbers::Integer, seed: seed.into() };
        let inputs = Inputs::generate(&case).unwrap();
        let [x, w] = &inputs.tensors[..] else { unreachable!() };
        // The convolution that goes back has one group of weights the other way round: [in, out / groups] is what
        // its [out, in / groups] looks like.
        let back = Conv2dParams { stride: p.stride, padding: p.padding, dilation: p.dilation, groups: p.groups, ..Default::default() };
        let y = Tensor::from_fn(shape.output(), |[n, c, h, w]| ((n + 3 * c + 5 * h + 7 * w) % 11) as f32 - 5.0).unwrap();
        let dot = |a: &Tensor, b: &Tensor| -> f64 {
            a.data().iter().zip(b.data()).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        for cpu in laws::devices() {
            let forth = kernels::solve(&cpu, &case.problem, &inputs, None).unwrap();
            let back = cpu.conv2d(&y, w, None, back).unwrap();
            prop_assert_eq!(back.shape(), x.shape());
            prop_assert_eq!(dot(&forth[0], &y), dot(x, &back), "{}", cpu.isa());
        }
    }

    #[test]
    fn plan_gives_what_the_easy_call_gives(case in cases(problems())) {
        let Problem::ConvTranspose2d { shape, bias, .. } = case.problem else { unreachable!() };
        let inputs = Inputs::generate(&case).unwrap();
        let bare = Problem::ConvTranspose2d { shape, bias, activation: Activation::Identity };
        let [x, w, ..] = &inputs.tensors[..] else { unreachable!() };
        let bias = bias.then(|| inputs.tensors[2].data());
        for cpu in laws::devices() {
            let easy = cpu.conv_transpose2d(x, w, bias, shape.params()).unwrap();
            let planned = kernels::solve(&cpu, &bare, &inputs, None).unwrap();
            hold(laws::same_bits(easy.data(), planned[0].data()))?;
        }
    }

    #[test]
    fn garbage_never_panics(
        stride in prop::array::uniform2(garbage()),
        sides in prop::array::uniform4(garbage()),
        output_padding in prop::array::uniform2(garbage()),
        dilation in prop::array::uniform2(garbage()),
        groups in garbage(),
        input in prop::array::uniform4(garbage()),
        outputs in garbage(),
        kernel in prop::array::uniform2(garbage()),
    ) {
        let [top, bottom, left, right] = sides;
        let padding = Padding { top, bottom, left, right };
        let params = ConvTranspose2dParams { stride, padding, output_padding, dilation, groups };
        if let Ok(shape) = ConvTranspose2dShape::new(input.into(), outputs, kernel, params) {
            for cpu in laws::devices() {
                let three = shape.weights().dims().iter().product::<usize>() == 3;
                let plan = ConvTranspose2dBackwardInputPlan::new(&cpu, shape, &[0.0; 3]);
                prop_assert_eq!(plan.is_ok(), three);
                let _ = ConvTranspose2dBackwardWeightsPlan::new(&cpu, shape).and_then(|plan| plan.scratch());
            }
            if let Some(gpu) = gpu::of_tests() {
                let _ = gpu.plan_conv_transpose2d_backward_input(shape, &[0.0; 3]);
                let _ = gpu.plan_conv_transpose2d_backward_weights(shape);
            }
        }
        let x = Tensor::zeros(Shape4::new(1, 2, 3, 3)).unwrap();
        let w = Tensor::zeros(Shape4::new(2, 2, 2, 2)).unwrap();
        for cpu in laws::devices() {
            if let Ok(y) = cpu.conv_transpose2d(&x, &w, None, params) {
                prop_assert!(y.data().iter().all(|&v| v == 0.0));
            }
        }
    }
}

#[test]
fn threads_do_not_change_bits_of_large_problems() {
    for text in ["conv_transpose2d:n2c16h30w31_o20k2x2s2", "conv_transpose2d:n1c20h25w24_o33k4x4s2p1+relu"] {
        laws::threads_do_not_change_bits(&text.parse().unwrap()).unwrap();
    }
}
