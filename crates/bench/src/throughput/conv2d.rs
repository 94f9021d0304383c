//! Convolution + bias + ReLU, planned: weights packed beforehand, output and scratch memory reused.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tilewise_kernels::{Activation, Conv2dAlgo, Conv2dShape, DeviceTensor, Shape4, Tensor};

use super::{
    ConvInputCall, ConvWeightsCall, CpuMeter, GpuMeter, Label, Measured, Meter, Options, Pass, Progress,
    Sample, Work, Workload, fill, filled,
};
use crate::check::winograd;
use crate::compare::Target;
use crate::error::{Error, Result};
use crate::reference::{self, Answer};
use crate::report::{Report, Row};
use crate::suites::networks::Layer;

/// Outputs that are compared with the reference, of each layer: beside the corners, chosen at random.
const SAMPLES: usize = 256;

/// A planned convolution with all its memory, on any device.
pub struct ConvCall<B: Measured> {
    device: B,
    shape: Conv2dShape,
    plan: B::Conv2d,
    x: B::Tensor,
    weights: Tensor,
    bias: Vec<f32>,
    y: B::Tensor,
}

impl<B: Measured> ConvCall<B> {
    /// Packs the weights and allocates everything. `algo`: `None` leaves the choice to the plan.
    ///
    /// # Errors
    /// If the algorithm does not compute this shape, or memory runs out.
    pub fn new(device: &B, shape: &Conv2dShape, algo: Option<Conv2dAlgo>) -> tilewise_kernels::Result<Self> {
        let x = device.upload(&filled(shape.input(), 1)?)?;
        let weights = filled(shape.weights(), 2)?;
        let mut bias = vec![0.0; shape.output().c];
        fill(&mut bias, 3);
        let plan = device.plan_conv2d(*shape, weights.data(), Some(&bias), Activation::Relu, algo)?;
        let y = device.empty(shape.output())?;
        Ok(ConvCall { device: device.clone(), shape: *shape, plan, x, weights, bias, y })
    }

    /// The algorithm that the plan uses.
    pub fn algo(&self) -> Conv2dAlgo {
        B::algo(&self.plan)
    }
}

impl<B: Measured> Workload for ConvCall<B> {
    fn call(&mut self) -> tilewise_kernels::Result<()> {
        self.device.conv2d_into(&mut self.plan, self.x.view(), self.y.view_mut())
    }

    fn sample(&self) -> tilewise_kernels::Result<Option<Sample>> {
        let (x, y) = (self.device.download(&self.x)?, self.device.download(&self.y)?);
        Ok(Some(sample(&self.shape, self.algo(), &x, &self.weights, &self.bias, &y)))
    }

    fn work(&self) -> Work {
        Work::Flops(2.0 * self.shape.macs())
    }
}

/// The reference and `y = relu(conv(x) + bias)` at some positions.
pub fn sample(
    shape: &Conv2dShape,
    algo: Conv2dAlgo,
    x: &Tensor,
    weights: &Tensor,
    bias: &[f32],
    y: &Tensor,
) -> Sample {
    let positions = sample_positions(shape.output());
    let at = |&at: &[usize; 4]| reference::conv2d_at(shape, x.data(), weights.data(), Some(bias), at);
    let (value, magnitude) = positions.iter().map(at).unzip();
    let answer = Answer {
        shape: Shape4::new(1, 1, 1, positions.len()),
        value,
        magnitude,
        // A product is rounded once, then by at most as many additions as there are products (that of the bias
        // included).
        roundings: shape.depth() + 1,
    };
    let got = positions.iter().map(|&[n, o, i, j]| y.at(n, o, i, j)).collect();
    let target = Target::rounded(answer);
    let target = winograd::conv2d_at(target, algo, shape, [x.data(), weights.data()], bias, &positions);
    (target.then(Activation::Relu), got)
}

