//! The losses and their gradients: the laws, for every device.

use proptest::prelude::*;
use tilewise_bench::case::{Case, Inputs, Numbers, Problem};
use tilewise_bench::check::{self, CheckOptions, laws, oracle};
use tilewise_bench::gpu;
use tilewise_kernels::{Backend, CrossEntropy, DeviceTensor, Shape4, Tensor, Training};

use crate::strategies::{cases, config, extents, garbage, hold};

const PLAIN: CrossEntropy<'_> =
    CrossEntropy { class_weights: None, label_smoothing: 0.0, ignore_index: None };

fn problems() -> impl Strategy<Value = Problem> {
    (extents(12, 16), any::<bool>(), 0..3usize, 0..14usize, 0..5usize).prop_map(
        |(input, weighted, some, index, which)| match which {
            0 => Problem::CrossEntropy {
                input,
                weighted,
                label_smoothing: [0.0, 0.1, 1.0][some],
                ignore_index: (index < 10).then_some(index),
            },
            1 => Problem::BceWithLogits { input, weighted },
            2 => Problem::Mse { input },
            3 => Problem::L1 { input },
            _ => Problem::Dice { input, smooth: [0.0, 0.5, 1.0][some] },
        },
    )
}

/// The gradient to `x`, on every device.
fn on_all(problem: &Problem, inputs: &Inputs) -> Vec<(&'static str, Tensor)> {
    let one = Tensor::from_vec(Shape4::new(1, 1, 1, 1), vec![1.0]).unwrap();
    let devices = CheckOptions::of_tests().devices().into_iter();
    devices.map(|d| (d.name(), d.gradients(problem, inputs, &one).unwrap().swap_remove(0))).collect()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn losses_match_reference(case in cases(problems())) {
        hold(check::verify(&case))?;
    }

    /// The loss moves with each element as its gradient says.
    #[test]
    fn gradients_are_finite_differences(problem in problems(), seed in any::<u16>()) {
        let case = Case { problem, numbers: Numbers::Real, seed: seed.into() };
        let mut inputs = Inputs::generate(&case).unwrap();
        // Few digits, so that a small step is exact, and far from where |x - target| bends.
        for (i, tensor) in inputs.tensors.iter_mut().take(2).enumerate() {
            if i == 0 || !matches!(case.problem, Problem::CrossEntropy { .. }) {
                tensor.data_mut().iter_mut().for_each(|v| *v = (*v * 8.0).round() / 8.0 + i as f32 / 16.0);
            }
        }
        const STEP: f32 = 1.0 / 256.0;
        for (device, gx) in on_all(&case.problem, &inputs) {
            for at in (0..gx.data().len()).step_by(gx.data().len() / 8 + 1) {
                let moved = |by: f32| {
                    let mut inputs = inputs.clone();
                    inputs.tensors[0].data_mut()[at] += by;
                    oracle::targets(&case.problem, &inputs, Numbers::Real, None)[0].value[0]
                };
                let difference = (moved(STEP) - moved(-STEP)) / f64::from(2.0 * STEP);
                let got = f64::from(gx.data()[at]);
                let near = (got - difference).abs() <= 1e-4 * (difference.abs() + 1e-2);
                prop_assert!(near || difference.is_nan(), "{} on {}: {} {}", case, device, got, difference);
            }
        }
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
    fn equal_logits_cost_the_logarithm_of_the_classes(input in extents(30, 6), logit in -100.0f32..100.0) {
        prop_assume!(input.n > 0);
        let x = Tensor::from_fn(input, |_| logit).unwrap();
        let labels: Vec<usize> = (0..input.n * input.h * input.w).map(|i| i % input.c).collect();
        for cpu in laws::devices() {
            for label_smoothing in [0.0, 0.3] {
                let params = CrossEntropy { label_smoothing, ..PLAIN };
                let loss = cpu.cross_entropy(&x, &labels, params).unwrap();
                prop_assert!((loss - (input.c as f32).ln()).abs() < 2e-5, "{}", loss);
            }
        }
    }

    /// The gradients of a pixel to all its logits add up to nothing.
    #[test]
    fn the_gradient_of_cross_entropy_adds_up_to_nothing(input in extents(20, 6), seed in any::<u16>()) {
        let problem = Problem::CrossEntropy {
            input, weighted: true, label_smoothing: 0.1, ignore_index: Some(99),
        };
        let inputs = Inputs::generate(&Case { problem: problem.clone(), numbers: Numbers::Real, seed: seed.into() });
        for (device, gx) in on_all(&problem, &inputs.unwrap()) {
            for n in 0..input.n {
                for h in 0..input.h {
                    for w in 0..input.w {
                        let sum: f32 = (0..input.c).map(|c| gx.at(n, c, h, w)).sum();
                        prop_assert!(sum.abs() < 1e-5 || sum.is_nan(), "{}: {}", device, sum);
                    }
                }
            }
        }
    }

    #[test]
    fn no_error_costs_nothing(input in extents(3, 9)) {
        prop_assume!(input.n > 0);
        let x = Tensor::from_fn(input, |[n, c, h, w]| (n + c + h + w) as f32).unwrap();
        for cpu in laws::devices() {
            prop_assert_eq!(cpu.mse(&x, &x).unwrap(), 0.0);
            prop_assert_eq!(cpu.l1(&x, &x).unwrap(), 0.0);
        }
    }

    /// `bce(x, t) = bce(-x, 1 - t)`.
    #[test]
    fn bce_is_symmetric(logits in prop::collection::vec(-50.0f32..50.0, 1..60)) {
        let shape = Shape4::new(1, 1, 1, logits.len());
        let tensor = |f: &dyn Fn(usize) -> f32| Tensor::from_fn(shape, |[_, _, _, w]| f(w)).unwrap();
        let target = |w: usize| (w % 5) as f32 / 4.0;
        for cpu in laws::devices() {
            let a = cpu.bce_with_logits(&tensor(&|w| logits[w]), &tensor(&target), None).unwrap();
            let b = cpu.bce_with_logits(&tensor(&|w| -logits[w]), &tensor(&|w| 1.0 - target(w)), None).unwrap();
            prop_assert!((a - b).abs() <= 1e-5 * (1.0 + a.abs()), "{} {}", a, b);
        }
    }

    #[test]
    fn garbage_never_panics(
        a in prop::array::uniform4(0..4usize), b in prop::array::uniform4(0..4usize),
        labels in prop::collection::vec(garbage(), 0..9), number in any::<f32>(),
        weights in prop::collection::vec(any::<f32>(), 0..4), ignored in prop::option::of(garbage()),
    ) {
        let (x, y) = (Tensor::zeros(a.into()).unwrap(), Tensor::zeros(b.into()).unwrap());
        for cpu in laws::devices() {
            refuses_garbage(&cpu, &x, &y, &labels, number, &weights, ignored)?;
        }
        if let Some(gpu) = gpu::of_tests() {
            let (x, y) = (gpu.upload(&x).unwrap(), gpu.upload(&y).unwrap());
            refuses_garbage(gpu, &x, &y, &labels, number, &weights, ignored)?;
            gpu.finish().unwrap();
        }
    }
}

fn refuses_garbage<B: Training>(
    device: &B,
    x: &B::Tensor,
    y: &B::Tensor,
    labels: &[usize],
    number: f32,
    weights: &[f32],
    ignored: Option<usize>,
) -> Result<(), TestCaseError> {
    let (a, b) = (x.shape(), y.shape());
    let both = a == b;
    let known = |label: &usize| *label < a.c || ignored == Some(*label);
    let labels_fit = a.c > 0 && labels.len() == a.n * a.h * a.w && labels.iter().all(known);
    let weighs = |count: usize| weights.len() == count && weights.iter().all(|w| w.is_finite() && *w >= 0.0);
    let smooths = number.is_finite() && number >= 0.0;
    prop_assert_eq!(device.mse(x, y).is_ok(), both);
    prop_assert_eq!(device.mse_backward(x, y, number).is_ok(), both);
    prop_assert_eq!(device.l1(x, y).is_ok(), both);
    prop_assert_eq!(device.l1_backward(x, y, number).is_ok(), both);
    prop_assert_eq!(device.dice(x, y, number).is_ok(), both && smooths);
    prop_assert_eq!(device.dice_backward(x, y, number, number).is_ok(), both && smooths);
    prop_assert_eq!(device.bce_with_logits(x, y, None).is_ok(), both);
    prop_assert_eq!(device.bce_with_logits(x, y, Some(weights)).is_ok(), both && weighs(a.c));
    prop_assert_eq!(
        device.bce_with_logits_backward(x, y, Some(weights), number).is_ok(),
        both && weighs(a.c)
    );
    prop_assert_eq!(device.bce_dice(x, y, None, number).is_ok(), both && smooths);
    prop_assert_eq!(device.bce_dice_backward(x, y, None, number, number).is_ok(), both && smooths);
    for (class_weights, weighed) in [(None, true), (Some(weights), weighs(a.c))] {
        let params = CrossEntropy { class_weights, label_smoothing: number, ignore_index: ignored };
        let fits = labels_fit && weighed && (0.0..=1.0).contains(&number);
        prop_assert_eq!(device.cross_entropy(x, labels, params).is_ok(), fits, "{:?} {:?}", a, labels);
        prop_assert_eq!(device.cross_entropy_backward(x, labels, params, number).is_ok(), fits);
    }
    Ok(())
}

#[test]
fn the_loss_of_nothing_is_nan() {
    for cpu in laws::devices() {
        let x = Tensor::zeros(Shape4::new(0, 3, 2, 2)).unwrap();
        assert!(cpu.mse(&x, &x).unwrap().is_nan());
        assert!(cpu.l1(&x, &x).unwrap().is_nan());
        assert!(cpu.dice(&x, &x, 1.0).unwrap().is_nan());
        assert!(cpu.bce_with_logits(&x, &x, None).unwrap().is_nan());
        assert!(cpu.cross_entropy(&x, &[], PLAIN).unwrap().is_nan());
        // Where nothing counts there is something, but no mean.
        let x = Tensor::zeros(Shape4::new(1, 3, 1, 2)).unwrap();
        let params = CrossEntropy { ignore_index: Some(9), ..PLAIN };
        assert!(cpu.cross_entropy(&x, &[9, 9], params).unwrap().is_nan());
        let params = CrossEntropy { class_weights: Some(&[0.0, 1.0, 1.0]), ..PLAIN };
        assert!(cpu.cross_entropy(&x, &[0, 0], params).unwrap().is_nan());
    }
}

#[test]
fn bce_and_dice_are_their_sum() {
    let shape = Shape4::new(2, 3, 5, 7);
    let x = Tensor::from_fn(shape, |[n, c, h, w]| ((n + 2 * c + 3 * h + 5 * w) % 11) as f32 - 5.0).unwrap();
    let target = Tensor::from_fn(shape, |[n, c, h, w]| ((n + c + h + w) % 2) as f32).unwrap();
    for cpu in laws::devices() {
        let weights = [1.0, 2.0, 3.0];
        let sum =
            cpu.bce_with_logits(&x, &target, Some(&weights)).unwrap() + cpu.dice(&x, &target, 1.0).unwrap();
        assert_eq!(cpu.bce_dice(&x, &target, Some(&weights), 1.0).unwrap().data(), [sum]);
        let gx = cpu.bce_dice_backward(&x, &target, Some(&weights), 1.0, 2.0).unwrap();
        let bce = cpu.bce_with_logits_backward(&x, &target, Some(&weights), 2.0).unwrap();
        let dice = cpu.dice_backward(&x, &target, 1.0, 2.0).unwrap();
        let sum = bce.data().iter().zip(dice.data()).map(|(a, b)| a + b);
        assert!(gx.data().iter().zip(sum).all(|(a, b)| *a == b));
    }
}

#[test]
fn threads_do_not_change_bits_of_large_problems() {
    for text in [
        "cross_entropy:n3c20h40w41",
        "cross_entropy:n3c20h40w41_smoothing0.1ignore3+weighted",
        "bce_with_logits:n3c20h40w41",
        "bce_with_logits:n3c20h40w41+weighted",
        "mse:n3c20h40w41",
        "l1:n3c20h40w41",
        "dice:n3c20h40w41_smooth1",
        "dice:n1c2h300w301_smooth1",
    ] {
        let case: Case = text.parse().unwrap();
        laws::threads_do_not_change_bits(&case).unwrap();
        laws::gradients_keep_their_laws(&case).unwrap();
    }
}
