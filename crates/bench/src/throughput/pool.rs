//! Pooling, into an output that is already there. Memory is the limit: a byte of input is used for one or a few
//! comparisons or additions.

use tilewise_kernels::{AvgPool2dParams, DeviceTensor, MaxPool2dParams, PoolShape, Shape4, Tensor, Update};

use super::{
    CpuMeter, GpuMeter, Label, Measured, Meter, Options, Pass, Progress, Sample, Work, Workload, bytes,
    filled,
};
use crate::compare::Target;
use crate::error::Result;
use crate::reference::{self, Answer};
use crate::report::Report;

/// Which pooling.
#[derive(Debug, Clone, Copy)]
pub enum Pooling {
    /// The largest of each window.
    Max(MaxPool2dParams),
    /// The mean of each window.
    Avg(AvgPool2dParams),
    /// The mean of each plane.
    Global,
}

impl Pooling {
    /// The operator's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Pooling::Max(_) => "max_pool2d",
            Pooling::Avg(_) => "avg_pool2d",
            Pooling::Global => "global_avg_pool",
        }
    }

    fn output(&self, input: Shape4) -> tilewise_kernels::Result<Shape4> {
        match *self {
            Pooling::Max(params) => Ok(PoolShape::max(input, params)?.output()),
            Pooling::Avg(params) => Ok(PoolShape::avg(input, params)?.output()),
            Pooling::Global => Ok(Shape4 { h: 1, w: 1, ..input }),
        }
    }

    /// `3x3 s2`; nothing for the whole plane.
    fn window(&self) -> String {
        let (kernel, stride) = match self {
            Pooling::Max(p) => (p.kernel, p.stride),
            Pooling::Avg(p) => (p.kernel, p.stride),
            Pooling::Global => return String::new(),
        };
        format!(" {}x{} s{}", kernel[0], kernel[1], stride[0])
    }
}

/// A pooling with its memory, on any device.
pub struct PoolCall<B: Measured> {
    device: B,
    pooling: Pooling,
    x: B::Tensor,
    y: B::Tensor,
}

impl<B: Measured> PoolCall<B> {
    /// Allocates input and output.
    ///
    /// # Errors
    /// If the window does not fit the input, or memory runs out.
    pub fn new(device: &B, pooling: Pooling, input: Shape4) -> tilewise_kernels::Result<Self> {
        let x = device.upload(&filled(input, 1)?)?;
        let y = device.empty(pooling.output(input)?)?;
        Ok(PoolCall { device: device.clone(), pooling, x, y })
    }

    fn answer(&self, x: &Tensor) -> tilewise_kernels::Result<Answer> {
        let (input, x) = (x.shape(), x.data());
        Ok(match self.pooling {
            Pooling::Max(params) => reference::max_pool2d(&PoolShape::max(input, params)?, x),
            Pooling::Avg(params) => reference::avg_pool2d(&PoolShape::avg(input, params)?, params, x),
            Pooling::Global => reference::global_avg_pool(input, x),
        })
    }
}

impl<B: Measured> Workload for PoolCall<B> {
    fn call(&mut self) -> tilewise_kernels::Result<()> {
        let (x, y) = (self.x.view(), self.y.view_mut());
        match self.pooling {
            Pooling::Max(params) => self.device.max_pool2d_into(x, params, y),
            Pooling::Avg(params) => self.device.avg_pool2d_into(x, params, y),
            Pooling::Global => self.device.global_avg_pool_into(x, y),
        }
    }

    fn sample(&self) -> tilewise_kernels::Result<Option<Sample>> {
        let answer = self.answer(&self.device.download(&self.x)?)?;
        Ok(Some((Target::rounded(answer), self.device.download(&self.y)?.into_vec())))
    }

    fn work(&self) -> Work {
        Work::Bytes(bytes(self.x.shape()) + bytes(self.y.shape()))
    }
}

/// The gradient of a pooling with its memory, on any device. Where the maxima were is known beforehand.
pub struct PoolBackwardCall<B: Measured> {
    device: B,
    pooling: Pooling,
    x: B::Tensor,
    argmax: Option<B::Argmax>,
    gy: B::Tensor,
    gx: B::Tensor,
}

impl<B: Measured> PoolBackwardCall<B> {
    /// Allocates everything, and finds the maxima.
    ///
    /// # Errors
    /// If the window does not fit the input, or memory runs out.
    pub fn new(device: &B, pooling: Pooling, input: Shape4) -> tilewise_kernels::Result<Self> {
        let x = device.upload(&filled(input, 1)?)?;
        let argmax = match pooling {
            Pooling::Max(params) => Some(device.max_pool2d_argmax(&x, params)?.1),
            Pooling::Avg(_) | Pooling::Global => None,
        };
        let gy = device.upload(&filled(pooling.output(input)?, 5)?)?;
        let gx = device.empty(input)?;
        Ok(PoolBackwardCall { device: device.clone(), pooling, x, argmax, gy, gx })
    }
}

