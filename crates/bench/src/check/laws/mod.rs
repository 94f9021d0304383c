//! Laws that every operator keeps, on every device, by every algorithm. Beside the comparison with the oracle they say
//! what a tolerance cannot: bit for bit.

mod gradients;

use std::sync::OnceLock;

use rayon::ThreadPool;
use tilewise_kernels::{
    Conv2dAlgo, Conv2dPlan, ConvTranspose2dPlan, Cpu, Isa, LinearPlan, Result as Kernels, Scratch, Shape4,
    Tensor,
};

use super::{CheckOptions, Device, kernels, ways};
use crate::case::{Case, Inputs, Problem};
pub use gradients::{
    gradients_are_adjoint, gradients_keep_their_laws, gradients_keep_their_laws_on, other_shapes_are_refused,
    weights_can_be_replaced, weights_may_come_with_a_run,
};

/// Why a law does not hold: the way, the case, and what was seen.
pub type Broken = String;

/// What lies between and around the images of a view; no kernel would compute it.
const CANARY: f32 = -1.234_567_8e33;

/// Runs `f` for each device and algorithm; its error is given the case to paste back.
fn in_every_way(
    case: &Case,
    f: impl Fn(&Device, Option<Conv2dAlgo>, &Inputs) -> Result<(), Broken>,
) -> Result<(), Broken> {
    let inputs = Inputs::generate(case).map_err(|e| e.to_string())?;
    for (device, algo) in ways(&CheckOptions::of_tests(), &case.problem) {
        f(&device, algo, &inputs)
            .map_err(|what| format!("{case} on {} by {}: {what}", device.name(), name(algo)))?;
    }
    Ok(())
}

fn name(algo: Option<Conv2dAlgo>) -> &'static str {
    algo.map_or("-", Conv2dAlgo::name)
}

/// 1, 2 and 7 threads give the same bits, in a pool of the caller and by [`Cpu::threads`]. On a GPU, whose threads nobody
/// chooses, every run does, whatever lies in the memory that it takes.
///
/// # Errors
/// The first element that differs.
pub fn threads_do_not_change_bits(case: &Case) -> Result<(), Broken> {
    in_every_way(case, |device, algo, inputs| match device {
        Device::Cpu(cpu) => threads_of_the_cpu_do_not(cpu, case, algo, inputs),
        Device::Gpu(_) => garbage_does_not(device, case, algo, inputs),
    })
}

fn threads_of_the_cpu_do_not(
    cpu: &Cpu,
    case: &Case,
    algo: Option<Conv2dAlgo>,
    inputs: &Inputs,
) -> Result<(), Broken> {
    let solve = |cpu: &Cpu| kernels::solve(cpu, &case.problem, inputs, algo).map_err(|e| e.to_string());
    let one = solve(&cpu.threads(1))?;
    for (threads, pool) in pools() {
        let pooled = pool.install(|| solve(cpu))?;
        let limited = solve(&cpu.threads(*threads))?;
        for (one, many) in one.iter().zip(&pooled).chain(one.iter().zip(&limited)) {
            same_bits(one.data(), many.data()).map_err(|what| format!("{threads} threads: {what}"))?;
        }
    }
    Ok(())
}

/// A run on inputs of NaN leaves its memory, full of them, to the next run.
fn garbage_does_not(
    device: &Device,
    case: &Case,
    algo: Option<Conv2dAlgo>,
    inputs: &Inputs,
) -> Result<(), Broken> {
    let solve = |inputs| device.solve(&case.problem, inputs, algo).map_err(|e| e.to_string());
    let mut garbage = inputs.clone();
    for (tensor, operand) in garbage.tensors.iter_mut().zip(case.problem.inputs()) {
        // The weights of classes and channels of a loss stay with the host, which refuses NaN.
        if !operand.name.ends_with("weight") {
            tensor.data_mut().fill(f32::NAN);
        }
    }
    let first = solve(inputs)?;
    solve(&garbage)?;
    let again = solve(inputs)?;
    first.iter().zip(&again).try_for_each(|(first, again)| same_bits(first.data(), again.data()))
}

