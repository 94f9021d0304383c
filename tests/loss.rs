//! The losses: the laws, for every device.

use proptest::prelude::*;
use tilewise_bench::case::{Case, Problem};
use tilewise_bench::check::{self, laws};
use tilewise_kernels::{Shape4, Tensor};

use crate::strategies::{cases, config, extents, garbage, hold};

fn problems() -> impl Strategy<Value = Problem> {
    extents(12, 16).prop_flat_map(|input| {
        prop::sample::select(vec![
            Problem::CrossEntropy { input },
            Problem::BceWithLogits { input },
            Problem::Mse { input },
        ])
    })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn losses_match_reference(case in cases(problems())) {
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
    fn equal_logits_cost_the_logarithm_of_the_classes(input in extents(30, 6), logit in -100.0f32..100.0) {
        prop_assume!(input.n > 0);
        let x = Tensor::from_fn(input, |_| logit).unwrap();
        let labels: Vec<usize> = (0..input.n * input.h * input.w).map(|i| i % input.c).collect();
        for cpu in laws::devices() {
            let loss = cpu.cross_entropy(&x, &labels).unwrap();
            prop_assert!((loss - (input.c as f32).ln()).abs() < 2e-5, "{}", loss);
        }
    }

    #[test]
    fn no_error_costs_nothing(input in extents(3, 9)) {
        prop_assume!(input.n > 0);
        let x = Tensor::from_fn(input, |[n, c, h, w]| (n + c + h + w) as f32).unwrap();
        for cpu in laws::devices() {
            prop_assert_eq!(cpu.mse(&x, &x).unwrap(), 0.0);
        }
    }

    /// `bce(x, t) = bce(-x, 1 - t)`.
    #[test]
    fn bce_is_symmetric(logits in prop::collection::vec(-50.0f32..50.0, 1..60)) {
        let shape = Shape4::new(1, 1, 1, logits.len());
        let tensor = |f: &dyn Fn(usize) -> f32| Tensor::from_fn(shape, |[_, _, _, w]| f(w)).unwrap();
        let target = |w: usize| (w % 5) as f32 / 4.0;
        for cpu in laws::devices() {
            let a = cpu.bce_with_logits(&tensor(&|w| logits[w]), &tensor(&target)).unwrap();
            let b = cpu.bce_with_logits(&tensor(&|w| -logits[w]), &tensor(&|w| 1.0 - target(w))).unwrap();
            prop_assert!((a - b).abs() <= 1e-5 * (1.0 + a.abs()), "{} {}", a, b);
        }
    }

    #[test]
    fn garbage_never_panics(
        a in prop::array::uniform4(0..4usize), b in prop::array::uniform4(0..4usize),
        labels in prop::collection::vec(garbage(), 0..9),
    ) {
        let (x, y) = (Tensor::zeros(a.into()).unwrap(), Tensor::zeros(b.into()).unwrap());
        let fits = labels.len() == a[0] * a[2] * a[3] && labels.iter().all(|&l| l < a[1]);
        for cpu in laws::devices() {
            prop_assert!(a == b || (cpu.mse(&x, &y).is_err() && cpu.bce_with_logits(&x, &y).is_err()));
            prop_assert!(fits || cpu.cross_entropy(&x, &labels).is_err(), "{:?} {:?}", a, labels);
        }
    }
}

#[test]
fn the_loss_of_nothing_is_nan() {
    for cpu in laws::devices() {
        let x = Tensor::zeros(Shape4::new(0, 3, 2, 2)).unwrap();
        assert!(cpu.mse(&x, &x).unwrap().is_nan());
        assert!(cpu.bce_with_logits(&x, &x).unwrap().is_nan());
        assert!(cpu.cross_entropy(&x, &[]).unwrap().is_nan());
    }
}

#[test]
fn threads_do_not_change_bits_of_large_problems() {
    for text in ["cross_entropy:n3c20h40w41", "bce_with_logits:n3c20h40w41", "mse:n3c20h40w41"] {
        let case: Case = text.parse().unwrap();
        laws::threads_do_not_change_bits(&case).unwrap();
    }
}
