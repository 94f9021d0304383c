//! How fast the operators are, and whether what was timed is right.
//!
//! A [`Workload`] is an operator with its shape, inputs, output buffer and (where it has any) packed weights: all
//! that is allocated is allocated before the clock starts. [`measure`] times it and compares its last output with the
//! reference.
//!
//! What a rate is held against (the FMA peak, or the bandwidth of memory) is measured immediately before and after
//! each row, and the better of the two counts: on a machine that others use, a roof measured a minute ago belongs to
//! another machine.

mod conv2d;
mod gemm;
mod pool;
mod relu;

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tilewise_kernels::{Conv2dAlgo, Cpu, Isa, Tensor};

pub use conv2d::{ConvCall, conv2d};
pub use gemm::{GemmCall, gemm, gemm_sizes};
pub use pool::{PoolCall, pool, pool_layers};
pub use relu::{ReluCall, relu, relu_shapes};

use crate::compare::Target;
use crate::error::Result;
use crate::machine::{self, Machine};
use crate::report::{Rate, Row};
use crate::team::Team;
use crate::timing::{Timing, time};

/// How to measure.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The instruction set; `None`: that of [`Isa::selected`].
    pub isa: Option<Isa>,
    /// The number of threads.
    pub threads: usize,
    /// The algorithm of convolutions; `None`: what the table chooses for each shape.
    pub algo: Option<Conv2dAlgo>,
    /// Time to spend on each row, beside preparation and checks.
    pub time: Duration,
}

impl Default for Options {
    /// One thread, half a second a row.
    fn default() -> Self {
        Options { isa: None, threads: 1, algo: None, time: Duration::from_millis(500) }
    }
}

/// The operator under the clock.
pub trait Workload: Send {
    /// Computes the output once, into memory that is already there.
    ///
    /// # Errors
    /// Whatever the operator refuses.
    fn call(&mut self) -> tilewise_kernels::Result<()>;

    /// What the output should be, at all or at some positions, and what it is there.
    fn sample(&self) -> (Target, Vec<f32>);

    /// Work of one call.
    fn work(&self) -> Work;
}

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
}

/// A device and a team of threads, with the roofs of both.
pub struct Bench {
    /// The device under the clock.
    pub cpu: Cpu,
    team: Team,
    machine: Machine,
    options: Options,
}

impl Bench {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the instruction set is missing or the threads cannot be started.
    pub fn new(options: Options) -> Result<Self> {
        let isa = options.isa.map_or_else(Isa::selected, Isa::require)?;
        let cpu = Cpu::with_isa(isa)?.threads(options.threads);
        Ok(Bench { cpu, team: Team::new(options.threads)?, machine: Machine::detect(), options })
    }

    /// What limits `work`, now: GFLOP/s of FMA or GB/s of copying.
    fn roof(&self, work: Work) -> Result<f64> {
        match work {
            Work::Flops(_) => Ok(machine::fma_peak(machine::peak_isa(self.cpu.isa()), &self.team)),
            Work::Bytes(_) => Ok(machine::bandwidth(&self.machine, &self.team)?.copy),
        }
    }

    /// Times the workload and checks what it computed.
    ///
    /// # Errors
    /// Whatever the workload refuses.
    pub fn measure(&self, label: Label, mut workload: impl Workload) -> Result<Row> {
        let work = workload.work();
        let before = self.roof(work)?;
        let timing = self.team.run(|| time(self.options.time, || workload.call()))?;
        let roof = before.max(self.roof(work)?);
        let (target, got) = workload.sample();
        self.row(label, work, timing, roof, &target, got)
    }

    fn row(
        &self,
        label: Label,
        work: Work,
        timing: Timing,
        roof: f64,
        target: &Target,
        got: Vec<f32>,
    ) -> Result<Row> {
        let giga = |amount: f64| amount / timing.median / 1e9;
        let rate = match work {
            Work::Flops(flops) => {
                let gflops = giga(flops);
                Rate::Compute { gflops, percent_of_peak: 100.0 * gflops / roof }
            }
            Work::Bytes(bytes) => {
                let gbytes_per_s = giga(bytes);
                Rate::Memory { gbytes_per_s, percent_of_bandwidth: 100.0 * gbytes_per_s / roof }
            }
        };
        let rel_l2_error = rel_l2_error(target, &got);
        let comparison = target.compare(&Tensor::from_vec(target.shape, got)?);
        Ok(Row {
            label,
            device: "cpu",
            isa: self.cpu.isa().name(),
            threads: self.options.threads,
            timing,
            rate,
            rel_l2_error,
            mismatch: (!comparison.passed()).then(|| comparison.to_string()),
        })
    }
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
