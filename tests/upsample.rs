//! Upsampling: the laws, for every device.

use proptest::prelude::*;
use tilewise_bench::case::Problem;
use tilewise_bench::check::{self, laws};
use tilewise_bench::gpu;
use tilewise_kernels::{Shape4, Tensor, Training, UpsampleMode, UpsampleShape};

use crate::strategies::{cases, config, extents, garbage, hold};

const MODES: [UpsampleMode; 3] = [
    UpsampleMode::Nearest,
    UpsampleMode::Bilinear { align_corners: false },
    UpsampleMode::Bilinear { align_corners: true },
];

fn shapes() -> impl Strategy<Value = UpsampleShape> {
    (extents(4, 24), 1..50usize, 1..50usize, prop::sample::select(&MODES[..]))
        .prop_map(|(input, h, w, mode)| UpsampleShape::new(input, [h, w], mode).unwrap())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn upsample_matches_reference(case in cases(shapes().prop_map(Problem::Upsample))) {
        hold(check::verify(&case))?;
    }

    #[test]
    fn threads_do_not_change_bits(case in cases(shapes().prop_map(Problem::Upsample))) {
        hold(laws::threads_do_not_change_bits(&case))?;
    }

    #[test]
    fn nothing_outside_the_output_is_written(case in cases(shapes().prop_map(Problem::Upsample))) {
        hold(laws::nothing_outside_the_output_is_written(&case))?;
    }

    #[test]
    fn gradients_keep_their_laws(case in cases(shapes().prop_map(Problem::Upsample))) {
        hold(laws::gradients_keep_their_laws(&case))?;
    }

    #[test]
    fn gradients_are_adjoint(problem in shapes().prop_map(Problem::Upsample), seed in any::<u16>()) {
        hold(laws::gradients_are_adjoint(&problem, seed))?;
    }

    #[test]
    fn gradients_refuse_other_shapes(case in cases(shapes().prop_map(Problem::Upsample))) {
        hold(laws::other_shapes_are_refused(&case))?;
    }

    #[test]
    fn the_same_size_is_a_copy(input in extents(4, 40), mode in prop::sample::select(&MODES[..])) {
        let x = Tensor::from_fn(input, |[n, c, h, w]| (n + 3 * c + 7 * h + 11 * w) as f32).unwrap();
        for cpu in laws::devices() {
            prop_assert_eq!(&cpu.upsample(&x, [input.h, input.w], mode).unwrap(), &x);
        }
    }

    /// With the corners aligned a plane `a h + b w` stays one.
    #[test]
    fn aligned_corners_keep_a_slope(h in 2..20usize, w in 2..20usize, to_h in 2..40usize, to_w in 2..40usize) {
        let slope = |i: usize, n: usize| i as f64 / (n - 1) as f64;
        let plane = |h: usize, w: usize| Tensor::from_fn(Shape4::new(1, 1, h, w), |[_, _, i, j]| {
            (slope(i, h) * 3.0 - slope(j, w) * 2.0) as f32
        }).unwrap();
        for cpu in laws::devices() {
            let y = cpu.upsample(&plane(h, w), [to_h, to_w], UpsampleMode::Bilinear { align_corners: true }).unwrap();
            for (got, want) in y.data().iter().zip(plane(to_h, to_w).data()) {
                prop_assert!((got - want).abs() < 2e-6, "{} {}", got, want);
            }
        }
    }

    /// By a whole factor, nearest repeats each pixel.
    #[test]
    fn nearest_repeats(input in extents(3, 20), factor in 1..5usize) {
        let x = Tensor::from_fn(input, |[n, c, h, w]| (n + 3 * c + 7 * h + 11 * w) as f32).unwrap();
        for cpu in laws::devices() {
            let y = cpu.upsample(&x, [input.h * factor, input.w * factor], UpsampleMode::Nearest).unwrap();
            let repeated = Tensor::from_fn(y.shape(), |[n, c, h, w]| x.at(n, c, h / factor, w / factor)).unwrap();
            prop_assert_eq!(y, repeated);
        }
    }

    #[test]
    fn garbage_never_panics(
        input in prop::array::uniform4(garbage()), size in prop::array::uniform2(garbage()),
        factor in garbage(), mode in prop::sample::select(&MODES[..]),
    ) {
        let _ = UpsampleShape::new(input.into(), size, mode);
        let _ = UpsampleShape::by_factor(input.into(), factor, mode);
        let x = Tensor::zeros(Shape4::new(1, 1, 2, 3)).unwrap();
        for cpu in laws::devices() {
            let _ = cpu.upsample(&x, size, mode);
        }
    }

    /// Planes of any two sizes, none among them: a gradient or an error.
    #[test]
    fn gradients_of_garbage_never_panic(
        input in prop::array::uniform4(0..4usize), output in prop::array::uniform4(0..4usize),
        mode in prop::sample::select(&MODES[..]),
    ) {
        fn accepted<B: Training>(device: &B, input: Shape4, output: Shape4, mode: UpsampleMode) -> bool {
            let gy = device.upload(&Tensor::zeros(output).unwrap()).unwrap();
            device.upsample_backward(input, mode, &gy).is_ok()
        }
        let [input, output] = [input, output].map(Shape4::from);
        let fits = UpsampleShape::new(input, [output.h, output.w], mode).is_ok_and(|shape| shape.output() == output);
        for cpu in laws::devices() {
            prop_assert_eq!(accepted(&cpu, input, output, mode), fits);
        }
        if let Some(gpu) = gpu::of_tests() {
            prop_assert_eq!(accepted(gpu, input, output, mode), fits);
        }
    }
}

#[test]
fn threads_do_not_change_bits_of_large_problems() {
    for text in ["upsample_nearest:n2c20h20w21_size40x42", "upsample_bilinear:n2c20h20w21_size43x41+corners"]
    {
        laws::threads_do_not_change_bits(&text.parse().unwrap()).unwrap();
    }
}
