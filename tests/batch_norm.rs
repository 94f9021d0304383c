//! Batch normalisation: the laws, for every device.

use proptest::prelude::*;
use tilewise_bench::case::{Case, Inputs, Problem, Statistics};
use tilewise_bench::check::{self, laws};
use tilewise_bench::gpu;
use tilewise_kernels::{
    Affine, BatchNorm, DeviceTensor, Moments, RunningStats, Shape4, Tensor, Tracked, Training,
};

use crate::strategies::{cases, config, extents, hold};

fn inference() -> impl Strategy<Value = Problem> {
    (extents(20, 20), 1e-6f32..0.1).prop_map(|(input, eps)| Problem::BatchNorm {
        input,
        eps,
        statistics: Statistics::Given,
    })
}

/// At least two values per channel, without which there is no variance.
fn training() -> impl Strategy<Value = Problem> {
    let statistics = prop_oneof![
        Just(Statistics::Batch),
        (0.0f32..=1.0).prop_map(|momentum| Statistics::Tracked { momentum })
    ];
    (extents(20, 20), 1e-6f32..0.1, statistics)
        .prop_filter("one value has no variance", |(s, ..)| s.n * s.h * s.w > 1)
        .prop_map(|(input, eps, statistics)| Problem::BatchNorm { input, eps, statistics })
}

fn problems() -> impl Strategy<Value = Problem> {
    prop_oneof![inference(), training()]
}