/// Pools of 2 and 7 threads, made once.
fn pools() -> &'static [(usize, ThreadPool)] {
    static POOLS: OnceLock<Vec<(usize, ThreadPool)>> = OnceLock::new();
    POOLS.get_or_init(|| {
        let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().ok().map(|pool| (n, pool));
        [2, 7].into_iter().filter_map(pool).collect()
    })
}

/// Reading from views with gaps between the images and writing into one gives what the easy call gives; the gaps of the
/// output, and what lies before and behind it, are left alone.
///
/// # Errors
/// The first element that differs, or the place that was overwritten.
pub fn nothing_outside_the_output_is_written(case: &Case) -> Result<(), Broken> {
    in_every_way(case, |device, algo, inputs| {
        let expected = device.solve(&case.problem, inputs, algo).map_err(|e| e.to_string())?;
        // The gaps of the inputs hold NaN: one that is read shows.
        let data = inputs.tensors.iter().take(case.problem.data_inputs());
        let data = data.map(|t| Spread::of(t, f32::NAN)).collect::<Kernels<Vec<_>>>();
        let data = data.map_err(|e| e.to_string())?;
        // A step of training changes what is there; nothing else may read it.
        let in_place = case.problem.op().is_step();
        let before = if in_place { &inputs.tensors[0] } else { &expected[0] };
        let mut y = Spread::of(before, CANARY).map_err(|e| e.to_string())?;
        if !in_place {
            y.clear();
        }
        device.solve_spread(&case.problem, &data, inputs, algo, &mut y).map_err(|e| e.to_string())?;
        if let Some(at) = y.first_touched_gap() {
            return Err(format!("element {at} was overwritten, which is outside {}", expected[0].shape()));
        }
        same_bits(expected[0].data(), &y.images())
    })
}

/// What a plan of the CPU finds in its scratch does not matter: not even NaN.
///
/// # Errors
/// The first element that differs.
pub fn scratch_garbage_does_not_matter(case: &Case) -> Result<(), Broken> {
    in_every_way(case, |device, algo, inputs| {
        let Device::Cpu(cpu) = device else { return Ok(()) };
        let solve = |garbage| planned(cpu, &case.problem, inputs, algo, garbage).map_err(|e| e.to_string());
        same_bits(solve(0.0)?.data(), solve(f32::NAN)?.data())
    })?;
    gradients::scratch_garbage_does_not_matter(case)
}

/// Solves a problem that is planned, in scratch full of `garbage`.
fn planned(
    cpu: &Cpu,
    problem: &Problem,
    inputs: &Inputs,
    algo: Option<Conv2dAlgo>,
    garbage: f32,
) -> Kernels<Tensor> {
    let values = |i: usize| inputs.tensors[i].data();
    let filled = |scratch| filled_with(garbage, scratch);
    let x = inputs.tensors[0].view();
    let mut y = Tensor::zeros(problem.outputs()[0].shape)?;
    match *problem {
        Problem::Conv2d { shape, bias, activation } => {
            let bias = bias.then(|| values(2));
            let plan = Conv2dPlan::new(cpu, shape, values(1), bias, activation, algo)?;
            plan.run(x, y.view_mut(), &mut filled(plan.scratch())?)?;
        }
        Problem::ConvTranspose2d { shape, bias, activation } => {
            let bias = bias.then(|| values(2));
            let plan = ConvTranspose2dPlan::new(cpu, shape, values(1), bias, activation)?;
            plan.run(x, y.view_mut(), &mut filled(plan.scratch())?)?;
        }
        Problem::Linear { shape, bias, activation } => {
            let bias = bias.then(|| values(2));
            let plan = LinearPlan::new(cpu, shape, values(1), bias, activation)?;
            plan.run(x, y.view_mut(), &mut filled(plan.scratch())?)?;
        }
        ref other => panic!("{} is not planned", other.op()),
    }
    Ok(y)
}

