//! Laws of gradients, on every device.

use tilewise_kernels::{
    Accuracy, Activation, Conv2dBackwardInputPlan, Conv2dBackwardWeightsPlan, Conv2dShape,
    ConvTranspose2dBackwardInputPlan, ConvTranspose2dBackwardWeightsPlan, Cpu, DeviceTensor, Error,
    LinearBackwardInputPlan, LinearBackwardWeightsPlan, Result as Kernels, Shape4, Tensor, Training, Update,
    UpsampleMode,
};

use super::{Broken, CANARY, Spread, filled_with, pools, same_bits};
use crate::case::{Case, Inputs, Numbers, Operand, Problem};
use crate::check::device::per_channel;
use crate::check::{CheckOptions, Device, gradients, ways};

/// A case whose gradients are taken, with its numbers.
struct Given {
    problem: Problem,
    inputs: Inputs,
    gy: Tensor,
    operands: Vec<Operand>,
}

impl Given {
    fn of(case: &Case) -> Kernels<Self> {
        let case = gradients::of(case);
        let (inputs, gy) = (Inputs::generate(&case)?, gradients::upstream(&case)?);
        Ok(Given { operands: gradients::operands(&case.problem), problem: case.problem, inputs, gy })
    }

    fn solve(&self, device: &Device) -> Result<Vec<Tensor>, Broken> {
        device.gradients(&self.problem, &self.inputs, &self.gy).map_err(words)
    }

    fn data(&self) -> &[Tensor] {
        &self.inputs.tensors[..self.problem.data_inputs()]
    }

    /// Two answers to it, bit for bit.
    fn compare(&self, a: &[Tensor], b: &[Tensor]) -> Result<(), Broken> {
        a.iter().zip(b).zip(&self.operands).try_for_each(|((a, b), operand)| {
            same_bits(a.data(), b.data()).map_err(|what| format!("{}: {what}", operand.name))
        })
    }
}

fn words(error: Error) -> Broken {
    error.to_string()
}

/// Runs `f` for each device; its error is given the case to paste back.
fn on_every_device(case: &Case, f: impl Fn(&Device, &Given) -> Result<(), Broken>) -> Result<(), Broken> {
    let given = Given::of(case).map_err(words)?;
    CheckOptions::of_tests().devices().iter().try_for_each(|device| on(device, case, &given, &f))
}

fn on(
    device: &Device,
    case: &Case,
    given: &Given,
    f: impl Fn(&Device, &Given) -> Result<(), Broken>,
) -> Result<(), Broken> {
    f(device, given).map_err(|what| format!("gradients of {case} on {}: {what}", device.name()))
}

/// What gradients keep, bit for bit: 1, 2 and 7 threads give the same (on a GPU every run does); the easy calls give what the
/// others write to memory with gaps, which are left alone, whatever was there before; and what is added is the same, added
/// once.
///
/// # Errors
/// The first element that differs, or the place that was overwritten.
pub fn gradients_keep_their_laws(case: &Case) -> Result<(), Broken> {
    on_every_device(case, gradients_keep_laws)
}

/// [`gradients_keep_their_laws`], on one device.
///
/// # Errors
/// As there.
pub fn gradients_keep_their_laws_on(device: &Device, case: &Case) -> Result<(), Broken> {
    on(device, case, &Given::of(case).map_err(words)?, gradients_keep_laws)
}

fn gradients_keep_laws(device: &Device, given: &Given) -> Result<(), Broken> {
    let written = match device {
        Device::Gpu(_) => given.solve(device)?,
        Device::Cpu(cpu) => given.solve(&Device::Cpu(cpu.threads(1)))?,
    };
    match device {
        Device::Gpu(_) => given.compare(&written, &given.solve(device)?)?,
        Device::Cpu(cpu) => {
            for (threads, pool) in pools() {
                let pooled = pool.install(|| given.solve(device))?;
                let limited = given.solve(&Device::Cpu(cpu.threads(*threads)))?;
                let same = given.compare(&written, &pooled).and(given.compare(&written, &limited));
                same.map_err(|what| format!("{threads} threads: {what}"))?;
            }
        }
    }
    spread_gradients_are_the_same(device, given, &written, Update::Write)?;
    spread_gradients_are_the_same(device, given, &written, Update::Accumulate)
}