/// What is kept for the gradient are the moments of the batch; the result and the running statistics are those of
/// [`tilewise_kernels::Backend::batch_norm_train`], bit for bit.
fn keeping_moments_changes_nothing<B: Training>(
    device: &B,
    input: Shape4,
    eps: f32,
    momentum: Option<f32>,
    inputs: &Inputs,
) -> Result<(), TestCaseError> {
    let one = Shape4::new(1, input.c, 1, 1);
    let upload = |i: usize| device.upload(&inputs.tensors[i].clone().reshape(one).unwrap()).unwrap();
    let x = device.upload(&inputs.tensors[0]).unwrap();
    let (gamma, beta) = (upload(1), upload(2));
    let running = || momentum.map(|momentum| (upload(3), upload(4), momentum));
    let download = |t: &B::Tensor| device.download(t).unwrap();

    let mut plain_running = running();
    let tracked =
        plain_running.as_mut().map(|(mean, var, momentum)| Tracked { mean, var, momentum: *momentum });
    let norm = Affine { gamma: &gamma, beta: &beta, eps };
    let plain = device.batch_norm_train(&x, norm, tracked).unwrap();

    let mut kept_running = running();
    let tracked = kept_running.as_mut().map(|(mean, var, momentum)| Tracked {
        mean: mean.view_mut(),
        var: var.view_mut(),
        momentum: *momentum,
    });
    let [mut mean, mut inv_std] = [device.empty(one).unwrap(), device.empty(one).unwrap()];
    let mut y = device.empty(input).unwrap();
    let norm = Affine { gamma: gamma.view(), beta: beta.view(), eps };
    let moments = Moments { mean: mean.view_mut(), inv_std: inv_std.view_mut() };
    device.batch_norm_moments_into(x.view(), norm, tracked, moments, y.view_mut()).unwrap();

    hold(laws::same_bits(download(&plain).data(), download(&y).data()))?;
    if let (Some(plain), Some(kept)) = (plain_running, kept_running) {
        hold(laws::same_bits(download(&plain.0).data(), download(&kept.0).data()))?;
        hold(laws::same_bits(download(&plain.1).data(), download(&kept.1).data()))?;
    }
    let (mean, inv_std) = (download(&mean), download(&inv_std));
    let (count, x) = ((input.n * input.h * input.w) as f64, &inputs.tensors[0]);
    for c in 0..input.c {
        let channel = || (0..input.n).flat_map(|n| x.view().plane(n, c)).map(|&v| f64::from(v));
        let want = channel().sum::<f64>() / count;
        let variance = channel().map(|v| (v - want).powi(2)).sum::<f64>() / count;
        prop_assert!((f64::from(mean.data()[c]) - want).abs() <= 1e-5 * (1.0 + want.abs()), "{:?}", mean);
        let want = 1.0 / (variance + f64::from(eps)).sqrt();
        prop_assert!((f64::from(inv_std.data()[c]) - want).abs() <= 1e-3 * want, "{:?}", inv_std);
    }
    Ok(())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn keeping_moments_changes_nothing_else(problem in training()) {
        let inputs = Inputs::generate(&Case::new(problem.clone())).unwrap();
        let Problem::BatchNorm { input, eps, statistics } = problem else { unreachable!() };
        let momentum = match statistics {
            Statistics::Tracked { momentum } => Some(momentum),
            _ => None,
        };
        for cpu in laws::devices() {
            keeping_moments_changes_nothing(&cpu, input, eps, momentum, &inputs)?;
        }
        if let Some(gpu) = gpu::of_tests() {
            keeping_moments_changes_nothing(gpu, input, eps, momentum, &inputs)?;
        }
    }

    #[test]
    fn batch_norm_matches_reference(case in cases(inference())) {
        hold(check::verify(&case))?;
    }

    #[test]
    fn batch_norm_train_matches_reference(case in cases(training())) {
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
    fn gradients_refuse_other_shapes(case in cases(problems())) {
        hold(laws::other_shapes_are_refused(&case))?;
    }

    /// Training normalises: the result, without gamma and beta, has mean 0 and variance 1.
    #[test]
    fn a_trained_batch_is_normal(problem in training()) {
        let Problem::BatchNorm { input, .. } = problem else { unreachable!() };
        prop_assume!(input.n * input.h * input.w > 3);
        let inputs = Inputs::generate(&Case::new(problem)).unwrap();
        let (gamma, beta) = (vec![1.0; input.c], vec![0.0; input.c]);
        for cpu in laws::devices() {
            let norm = BatchNorm { gamma: &gamma, beta: &beta, eps: 1e-9 };
            let y = cpu.batch_norm_train(&inputs.tensors[0], norm, None).unwrap();
            let count = (input.n * input.h * input.w) as f64;
            for c in 0..input.c {
                let channel = || (0..input.n).flat_map(|n| y.view().plane(n, c)).map(|&v| f64::from(v));
                let mean = channel().sum::<f64>() / count;
                let variance = channel().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
                prop_assert!(mean.abs() < 1e-4 && (variance - 1.0).abs() < 1e-3, "{} {}", mean, variance);
            }
        }
    }

    /// Momentum 0 leaves the running statistics alone.
    #[test]
    fn momentum_zero_keeps_the_running_statistics(input in extents(5, 6)) {
        prop_assume!(input.n * input.h * input.w > 1);
        let x = Tensor::from_fn(input, |[n, c, h, w]| (n + c + h + w) as f32).unwrap();
        let (gamma, beta) = (vec![1.0; input.c], vec![0.0; input.c]);
        for cpu in laws::devices() {
            let (mut mean, mut var) = (vec![0.25; input.c], vec![3.5; input.c]);
            let norm = BatchNorm { gamma: &gamma, beta: &beta, eps: 1e-5 };
            let running = RunningStats { mean: &mut mean, var: &mut var, momentum: 0.0 };
            cpu.batch_norm_train(&x, norm, Some(running)).unwrap();
            prop_assert!(mean.iter().all(|&v| v == 0.25) && var.iter().all(|&v| v == 3.5));
        }
    }

    /// Lengths that do not fit, numbers that are none: refused, with nothing written.
    #[test]
    fn garbage_never_panics(lengths in prop::array::uniform4(0..5usize), eps in any::<f32>(), momentum in any::<f32>()) {
        let x = Tensor::from_fn(Shape4::new(2, 3, 2, 2), |[n, c, h, w]| (n + c + h + w) as f32).unwrap();
        let vector = |len: usize| vec![1.0; len];
        let (gamma, beta) = (vector(lengths[0]), vector(lengths[1]));
        let (mut mean, mut var) = (vector(lengths[2]), vector(lengths[3]));
        let fits = lengths == [3; 4];
        for cpu in laws::devices() {
            let norm = || BatchNorm { gamma: &gamma, beta: &beta, eps };
            prop_assert!(fits || cpu.batch_norm(&x, norm(), &mean, &var).is_err());
            let running = RunningStats { mean: &mut mean, var: &mut var, momentum };
            let trained = cpu.batch_norm_train(&x, norm(), Some(running));
            prop_assert!(fits || trained.is_err());
            if trained.is_err() {
                prop_assert!(mean.iter().chain(&var).all(|&v| v == 1.0));
            }
        }
    }
}

#[test]
fn a_single_value_per_channel_cannot_be_trained_on() {
    let x = Tensor::zeros(Shape4::new(1, 2, 1, 1)).unwrap();
    for cpu in laws::devices() {
        let norm = BatchNorm { gamma: &[1.0; 2], beta: &[0.0; 2], eps: 1e-5 };
        assert!(cpu.batch_norm_train(&x, norm, None).is_err());
        assert!(cpu.batch_norm(&x, norm, &[0.0; 2], &[1.0; 2]).is_ok());
    }
}

#[test]
fn threads_do_not_change_bits_of_large_problems() {
    for text in ["batch_norm:n4c30h30w31_eps0.001momentum0.1+train", "batch_norm:n4c30h30w31_eps0.001"] {
        laws::threads_do_not_change_bits(&text.parse().unwrap()).unwrap();
    }
}
