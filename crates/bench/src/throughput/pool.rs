//! Pooling, into an output that is already there. Memory is the limit: a byte of input is used for one or a few
//! comparisons or additions.

use tilewise_kernels::{AvgPool2dParams, DeviceTensor, MaxPool2dParams, PoolShape, Shape4, Tensor};

use super::{
    CpuMeter, GpuMeter, Label, Measured, Meter, Options, Progress, Sample, Work, Workload, bytes, filled,
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

/// Measures the poolings of the networks.
///
/// # Errors
/// If memory or the instruction set is missing.
pub fn pool(options: &Options, progress: Progress<'_>) -> Result<Report> {
    match &options.gpu {
        None => measure(CpuMeter::new(options)?, progress),
        Some(gpu) => measure(GpuMeter::new(gpu.clone(), options), progress),
    }
}

fn measure(mut meter: impl Meter, progress: Progress<'_>) -> Result<Report> {
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
            };
            let call = PoolCall::new(&meter.device(), pooling, input)?;
            meter.measure(label, call)
        },
    )?;
    let mut report = Report::new("Pooling", rows);
    report.notes.push(super::CACHE_NOTE.into());
    Ok(report)
}
