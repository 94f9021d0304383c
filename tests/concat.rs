//! Concatenation: the laws, for every device.

use proptest::prelude::*;
use tilewise_bench::case::{Case, Inputs, Problem};
use tilewise_bench::check::{self, laws};
use tilewise_kernels::{Shape4, Tensor};

use crate::strategies::{cases, config, extents, hold};

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
}

#[test]
fn threads_do_not_change_bits_of_large_problems() {
    laws::threads_do_not_change_bits(&"concat:n3c20,33h40w41".parse().unwrap()).unwrap();
}
