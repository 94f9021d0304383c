//! ReLU and the other activations, into an output that is already there. Memory is the limit of ReLU; arithmetic that of
//! the activations made of exponentials.

use tilewise_kernels::{Activation, DeviceTensor, Shape4, Update};

use super::conv2d::sample_positions;
use super::{
    CpuMeter, GpuMeter, Label, Measured, Meter, Options, Pass, Progress, Sample, Work, Workload, bytes,
    filled, picked,
};
use crate::compare::Target;
use crate::error::Result;
use crate::reference::{self, Answer};
use crate::report::Report;

/// A pointwise function with its memory, on any device.
pub struct ActivationCall<B: Measured> {
    device: B,
    activation: Activation,
    x: B::Tensor,
    y: B::Tensor,
}

impl<B: Measured> ActivationCall<B> {
    /// Allocates input and output.
    ///
    /// # Errors
    /// If memory runs out.
    pub fn new(device: &B, activation: Activation, shape: Shape4) -> tilewise_kernels::Result<Self> {
        let x = device.upload(&filled(shape, 1)?)?;
        Ok(ActivationCall { device: device.clone(), activation, x, y: device.empty(shape)? })
    }
}

impl<B: Measured> Workload for ActivationCall<B> {
    fn call(&mut self) -> tilewise_kernels::Result<()> {
        self.device.activation_into(self.x.view(), self.activation, self.y.view_mut())
    }

    fn sample(&self) -> tilewise_kernels::Result<Option<Sample>> {
        let (x, y) = (self.device.download(&self.x)?, self.device.download(&self.y)?);
        let positions = sample_positions(y.shape());
        let value: Vec<f64> = picked(&x, &positions).into_iter().map(f64::from).collect();
        let exact = Answer {
            shape: Shape4::new(1, 1, 1, positions.len()),
            magnitude: value.iter().map(|v| v.abs()).collect(),
            value,
            roundings: 0,
        };
        Ok(Some((Target::rounded(exact).then(self.activation), picked(&y, &positions))))
    }

    fn work(&self) -> Work {
        Work::Bytes(bytes(self.x.shape()) + bytes(self.y.shape()))
    }
}

/// The gradient of a pointwise function with its memory, on any device.
pub struct ActivationBackwardCall<B: Measured> {
    device: B,
    activation: Activation,
    x: B::Tensor,
    gy: B::Tensor,
    gx: B::Tensor,
}

impl<B: Measured> ActivationBackwardCall<B> {
    /// Allocates everything.
    ///
    /// # Errors
    /// If memory runs out.
    pub fn new(device: &B, activation: Activation, shape: Shape4) -> tilewise_kernels::Result<Self> {
        let upload = |seed| device.upload(&filled(shape, seed)?);
        let (x, gy) = (upload(1)?, upload(5)?);
        Ok(ActivationBackwardCall { device: device.clone(), activation, x, gy, gx: device.empty(shape)? })
    }
}

impl<B: Measured> Workload for ActivationBackwardCall<B> {
    fn call(&mut self) -> tilewise_kernels::Result<()> {
        let (x, gy, gx) = (self.x.view(), self.gy.view(), self.gx.view_mut());
        self.device.activation_backward_into(x, self.activation, gy, gx, Update::Write)
    }

    fn sample(&self) -> tilewise_kernels::Result<Option<Sample>> {
        let positions = sample_positions(self.x.shape());
        let at = |t: &B::Tensor| self.device.download(t).map(|t| picked(&t, &positions));
        let (x, gy, gx) = (at(&self.x)?, at(&self.gy)?, at(&self.gx)?);
        let line = Shape4::new(1, 1, 1, positions.len());
        Ok(Some((Target::rounded(reference::activation_backward(line, self.activation, &x, &gy)), gx)))
    }

    fn work(&self) -> Work {
        Work::Bytes(3.0 * bytes(self.x.shape()))
    }
}

/// Feature maps from those that fit a core's own cache to those that fit none.
pub const MAPS: [(&str, Shape4); 3] = [
    ("goog3a", Shape4::new(1, 192, 28, 28)),
    ("vgg1", Shape4::new(1, 64, 224, 224)),
    ("unet_enc1_b8", Shape4::new(8, 64, 256, 256)),
];

/// Measures ReLU on maps of three sizes, and every other activation on the one in the middle: themselves, or their gradients.
///
/// # Errors
/// If memory or the instruction set is missing.
pub fn relu(pass: Pass, options: &Options, progress: Progress<'_>) -> Result<Report> {
    match &options.gpu {
        None => measure(CpuMeter::new(options)?, pass, progress),
        Some(gpu) => measure(GpuMeter::new(gpu.clone(), options), pass, progress),
    }
}

fn measure(mut meter: impl Meter, pass: Pass, progress: Progress<'_>) -> Result<Report> {
    let others =
        Activation::ALL.into_iter().filter(|f| !matches!(f, Activation::Relu | Activation::Identity));
    let maps: Vec<_> = MAPS
        .iter()
        .map(|&(name, shape)| (Activation::Relu, name, shape))
        .chain(others.map(|f| (f, MAPS[1].0, MAPS[1].1)))
        .collect();
    let rows = meter.rows(
        progress,
        &maps,
        |map| format!("{} {}", map.0.name(), map.1),
        |meter, map| {
            let (activation, name, shape) = *map;
            let label = Label {
                group: activation.name().to_owned(),
                name: format!("{}_{name}", activation.name()),
                shape: format!("{} x {},{}x{}", shape.n, shape.c, shape.h, shape.w),
                algo: activation.name().to_owned(),
                pass,
            };
            let device = meter.device();
            match pass {
                Pass::Forward => meter.measure(label, ActivationCall::new(&device, activation, shape)?),
                _ => meter.measure(label, ActivationBackwardCall::new(&device, activation, shape)?),
            }
        },
    )?;
    let title = if pass == Pass::Forward { "Activations" } else { "Gradients of activations" };
    let mut report = Report::new(title, rows);
    report.notes.push(super::CACHE_NOTE.into());
    Ok(report)
}
