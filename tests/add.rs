//! Addition: the laws, for every device.

use proptest::prelude::*;
use tilewise_bench::case::{Case, Inputs, Problem};
use tilewise_bench::check::{self, laws};
use tilewise_kernels::Tensor;

use crate::strategies::{cases, config, extents, hold};

fn problems() -> impl Strategy<Value = Problem> {
    extents(5, 40).prop_map(|input| Problem::Add { input })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn add_matches_reference(case in cases(problems())) {
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

    #[test]
    fn add_commutes(problem in problems(), seed in any::<u16>()) {
        let inputs = Inputs::generate(&Case { seed: seed.into(), ..Case::new(problem) }).unwrap();
        let [a, b] = &inputs.tensors[..] else { unreachable!() };
        for cpu in laws::devices() {
            hold(laws::same_bits(cpu.add(a, b).unwrap().data(), cpu.add(b, a).unwrap().data()))?;
        }
    }

    #[test]
    fn shapes_that_differ_are_refused(a in prop::array::uniform4(0..4usize), b in prop::array::uniform4(0..4usize)) {
        let (x, y) = (Tensor::zeros(a.into()).unwrap(), Tensor::zeros(b.into()).unwrap());
        for cpu in laws::devices() {
            prop_assert_eq!(cpu.add(&x, &y).is_ok(), a == b);
        }
    }
}

#[test]
fn threads_do_not_change_bits_of_large_problems() {
    laws::threads_do_not_change_bits(&"add:n3c20h40w41".parse().unwrap()).unwrap();
}
