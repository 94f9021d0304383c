//! Concatenation: the laws, for every device.

use proptest::prelude::*;
use tilewise_bench::case::{Case, Inputs, Problem};
use tilewise_bench::check::{self, laws};
use tilewise_bench::gpu;
use tilewise_kernels::{DeviceTensor, Shape4, Tensor, Training, Update};

use crate::strategies::{cases, config, extents, garbage, hold};

fn parts() -> impl Strategy<Value = Vec<Shape4>> {
    (extents(1, 24), prop::collection::vec(1..9usize, 1..5))
        .prop_map(|(s, channels)| channels.into_iter().map(|c| Shape4 { c, ..s }).collect())
}

fn problems() -> impl Strategy<Value = Problem> {
    parts().prop_map(|parts| Problem::Concat { parts })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn concat_matches_reference(case in cases(problems())) {
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
    fn gradients_refuse_other_shapes(case in cases(problems())) {
        hold(laws::other_shapes_are_refused(&case))?;
    }

    /// What was put together can be taken apart as ranges of channels.
    #[test]
    fn ranges_of_channels_are_the_parts(problem in problems()) {
        let parts = Inputs::generate(&Case::new(problem)).unwrap().tensors;
        for cpu in laws::devices() {
            let y = cpu.concat(&parts.iter().collect::<Vec<_>>()).unwrap();
            let mut first = 0;
            for part in &parts {
                let range = first..first + part.shape().c;
                first = range.end;
                prop_assert_eq!(&y.view().channels(range).unwrap().to_tensor().unwrap(), part);
            }
        }
    }

    #[test]
    fn garbage_never_panics(shapes in prop::collection::vec(prop::array::uniform4(0..4usize), 0..4)) {
        let parts: Vec<Tensor> = shapes.iter().map(|&s| Tensor::zeros(s.into()).unwrap()).collect();
        let fits = |a: &Tensor, b: &Tensor| {
            let (a, b) = (a.shape(), b.shape());
            [a.n, a.h, a.w] == [b.n, b.h, b.w]
        };
        let all_fit = parts.iter().all(|p| fits(p, &parts[0]));
        for cpu in laws::devices() {
            let y = cpu.concat(&parts.iter().collect::<Vec<_>>());
            prop_assert!(all_fit || y.is_err(), "{:?}", shapes);
        }
    }

    /// Channels that are not there have no gradient.
    #[test]
    fn gradients_of_garbage_never_panic(channels in (0..5usize, 0..5usize), first in garbage()) {
        fn accepted<B: Training>(device: &B, [of_x, of_y]: [usize; 2], first: usize) -> bool {
            let gy = device.upload(&Tensor::zeros(Shape4::new(2, of_y, 1, 3)).unwrap()).unwrap();
            let mut gx = device.empty(Shape4::new(2, of_x, 1, 3)).unwrap();
            device.concat_backward_into(gy.view(), first, gx.view_mut(), Update::Write).is_ok()
        }
        let channels = [channels.0, channels.1];
        let fits = first.checked_add(channels[0]).is_some_and(|end| end <= channels[1]);
        for cpu in laws::devices() {
            prop_assert_eq!(accepted(&cpu, channels, first), fits);
        }
        if let Some(gpu) = gpu::of_tests() {
            prop_assert_eq!(accepted(gpu, channels, first), fits);
        }
    }
}

#[test]
fn threads_do_not_change_bits_of_large_problems() {
    laws::threads_do_not_change_bits(&"concat:n3c20,33h40w41".parse().unwrap()).unwrap();
}