/// The corners of the first and the last plane, and positions at random.
pub(super) fn sample_positions(output: Shape4) -> Vec<[usize; 4]> {
    let [n, c, h, w] = output.dims();
    if output.dims().contains(&0) {
        return Vec::new();
    }
    let planes = [[0, 0], [n - 1, c - 1]];
    let corners = [[0, 0], [0, w - 1], [h - 1, 0], [h - 1, w - 1]];
    let mut positions: Vec<_> =
        planes.iter().flat_map(|&[n, c]| corners.iter().map(move |&[h, w]| [n, c, h, w])).collect();
    let mut rng = StdRng::seed_from_u64(4);
    let mut random = || output.dims().map(|extent| rng.random_range(0..extent));
    positions.extend((0..SAMPLES).map(|_| random()));
    positions
}

/// `256,56x56 -> 64 3x3 s2`, with the batch in front where there is one: `64 x 1,28x28 -> 32 3x3`.
pub fn shape_text(shape: &Conv2dShape) -> String {
    let (x, [r, s]) = (shape.input(), shape.kernel());
    let batch = if x.n == 1 { String::new() } else { format!("{} x ", x.n) };
    let stride = match shape.params().stride {
        [1, 1] => String::new(),
        [stride, _] => format!(" s{stride}"),
    };
    format!("{batch}{},{}x{} -> {} {r}x{s}{stride}", x.c, x.h, x.w, shape.output().c)
}

/// Measures every layer. With an algorithm asked for, which is one of the forward pass, layers that it does not compute are
/// left out and named in the report's notes.
///
/// # Errors
/// If no layer can be computed by the algorithm asked for, or memory or the instruction set is missing.
pub fn conv2d(layers: &[Layer], pass: Pass, options: &Options, progress: Progress<'_>) -> Result<Report> {
    match &options.gpu {
        None => measure(CpuMeter::new(options)?, layers, pass, options.algo, progress),
        Some(gpu) => measure(GpuMeter::new(gpu.clone(), options), layers, pass, options.algo, progress),
    }
}

fn measure<M: Meter>(
    mut meter: M,
    layers: &[Layer],
    pass: Pass,
    algo: Option<Conv2dAlgo>,
    progress: Progress<'_>,
) -> Result<Report> {
    let device = meter.device();
    let fits = |layer: &&Layer| algo.is_none_or(|algo| device.supports(algo, &layer.shape));
    let (chosen, left_out): (Vec<_>, Vec<_>) = layers.iter().partition(fits);
    if let (Some(algo), true, Some(first)) = (algo, chosen.is_empty(), layers.first()) {
        let (layer, shape) = (first.name.clone(), shape_text(&first.shape));
        return Err(Error::NoLayerFits { algo: algo.name(), layer, shape });
    }
    let name = |layer: &&Layer| layer.name.clone();
    let rows = meter.rows(progress, &chosen, name, |meter, layer| row(meter, layer, pass, algo))?;
    let title = match pass {
        Pass::Forward | Pass::Backward => "Convolution + bias + ReLU",
        Pass::Input => "Gradient of convolution to its input",
        Pass::Weights => "Gradient of convolution to its weights",
    };
    let mut report = Report::new(title, rows);
    if let (Some(algo), false) = (algo, left_out.is_empty()) {
        let names: Vec<_> = left_out.iter().map(|layer| layer.name.as_str()).collect();
        report.notes.push(format!("Left out, as {algo} does not compute them: {}.", names.join(", ")));
    }
    Ok(report)
}

fn row<M: Meter>(meter: &mut M, layer: &Layer, pass: Pass, algo: Option<Conv2dAlgo>) -> Result<Row> {
    let refused = |error| Error::Layer { layer: layer.name.clone(), source: Box::new(error) };
    let label = |algo: String| Label {
        group: layer.network.clone(),
        name: layer.name.clone(),
        shape: shape_text(&layer.shape),
        algo,
        pass,
    };
    let device = meter.device();
    match pass {
        Pass::Forward | Pass::Backward => {
            let call = ConvCall::new(&device, &layer.shape, algo).map_err(refused)?;
            meter.measure(label(call.algo().name().to_owned()), call)
        }
        Pass::Input => {
            let call = ConvInputCall::new(&device, &layer.shape).map_err(refused)?;
            meter.measure(label(call.algo()), call)
        }
        Pass::Weights => {
            let call = ConvWeightsCall::new(&device, &layer.shape).map_err(refused)?;
            meter.measure(label(call.algo()), call)
        }
    }
}