/// A vector is one value per channel, and lies without gaps.
fn is_vector(shape: Shape4) -> bool {
    [shape.c, shape.h, shape.w] == [1, 1, 1]
}

/// `t` in memory with gaps, unless it is a vector.
fn spread(t: &Tensor) -> Kernels<Spread> {
    if is_vector(t.shape()) { Spread::dense(t) } else { Spread::of(t, CANARY) }
}

/// The gradients in memory with gaps: written over NaN, or added to numbers that are not.
fn spread_gradients_are_the_same(
    device: &Device,
    given: &Given,
    written: &[Tensor],
    update: Update,
) -> Result<(), Broken> {
    let data = given.data().iter().map(|t| Spread::of(t, f32::NAN)).collect::<Kernels<Vec<_>>>();
    let (data, upstream) = (data.map_err(words)?, Spread::of(&given.gy, f32::NAN).map_err(words)?);
    let before = |i: usize| (i % 13) as f32 / 4.0 - 1.0;
    let with_contents = |t: &Tensor| {
        let mut spread = spread(t)?;
        match update {
            Update::Write => spread.clear(),
            Update::Accumulate => spread.fill(before),
        }
        Ok(spread)
    };
    let mut to = written.iter().map(with_contents).collect::<Kernels<Vec<_>>>().map_err(words)?;
    device
        .gradients_spread(&given.problem, &data, &given.inputs, (&given.gy, &upstream), &mut to, update)
        .map_err(words)?;
    for ((g, spread), Operand { name, .. }) in written.iter().zip(&to).zip(&given.operands) {
        if let Some(at) = spread.first_touched_gap() {
            return Err(format!("{name}: element {at} was overwritten, which is outside {}", g.shape()));
        }
        let (expected, got): (Vec<f32>, Vec<f32>) = match update {
            Update::Write => (g.data().to_vec(), spread.images()),
            Update::Accumulate => {
                // What an addition makes of the bits of NaN is the machine's affair.
                let quiet = |v: f32| if v.is_nan() { f32::NAN } else { v };
                let sums = g.data().iter().enumerate().map(|(i, g)| quiet(before(i) + g));
                (sums.collect(), spread.images().into_iter().map(quiet).collect())
            }
        };
        same_bits(&expected, &got).map_err(|what| format!("{update:?} {name}: {what}"))?;
    }
    Ok(())
}

/// Where an operator `f` is linear, or keeps positive factors as maxima do, `<f(x), gy> = <x, gx>`, by Euler's theorem; and
/// where it is linear in its weights, `= <w, gw>`. Exactly, if it only adds up products of the integers that it is given here.
///
/// # Errors
/// The two products that differ.
///
/// # Panics
/// If the operator is no such function.
pub fn gradients_are_adjoint(problem: &Problem, seed: u16) -> Result<(), Broken> {
    let problem = homogeneous(problem);
    let divides = matches!(problem, Problem::AvgPool2d { .. } | Problem::GlobalAvgPool { .. })
        || matches!(&problem, Problem::Upsample(shape) if shape.mode() != UpsampleMode::Nearest);
    let case = Case { problem, numbers: Numbers::Integer, seed: seed.into() };
    on_every_device(&case, |device, given| {
        let y = device.solve(&given.problem, &given.inputs, None).map_err(words)?;
        let gradients = given.solve(device)?;
        let [want, size] = products(&y[0], &given.gy);
        let each: Vec<_> =
            given.inputs.tensors.iter().zip(&gradients).map(|(x, gx)| products(x, gx)).collect();
        let data = given.problem.data_inputs();
        let of_data = each[..data].iter().fold([0.0; 2], |sum, p| [sum[0] + p[0], sum[1] + p[1]]);
        for [got, terms] in std::iter::once(of_data).chain(each[data..].iter().copied()) {
            let tolerance = if divides { 1e-5 * (size + terms) } else { 0.0 };
            if (got - want).abs() > tolerance {
                return Err(format!("<f(x), gy> is {want}, but the gradients give {got}"));
            }
        }
        Ok(())
    })
}

