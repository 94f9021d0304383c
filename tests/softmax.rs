//! Softmax: the laws, for every device.

use proptest::prelude::*;
use tilewise_bench::case::{Case, Inputs, Numbers, Problem};
use tilewise_bench::check::{self, laws};
use tilewise_kernels::{Axis, Shape4, SoftmaxShape, Tensor};

use crate::strategies::{cases, config, extents, garbage, hold};

fn shapes() -> impl Strategy<Value = SoftmaxShape> {
    (extents(40, 24), prop::sample::select(&Axis::ALL[..]))
        .prop_map(|(input, axis)| SoftmaxShape::new(input, axis).unwrap())
}

fn x_of(shape: SoftmaxShape, seed: u16) -> Tensor {
    let case = Case { problem: Problem::Softmax(shape), numbers: Numbers::Real, seed: seed.into() };
    Inputs::generate(&case).unwrap().tensors.remove(0)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn softmax_matches_reference(case in cases(shapes().prop_map(Problem::Softmax))) {
        hold(check::verify(&case))?;
    }

    #[test]
    fn threads_do_not_change_bits(case in cases(shapes().prop_map(Problem::Softmax))) {
        hold(laws::threads_do_not_change_bits(&case))?;
    }

    #[test]
    fn nothing_outside_the_output_is_written(case in cases(shapes().prop_map(Problem::Softmax))) {
        hold(laws::nothing_outside_the_output_is_written(&case))?;
    }

    #[test]
    fn gradients_keep_their_laws(case in cases(shapes().prop_map(Problem::Softmax))) {
        hold(laws::gradients_keep_their_laws(&case))?;
    }

    #[test]
    fn gradients_refuse_other_shapes(case in cases(shapes().prop_map(Problem::Softmax))) {
        hold(laws::other_shapes_are_refused(&case))?;
    }

    #[test]
    fn softmax_sums_to_one(shape in shapes(), seed in any::<u16>()) {
        let s = shape.input();
        let axis = shape.axis().index();
        for cpu in laws::devices() {
            let y = cpu.softmax(&x_of(shape, seed), shape.axis()).unwrap();
            let mut sums = std::collections::HashMap::new();
            for n in 0..s.n { for c in 0..s.c { for h in 0..s.h { for w in 0..s.w {
                let mut line = [n, c, h, w];
                line[axis] = 0;
                *sums.entry(line).or_insert(0.0f64) += f64::from(y.at(n, c, h, w));
            }}}}
            prop_assert!(sums.values().all(|sum| (sum - 1.0).abs() < 1e-5), "{:?}", sums);
        }
    }

    /// Adding a constant changes nothing; one large enough would overflow if the maximum were not subtracted.
    #[test]
    fn softmax_ignores_a_shift(shape in shapes(), seed in any::<u16>()) {
        let x = x_of(shape, seed);
        // Quarters, so that the sums with 2^18 are exact.
        let quarters = Tensor::from_vec(x.shape(), x.data().iter().map(|v| (v * 4.0).round() / 4.0).collect()).unwrap();
        let shifted = Tensor::from_vec(x.shape(), quarters.data().iter().map(|v| v + 262_144.0).collect()).unwrap();
        for cpu in laws::devices() {
            let (a, b) = (cpu.softmax(&quarters, shape.axis()).unwrap(), cpu.softmax(&shifted, shape.axis()).unwrap());
            hold(laws::same_bits(a.data(), b.data()))?;
        }
    }

    #[test]
    fn garbage_never_panics(input in prop::array::uniform4(garbage()), axis in prop::sample::select(&Axis::ALL[..])) {
        let _ = SoftmaxShape::new(input.into(), axis);
        let empty = Tensor::zeros(Shape4::new(2, 0, 3, 3)).unwrap();
        for cpu in laws::devices() {
            prop_assert_eq!(cpu.softmax(&empty, axis).unwrap().shape(), empty.shape());
        }
    }
}

#[test]
fn infinities_as_in_pytorch() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    for cpu in laws::devices() {
        let line = |x: [f32; 3]| {
            let x = Tensor::from_vec(Shape4::new(1, 3, 1, 1), x.to_vec()).unwrap();
            cpu.softmax(&x, Axis::C).unwrap().into_vec()
        };
        assert_eq!(line([-inf, 0.0, -inf]), [0.0, 1.0, 0.0]);
        for all_nan in [[-inf; 3], [inf, 0.0, 1.0], [0.0, nan, 1.0]] {
            assert!(line(all_nan).iter().all(|v| v.is_nan()), "{all_nan:?} on {}", cpu.isa());
        }
    }
}

#[test]
fn threads_do_not_change_bits_of_large_problems() {
    for axis in 0..4 {
        laws::threads_do_not_change_bits(&format!("softmax:n3c20h40w41_axis{axis}").parse().unwrap())
            .unwrap();
    }
}
