//! The matrix product, as the fully connected layer `y = relu(x * w^T + b)` that is made of it, planned.

use tilewise_kernels::cpu::gemm::{MicrokernelProbe, probe_microkernel};
use tilewise_kernels::{
    Activation, Conv2dAlgo, Conv2dParams, Conv2dShape, DeviceTensor, Isa, LinearShape, Shape4, Tensor,
};

use super::{
    CpuMeter, GpuMeter, Label, Measured, Meter, Options, Pass, Progress, Sample, Work, Workload, conv2d,
    fill, filled,
};
use crate::error::Result;
use crate::report::{Report, Row};

/// A planned fully connected layer with all its memory, on any device.
pub struct GemmCall<B: Measured> {
    device: B,
    shape: LinearShape,
    plan: B::Linear,
    x: B::Tensor,
    weights: Tensor,
    bias: Vec<f32>,
    y: B::Tensor,
}

impl<B: Measured> GemmCall<B> {
    /// `[samples, features in, features out]`: the product of `m x k` and `k x n`, `[m, k, n]`. Packs the weights and
    /// allocates everything.
    ///
    /// # Errors
    /// If an extent is zero or memory runs out.
    pub fn new(device: &B, [m, k, n]: [usize; 3]) -> tilewise_kernels::Result<Self> {
        let shape = LinearShape::new(Shape4::new(m, k, 1, 1), n)?;
        let x = device.upload(&filled(shape.input(), 1)?)?;
        let weights = filled(shape.weights(), 2)?;
        let mut bias = vec![0.0; n];
        fill(&mut bias, 3);
        let plan = device.plan_linear(shape, weights.data(), Some(&bias), Activation::Relu)?;
        let y = device.empty(shape.output())?;
        Ok(GemmCall { device: device.clone(), shape, plan, x, weights, bias, y })
    }
}

impl<B: Measured> Workload for GemmCall<B> {
    fn call(&mut self) -> tilewise_kernels::Result<()> {
        self.device.linear_into(&mut self.plan, self.x.view(), self.y.view_mut())
    }

    fn sample(&self) -> tilewise_kernels::Result<Option<Sample>> {
        // A matrix product is the convolution of 1x1 planes.
        let params = Conv2dParams::default();
        let shape = Conv2dShape::new(self.shape.input(), self.shape.output().c, [1, 1], params)?;
        let (x, y) = (self.device.download(&self.x)?, self.device.download(&self.y)?);
        Ok(Some(conv2d::sample(&shape, Conv2dAlgo::Pointwise, &x, &self.weights, &self.bias, &y)))
    }

    fn work(&self) -> Work {
        Work::Flops(2.0 * self.shape.macs())
    }
}

/// The microkernel alone, on operands in L1, on every thread at once.
struct MicrokernelCall {
    isa: Isa,
    threads: usize,
    probe: MicrokernelProbe,
}

/// Repetitions in one call: about a millisecond at 100 GFLOP/s.
const REPEATS: usize = 1000;

impl MicrokernelCall {
    fn new(isa: Isa, threads: usize) -> tilewise_kernels::Result<Self> {
        Ok(MicrokernelCall { isa, threads, probe: probe_microkernel(isa, REPEATS)? })
    }

    fn label(&self) -> Label {
        Label {
            group: "microkernel".to_owned(),
            name: "microkernel".to_owned(),
            shape: format!("{} rows x {} columns in L1", self.probe.rows, self.probe.columns),
            algo: "gemm".to_owned(),
            pass: Pass::Forward,
        }
    }
}

impl Workload for MicrokernelCall {
    fn call(&mut self) -> tilewise_kernels::Result<()> {
        if self.threads == 1 {
            probe_microkernel(self.isa, REPEATS)?;
        } else {
            // On the pool that the clock runs in.
            for probe in rayon::broadcast(|_| probe_microkernel(self.isa, REPEATS)) {
                probe?;
            }
        }
        Ok(())
    }

    fn sample(&self) -> tilewise_kernels::Result<Option<Sample>> {
        Ok(None)
    }

    fn work(&self) -> Work {
        Work::Flops(self.threads as f64 * self.probe.flops)
    }
}

/// A product of `m x k` and `k x n`: `[m, k, n]`, where it comes from, and its name.
pub type Product = (&'static str, &'static str, [usize; 3]);

/// Square products, and the fully connected layers of networks, `m` being the batch.
pub const PRODUCTS: [Product; 10] = [
    ("square", "gemm_128", [128, 128, 128]),
    ("square", "gemm_256", [256, 256, 256]),
    ("square", "gemm_512", [512, 512, 512]),
    ("square", "gemm_1024", [1024, 1024, 1024]),
    ("VGG-16", "vgg_fc7_b1", [1, 4096, 4096]),
    ("VGG-16", "vgg_fc7_b64", [64, 4096, 4096]),
    ("ResNet-50", "res_fc_b1", [1, 2048, 1000]),
    ("ResNet-50", "res_fc_b64", [64, 2048, 1000]),
    ("MNIST CNN", "mnist_fc1_b64", [64, 3136, 128]),
    ("MNIST CNN", "mnist_fc2_b64", [64, 128, 10]),
];

/// Measures the microkernel (of the CPU), square products and fully connected layers.
///
/// # Errors
/// If memory or the instruction set is missing.
pub fn gemm(options: &Options, progress: Progress<'_>) -> Result<Report> {
    match &options.gpu {
        None => {
            let mut meter = CpuMeter::new(options)?;
            let microkernel = MicrokernelCall::new(meter.device().isa(), options.threads)?;
            let first = meter.measure(microkernel.label(), microkernel)?;
            measure(meter, vec![first], progress)
        }
        Some(gpu) => measure(GpuMeter::new(gpu.clone(), options), Vec::new(), progress),
    }
}

/// The products, below the rows that are already there.
fn measure(mut meter: impl Meter, mut rows: Vec<Row>, progress: Progress<'_>) -> Result<Report> {
    rows.extend(meter.rows(
        progress,
        &PRODUCTS,
        |(_, name, _)| name.to_string(),
        |meter, &(group, name, size)| {
            let [m, k, n] = size;
            let label = Label {
                group: group.to_owned(),
                name: name.to_owned(),
                shape: format!("{m}x{k} * {k}x{n}"),
                algo: "gemm".to_owned(),
                pass: Pass::Forward,
            };
            let call = GemmCall::new(&meter.device(), size)?;
            meter.measure(label, call)
        },
    )?);
    let mut report = Report::new("Matrix product + bias + ReLU", rows);
    report.notes.push(
        "A batch of 1 reads every weight for two FLOPs: the bandwidth of memory is its limit, not the FMA peak.".into(),
    );
    Ok(report)
}