impl<B: Measured> Workload for PoolBackwardCall<B> {
    fn call(&mut self) -> tilewise_kernels::Result<()> {
        let (gy, gx, update) = (self.gy.view(), self.gx.view_mut(), Update::Write);
        match (self.pooling, &self.argmax) {
            (Pooling::Avg(params), _) => self.device.avg_pool2d_backward_into(params, gy, gx, update),
            (_, Some(argmax)) => self.device.max_pool2d_backward_into(argmax, gy, gx, update),
            _ => self.device.global_avg_pool_backward_into(gy, gx, update),
        }
    }

    fn sample(&self) -> tilewise_kernels::Result<Option<Sample>> {
        let (x, gy) = (self.device.download(&self.x)?, self.device.download(&self.gy)?);
        let (input, x, gy) = (x.shape(), x.data(), gy.data());
        let answer = match self.pooling {
            Pooling::Max(params) => reference::max_pool2d_backward(&PoolShape::max(input, params)?, x, gy),
            Pooling::Avg(params) => {
                reference::avg_pool2d_backward(&PoolShape::avg(input, params)?, params, gy)
            }
            Pooling::Global => reference::global_avg_pool_backward(input, gy),
        };
        Ok(Some((Target::rounded(answer), self.device.download(&self.gx)?.into_vec())))
    }

    fn work(&self) -> Work {
        // A position is as large as an f32.
        let argmax = if self.argmax.is_some() { bytes(self.gy.shape()) } else { 0.0 };
        Work::Bytes(bytes(self.gy.shape()) + argmax + bytes(self.gx.shape()))
    }
}

/// Where a pooling comes from, its name, itself, and its input.
pub type PoolLayer = (&'static str, &'static str, Pooling, Shape4);

/// One pooling of each kind, from layers that fit a core's cache to one that fits none.
pub const POOLINGS: [PoolLayer; 8] = [
    ("VGG-16", "vgg_pool1", Pooling::Max(MaxPool2dParams::new(2)), Shape4::new(1, 64, 224, 224)),
    ("VGG-16", "vgg_pool4", Pooling::Max(MaxPool2dParams::new(2)), Shape4::new(1, 512, 28, 28)),
    (
        "ResNet-50",
        "res_pool1",
        Pooling::Max(MaxPool2dParams::new(3).stride(2).padding(1)),
        Shape4::new(1, 64, 112, 112),
    ),
    ("ResNet-50", "res_global_b64", Pooling::Global, Shape4::new(64, 2048, 7, 7)),
    (
        "GoogLeNet",
        "goog3a_pool",
        Pooling::Max(MaxPool2dParams::new(3).stride(1).padding(1)),
        Shape4::new(1, 192, 28, 28),
    ),
    ("U-Net", "unet_pool1_b8", Pooling::Max(MaxPool2dParams::new(2)), Shape4::new(8, 64, 256, 256)),
    ("MNIST CNN", "mnist_pool1", Pooling::Max(MaxPool2dParams::new(2)), Shape4::new(64, 32, 28, 28)),
    (
        "CIFAR CNN",
        "cifar_pool2",
        Pooling::Avg(AvgPool2dParams::new(3).stride(2).padding(1)),
        Shape4::new(64, 32, 16, 16),
    ),
];

/// Measures the poolings of the networks, or their gradients.
///
/// # Errors
/// If memory or the instruction set is missing.
pub fn pool(pass: Pass, options: &Options, progress: Progress<'_>) -> Result<Report> {
    match &options.gpu {
        None => measure(CpuMeter::new(options)?, pass, progress),
        Some(gpu) => measure(GpuMeter::new(gpu.clone(), options), pass, progress),
    }
}

fn measure(mut meter: impl Meter, pass: Pass, progress: Progress<'_>) -> Result<Report> {
    let rows = meter.rows(
        progress,
        &POOLINGS,
        |layer| layer.1.to_owned(),
        |meter, layer| {
            let (group, name, pooling, input) = *layer;
            let label = Label {
                group: group.to_owned(),
                name: name.to_owned(),
                shape: format!("{} x {},{}x{}{}", input.n, input.c, input.h, input.w, pooling.window()),
                algo: pooling.name().to_owned(),
                pass,
            };
            let device = meter.device();
            match pass {
                Pass::Forward => meter.measure(label, PoolCall::new(&device, pooling, input)?),
                _ => meter.measure(label, PoolBackwardCall::new(&device, pooling, input)?),
            }
        },
    )?;
    let title = if pass == Pass::Forward { "Pooling" } else { "Gradients of pooling" };
    let mut report = Report::new(title, rows);
    report.notes.push(super::CACHE_NOTE.into());
    Ok(report)
}
