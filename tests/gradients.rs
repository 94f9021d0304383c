//! The gradients of the naive reference against its own forward pass: finite differences, and adjointness.

use tilewise_bench::case::{Case, Inputs, Numbers, Op, Problem};
use tilewise_bench::check::gradients::reference as gradients;
use tilewise_bench::check::oracle;
use tilewise_bench::reference;
use tilewise_kernels::Shape4;

/// Small, and all that the gradients of an operator depend on.
const CASES: [&str; 58] = [
    "n2c2h4w5_o3k3x2",
    "n1c4h6w5_o6k3x2s2x1p1,0,2,1d1x2g2+nobias",
    "n2c3h5w5_o6k3x3s2p1g3",
    "n1c2h3w3_o2k1x1s2",
    "conv_transpose2d:n2c2h3w2_o3k2x3",
    "conv_transpose2d:n1c4h3w3_o2k3x3s2p1e1g2+nobias",
    "conv_transpose2d:n1c2h3w4_o2k2x3s3x2p0,1,2,0e1x0d2x1",
    "linear:n3c5h1w1_o4",
    "linear:n2c2h2w3_o3+nobias",
    "max_pool2d:n2c2h4w6_k2x2",
    "max_pool2d:n1c2h5w6_k3x3s2p1+ceil",
    "max_pool2d:n1c1h5w5_k3x2s1",
    "avg_pool2d:n2c2h4w6_k2x2",
    "avg_pool2d:n1c2h5w6_k3x3s2p1+ceil",
    "avg_pool2d:n1c2h5w6_k3x3s2p1+ceil+nopad",
    "avg_pool2d:n1c1h5w5_k3x2s1",
    "global_avg_pool:n2c3h3w4",
    "identity:n1c2h3w4",
    "relu:n2c2h5w6",
    "leaky_relu:n2c2h5w6_slope0.1",
    "leaky_relu:n2c2h5w6_slope-0.5",
    "relu6:n2c2h5w6",
    "elu:n2c2h5w6_alpha1",
    "elu:n2c2h5w6_alpha0.3",
    "gelu:n2c2h5w6",
    "silu:n2c2h5w6",
    "sigmoid:n2c2h5w6",
    "tanh:n2c2h5w6",
    "softmax:n3c4h2w2_axis0",
    "softmax:n2c5h2w3_axis1",
    "softmax:n2c2h3w4_axis2",
    "softmax:n2c2h3w4_axis3",
    "batch_norm:n2c3h3w4_eps0.001",
    "batch_norm:n2c3h3w4_eps0.001+train",
    "batch_norm:n2c3h3w4_eps0.5momentum0.1+train",
    "upsample_nearest:n1c2h3w4_size6x8",
    "upsample_nearest:n1c2h5w3_size3x8",
    "upsample_bilinear:n1c2h3w4_size6x8",
    "upsample_bilinear:n1c2h5w3_size3x8",
    "upsample_bilinear:n1c2h3w4_size6x8+corners",
    "upsample_bilinear:n1c2h5w3_size3x8+corners",
    "concat:n2c3,1,2h2w3",
    "add:n2c2h3w3",
    "pad:n2c2h3w3_p1,2,0,3v0.5",
    "pad:n1c2h2w3_p1v0",
    "crop:n2c2h5w6_p1,2,0,3",
    "cross_entropy:n5c4h1w1",
    "cross_entropy:n2c3h2w2",
    "bce_with_logits:n2c1h4w4",
    "mse:n2c2h3w3",
    "mse:n1c1h1w1",
    "cross_entropy:n2c3h2w3_smoothing0.25+weighted",
    "cross_entropy:n2c3h2w3_smoothing0.25ignore1",
    "cross_entropy:n5c4h1w1_ignore9+weighted",
    "bce_with_logits:n2c3h2w2+weighted",
    "l1:n2c2h3w3",
    "dice:n2c2h2w4_smooth1",
    "dice:n1c1h3w3_smooth0",
];

/// How far an element is moved, to either side: a power of two, so that element and step add up exactly in f32.
const STEP: f32 = 1.0 / 4096.0;

/// Odd sixteenths around zero, all different and in no order: many steps off every kink (0 and 6), and from each other,
/// where maxima would change hands.
fn distinct(len: usize, phase: usize) -> Vec<f32> {
    assert!(!len.is_multiple_of(37), "steps of 37 must meet all {len}");
    let odd = |i: usize| 2.0 * (((i * 37 + phase * 11) % len) as f32 - (len / 2) as f32) + 1.0;
    (0..len).map(|i| odd(i) / 16.0).collect()
}

