//! Operators with weights on every device of the tests: their gradients are those of the CPU.

use super::weights::{Spec, WeightsGradient};
use super::weights_method::METHODS;
use crate::Cpu;
use crate::backend::{Backend, View, ViewMut};
use crate::error::{Error, Result};
use crate::gpu::testing::{Gapped, devices, noise};
use crate::shape::correlation::Correlation;
use crate::shape::{
    Activation, Conv2dParams, Conv2dShape, ConvTranspose2dParams, ConvTranspose2dShape, LinearShape, Padding,
    Update,
};
use crate::tensor::{Shape4, Tensor};
use crate::training::Training;

#[derive(Debug, Clone, Copy)]
enum Op {
    Conv2d(Conv2dShape),
    ConvTranspose2d(ConvTranspose2dShape),
    Linear(LinearShape),
}

impl Op {
    /// Those of x, the weights and y.
    fn shapes(self) -> [Shape4; 3] {
        match self {
            Op::Conv2d(s) => [s.input(), s.weights(), s.output()],
            Op::ConvTranspose2d(s) => [s.input(), s.weights(), s.output()],
            Op::Linear(s) => [s.input(), s.weights(), s.output()],
        }
    }

    fn bias(self) -> Shape4 {
        Shape4::new(1, self.shapes()[2].c, 1, 1)
    }

