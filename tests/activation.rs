//! The pointwise functions: the laws, for every device.

use proptest::prelude::*;
use tilewise_bench::case::Problem;
use tilewise_bench::check::{self, laws};
use tilewise_bench::gpu;
use tilewise_bench::reference::{activation_at, derivative_at};
use tilewise_kernels::{Activation, Backend, Shape4, Tensor, Training};

use crate::strategies::{cases, config, extents, hold};

fn functions() -> impl Strategy<Value = Activation> {
    prop_oneof![
        prop::sample::select(&Activation::ALL[..]),
        (-2.0f32..2.0).prop_map(|slope| Activation::LeakyRelu { slope }),
        (-2.0f32..2.0).prop_map(|alpha| Activation::Elu { alpha }),
    ]
}

fn problems() -> impl Strategy<Value = Problem> {
    (extents(4, 40), functions()).prop_map(|(input, activation)| Problem::Activation { input, activation })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn activation_matches_reference(case in cases(problems())) {
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
    fn gradients_are_adjoint(input in extents(4, 40), seed in any::<u16>()) {
        for activation in [Activation::Identity, Activation::Relu] {
            hold(laws::gradients_are_adjoint(&Problem::Activation { input, activation }, seed))?;
        }
    }

    #[test]
    fn gradients_refuse_other_shapes(case in cases(problems())) {
        hold(laws::other_shapes_are_refused(&case))?;
    }

    /// Any bits at all, NaN and infinities among them: NaN comes out of NaN and only where PyTorch has it, and the
    /// place of an element in its vector does not matter.
    #[test]
    fn every_f32_has_its_image(bits in any::<u32>(), f in functions(), at in 0..40usize) {
        let value = f32::from_bits(bits);
        let mut x = Tensor::zeros(Shape4::new(1, 1, 1, 40)).unwrap();
        x.data_mut()[at] = value;
        let (expected, _) = activation_at(f, f64::from(value));
        for cpu in laws::devices() {
            let y = cpu.activation(&x, f).unwrap().data()[at];
            let near = (f64::from(y) - expected).abs() <= 1e-6 * expected.abs() + 1e-37;
            let same = y == expected as f32 || (y.is_nan() && expected.is_nan());
            prop_assert!(same || near, "{} of {:e} is {:e}, not {:e}", f.name(), value, y, expected);
        }
    }

    /// The same of the slope there.
    #[test]
    fn every_f32_has_its_slope(bits in any::<u32>(), f in functions(), at in 0..40usize) {
        let value = f32::from_bits(bits);
        let mut x = Tensor::zeros(Shape4::new(1, 1, 1, 40)).unwrap();
        x.data_mut()[at] = value;
        let ones = Tensor::from_fn(x.shape(), |_| 1.0).unwrap();
        let (expected, magnitude) = derivative_at(f, f64::from(value));
        for cpu in laws::devices() {
            let slope = Training::activation_backward(&cpu, &x, f, &ones).unwrap().data()[at];
            let near = (f64::from(slope) - expected).abs() <= 2e-6 * magnitude + 1e-37;
            let same = slope == expected as f32 || (slope.is_nan() && expected.is_nan());
            prop_assert!(same || near, "{}' of {:e} is {:e}, not {:e}", f.name(), value, slope, expected);
        }
    }

    #[test]
    fn parameters_that_are_no_number_are_refused(v in prop::sample::select(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY])) {
        let x = Tensor::zeros(Shape4::new(1, 1, 2, 2)).unwrap();
        for f in [Activation::LeakyRelu { slope: v }, Activation::Elu { alpha: v }] {
            for cpu in laws::devices() {
                prop_assert!(cpu.activation(&x, f).is_err());
                prop_assert!(Training::activation_backward(&cpu, &x, f, &x).is_err());
            }
            if let Some(gpu) = gpu::of_tests() {
                let x = gpu.upload(&x).unwrap();
                prop_assert!(gpu.activation_backward(&x, f, &x).is_err());
            }
        }
    }
}

#[test]
fn relu_is_the_activation_relu() {
    let x = Tensor::from_vec(
        Shape4::new(1, 1, 1, 7),
        vec![f32::NAN, -1.0, -0.0, 0.0, 2.0, f32::INFINITY, f32::NEG_INFINITY],
    )
    .unwrap();
    for cpu in laws::devices() {
        let y = cpu.relu(&x).unwrap();
        assert!(y.data()[0].is_nan());
        assert_eq!(y.data()[1..], [0.0, 0.0, 0.0, 2.0, f32::INFINITY, 0.0]);
        laws::same_bits(y.data(), cpu.activation(&x, Activation::Relu).unwrap().data()).unwrap();
    }
}

#[test]
fn threads_do_not_change_bits_of_large_problems() {
    for name in ["relu", "gelu", "tanh"] {
        laws::threads_do_not_change_bits(&format!("{name}:n3c5h90w91").parse().unwrap()).unwrap();
    }
}