fn len(shape: Shape4) -> usize {
    shape.dims().iter().product()
}

fn dot(a: &[f64], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| a * f64::from(b)).sum()
}

fn cases() -> impl Iterator<Item = Case> {
    CASES.into_iter().map(|text| text.parse().unwrap_or_else(|e| panic!("{text}: {e}")))
}

#[test]
fn every_operator_has_its_cases() {
    for op in Op::ALL.into_iter().filter(|op| !op.is_step()) {
        assert!(cases().any(|case| case.problem.op() == op), "{op}");
    }
}

#[test]
fn gradients_are_the_finite_differences_of_the_forward_pass() {
    for case in cases() {
        let problem = &case.problem;
        let operands = problem.inputs();
        let mut inputs = Inputs::generate(&case).unwrap();
        for (i, (operand, tensor)) in operands.iter().zip(&mut inputs.tensors).enumerate() {
            tensor.data_mut().copy_from_slice(&distinct(len(operand.shape), i));
            if ["var", "weight", "pos_weight"].contains(&operand.name.as_str()) {
                tensor.data_mut().iter_mut().for_each(|v| *v = v.abs());
            }
        }
        let gy = distinct(len(problem.outputs()[0].shape), operands.len());
        let loss =
            |inputs: &Inputs| dot(&oracle::targets(problem, inputs, Numbers::Real, None)[0].value, &gy);

        let gradients = gradients(problem, &inputs, &gy);
        let differentiable = operands
            .iter()
            .filter(|operand| !["mean", "var", "weight", "pos_weight"].contains(&operand.name.as_str()));
        assert_eq!(differentiable.count(), gradients.len(), "{case}");
        for (i, (operand, (name, answer))) in operands.iter().zip(&gradients).enumerate() {
            assert_eq!((&format!("g{}", operand.name), operand.shape), (name, answer.shape), "{case}");
            for at in 0..len(operand.shape) {
                let x = inputs.tensors[i].data()[at];
                let mut moved = |to: f32| {
                    inputs.tensors[i].data_mut()[at] = to;
                    loss(&inputs)
                };
                let difference = (moved(x + STEP) - moved(x - STEP)) / f64::from(2.0 * STEP);
                moved(x);
                let (got, magnitude) = (answer.value[at], answer.magnitude[at]);
                // A difference is off by a third derivative times STEP^2 / 6, which is 1e-8.
                let off = (got - difference).abs();
                assert!(off <= 1e-6 * (1.0 + magnitude), "{case}: {name}[{at}] is {got}, not {difference}");
                assert!(
                    got.abs() <= magnitude * (1.0 + 1e-12),
                    "{case}: {name}[{at}] is {got}, of terms of {magnitude} in all"
                );
            }
        }
    }
}

#[test]
fn convolutions_and_their_gradients_are_adjoint() {
    let mut judged = 0;
    for Case { problem, seed, .. } in cases() {
        let case = Case { problem, numbers: Numbers::Integer, seed };
        let inputs = Inputs::generate(&case).unwrap();
        let [x, w] = match &inputs.tensors[..] {
            [x, w, ..] => [x.data(), w.data()],
            _ => continue,
        };
        // y without its bias is linear in x and in w.
        let y = match &case.problem {
            Problem::Conv2d { shape, .. } => reference::conv2d(shape, x, w, None),
            Problem::ConvTranspose2d { shape, .. } => reference::conv_transpose2d(shape, x, w, None),
            Problem::Linear { shape, .. } => reference::linear(shape, x, w, None),
            _ => continue,
        };
        let gy: Vec<f32> = (0..y.value.len()).map(|i| (i * 7 % 17) as f32 - 8.0).collect();
        let both = dot(&y.value, &gy);
        let gradients = gradients(&case.problem, &inputs, &gy);
        assert_ne!(both, 0.0, "{case}: nothing to tell apart");
        for ((name, gradient), operand) in gradients.iter().zip([x, w]) {
            assert_eq!(dot(&gradient.value, operand), both, "{case}: {name}");
        }
        judged += 1;
    }
    assert!(judged >= 9, "{judged}");
}
