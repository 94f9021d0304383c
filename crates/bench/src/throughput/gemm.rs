//! The matrix product, as the fully connected layer `y = relu(x * w^T + b)` that is made of it, planned.

use tilewise_kernels::cpu::gemm::{MicrokernelProbe, probe_microkernel};
use tilewise_kernels::{
    Activation, Conv2dParams, Conv2dShape, Cpu, Isa, LinearPlan, LinearShape, Scratch, Shape4, Tensor,
};

use super::{Bench, Label, Options, Progress, Work, Workload, conv2d, fill};
use crate::compare::Target;
use crate::error::Result;
use crate::report::Report;

/// A planned fully connected layer with all its memory.
pub struct GemmCall {
    shape: LinearShape,
    plan: LinearPlan,
    scratch: Scratch,
    x: Tensor,
    weights: Tensor,
    bias: Vec<f32>,
    y: Tensor,
}

impl GemmCall {
    /// `[samples, features in, features out]`: the product of `m x k` and `k x n`, `[m, k, n]`. Packs the weights and
    /// allocates everything.
    ///
    /// # Errors
    /// If an extent is zero or memory runs out.
    pub fn new(cpu: &Cpu, [m, k, n]: [usize; 3]) -> tilewise_kernels::Result<Self> {
        let shape = LinearShape::new(Shape4::new(m, k, 1, 1), n)?;
        let mut x = Tensor::zeros(shape.input())?;
        let mut weights = Tensor::zeros(shape.weights())?;
        let mut bias = vec![0.0; n];
        fill(x.data_mut(), 1);
        fill(weights.data_mut(), 2);
        fill(&mut bias, 3);
        let plan = LinearPlan::new(cpu, shape, weights.data(), Some(&bias), Activation::Relu)?;
        let scratch = plan.scratch()?;
        let y = Tensor::zeros(shape.output())?;
        Ok(GemmCall { shape, plan, scratch, x, weights, bias, y })
    }
}

impl Workload for GemmCall {
    fn call(&mut self) -> tilewise_kernels::Result<()> {
        self.plan.run(self.x.view(), self.y.view_mut(), &mut self.scratch)
    }

    fn sample(&self) -> Option<(Target, Vec<f32>)> {
        // A matrix product is the convolution of 1x1 planes.
        let params = Conv2dParams::default();
        let shape = Conv2dShape::new(self.shape.input(), self.shape.output().c, [1, 1], params).ok()?;
        Some(conv2d::sample(&shape, &self.x, &self.weights, &self.bias, &self.y))
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

    fn sample(&self) -> Option<(Target, Vec<f32>)> {
        None
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

/// Measures the microkernel, square products and fully connected layers.
///
/// # Errors
/// If memory or the instruction set is missing.
pub fn gemm(options: Options, progress: Progress<'_>) -> Result<Report> {
    let mut bench = Bench::new(options)?;
    let microkernel = MicrokernelCall::new(bench.cpu.isa(), options.threads)?;
    let first = bench.measure(microkernel.label(), microkernel)?;
    let rows = bench.rows(
        progress,
        &PRODUCTS,
        |(_, name, _)| name.to_string(),
        |bench, &(group, name, size)| {
            let [m, k, n] = size;
            let label = Label {
                group: group.to_owned(),
                name: name.to_owned(),
                shape: format!("{m}x{k} * {k}x{n}"),
                algo: "gemm".to_owned(),
            };
            bench.measure(label, GemmCall::new(&bench.cpu, size)?)
        },
    )?;
    let mut report = Report::new("Matrix product + bias + ReLU", [vec![first], rows].concat());
    report.notes.push(
        "A batch of 1 reads every weight for two FLOPs: the bandwidth of memory is its limit, not the FMA peak.".into(),
    );
    Ok(report)
}
