//! Steps of the optimisers over flat parameters, and the clipping of their gradient. Memory is the limit.

use tilewise_kernels::{Adam, DeviceTensor, Result as Kernels, Sgd, Shape4, Tensor};

use super::conv2d::sample_positions;
use super::{
    CpuMeter, GpuMeter, Label, Measured, Meter, Options, Pass, Progress, Sample, Work, Workload, bytes,
    filled, picked,
};
use crate::compare::Target;
use crate::error::Result;
use crate::reference::{self, Answer};
use crate::report::Report;

/// Which step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// Gradient descent; with a velocity where there is momentum.
    Sgd(Sgd),
    /// Adam or AdamW.
    Adam(Adam),
    /// The clipping of the gradient, to a norm that falls from call to call: each has something to scale.
    Clip,
}

/// One of each kind, and its name.
pub const STEPS: [(&str, Step); 5] = [
    ("sgd", Step::Sgd(Sgd { lr: 1e-3, momentum: 0.0, weight_decay: 1e-4, nesterov: false })),
    ("sgd_momentum", Step::Sgd(Sgd { lr: 1e-3, momentum: 0.9, weight_decay: 1e-4, nesterov: false })),
    ("adam", Step::Adam(ADAM)),
    ("adamw", Step::Adam(Adam { weight_decay: 1e-2, decoupled: true, ..ADAM })),
    ("clip_norm", Step::Clip),
];

const ADAM: Adam =
    Adam { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, decoupled: false };

impl Step {
    /// The tensors that one step reads, and those that it writes.
    fn traffic(&self) -> usize {
        match self {
            Step::Sgd(Sgd { momentum: 0.0, .. }) => 2 + 1,
            Step::Sgd(_) => 3 + 2,
            Step::Adam(_) => 4 + 3,
            // Once for the norm, and again to be scaled.
            Step::Clip => 2 + 1,
        }
    }
}

/// A step with its memory, on any device.
pub struct OptimiserCall<B: Measured> {
    device: B,
    step: Step,
    /// Steps taken.
    taken: u64,
    state: State<B::Tensor>,
    norm: B::Tensor,
}

/// What a step reads and changes.
struct State<T> {
    p: T,
    g: T,
    /// The velocity, or the mean of the gradients.
    m: T,
    /// The mean of their squares.
    v: T,
}

impl<T> State<T> {
    fn map<U>(&self, f: impl Fn(&T) -> Kernels<U>) -> Kernels<State<U>> {
        let State { p, g, m, v } = self;
        Ok(State { p: f(p)?, g: f(g)?, m: f(m)?, v: f(v)? })
    }
}

impl<B: Measured> OptimiserCall<B> {
    /// Allocates everything, for so many parameters.
    ///
    /// # Errors
    /// If memory runs out.
    pub fn new(device: &B, step: Step, count: usize) -> Kernels<Self> {
        let line = Shape4::new(1, 1, 1, count);
        let (zeros, upload) = (Tensor::zeros(line)?, |seed| device.upload(&filled(line, seed)?));
        let (p, g, m, v) = (upload(1)?, upload(2)?, device.upload(&zeros)?, device.upload(&zeros)?);
        let norm = device.empty(Shape4::new(1, 1, 1, 1))?;
        Ok(OptimiserCall { device: device.clone(), step, taken: 0, state: State { p, g, m, v }, norm })
    }
}

/// The norm to clip to in step number `number`.
fn most_norm(number: u64) -> f32 {
    1.0 / (1.0 + number as f32 / 100.0)
}

/// Step number `number`, from 1.
fn take<B: Measured>(
    device: &B,
    step: &Step,
    number: u64,
    State { p, g, m, v }: &mut State<B::Tensor>,
    norm: &mut B::Tensor,
) -> Kernels<()> {
    match step {
        Step::Sgd(sgd) => {
            let velocity = (sgd.momentum != 0.0).then(|| m.view_mut());
            device.sgd_step(sgd, p.view_mut(), g.view(), velocity)
        }
        Step::Adam(adam) => {
            device.adam_step(adam, number, p.view_mut(), g.view(), m.view_mut(), v.view_mut())
        }
        Step::Clip => device.clip_norm_into(g.view_mut(), most_norm(number), norm.view_mut()),
    }
}