/// The same without what is added to it.
fn homogeneous(problem: &Problem) -> Problem {
    let mut problem = problem.clone();
    // Winograd's sums of integers are not exact.
    if let Problem::Conv2d { shape, .. } = &mut problem {
        let params = shape.params().accuracy(Accuracy::Exact);
        let exact = Conv2dShape::new(shape.input(), shape.output().c, shape.kernel(), params);
        *shape = exact.expect("the shape was valid, and accuracy changes no size");
    }
    match &mut problem {
        Problem::Conv2d { bias, activation, .. }
        | Problem::ConvTranspose2d { bias, activation, .. }
        | Problem::Linear { bias, activation, .. } => (*bias, *activation) = (false, Activation::Identity),
        Problem::Pad { value, .. } => *value = 0.0,
        Problem::MaxPool2d { .. }
        | Problem::AvgPool2d { .. }
        | Problem::GlobalAvgPool { .. }
        | Problem::Activation { activation: Activation::Identity | Activation::Relu, .. }
        | Problem::Upsample(_)
        | Problem::Concat { .. }
        | Problem::Add { .. }
        | Problem::Crop(_) => {}
        other => panic!("{} does not keep factors", other.op()),
    }
    problem
}

/// The sum of the products of all elements, and that of their absolute values.
fn products(a: &Tensor, b: &Tensor) -> [f64; 2] {
    let products = a.data().iter().zip(b.data()).map(|(&a, &b)| f64::from(a) * f64::from(b));
    products.fold([0.0; 2], |[sum, size], p| [sum + p, size + p.abs()])
}

/// What a plan of the CPU finds in its scratch does not matter to gradients either.
pub(super) fn scratch_garbage_does_not_matter(case: &Case) -> Result<(), Broken> {
    on_every_device(case, |device, given| {
        let Device::Cpu(cpu) = device else { return Ok(()) };
        let solve = |garbage| planned(cpu, given, garbage).map_err(words);
        given.compare(&solve(0.0)?, &solve(f32::NAN)?)
    })
}

/// The gradients to input and weights, by plans of the CPU in scratch full of `garbage`.
fn planned(cpu: &Cpu, given: &Given, garbage: f32) -> Kernels<[Tensor; 2]> {
    let (x, w, gy) = (given.inputs.tensors[0].view(), given.inputs.tensors[1].data(), given.gy.view());
    let [mut gx, mut gw] = [Tensor::zeros(given.operands[0].shape)?, Tensor::zeros(given.operands[1].shape)?];
    let (to_x, to_w, update) = (gx.view_mut(), gw.view_mut(), Update::Write);
    let filled = |scratch| filled_with(garbage, scratch);
    match given.problem {
        Problem::Conv2d { shape, .. } => {
            let plan = Conv2dBackwardInputPlan::new(cpu, shape, w)?;
            plan.run(gy, to_x, update, &mut filled(plan.scratch())?)?;
            let plan = Conv2dBackwardWeightsPlan::new(cpu, shape)?;
            plan.run(x, gy, to_w, update, &mut filled(plan.scratch())?)?;
        }
        Problem::ConvTranspose2d { shape, .. } => {
            let plan = ConvTranspose2dBackwardInputPlan::new(cpu, shape, w)?;
            plan.run(gy, to_x, update, &mut filled(plan.scratch())?)?;
            let plan = ConvTranspose2dBackwardWeightsPlan::new(cpu, shape)?;
            plan.run(x, gy, to_w, update, &mut filled(plan.scratch())?)?;
        }
        Problem::Linear { shape, .. } => {
            let plan = LinearBackwardInputPlan::new(cpu, shape, w)?;
            plan.run(gy, to_x, update, &mut filled(plan.scratch())?)?;
            let plan = LinearBackwardWeightsPlan::new(cpu, shape)?;
            plan.run(x, gy, to_w, update, &mut filled(plan.scratch())?)?;
        }
        ref other => panic!("{} is not planned", other.op()),
    }
    Ok([gx, gw])
}

