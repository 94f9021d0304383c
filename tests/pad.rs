//! Padding and cropping: the laws, for every device.

use proptest::prelude::*;
use tilewise_bench::case::{Case, Inputs, Problem};
use tilewise_bench::check::{self, laws};
use tilewise_bench::gpu;
use tilewise_kernels::{CropShape, PadShape, Padding, Shape4, Tensor, Training};

use crate::strategies::{cases, config, extents, garbage, hold};

fn sides() -> impl Strategy<Value = Padding> {
    prop::array::uniform4(0..9usize).prop_map(|[top, bottom, left, right]| Padding {
        top,
        bottom,
        left,
        right,
    })
}

fn pads() -> impl Strategy<Value = Problem> {
    (extents(4, 24), sides(), -2.0f32..2.0)
        .prop_map(|(input, p, value)| Problem::Pad { shape: PadShape::new(input, p).unwrap(), value })
}

fn crops() -> impl Strategy<Value = Problem> {
    (extents(4, 24), sides()).prop_map(|(s, p)| {
        let input = Shape4 { h: s.h + p.top + p.bottom - 1, w: s.w + p.left + p.right - 1, ..s };
        Problem::Crop(CropShape::new(input, p).unwrap())
    })
}

fn problems() -> impl Strategy<Value = Problem> {
    prop_oneof![pads(), crops()]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn pad_matches_reference(case in cases(pads())) {
        hold(check::verify(&case))?;
    }

    #[test]
    fn crop_matches_reference(case in cases(crops())) {
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
    fn crop_undoes_pad(problem in pads()) {
        let Problem::Pad { shape, value } = problem else { unreachable!() };
        let x = Inputs::generate(&Case::new(problem)).unwrap().tensors.remove(0);
        for cpu in laws::devices() {
            let padded = cpu.pad(&x, shape.padding(), value).unwrap();
            prop_assert_eq!(&cpu.crop(&padded, shape.padding()).unwrap(), &x);
        }
    }

    #[test]
    fn garbage_never_panics(sides in prop::array::uniform4(garbage()), input in prop::array::uniform4(garbage())) {
        let [top, bottom, left, right] = sides;
        let padding = Padding { top, bottom, left, right };
        let _ = (PadShape::new(input.into(), padding), CropShape::new(input.into(), padding));
        let x = Tensor::zeros(Shape4::new(1, 2, 3, 3)).unwrap();
        for cpu in laws::devices() {
            let _ = (cpu.pad(&x, padding, 0.0), cpu.crop(&x, padding));
        }
    }

    #[test]
    fn gradients_of_garbage_never_panic(
        sides in prop::array::uniform4(garbage()),
        input in prop::array::uniform4(0..4usize), output in prop::array::uniform4(0..4usize),
    ) {
        fn accepted<B: Training>(device: &B, padding: Padding, input: Shape4, output: Shape4) -> [bool; 2] {
            let gy = device.upload(&Tensor::zeros(output).unwrap()).unwrap();
            let padded = device.pad_backward(input, padding, &gy);
            [padded.is_ok(), device.crop_backward(input, padding, &gy).is_ok()]
        }
        let [top, bottom, left, right] = sides;
        let (padding, input, output) = (Padding { top, bottom, left, right }, input.into(), output.into());
        let fits = [
            PadShape::new(input, padding).is_ok_and(|shape| shape.output() == output),
            CropShape::new(input, padding).is_ok_and(|shape| shape.output() == output),
        ];
        for cpu in laws::devices() {
            prop_assert_eq!(accepted(&cpu, padding, input, output), fits);
        }
        if let Some(gpu) = gpu::of_tests() {
            prop_assert_eq!(accepted(gpu, padding, input, output), fits);
        }
    }
}

#[test]
fn threads_do_not_change_bits_of_large_problems() {
    for text in ["pad:n2c20h40w41_p1,2,3,4v0.5", "crop:n2c20h40w41_p1,2,3,4"] {
        laws::threads_do_not_change_bits(&text.parse().unwrap()).unwrap();
    }
}