    /// The forward pass by a plan whose weights and bias were replaced.
    fn forward<B: Training>(self, device: &B, [x, w, b]: [View<'_, B>; 3], y: ViewMut<'_, B>) -> Result<()> {
        let [_, weights, _] = self.shapes();
        let (old, bias) = (vec![f32::NAN; weights.n * weights.image_len()], vec![f32::NAN; self.bias().c]);
        let (bias, f) = (Some(&bias[..]), Activation::Identity);
        match self {
            Op::Conv2d(shape) => {
                let mut plan = device.plan_conv2d(shape, &old, bias, f, None)?;
                device.conv2d_set_weights(&mut plan, w, Some(b))?;
                device.conv2d_into(&mut plan, x, y)
            }
            Op::ConvTranspose2d(shape) => {
                let mut plan = device.plan_conv_transpose2d(shape, &old, bias, f)?;
                device.conv_transpose2d_set_weights(&mut plan, w, Some(b))?;
                device.conv_transpose2d_into(&mut plan, x, y)
            }
            Op::Linear(shape) => {
                let mut plan = device.plan_linear(shape, &old, bias, f)?;
                device.linear_set_weights(&mut plan, w, Some(b))?;
                device.linear_into(&mut plan, x, y)
            }
        }
    }

    /// The gradient to the input, by a plan whose weights were replaced.
    fn to_input<B: Training>(
        self,
        device: &B,
        [w, gy]: [View<'_, B>; 2],
        gx: ViewMut<'_, B>,
        update: Update,
    ) -> Result<()> {
        let [_, weights, _] = self.shapes();
        let old = vec![f32::NAN; weights.n * weights.image_len()];
        match self {
            Op::Conv2d(shape) => {
                let mut plan = device.plan_conv2d_backward_input(shape, &old)?;
                device.conv2d_backward_input_set_weights(&mut plan, w)?;
                device.conv2d_backward_input_into(&mut plan, gy, gx, update)
            }
            Op::ConvTranspose2d(shape) => {
                let mut plan = device.plan_conv_transpose2d_backward_input(shape, &old)?;
                device.conv_transpose2d_backward_input_set_weights(&mut plan, w)?;
                device.conv_transpose2d_backward_input_into(&mut plan, gy, gx, update)
            }
            Op::Linear(shape) => {
                let mut plan = device.plan_linear_backward_input(shape, &old)?;
                device.linear_backward_input_set_weights(&mut plan, w)?;
                device.linear_backward_input_into(&mut plan, gy, gx, update)
            }
        }
    }

    fn to_weights<B: Training>(
        self,
        device: &B,
        [x, gy]: [View<'_, B>; 2],
        gw: ViewMut<'_, B>,
        update: Update,
    ) -> Result<()> {
        match self {
            Op::Conv2d(shape) => {
                let mut plan = device.plan_conv2d_backward_weights(shape)?;
                device.conv2d_backward_weights_into(&mut plan, x, gy, gw, update)
            }
            Op::ConvTranspose2d(shape) => {
                let mut plan = device.plan_conv_transpose2d_backward_weights(shape)?;
                device.conv_transpose2d_backward_weights_into(&mut plan, x, gy, gw, update)
            }
            Op::Linear(shape) => {
                let mut plan = device.plan_linear_backward_weights(shape)?;
                device.linear_backward_weights_into(&mut plan, x, gy, gw, update)
            }
        }
    }
}

/// Random shapes, the same in every run: all that a convolution may be, strides beyond the kernel, taps that only meet
/// padding, and no images included.
fn ops(count: usize) -> Vec<Op> {
    let mut state = 1u64;
    let mut below = move |n: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % n
    };
    let mut ops = Vec::new();
    while ops.len() < count {
        let groups = [1, 1, 2, 3, 7][below(5)];
        let [c, o] = [0; 2].map(|_| groups * [1, 1, 2, 5, 18][below(5)]);
        let x = Shape4::new(below(4), c, 1 + below(12), 1 + below(12));
        let mut pair = |least: usize, n: usize| [0; 2].map(|_| least + below(n));
        let (kernel, stride, dilation) = (pair(1, 4), pair(1, 4), pair(1, 3));
        let [[top, left], [bottom, right], output_padding] = [pair(0, 4), pair(0, 4), pair(0, 2)];
        let padding = Padding { top, bottom, left, right };
        let shape = match ops.len() % 7 {
            0 => LinearShape::new(x, o).map(Op::Linear),
            1..=3 => Conv2dShape::new(
                x,
                o,
                kernel,
                Conv2dParams { stride, padding, dilation, groups, ..Conv2dParams::default() },
            )
            .map(Op::Conv2d),
            _ => {
                let params = ConvTranspose2dParams { stride, padding, output_padding, dilation, groups };
                ConvTranspose2dShape::new(x, o, kernel, params).map(Op::ConvTranspose2d)
            }
        };
        ops.extend(shape);
    }
    ops
}

fn integers(shape: Shape4, seed: u32) -> Tensor {
    let mut x = noise(shape, seed);
    x.data_mut().iter_mut().for_each(|v| *v = (*v * 4.5).trunc());
    x
}

fn twice(x: &Tensor) -> Tensor {
    Tensor::from_vec(x.shape(), x.data().iter().map(|v| v + v).collect()).unwrap()
}

/// Whether a small device was right to refuse.
fn refused(outcome: &Result<()>) -> bool {
    matches!(outcome, Err(Error::Invalid { arg, .. }) if arg.contains("this GPU") || *arg == "workgroups")
}

#[test]
fn gradients_of_integers_are_those_of_the_cpu() -> Result<()> {
    let cpu = Cpu::new()?;
    let (mut done, mut left_out) = (0, 0);
    for (case, op) in ops(56).into_iter().enumerate() {
        let [x, w, y] = op.shapes();
        let (x, w, gy, b) = (integers(x, 1), integers(w, 2), integers(y, 3), integers(op.bias(), 4));
        let [mut want_y, mut want_gx, mut want_gw] = [Tensor::zeros(y)?, x.clone(), w.clone()];
        op.forward(&cpu, [x.view(), w.view(), b.view()], want_y.view_mut())?;
        op.to_input(&cpu, [w.view(), gy.view()], want_gx.view_mut(), Update::Write)?;
        op.to_weights(&cpu, [x.view(), gy.view()], want_gw.view_mut(), Update::Write)?;
        for (number, gpu) in devices().iter().enumerate() {
            let skip = [0, 5][(case + number) % 2];
            let [x, w, gy, b] = [&x, &w, &gy, &b].map(|t| Gapped::new(gpu, t, skip));
            let of = |shape| Gapped::blank(gpu, shape, skip);
            let (mut y, mut gx, mut gw) = (of(y), of(x.view().shape()), of(w.view().shape()));
            let mut run = |name: &str,
                           got: &mut Gapped,
                           want: &Tensor,
                           f: &dyn Fn(&mut Gapped, Update) -> Result<()>| {
                let outcome = f(got, Update::Write);
                if number > 0 && refused(&outcome) {
                    left_out += 1;
                    return;
                }
                outcome.unwrap_or_else(|e| panic!("{op:?} {name}: {e}"));
                assert!(got.download(gpu) == *want, "{name} of {op:?} on device {number}");
                if name != "y" {
                    f(got, Update::Accumulate).unwrap();
                    assert!(got.download(gpu) == twice(want), "{name} added, of {op:?} on device {number}");
                }
                done += 1;
            };
            run("y", &mut y, &want_y, &|y, _| op.forward(gpu, [x.view(), w.view(), b.view()], y.view_mut()));
            run("gx", &mut gx, &want_gx, &|gx, update| {
                op.to_input(gpu, [w.view(), gy.view()], gx.view_mut(), update)
            });
            run("gw", &mut gw, &want_gw, &|gw, update| {
                op.to_weights(gpu, [x.view(), gy.view()], gw.view_mut(), update)
            });
        }
    }
    assert!(devices().is_empty() || done > 10 * left_out, "{done} done, {left_out} left out");
    Ok(())
}

#[test]
fn accumulating_adds_what_writing_writes_and_no_bit_changes_from_run_to_run() -> Result<()> {
    let params = Conv2dParams::default().padding(1);
    let conv = Conv2dShape::new(Shape4::new(3, 5, 23, 29), 6, [3, 3], params)?;
    let depthwise = Conv2dShape::new(Shape4::new(5, 6, 30, 31), 6, [3, 3], params.groups(6).stride(2))?;
    // Of each image, a dispatch of the second device reaches few channels alone.
    let deep = Conv2dShape::new(Shape4::new(2, 20, 17, 13), 4, [2, 2], params)?;
    let transposed = ConvTranspose2dParams::default().stride(2);
    let transposed = ConvTranspose2dShape::new(Shape4::new(2, 4, 13, 14), 12, [2, 2], transposed)?;
    let linear = LinearShape::new(Shape4::new(70, 9, 2, 1), 30)?;
    let ops = [
        Op::Conv2d(conv),
        Op::Conv2d(depthwise),
        Op::Conv2d(deep),
        Op::ConvTranspose2d(transposed),
        Op::Linear(linear),
    ];
    for (op, gpu) in ops.into_iter().flat_map(|op| devices().iter().map(move |gpu| (op, gpu))) {
        let [x, w, y] = op.shapes().map(|shape| noise(shape, 7));
        let [on_x, on_w, on_y] = [&x, &w, &y].map(|t| Gapped::new(gpu, t, 3));
        let check = |there: &Tensor, f: &dyn Fn(&mut Gapped, Update) -> Result<()>| -> Result<()> {
            let mut runs = [0; 2].map(|_| Gapped::blank(gpu, there.shape(), 3));
            let mut added = Gapped::new(gpu, there, 3);
            runs.iter_mut().try_for_each(|g| f(g, Update::Write))?;
            f(&mut added, Update::Accumulate)?;
            let [first, second] = runs.map(|g| g.download(gpu));
            assert!(first == second, "{op:?}");
            let sum = there.data().iter().zip(first.data()).map(|(a, b)| a + b).collect();
            assert!(added.download(gpu) == Tensor::from_vec(there.shape(), sum)?, "{op:?}");
            Ok(())
        };
        check(&x, &|gx, update| op.to_input(gpu, [on_w.view(), on_y.view()], gx.view_mut(), update))?;
        check(&w, &|gw, update| op.to_weights(gpu, [on_x.view(), on_y.view()], gw.view_mut(), update))?;
    }
    Ok(())
}

/// Shapes choose few of the methods, and a software driver none that shares memory; here all of them compute the same
/// gradients, in one piece and in blocks, runs and rounds of them, and no bit changes from run to run.
#[test]
fn every_method_computes_the_same_weights() -> Result<()> {
    let params = Conv2dParams::default().padding(1).stride(2).dilation(2);
    let one = Conv2dParams::default();
    let cases = [
        (Shape4::new(3, 3, 58, 15), 70, [3, 2], params),
        (Shape4::new(3, 19, 29, 21), 9, [3, 2], params),
        (Shape4::new(3, 3, 58, 15), 3, [3, 2], params.groups(3)),
        (Shape4::new(3, 10, 24, 38), 42, [3, 2], params.groups(2)),
        // Images smaller than what a workgroup takes together; taps that only ever meet padding; no images.
        (Shape4::new(150, 5, 1, 1), 7, [1, 1], one),
        (Shape4::new(37, 3, 3, 2), 6, [2, 2], one.stride(2).padding(1)),
        (Shape4::new(2, 2, 1, 2), 3, [5, 5], one.padding(2)),
        (Shape4::new(0, 3, 4, 4), 5, [2, 2], one),
    ];
    for (input, outputs, kernel, params) in cases {
        let shape = Conv2dShape::new(input, outputs, kernel, params)?;
        let (x, gy) = (integers(shape.input(), 1), integers(shape.output(), 2));
        let mut want = Tensor::zeros(shape.weights())?;
        let op = Op::Conv2d(shape);
        op.to_weights(&Cpu::new()?, [x.view(), gy.view()], want.view_mut(), Update::Write)?;
        let spec = Spec {
            op: "test",
            groups: params.groups,
            outputs: outputs / params.groups,
            kernel: kernel[0] * kernel[1],
        };
        for (gpu, method) in devices().iter().flat_map(|gpu| METHODS.map(|method| (gpu, method))) {
            let gradient = WeightsGradient::with_method(gpu, spec, &Correlation::conv2d(&shape), method)?;
            for skip in [0, 5] {
                let run = |x: &Tensor, gy: &Tensor, gw: &mut Gapped, update| -> Result<Tensor> {
                    let [x, gy] = [x, gy].map(|t| Gapped::new(gpu, t, skip));
                    gradient.run(gpu, x.view(), gy.view(), gw.view_mut().0, update)?;
                    Ok(gw.download(gpu))
                };
                let mut gw = Gapped::blank(gpu, shape.weights(), skip);
                let what = format!("{method:?} of {shape:?}, gaps of {skip}");
                assert!(run(&x, &gy, &mut gw, Update::Write)? == want, "{what}");
                assert!(run(&x, &gy, &mut gw, Update::Accumulate)? == twice(&want), "{what}, added");
                let (x, gy) = (noise(shape.input(), 1), noise(shape.output(), 2));
                let first = run(&x, &gy, &mut gw, Update::Write)?;
                assert!(run(&x, &gy, &mut gw, Update::Write)? == first, "{what}, again");
            }
        }
    }
    Ok(())
}

#[test]
fn weights_that_do_not_fit_are_refused() -> Result<()> {
    let Some(gpu) = devices().first() else { return Ok(()) };
    let shape = Conv2dShape::new(Shape4::new(1, 2, 4, 4), 3, [2, 2], Conv2dParams::default())?;
    let [w, b] = [shape.weights(), Shape4::new(1, 3, 1, 1)].map(|s| gpu.empty(s));
    let (w, b, other) = (w?, b?, gpu.empty(Shape4::new(2, 3, 2, 2))?);
    let f = Activation::Identity;
    let plan = gpu.plan_conv2d(shape, &[0.0; 24], None, f, None)?;
    let biased = gpu.plan_conv2d(shape, &[0.0; 24], Some(&[0.0; 3]), f, None)?;
    let message = |outcome: Result<()>| outcome.unwrap_err().to_string();
    let of_shape = message(gpu.conv2d_set_weights(&plan, other.view(), None));
    assert!(of_shape.starts_with("conv2d: weights shape: expected"), "{of_shape}");
    assert!(message(gpu.conv2d_set_weights(&plan, w.view(), Some(b.view()))).contains("expected none"));
    assert!(message(gpu.conv2d_set_weights(&biased, w.view(), None)).contains("bias"));
    assert!(message(gpu.conv2d_set_weights(&biased, w.view(), Some(other.view()))).contains("bias"));
    gpu.conv2d_set_weights(&biased, w.view(), Some(b.view()))
}