/// Scratch memory, full of `garbage`.
fn filled_with(garbage: f32, scratch: Kernels<Scratch>) -> Kernels<Scratch> {
    let mut scratch = scratch?;
    scratch.as_mut_slice().fill(garbage);
    Ok(scratch)
}

/// Two results, bit for bit (so that NaN equals NaN).
///
/// # Errors
/// The first element that differs.
pub fn same_bits(a: &[f32], b: &[f32]) -> Result<(), Broken> {
    if a.len() != b.len() {
        return Err(format!("{} elements, not {}", b.len(), a.len()));
    }
    match a.iter().zip(b).position(|(a, b)| a.to_bits() != b.to_bits()) {
        None => Ok(()),
        Some(i) => Err(format!("element {i} is {:e}, not {:e}", b[i], a[i])),
    }
}

/// Every instruction set of this machine, as a device.
pub fn devices() -> impl Iterator<Item = Cpu> {
    Isa::available().filter_map(|isa| Cpu::with_isa(isa).ok())
}

/// A tensor in larger memory, with gaps before, between and behind its images.
pub struct Spread {
    /// All of it, as one line.
    pub(in crate::check) memory: Tensor,
    /// The extents of the tensor.
    pub(in crate::check) shape: Shape4,
    gap: f32,
    /// Elements between two images.
    between: usize,
}

impl Spread {
    pub(in crate::check) const BEFORE: usize = 5;
    const BEHIND: usize = 7;

    fn of(t: &Tensor, gap: f32) -> Kernels<Self> {
        Self::with_gaps(t, gap, Self::BEHIND)
    }

    /// Without gaps between the images.
    fn dense(t: &Tensor) -> Kernels<Self> {
        Self::with_gaps(t, CANARY, 0)
    }

    fn with_gaps(t: &Tensor, gap: f32, between: usize) -> Kernels<Self> {
        let shape = t.shape();
        let mut memory = vec![gap; Self::BEFORE];
        for n in 0..shape.n {
            memory.extend_from_slice(t.view().image(n));
            memory.extend(vec![gap; between]);
        }
        memory.extend([gap; Self::BEHIND]);
        let line = Shape4::new(1, 1, 1, memory.len());
        Ok(Spread { memory: Tensor::from_vec(line, memory)?, shape, gap, between })
    }

    /// Sets each element of the images by its position among them.
    fn fill(&mut self, f: impl Fn(usize) -> f32) {
        let mut position = 0..;
        for i in 0..self.memory.data().len() {
            if !self.is_gap(i) {
                self.memory.data_mut()[i] = position.next().map_or(0.0, &f);
            }
        }
    }

    fn image_len(&self) -> usize {
        self.shape.c * self.shape.h * self.shape.w
    }

    /// From the beginning of one image to that of the next.
    pub(in crate::check) fn stride(&self) -> usize {
        self.image_len() + self.between
    }

    /// Whether element `i` of the memory lies in a gap.
    fn is_gap(&self, i: usize) -> bool {
        let behind = Self::BEFORE + self.shape.n * self.stride();
        i < Self::BEFORE || i >= behind || (i - Self::BEFORE) % self.stride() >= self.image_len()
    }

    /// Forgets the images: NaN, so that an element that is never written shows.
    fn clear(&mut self) {
        for i in 0..self.memory.data().len() {
            if !self.is_gap(i) {
                self.memory.data_mut()[i] = f32::NAN;
            }
        }
    }

    fn first_touched_gap(&self) -> Option<usize> {
        let data = self.memory.data();
        (0..data.len()).find(|&i| self.is_gap(i) && data[i].to_bits() != self.gap.to_bits())
    }

    /// The elements of the images, without the gaps.
    fn images(&self) -> Vec<f32> {
        let data = self.memory.data().iter().enumerate();
        data.filter(|(i, _)| !self.is_gap(*i)).map(|(_, v)| *v).collect()
    }
}
