//! ReLU and the other activations, into an output that is already there. Memory is the limit of ReLU; arithmetic that of
//! the activations made of exponentials.

use tilewise_kernels::{Activation, Cpu, Shape4, Tensor};

use super::conv2d::sample_positions;
use super::{Bench, Label, Options, Progress, Work, Workload, bytes, fill};
use crate::compare::Target;
use crate::error::Result;
use crate::reference::Answer;
use crate::report::Report;

/// A pointwise function with its memory.
pub struct ActivationCall {
    cpu: Cpu,
    activation: Activation,
    x: Tensor,
    y: Tensor,
}

impl ActivationCall {
    /// Allocates input and output.
    ///
    /// # Errors
    /// If memory runs out.
    pub fn new(cpu: &Cpu, activation: Activation, shape: Shape4) -> tilewise_kernels::Result<Self> {
        let mut x = Tensor::zeros(shape)?;
        fill(x.data_mut(), 1);
        Ok(ActivationCall { cpu: *cpu, activation, x, y: Tensor::zeros(shape)? })
    }
}

impl Workload for ActivationCall {
    fn call(&mut self) -> tilewise_kernels::Result<()> {
        self.cpu.activation_into(self.x.view(), self.activation, self.y.view_mut())
    }

    fn sample(&self) -> Option<(Target, Vec<f32>)> {
        let positions = sample_positions(self.y.shape());
        let at =
            |t: &Tensor| -> Vec<f32> { positions.iter().map(|&[n, c, h, w]| t.at(n, c, h, w)).collect() };
        let value: Vec<f64> = at(&self.x).into_iter().map(f64::from).collect();
        let exact = Answer {
            shape: Shape4::new(1, 1, 1, positions.len()),
            magnitude: value.iter().map(|v| v.abs()).collect(),
            value,
            roundings: 0,
        };
        Some((Target::rounded(exact).then(self.activation), at(&self.y)))
    }

    fn work(&self) -> Work {
        Work::Bytes(bytes(&self.x) + bytes(&self.y))
    }
}

/// Feature maps from those that fit a core's own cache to those that fit none.
pub const MAPS: [(&str, Shape4); 3] = [
    ("goog3a", Shape4::new(1, 192, 28, 28)),
    ("vgg1", Shape4::new(1, 64, 224, 224)),
    ("unet_enc1_b8", Shape4::new(8, 64, 256, 256)),
];

/// Measures ReLU on maps of three sizes, and every other activation on the one in the middle.
///
/// # Errors
/// If memory or the instruction set is missing.
pub fn relu(options: Options, progress: Progress<'_>) -> Result<Report> {
    let others =
        Activation::ALL.into_iter().filter(|f| !matches!(f, Activation::Relu | Activation::Identity));
    let maps: Vec<_> = MAPS
        .iter()
        .map(|&(name, shape)| (Activation::Relu, name, shape))
        .chain(others.map(|f| (f, MAPS[1].0, MAPS[1].1)))
        .collect();
    let mut bench = Bench::new(options)?;
    let rows = bench.rows(
        progress,
        &maps,
        |map| format!("{} {}", map.0.name(), map.1),
        |bench, map| {
            let (activation, name, shape) = *map;
            let label = Label {
                group: activation.name().to_owned(),
                name: format!("{}_{name}", activation.name()),
                shape: format!("{} x {},{}x{}", shape.n, shape.c, shape.h, shape.w),
                algo: activation.name().to_owned(),
            };
            bench.measure(label, ActivationCall::new(&bench.cpu, activation, shape)?)
        },
    )?;
    let mut report = Report::new("Activations", rows);
    report.notes.push(super::CACHE_NOTE.into());
    Ok(report)
}
