//! How fast the operators are, and whether what was timed is right.
//!
//! A [`Workload`] is an operator with its shape, inputs, output buffer and (where it has any) packed weights: all
//! that is allocated is allocated before the clock starts. [`Bench::measure`] times it and compares its last output with the
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

pub use conv2d::{ConvCall, conv2d, shape_text};
pub use gemm::{GemmCall, PRODUCTS, Product, gemm};
pub use pool::{POOLINGS, PoolCall, PoolLayer, Pooling, pool};
pub use relu::{ActivationCall, MAPS, relu};

use crate::compare::Target;
use crate::error::Result;
use crate::machine::{self, Machine, MemoryProbe};
use crate::report::{Rate, Row};
use crate::team::Team;
use crate::timing::time;

/// Called before each row with how many are done, how many there are, and the name of the next.
pub type Progress<'a> = &'a dyn Fn(usize, usize, &str);

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

    /// What the output of the last call should be, at some or all positions, and what it is there. `None` for a probe
    /// without an output.
    fn sample(&self) -> Option<(Target, Vec<f32>)>;

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
    cpu: Cpu,
    team: Team,
    options: Options,
    /// Made when the first workload is limited by memory.
    memory: Option<MemoryProbe>,
}

impl Bench {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the instruction set is missing or the threads cannot be started.
    pub fn new(options: Options) -> Result<Self> {
        let isa = options.isa.map_or_else(Isa::selected, Isa::require)?;
        let cpu = Cpu::with_isa(isa)?.threads(options.threads);
        Ok(Bench { cpu, team: Team::new(options.threads)?, options, memory: None })
    }

    /// What limits `work`, now: GFLOP/s of FMA or GB/s of copying.
    fn roof(&mut self, work: Work) -> Result<f64> {
        match work {
            Work::Flops(_) => Ok(machine::fma_peak(machine::peak_isa(self.cpu.isa()), &self.team)),
            Work::Bytes(_) => {
                let probe = match self.memory.take() {
                    Some(probe) => probe,
                    None => MemoryProbe::new(&Machine::detect())?,
                };
                Ok(self.memory.insert(probe).bandwidth(&self.team).copy)
            }
        }
    }

    /// Times the workload and checks what it computed.
    ///
    /// # Errors
    /// Whatever the workload refuses.
    pub fn measure(&mut self, label: Label, mut workload: impl Workload) -> Result<Row> {
        let work = workload.work();
        let before = self.roof(work)?;
        let timing = self.team.run(|| time(self.options.time, || workload.call()))?;
        let roof = before.max(self.roof(work)?);
        let (rel_l2_error, mismatch) = match workload.sample() {
            None => (None, None),
            Some((target, got)) => {
                let error = rel_l2_error(&target, &got);
                let comparison = target.compare(&Tensor::from_vec(target.shape, got)?);
                (Some(error), (!comparison.passed()).then(|| comparison.to_string()))
            }
        };
        Ok(Row {
            label,
            device: "cpu",
            isa: self.cpu.isa().name(),
            threads: self.options.threads,
            timing,
            rate: Rate::new(work, timing.median, roof),
            rel_l2_error,
            mismatch,
        })
    }

    /// One row for each item, announced by its name.
    fn rows<T>(
        &mut self,
        progress: Progress<'_>,
        items: &[T],
        name: impl Fn(&T) -> String,
        mut row: impl FnMut(&mut Self, &T) -> Result<Row>,
    ) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for (done, item) in items.iter().enumerate() {
            progress(done, items.len(), &name(item));
            rows.push(row(self, item)?);
        }
        progress(items.len(), items.len(), "");
        Ok(rows)
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

/// The size of a tensor.
fn bytes(tensor: &Tensor) -> f64 {
    size_of_val(tensor.data()) as f64
}

/// What the reports of operators limited by memory say.
const CACHE_NOTE: &str = "GB/s counts every input and output byte once. The bandwidth is that of copying in memory \
     beyond all caches: rows that stay in a cache may pass it.";
