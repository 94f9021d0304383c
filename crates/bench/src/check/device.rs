//! Where a problem is solved: an instruction set of the CPU, or the GPU.

use tilewise_kernels::{
    Backend, Conv2dAlgo, Conv2dBackwardInputPlan, Conv2dBackwardWeightsPlan, Conv2dShape, Cpu, DeviceTensor,
    Gpu, Isa, Result, Shape4, Tensor, TensorView, TensorViewMut, Training, Update, View, ViewMut,
};

use super::{gradients, kernels, laws::Spread};
use crate::case::{Inputs, Problem};

/// The devices to run on.
#[derive(Debug, Clone, Default)]
pub enum Devices {
    /// The CPU alone.
    #[default]
    Cpu,
    /// This GPU alone.
    Gpu(Gpu),
    /// The CPU and this GPU.
    All(Gpu),
}

impl Devices {
    /// The GPU, if there is one among them.
    pub fn gpu(&self) -> Option<&Gpu> {
        match self {
            Devices::Cpu => None,
            Devices::Gpu(gpu) | Devices::All(gpu) => Some(gpu),
        }
    }

    /// Each of them, the CPU once for each of these instruction sets.
    pub(crate) fn list(&self, isas: &[Isa]) -> Vec<Device> {
        let cpus = isas.iter().filter_map(|&isa| Cpu::with_isa(isa).ok()).map(Device::Cpu);
        match self {
            Devices::Cpu => cpus.collect(),
            Devices::Gpu(gpu) => vec![Device::Gpu(gpu.clone())],
            Devices::All(gpu) => cpus.chain([Device::Gpu(gpu.clone())]).collect(),
        }
    }
}

/// One device.
#[derive(Debug, Clone)]
pub enum Device {
    /// The CPU with an instruction set.
    Cpu(Cpu),
    /// A GPU.
    Gpu(Gpu),
}

impl Device {
    /// The instruction set, or `gpu`.
    pub fn name(&self) -> &'static str {
        match self {
            Device::Cpu(cpu) => cpu.isa().name(),
            Device::Gpu(_) => "gpu",
        }
    }

    /// The options of `tilewise check` that choose it.
    pub fn flags(&self) -> String {
        match self {
            Device::Cpu(cpu) => format!("--isa {}", cpu.isa()),
            Device::Gpu(_) => "--device gpu".to_owned(),
        }
    }

    /// Whether it computes this convolution by this algorithm.
    pub fn supports(&self, algo: Conv2dAlgo, shape: &Conv2dShape) -> bool {
        match self {
            Device::Cpu(_) => algo.supports(shape),
            Device::Gpu(gpu) => gpu.supports(algo, shape),
        }
    }

    /// [`kernels::solve`].
    ///
    /// # Errors
    /// As there.
    pub fn solve(&self, problem: &Problem, inputs: &Inputs, algo: Option<Conv2dAlgo>) -> Result<Vec<Tensor>> {
        match self {
            Device::Cpu(cpu) => kernels::solve(cpu, problem, inputs, algo),
            Device::Gpu(gpu) => kernels::solve(gpu, problem, inputs, algo),
        }
    }

    /// How the gradient of this name is computed, where that is a choice: those of a convolution to its input and its weights.
    ///
    /// # Errors
    /// If it cannot be planned.
    pub fn algo_of_gradient(
        &self,
        problem: &Problem,
        name: &str,
        inputs: &Inputs,
    ) -> Result<Option<Conv2dAlgo>> {
        match (self, problem, name) {
            (Device::Cpu(cpu), Problem::Conv2d { shape, .. }, "gx") => {
                Ok(Conv2dBackwardInputPlan::new(cpu, *shape, inputs.tensors[1].data())?.algo())
            }
            (Device::Cpu(cpu), Problem::Conv2d { shape, .. }, "gw") => {
                Ok(Conv2dBackwardWeightsPlan::new(cpu, *shape)?.algo())
            }
            _ => Ok(None),
        }
    }

    /// [`gradients::solve`].
    ///
    /// # Errors
    /// As there.
    pub fn gradients(&self, problem: &Problem, inputs: &Inputs, gy: &Tensor) -> Result<Vec<Tensor>> {
        match self {
            Device::Cpu(cpu) => gradients::solve(cpu, problem, inputs, gy),
            Device::Gpu(gpu) => gradients::solve(gpu, problem, inputs, gy),
        }
    }

    /// [`gradients::solve_into`], from and to memory with gaps.
    ///
    /// # Errors
    /// As there.
    pub fn gradients_spread(
        &self,
        problem: &Problem,
        data: &[Spread],
        inputs: &Inputs,
        gy: (&Tensor, &Spread),
        to: &mut [Spread],
        update: Update,
    ) -> Result<()> {
        match self {
            Device::Cpu(cpu) => gradients_spread(cpu, problem, data, inputs, gy, to, update),
            Device::Gpu(gpu) => gradients_spread(gpu, problem, data, inputs, gy, to, update),
        }
    }

    /// [`kernels::solve_into`], from and to memory with gaps; what was in `y` is overwritten.
    ///
    /// # Errors
    /// As there.
    pub fn solve_spread(
        &self,
        problem: &Problem,
        data: &[Spread],
        inputs: &Inputs,
        algo: Option<Conv2dAlgo>,
        y: &mut Spread,
    ) -> Result<()> {
        match self {
            Device::Cpu(cpu) => solve_spread(cpu, problem, data, inputs, algo, y),
            Device::Gpu(gpu) => solve_spread(gpu, problem, data, inputs, algo, y),
        }
    }
}

