//! The fully connected layer: the laws, for every device.

use proptest::prelude::*;
use tilewise_bench::case::{Inputs, Problem};
use tilewise_bench::check::{self, kernels, laws};
use tilewise_bench::gpu;
use tilewise_kernels::{
    Activation, Conv2dParams, LinearBackwardInputPlan, LinearBackwardWeightsPlan, LinearPlan, LinearShape,
    Shape4, Tensor, Training,
};

use crate::strategies::{cases, config, garbage, hold};

fn problems() -> impl Strategy<Value = Problem> {
    let features = prop_oneof![(1..90usize, Just(1), Just(1)), (1..9usize, 1..6usize, 1..6usize)];
    (0..20usize, features, 1..70usize, any::<bool>(), prop::sample::select(&Activation::ALL[..])).prop_map(
        |(n, (c, h, w), outputs, bias, activation)| {
            let shape = LinearShape::new(Shape4::new(n, c, h, w), outputs).unwrap();
            Problem::Linear { shape, bias, activation }
        },
    )
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn linear_matches_reference(case in cases(problems())) {
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

    #[test]
    fn plan_gives_what_the_easy_call_gives(case in cases(problems())) {
        let Problem::Linear { shape, bias, .. } = case.problem else { unreachable!() };
        let inputs = Inputs::generate(&case).unwrap();
        let bare = Problem::Linear { shape, bias, activation: Activation::Identity };
        let [x, w, ..] = &inputs.tensors[..] else { unreachable!() };
        for cpu in laws::devices() {
            let easy = cpu.linear(x, w, bias.then(|| inputs.tensors[2].data())).unwrap();
            let planned = kernels::solve(&cpu, &bare, &inputs, None).unwrap();
            hold(laws::same_bits(easy.data(), planned[0].data()))?;
        }
    }

    /// A convolution whose kernel is the whole image. Exact for integers.
    #[test]
    fn linear_is_a_convolution_of_the_whole_image(problem in problems()) {
        let Problem::Linear { shape, .. } = problem else { unreachable!() };
        let input = shape.input();
        let small = |[n, c, h, w]: [usize; 4]| ((7 * n + 3 * c + 5 * h + w) % 13) as f32 - 6.0;
        let x = Tensor::from_fn(input, small).unwrap();
        let kernels = Tensor::from_fn(Shape4 { n: shape.output().c, ..input }, small).unwrap();
        for cpu in laws::devices() {
            let convolved = cpu.conv2d(&x, &kernels, None, Conv2dParams::default()).unwrap();
            let flat = kernels.clone().reshape(shape.weights()).unwrap();
            prop_assert_eq!(cpu.linear(&x, &flat, None).unwrap(), convolved);
        }
    }

    #[test]
    fn garbage_never_panics(input in prop::array::uniform4(garbage()), outputs in garbage()) {
        if let Ok(shape) = LinearShape::new(input.into(), outputs) {
            for cpu in laws::devices() {
                let plan = LinearPlan::new(&cpu, shape, &[0.0; 5], Some(&[0.0; 7]), Activation::Relu);
                prop_assert!(plan.is_err());
                let five = shape.weights().dims().iter().product::<usize>() == 5;
                prop_assert_eq!(LinearBackwardInputPlan::new(&cpu, shape, &[0.0; 5]).is_ok(), five);
                let _ = LinearBackwardWeightsPlan::new(&cpu, shape).and_then(|plan| plan.scratch());
            }
            if let Some(gpu) = gpu::of_tests() {
                let _ = gpu.plan_linear_backward_input(shape, &[0.0; 5]);
                let _ = gpu.plan_linear_backward_weights(shape);
            }
        }
        let x = Tensor::zeros(Shape4::new(2, 3, 1, 1)).unwrap();
        if let Ok(w) = Tensor::zeros(Shape4::new(outputs % 8, input[0] % 8, input[1] % 3, 1)) {
            for cpu in laws::devices() {
                let _ = cpu.linear(&x, &w, None);
            }
        }
    }
}

#[test]
fn threads_do_not_change_bits_of_large_problems() {
    for text in ["linear:n64c300h1w1_o200+relu", "linear:n1c3000h1w1_o100"] {
        let case = text.parse().unwrap();
        laws::threads_do_not_change_bits(&case).unwrap();
        laws::gradients_keep_their_laws(&case).unwrap();
        laws::weights_can_be_replaced(&case).unwrap();
    }
}
