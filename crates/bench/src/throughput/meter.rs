//! A device under the clock: how its calls are timed, and what their rate is held against.

use std::time::{Duration, Instant};

use tilewise_kernels::{Conv2dAlgo, Conv2dShape, Cpu, Gpu, Isa, Tensor, Training};

use super::{Label, Options, Progress, Work, Workload, rel_l2_error};
use crate::error::Result;
use crate::machine::{self, Machine, MemoryProbe};
use crate::report::{Rate, Row};
use crate::team::Team;
use crate::timing::{Timing, time};

/// A device that can be measured: what its convolutions are, by name.
pub trait Measured: Training<Tensor: Send> + Clone + Send {
    /// Whether it computes this convolution by this algorithm.
    fn supports(&self, algo: Conv2dAlgo, shape: &Conv2dShape) -> bool;

    /// The algorithm of a planned convolution.
    fn algo(plan: &Self::Conv2d) -> Conv2dAlgo;

    /// How a planned gradient to the input is computed.
    fn input_algo(plan: &Self::Conv2dBackwardInput) -> String;

    /// How a planned gradient to the weights is computed.
    fn weights_algo(plan: &Self::Conv2dBackwardWeights) -> String;
}

/// The algorithm in `operator/algorithm/isa/tile`.
fn algo_of(kernel: &str) -> String {
    kernel.split('/').nth(1).unwrap_or(kernel).to_owned()
}

impl Measured for Cpu {
    fn supports(&self, algo: Conv2dAlgo, shape: &Conv2dShape) -> bool {
        algo.supports(shape)
    }

    fn algo(plan: &Self::Conv2d) -> Conv2dAlgo {
        plan.plan().algo()
    }

    fn input_algo(plan: &Self::Conv2dBackwardInput) -> String {
        algo_of(&plan.plan().describe().kernel)
    }

    fn weights_algo(plan: &Self::Conv2dBackwardWeights) -> String {
        algo_of(&plan.plan().describe().kernel)
    }
}

impl Measured for Gpu {
    fn supports(&self, algo: Conv2dAlgo, shape: &Conv2dShape) -> bool {
        Gpu::supports(self, algo, shape)
    }

    fn algo(plan: &Self::Conv2d) -> Conv2dAlgo {
        plan.algo()
    }

    fn input_algo(_: &Self::Conv2dBackwardInput) -> String {
        "conv_transpose2d".to_owned()
    }

    fn weights_algo(_: &Self::Conv2dBackwardWeights) -> String {
        "gemm".to_owned()
    }
}

/// A device and the means to time it.
pub trait Meter {
    /// The device.
    type Device: Measured;

    /// A handle of it.
    fn device(&self) -> Self::Device;

    /// Times the workload and checks what it computed.
    ///
    /// # Errors
    /// Whatever the workload refuses.
    fn measure(&mut self, label: Label, workload: impl Workload) -> Result<Row>;

    /// One row for each item, announced by its name.
    ///
    /// # Errors
    /// The first error of `row`.
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

/// The CPU and a team of threads, with the roofs of both: what a rate is held against (the FMA peak, or the bandwidth of
/// memory) is measured immediately before and after each row, and the better of the two counts. On a machine that
/// others use, a roof measured a minute ago belongs to another machine.
pub struct CpuMeter {
    cpu: Cpu,
    team: Team,
    time: Duration,
    /// Made when the first workload is limited by memory.
    memory: Option<MemoryProbe>,
}

impl CpuMeter {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the instruction set is missing or the threads cannot be started.
    pub fn new(options: &Options) -> Result<Self> {
        let isa = options.isa.map_or_else(Isa::selected, Isa::require)?;
        let cpu = Cpu::with_isa(isa)?.threads(options.threads);
        Ok(CpuMeter { cpu, team: Team::new(options.threads)?, time: options.time, memory: None })
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
}

impl Meter for CpuMeter {
    type Device = Cpu;

    fn device(&self) -> Cpu {
        self.cpu
    }

    fn measure(&mut self, label: Label, mut workload: impl Workload) -> Result<Row> {
        let work = workload.work();
        let before = self.roof(work)?;
        let timing = self.team.run(|| time(self.time, || workload.call()))?;
        let roof = before.max(self.roof(work)?);
        let (rel_l2_error, mismatch) = judge(&workload)?;
        Ok(Row {
            label,
            device: "cpu",
            isa: self.cpu.isa().name().to_owned(),
            threads: self.team.threads(),
            timing,
            wall: None,
            rate: Rate::new(work, timing.median, Some(roof)),
            rel_l2_error,
            mismatch,
        })
    }
}

/// A GPU, timed by its own clock where it has one: so many calls in one submission that it lasts some milliseconds. Beside
/// it, the time by the clock on the wall from a call to its end, alone in its submission.
pub struct GpuMeter {
    gpu: Gpu,
    time: Duration,
}

/// What a submission lasts at least, so that the steps of the device's clock and its own overhead do not count.
const SUBMISSION: f64 = 2e-3;

/// Calls of one submission at most.
const MOST_CALLS: usize = 256;

impl GpuMeter {
    /// Half of the time of `options` for each clock.
    pub fn new(gpu: Gpu, options: &Options) -> Self {
        GpuMeter { gpu, time: options.time / 2 }
    }

    /// By the clock of the device, without the way there and back.
    fn device_time(&self, workload: &mut impl Workload, estimate: f64) -> Result<Timing> {
        let calls = (SUBMISSION / estimate).ceil().clamp(1.0, MOST_CALLS as f64) as usize;
        let mut samples = Vec::new();
        let start = Instant::now();
        while samples.len() < 3 || start.elapsed() < self.time {
            let submission = self.gpu.timed(|| (0..calls).try_for_each(|_| workload.call()))?;
            samples.push(submission.as_secs_f64() / calls as f64);
        }
        Ok(Timing::of(samples))
    }
}

impl Meter for GpuMeter {
    type Device = Gpu;

    fn device(&self) -> Gpu {
        self.gpu.clone()
    }

    fn measure(&mut self, label: Label, mut workload: impl Workload) -> Result<Row> {
        let work = workload.work();
        let wall = time(self.time, || {
            workload.call()?;
            self.gpu.finish()
        })?;
        let timing = match self.gpu.adapter().timestamps {
            true => self.device_time(&mut workload, wall.min)?,
            false => wall,
        };
        let (rel_l2_error, mismatch) = judge(&workload)?;
        Ok(Row {
            label,
            device: "gpu",
            isa: self.gpu.adapter().name.clone(),
            threads: 1,
            timing,
            wall: Some(wall),
            rate: Rate::new(work, timing.median, None),
            rel_l2_error,
            mismatch,
        })
    }
}

/// The error of the last output, and what is wrong with it, if anything is.
fn judge(workload: &impl Workload) -> Result<(Option<f64>, Option<String>)> {
    let Some((target, got)) = workload.sample()? else { return Ok((None, None)) };
    let error = rel_l2_error(&target, &got);
    let comparison = target.compare(&Tensor::from_vec(target.shape, got)?);
    Ok((Some(error), (!comparison.passed()).then(|| comparison.to_string())))
}