fn solve_spread<B: Strided>(
    device: &B,
    problem: &Problem,
    data: &[Spread],
    inputs: &Inputs,
    algo: Option<Conv2dAlgo>,
    y: &mut Spread,
) -> Result<()> {
    let memory = data.iter().map(|x| device.upload(&x.memory)).collect::<Result<Vec<_>>>()?;
    let views =
        data.iter().zip(&memory).map(|(x, memory)| B::strided(memory, x)).collect::<Result<Vec<_>>>()?;
    let mut written = device.upload(&y.memory)?;
    kernels::solve_into(device, problem, &views, inputs, algo, B::strided_mut(&mut written, y)?)?;
    y.memory = device.download(&written)?;
    Ok(())
}

fn gradients_spread<B: Strided + Training>(
    device: &B,
    problem: &Problem,
    data: &[Spread],
    inputs: &Inputs,
    (host_gy, gy): (&Tensor, &Spread),
    to: &mut [Spread],
    update: Update,
) -> Result<()> {
    let upload = |spread: &Spread| device.upload(&spread.memory);
    let memory = data.iter().map(upload).collect::<Result<Vec<_>>>()?;
    let views =
        data.iter().zip(&memory).map(|(x, memory)| B::strided(memory, x)).collect::<Result<Vec<_>>>()?;
    let gy_memory = upload(gy)?;
    let mut written = to.iter().map(upload).collect::<Result<Vec<_>>>()?;
    let views_mut = to.iter().zip(&mut written).map(|(g, memory)| B::strided_mut(memory, g));
    let views_mut = views_mut.collect::<Result<Vec<_>>>()?;
    let gy = (host_gy, B::strided(&gy_memory, gy)?);
    gradients::solve_into(device, problem, &views, inputs, gy, views_mut, update)?;
    for (g, written) in to.iter_mut().zip(&written) {
        g.memory = device.download(written)?;
    }
    Ok(())
}

/// A device whose tensors can be seen as images with gaps of any size between them.
trait Strided: Training {
    fn strided<'a>(memory: &'a Self::Tensor, spread: &Spread) -> Result<View<'a, Self>>;

    fn strided_mut<'a>(memory: &'a mut Self::Tensor, spread: &Spread) -> Result<ViewMut<'a, Self>>;
}

impl Strided for Cpu {
    fn strided<'a>(memory: &'a Tensor, spread: &Spread) -> Result<TensorView<'a>> {
        TensorView::new(&memory.data()[Spread::BEFORE..], spread.shape, spread.stride())
    }

    fn strided_mut<'a>(memory: &'a mut Tensor, spread: &Spread) -> Result<TensorViewMut<'a>> {
        TensorViewMut::new(&mut memory.data_mut()[Spread::BEFORE..], spread.shape, spread.stride())
    }
}

impl Strided for Gpu {
    fn strided<'a>(memory: &'a Self::Tensor, spread: &Spread) -> Result<View<'a, Self>> {
        memory.strided(Spread::BEFORE, spread.shape, spread.stride())
    }

    fn strided_mut<'a>(memory: &'a mut Self::Tensor, spread: &Spread) -> Result<ViewMut<'a, Self>> {
        memory.strided_mut(Spread::BEFORE, spread.shape, spread.stride())
    }
}

/// A vector as a tensor of one value per channel, on the device.
pub(super) fn per_channel<B: Backend>(device: &B, vector: &Tensor) -> Result<B::Tensor> {
    let Shape4 { n, c, h, w } = vector.shape();
    device.upload(vector)?.reshape(Shape4::new(1, n * c * h * w, 1, 1))
}