/// A plan whose weights are replaced gives what a plan made with them gives: nothing of the old ones, which are NaN, is left.
///
/// # Errors
/// The first element that differs.
pub fn weights_can_be_replaced(case: &Case) -> Result<(), Broken> {
    let given = Given::of(case).map_err(words)?;
    for (device, algo) in ways(&CheckOptions::of_tests(), &given.problem) {
        let law = || {
            let forward = device.solve(&case.problem, &given.inputs, algo)?;
            let backward = device.gradients(&given.problem, &given.inputs, &given.gy)?;
            let [y, gx] = match &device {
                Device::Cpu(cpu) => replaced(cpu, &case.problem, &given, algo)?,
                Device::Gpu(gpu) => replaced(gpu, &case.problem, &given, algo)?,
            };
            Ok(same_bits(forward[0].data(), y.data()).and(same_bits(backward[0].data(), gx.data())))
        };
        law()
            .map_err(words)
            .flatten()
            .map_err(|what| format!("{case} on {} with weights replaced: {what}", device.name()))?;
    }
    Ok(())
}

/// A convolution that is given its weights with each run gives what one does that has packed them.
///
/// # Errors
/// The first element that differs.
pub fn weights_may_come_with_a_run(case: &Case) -> Result<(), Broken> {
    let given = Given::of(case).map_err(words)?;
    for device in CheckOptions::of_tests().devices() {
        let law = || {
            let forward = device.solve(&case.problem, &given.inputs, None)?;
            let backward = device.gradients(&given.problem, &given.inputs, &given.gy)?;
            let [y, gx] = match &device {
                Device::Cpu(cpu) => given_with_a_run(cpu, &case.problem, &given)?,
                Device::Gpu(gpu) => given_with_a_run(gpu, &case.problem, &given)?,
            };
            Ok(same_bits(forward[0].data(), y.data()).and(same_bits(backward[0].data(), gx.data())))
        };
        law()
            .map_err(words)
            .flatten()
            .map_err(|what| format!("{case} on {} with the weights of a run: {what}", device.name()))?;
    }
    Ok(())
}

/// The result and the gradient to the input, by plans without weights.
fn given_with_a_run<B: Training>(device: &B, problem: &Problem, given: &Given) -> Kernels<[Tensor; 2]> {
    let Problem::Conv2d { shape, activation, .. } = *problem else {
        panic!("{} has weights of its own", problem.op())
    };
    let weights = device.upload(&given.inputs.tensors[1])?;
    let bias = given.inputs.tensors.get(2).map(|bias| per_channel(device, bias)).transpose()?;
    let (w, b) = (weights.view(), bias.as_ref().map(|bias| bias.view()));
    let (x, gy) = (device.upload(&given.inputs.tensors[0])?, device.upload(&given.gy)?);
    let (mut y, mut gx) = (device.empty(given.gy.shape())?, device.empty(x.shape())?);
    let mut plan = device.plan_conv2d_without_weights(shape, bias.is_some(), activation)?;
    device.conv2d_with_into(&mut plan, w, b, x.view(), y.view_mut())?;
    let mut plan = device.plan_conv2d_backward_input_without_weights(shape)?;
    device.conv2d_backward_input_with_into(&mut plan, w, gy.view(), gx.view_mut(), Update::Write)?;
    Ok([device.download(&y)?, device.download(&gx)?])
}