impl<B: Measured> Workload for OptimiserCall<B> {
    fn call(&mut self) -> Kernels<()> {
        self.taken += 1;
        take(&self.device, &self.step, self.taken, &mut self.state, &mut self.norm)
    }

    /// One step more, from a copy of what is there now.
    fn sample(&self) -> Kernels<Option<Sample>> {
        let before = self.state.map(|t| self.device.download(t))?;
        let mut state = before.map(|t| self.device.upload(t))?;
        let mut norm = self.device.empty(self.norm.shape())?;
        take(&self.device, &self.step, self.taken + 1, &mut state, &mut norm)?;
        let positions = sample_positions(before.p.shape());
        let line = Shape4::new(1, 1, 1, positions.len());
        let at = before.map(|t| Ok(picked(t, &positions)))?;
        let (answer, got) = match &self.step {
            Step::Sgd(sgd) => {
                let velocity = (sgd.momentum != 0.0).then_some(&at.m[..]);
                (reference::sgd(line, sgd, &at.p, &at.g, velocity).swap_remove(0), &state.p)
            }
            Step::Adam(adam) => {
                let [p, ..] = reference::adam(line, adam, self.taken + 1, [&at.p, &at.g, &at.m, &at.v]);
                (p, &state.p)
            }
            Step::Clip => {
                let most = most_norm(self.taken + 1);
                // The norm is that of all elements.
                let [_, norm] = reference::clip_norm(Shape4::new(0, 1, 1, 1), before.g.data(), most);
                let factor = (f64::from(most) / (norm.value[0] + 1e-6)).min(1.0);
                let value: Vec<f64> = at.g.iter().map(|&g| f64::from(g) * factor).collect();
                let magnitude = value.iter().map(|v| v.abs()).collect();
                let clipped = Answer { shape: line, value, magnitude, roundings: norm.roundings + 4 };
                (clipped, &state.g)
            }
        };
        Ok(Some((Target::rounded(answer), picked(&self.device.download(got)?, &positions))))
    }

    fn work(&self) -> Work {
        Work::Bytes(self.step.traffic() as f64 * bytes(self.state.p.shape()))
    }
}

/// Networks, by name, and how many parameters each has.
pub const COUNTS: [(&str, &str, usize); 2] =
    [("MNIST CNN", "mnist", 421_642), ("ResNet-50", "resnet50", 25_557_032)];

/// Measures every step over the parameters of two networks.
///
/// # Errors
/// If memory or the instruction set is missing.
pub fn optimiser(options: &Options, progress: Progress<'_>) -> Result<Report> {
    match &options.gpu {
        None => measure(CpuMeter::new(options)?, progress),
        Some(gpu) => measure(GpuMeter::new(gpu.clone(), options), progress),
    }
}

fn measure(mut meter: impl Meter, progress: Progress<'_>) -> Result<Report> {
    let items: Vec<_> =
        COUNTS.iter().flat_map(|&network| STEPS.iter().map(move |&step| (network, step))).collect();
    let rows = meter.rows(
        progress,
        &items,
        |((_, network, _), (step, _))| format!("{step} {network}"),
        |meter, &((group, network, count), (name, step))| {
            let label = Label {
                group: group.to_owned(),
                name: format!("{name}_{network}"),
                shape: format!("{count} parameters"),
                algo: name.to_owned(),
                pass: Pass::Forward,
            };
            let call = OptimiserCall::new(&meter.device(), step, count)?;
            meter.measure(label, call)
        },
    )?;
    let mut report = Report::new("Optimisers", rows);
    report.notes.push(
        "GB/s counts the parameters, their gradient and what the optimiser remembers, each read and each write once; the gradient \
         that is clipped is read twice. Rows that stay in a cache may pass the bandwidth, which is that of copying in memory."
            .into(),
    );
    Ok(report)
}
