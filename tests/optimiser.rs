//! The optimisers: the laws, for every device.

use proptest::prelude::*;
use tilewise_bench::case::{Case, Problem};
use tilewise_bench::check::{self, laws};
use tilewise_bench::gpu;
use tilewise_kernels::{Adam, DeviceTensor, Result, Sgd, Shape4, Tensor, Training};

use crate::strategies::{cases, config, extents, hold};

fn problems() -> impl Strategy<Value = Problem> {
    let factor = || prop_oneof![Just(0.0f32), 0.0f32..0.99];
    (extents(12, 16), factor(), factor(), any::<bool>(), 1..2000u64, 0..3usize).prop_map(
        |(input, a, b, flag, step, which)| match which {
            0 => {
                let sgd = Sgd { lr: 0.1, momentum: a, weight_decay: b, nesterov: flag && a > 0.0 };
                Problem::Sgd { input, sgd }
            }
            1 => {
                let eps = if flag { 1e-8 } else { 1e-3 };
                let adam = Adam { lr: 0.01, beta1: a, beta2: b, eps, weight_decay: a * 0.1, decoupled: flag };
                Problem::Adam { input, adam, step }
            }
            _ => Problem::ClipNorm { input, max_norm: a * 20.0 },
        },
    )
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn steps_match_reference(case in cases(problems())) {
        hold(check::verify(&case))?;
    }

    #[test]
    fn threads_do_not_change_bits(case in cases(problems())) {
        hold(laws::threads_do_not_change_bits(&case))?;
    }

    #[test]
    fn nothing_outside_the_parameters_is_written(case in cases(problems())) {
        hold(laws::nothing_outside_the_output_is_written(&case))?;
    }

    #[test]
    fn garbage_never_panics(
        p in prop::array::uniform4(0..3usize), g in prop::array::uniform4(0..3usize),
        numbers in prop::array::uniform5(prop_oneof![any::<f32>(), 0.0f32..1.0]), flag in any::<bool>(), step in 0..3u64,
    ) {
        let (p, g) = (Shape4::from(p), Shape4::from(g));
        for cpu in laws::devices() {
            refuses_garbage(&cpu, p, g, numbers, flag, step)?;
        }
        if let Some(gpu) = gpu::of_tests() {
            refuses_garbage(gpu, p, g, numbers, flag, step)?;
            gpu.finish().unwrap();
        }
    }
}

fn refuses_garbage<B: Training>(
    device: &B,
    p: Shape4,
    g: Shape4,
    [a, b, c, d, e]: [f32; 5],
    flag: bool,
    step: u64,
) -> std::result::Result<(), TestCaseError> {
    let zeros = |shape: Shape4| device.upload(&Tensor::zeros(shape).unwrap()).unwrap();
    let (gradient, same) = (zeros(g), p == g);
    let sgd = Sgd { lr: a, momentum: b, weight_decay: c, nesterov: flag };
    let fits = sgd.validate().is_ok() && same;
    for with_velocity in [false, true] {
        let (mut p, mut velocity) = (zeros(p), with_velocity.then(|| zeros(p)));
        let velocity = velocity.as_mut().map(|v| v.view_mut());
        let done = device.sgd_step(&sgd, p.view_mut(), gradient.view(), velocity);
        prop_assert_eq!(done.is_ok(), fits && (with_velocity || b == 0.0), "{:?}", sgd);
    }
    let adam = Adam { lr: a, beta1: b, beta2: c, eps: d, weight_decay: e, decoupled: flag };
    let fits = adam.validate().is_ok() && same && step > 0;
    let [mut parameters, mut m, mut v] = [p; 3].map(zeros);
    let done =
        device.adam_step(&adam, step, parameters.view_mut(), gradient.view(), m.view_mut(), v.view_mut());
    prop_assert_eq!(done.is_ok(), fits, "{:?}", adam);
    let (mut clipped, mut norm) = (zeros(p), zeros(g));
    let fits = a >= 0.0 && g == Shape4::new(1, 1, 1, 1);
    let done = device.clip_norm_into(clipped.view_mut(), a, norm.view_mut());
    prop_assert_eq!(done.is_ok(), fits, "{} {}", a, g);
    Ok(())
}

/// Many steps down a bowl: all of them arrive.
#[test]
fn every_optimiser_finds_the_bottom() {
    fn descend<B: Training>(device: &B) -> Result<()> {
        let shape = Shape4::new(1, 1, 1, 3);
        let bottom = device.upload(&Tensor::from_vec(shape, vec![1.0, -2.0, 0.5])?)?;
        let sgd = Sgd { lr: 0.3, ..Sgd::default() };
        let heavy = Sgd { momentum: 0.9, lr: 0.05, ..sgd };
        let ahead = Sgd { nesterov: true, ..heavy };
        let adam = Adam { lr: 0.05, ..Adam::default() };
        for which in 0..4 {
            let [mut p, mut m, mut v] =
                [(); 3].map(|()| device.upload(&Tensor::zeros(shape).unwrap()).unwrap());
            for step in 1..=400 {
                let g = device.mse_backward(&p, &bottom, 1.0)?;
                let g = g.view();
                match which {
                    0 => device.sgd_step(&sgd, p.view_mut(), g, None)?,
                    1 => device.sgd_step(&heavy, p.view_mut(), g, Some(m.view_mut()))?,
                    2 => device.sgd_step(&ahead, p.view_mut(), g, Some(m.view_mut()))?,
                    _ => device.adam_step(&adam, step, p.view_mut(), g, m.view_mut(), v.view_mut())?,
                }
            }
            let loss = device.download(&device.mse(&p, &bottom)?)?.data()[0];
            assert!(loss < 1e-4, "{which}: {loss}");
        }
        Ok(())
    }
    laws::devices().for_each(|cpu| descend(&cpu).unwrap());
    if let Some(gpu) = gpu::of_tests() {
        descend(gpu).unwrap();
    }
}

#[test]
fn a_norm_that_is_no_number_stays_none() {
    for cpu in laws::devices() {
        for (g, norm, expected) in [
            ([f32::NAN, 1.0], f32::NAN, [f32::NAN, f32::NAN]),
            ([f32::INFINITY, 1.0], f32::INFINITY, [f32::NAN, 0.0]),
        ] {
            let mut g = Tensor::from_vec(Shape4::new(1, 1, 1, 2), g.to_vec()).unwrap();
            let mut got = Tensor::zeros(Shape4::new(1, 1, 1, 1)).unwrap();
            cpu.clip_norm_into(g.view_mut(), 1.0, got.view_mut()).unwrap();
            let same = |a: f32, b: f32| a == b || a.is_nan() && b.is_nan();
            assert!(same(got.data()[0], norm), "{got:?}");
            assert!(g.data().iter().zip(expected).all(|(&a, b)| same(a, b)), "{g:?}");
        }
    }
}

#[test]
fn threads_do_not_change_bits_of_large_problems() {
    for text in [
        "sgd:n1c1h1w100003_lr0.1momentum0.9decay0.01+nesterov",
        "adam:n3c5h70w71_lr0.001step2",
        "clip_norm:n1c1h1w100003_max1",
    ] {
        let case: Case = text.parse().unwrap();
        laws::threads_do_not_change_bits(&case).unwrap();
    }
}