/// The result and the gradient to the input, by plans whose weights are replaced.
fn replaced<B: Training>(
    device: &B,
    problem: &Problem,
    given: &Given,
    algo: Option<tilewise_kernels::Conv2dAlgo>,
) -> Kernels<[Tensor; 2]> {
    let old = |i: usize| vec![f32::NAN; given.inputs.tensors[i].data().len()];
    let old_bias = (given.inputs.tensors.len() > 2).then(|| old(2));
    let (old, old_bias) = (old(1), old_bias.as_deref());
    let new = device.upload(&given.inputs.tensors[1])?;
    let new_bias = given.inputs.tensors.get(2).map(|bias| per_channel(device, bias)).transpose()?;
    let (new, new_bias) = (new.view(), new_bias.as_ref().map(|bias| bias.view()));
    let (x, gy) = (device.upload(&given.inputs.tensors[0])?, device.upload(&given.gy)?);
    let (mut y, mut gx) = (device.empty(given.gy.shape())?, device.empty(x.shape())?);
    let (to_y, to_x) = (y.view_mut(), gx.view_mut());
    match *problem {
        Problem::Conv2d { shape, activation, .. } => {
            let mut plan = device.plan_conv2d(shape, &old, old_bias, activation, algo)?;
            device.conv2d_set_weights(&mut plan, new, new_bias)?;
            device.conv2d_into(&mut plan, x.view(), to_y)?;
            let mut plan = device.plan_conv2d_backward_input(shape, &old)?;
            device.conv2d_backward_input_set_weights(&mut plan, new)?;
            device.conv2d_backward_input_into(&mut plan, gy.view(), to_x, Update::Write)?;
        }
        Problem::ConvTranspose2d { shape, activation, .. } => {
            let mut plan = device.plan_conv_transpose2d(shape, &old, old_bias, activation)?;
            device.conv_transpose2d_set_weights(&mut plan, new, new_bias)?;
            device.conv_transpose2d_into(&mut plan, x.view(), to_y)?;
            let mut plan = device.plan_conv_transpose2d_backward_input(shape, &old)?;
            device.conv_transpose2d_backward_input_set_weights(&mut plan, new)?;
            device.conv_transpose2d_backward_input_into(&mut plan, gy.view(), to_x, Update::Write)?;
        }
        Problem::Linear { shape, activation, .. } => {
            let mut plan = device.plan_linear(shape, &old, old_bias, activation)?;
            device.linear_set_weights(&mut plan, new, new_bias)?;
            device.linear_into(&mut plan, x.view(), to_y)?;
            let mut plan = device.plan_linear_backward_input(shape, &old)?;
            device.linear_backward_input_set_weights(&mut plan, new)?;
            device.linear_backward_input_into(&mut plan, gy.view(), to_x, Update::Write)?;
        }
        ref other => panic!("{} has no weights", other.op()),
    }
    Ok([device.download(&y)?, device.download(&gx)?])
}

/// A view of another batch or with other channels, in the place of any one that the gradients read or write, is an error.
///
/// # Errors
/// The view that was accepted, or an error of another kind.
pub fn other_shapes_are_refused(case: &Case) -> Result<(), Broken> {
    on_every_device(case, |device, given| {
        let zeros = |shape| Tensor::zeros(shape).and_then(|t| spread(&t)).map_err(words);
        let shapes = || {
            let data = given.data().iter().map(Tensor::shape);
            data.chain([given.gy.shape()]).chain(given.operands.iter().map(|operand| operand.shape))
        };
        let data = given.data().len();
        for (i, shape) in shapes().enumerate() {
            for wrong in [Shape4 { n: shape.n + 1, ..shape }, Shape4 { c: shape.c + 1, ..shape }] {
                // Of a loss, `gy` is a number; a part of a concatenation may have any channels.
                let any_will_do = (i < data && !reads_data(&given.problem))
                    || (i == data && is_loss(&given.problem))
                    || matches!(given.problem, Problem::Concat { .. } if wrong.c != shape.c);
                if any_will_do {
                    continue;
                }
                let shapes = shapes().enumerate().map(|(at, s)| if at == i { wrong } else { s });
                let mut views = shapes.map(zeros).collect::<Result<Vec<_>, _>>()?;
                let mut to = views.split_off(data + 1);
                let (data, gy) = (&views[..data], &views[data]);
                let outcome = device.gradients_spread(
                    &given.problem,
                    data,
                    &given.inputs,
                    (&given.gy, gy),
                    &mut to,
                    Update::Write,
                );
                match outcome {
                    Err(Error::Invalid { .. }) => {}
                    Err(other) => return Err(format!("view {i} of {wrong}, not {shape}: {other}")),
                    Ok(()) => return Err(format!("view {i} of {wrong}, not {shape}, was accepted")),
                }
            }
        }
        Ok(())
    })
}

/// Whether the result is a single number, by any shape of `x`.
fn is_loss(problem: &Problem) -> bool {
    matches!(
        problem,
        Problem::CrossEntropy { .. }
            | Problem::BceWithLogits { .. }
            | Problem::Mse { .. }
            | Problem::L1 { .. }
            | Problem::Dice { .. }
    )
}

/// Whether gradients depend on the data themselves.
fn reads_data(problem: &Problem) -> bool {
    !matches!(
        problem,
        Problem::AvgPool2d { .. }
            | Problem::GlobalAvgPool { .. }
            | Problem::Upsample(_)
            | Problem::Concat { .. }
            | Problem::Add { .. }
            | Problem::Pad { .. }
            | Problem::Crop(_)
    )
}
