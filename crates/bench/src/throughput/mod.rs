//! How fast the operators are, and whether what was timed is right.
//!
//! A [`Workload`] is an operator with its shape, inputs, output buffer and (where it has any) packed weights: all
//! that is allocated is allocated before the clock starts. [`Meter::measure`] times it, on the CPU or on the GPU, and
//! compares its last output with the reference. Whole networks are timed by [`model`].

mod batch_norm;
mod conv2d;
mod conv2d_backward;
mod gemm;
mod meter;
mod model;
mod optimiser;
mod pool;
mod relu;

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tilewise_kernels::{Conv2dAlgo, Gpu, Isa, Shape4, Tensor};

pub use batch_norm::{BatchNormCall, NORMS, NormLayer, batch_norm};
pub use conv2d::{ConvCall, conv2d, sample, shape_text};
pub use conv2d_backward::{ConvInputCall, ConvWeightsCall};
pub use gemm::{GemmCall, PRODUCTS, Product, gemm};
pub use meter::{CpuMeter, GpuMeter, Measured, Meter};
pub use model::{Mode, ModelProblem, model};
pub use optimiser::{COUNTS, OptimiserCall, STEPS, Step, optimiser};
pub use pool::{POOLINGS, PoolBackwardCall, PoolCall, PoolLayer, Pooling, pool};
pub use relu::{ActivationBackwardCall, ActivationCall, MAPS, relu};

use crate::compare::Target;

/// Called before each row with how many are done, how many there are, and the name of the next.
pub type Progress<'a> = &'a dyn Fn(usize, usize, &str);

/// What of an operator is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pass {
    /// Its result.
    #[default]
    Forward,
    /// Its gradient or gradients, where they are computed together.
    Backward,
    /// The gradient to the input of an operator with weights.
    Input,
    /// That to its weights.
    Weights,
}

impl Pass {
    /// As the command line spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Pass::Forward => "forward",
            Pass::Backward => "backward",
            Pass::Input => "input",
            Pass::Weights => "weights",
        }
    }
}

/// How to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// The GPU to measure; `None`: the CPU.
    pub gpu: Option<Gpu>,
    /// The instruction set of the CPU; `None`: that of [`Isa::selected`].
    pub isa: Option<Isa>,
    /// The number of threads of the CPU.
    pub threads: usize,
    /// The algorithm of convolutions; `None`: what the table chooses for each shape.
    pub algo: Option<Conv2dAlgo>,
    /// Time to spend on each row, beside preparation and checks.
    pub time: Duration,
}

impl Default for Options {
    /// One thread of the CPU, half a second a row.
    fn default() -> Self {
        Options { gpu: None, isa: None, threads: 1, algo: None, time: Duration::from_millis(500) }
    }
}

/// The operator under the clock.
pub trait Workload: Send {
    /// Computes the output once, or queues that on the GPU, into memory that is already there.
    ///
    /// # Errors
    /// Whatever the operator refuses.
    fn call(&mut self) -> tilewise_kernels::Result<()>;

    /// What the output of the last call should be, at some or all positions, and what it is there. `None` for a probe
    /// without an output.
    ///
    /// # Errors
    /// If the output cannot be had from the device.
    fn sample(&self) -> tilewise_kernels::Result<Option<Sample>>;

    /// Work of one call.
    fn work(&self) -> Work;
}

/// What an output should be, at some or all positions, and what it is there.
pub type Sample = (Target, Vec<f32>);

/// What limits an operator, and how much of it one call needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Work {
    /// Floating-point operations, a multiply-accumulate being two.
    Flops(f64),
    /// Bytes of input and output, each once.
    Bytes(f64),
}

/// What a row is called.
#[derive(Debug, Clone)]
pub struct Label {
    /// The network, or another heading.
    pub group: String,
    /// The layer.
    pub name: String,
    /// Its shape, to be read by people.
    pub shape: String,
    /// Operator, algorithm or kernel.
    pub algo: String,
    /// What of it.
    pub pass: Pass,
}

/// `|got - want| / |want|` in the Euclidean norm; plain `|got|` where everything should be zero.
fn rel_l2_error(target: &Target, got: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let error = norm(&mut target.value.iter().zip(got).map(|(want, got)| f64::from(*got) - want));
    let want = norm(&mut target.value.iter().copied());
    if want == 0.0 { error } else { error / want }
}

/// Numbers for inputs and weights: uniform in -1..1, the same in every run.
fn fill(data: &mut [f32], seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    data.iter_mut().for_each(|x| *x = rng.random_range(-1.0..1.0));
}

/// A tensor of numbers uniform in -1..1, the same in every run.
///
/// # Errors
/// If memory runs out.
pub fn filled(shape: Shape4, seed: u64) -> tilewise_kernels::Result<Tensor> {
    let mut x = Tensor::zeros(shape)?;
    fill(x.data_mut(), seed);
    Ok(x)
}

/// The elements of a tensor at some positions, as one row.
fn picked(t: &Tensor, positions: &[[usize; 4]]) -> Vec<f32> {
    positions.iter().map(|&[n, c, h, w]| t.at(n, c, h, w)).collect()
}

/// The bytes of a tensor.
fn bytes(shape: Shape4) -> f64 {
    shape.dims().iter().map(|&extent| extent as f64).product::<f64>() * size_of::<f32>() as f64
}

/// What the reports of operators limited by memory say.
const CACHE_NOTE: &str = "GB/s counts every input and output byte once. The bandwidth is that of copying in memory \
     beyond all caches: rows that stay in a cache may pass it.";
