//! Golden networks: whole networks as another library computed and trained them.
//!
//! Beside the weights, under their PyTorch names, a file has `golden/x` (the images), `golden/y` (the output in inference),
//! `golden/target` and `golden/losses`: the loss before each of some steps of training by Adam with learning rate 1e-3,
//! on the same batch each time. The metadata says `net`, `config` and `loss`; of several networks, `networks` is a list of
//! `{"name", "net", "config", "loss"}`, and every tensor's name begins with its network's and a slash.
//! `tools/make_golden_models.py` makes such files.
//!
//! The config gives `in_channels`, and `size` or `base`, `classes`, `bilinear`, `align_corners`; depths and widths are those
//! of the weights. What else it says is not looked at: a network that was not understood gives other results.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tilewise_kernels::{Shape4, Tensor, Training, UpsampleMode};
use tilewise_model::zoo::{AutoEncoder, Cnn, UNet, Up};
use tilewise_model::{Graph, Loss, Op, Optimiser, Session, Step, Target as Goal, Weights};

use super::file::{GoldenFile, NetworkEntry};
use crate::check::{CheckOptions, CheckReport, Device};
use crate::compare::{Comparison, Target};

/// What stands for the algorithm in rows of outputs.
pub const INFER: &str = "infer";

/// What stands for the algorithm in rows of losses.
pub const TRAIN: &str = "train";

/// How far off an output may be: this, and of values above 1 this share.
const OUTPUT: f64 = 1e-4;

/// The share by which a loss may be off.
const LOSS: f64 = 1e-3;

/// Of Adam, in every step.
const LEARNING_RATE: f32 = 1e-3;

/// Runs and trains a network on every device.
pub(super) fn check(
    path: &Path,
    file: &GoldenFile,
    entry: &NetworkEntry,
    options: &CheckOptions,
    report: &mut CheckReport,
) {
    if !options.ops.is_empty() || !options.algos.is_empty() {
        return;
    }
    let repro = |device: Option<&Device>| {
        let device = device.map_or(String::new(), |device| format!(" {}", device.flags()));
        format!("tilewise check{device} --golden \"{}\"", path.display())
    };
    let golden = match GoldenNetwork::read(file, entry) {
        Ok(golden) => golden,
        Err(message) => {
            return report.row(&entry.net, "-", "-").add(Err(message), &entry.name, || repro(None));
        }
    };
    for device in options.devices() {
        let (output, losses) = match &device {
            Device::Cpu(cpu) => golden.solve(*cpu),
            Device::Gpu(gpu) => golden.solve(gpu.clone()),
        };
        for (algo, outcome) in [(INFER, output), (TRAIN, losses)] {
            let row = report.row(&entry.net, device.name(), algo);
            row.add(outcome.map(|comparison| vec![comparison]), &entry.name, || repro(Some(&device)));
        }
    }
}

/// A network of a file, understood.
struct GoldenNetwork {
    graph: Graph,
    weights: Weights,
    loss: Loss,
    x: Tensor,
    /// As classes, or as images.
    labels: Vec<usize>,
    images: Option<Tensor>,
    output: Target,
    losses: Target,
}

impl GoldenNetwork {
    fn read(file: &GoldenFile, entry: &NetworkEntry) -> Result<Self, String> {
        let weights = file.weights(&entry.prefix)?;
        let golden = format!("{}golden", entry.prefix);
        let shape = file.shape(&golden, "x")?;
        let config = Config::read(&entry.config)?;
        let graph = config.graph(&entry.net, &weights, shape)?;
        weights.check(&graph).map_err(|e| e.to_string())?;
        let output = graph.output_shape(shape).map_err(|e| e.to_string())?;

        let loss = match entry.loss.as_str() {
            "cross_entropy" => Loss::cross_entropy(),
            "bce_with_logits" => Loss::bce_with_logits(),
            "mse" => Loss::Mse,
            other => {
                return Err(format!("loss: expected bce_with_logits, cross_entropy or mse, got {other:?}"));
            }
        };
        let (labels, images) = if loss.wants_labels() {
            (file.labels(&golden, "target", output, None)?, None)
        } else {
            (Vec::new(), Some(file.tensor(&golden, "target", output)?))
        };
        let y = file.tensor(&golden, "y", output)?;
        let count = file.shape(&golden, "losses")?;
        if count.n == 0 || count.image_len() != 1 {
            return Err(format!("tensor losses: expected one number for each step, got {count}"));
        }
        let losses = file.tensor(&golden, "losses", count)?;
        Ok(GoldenNetwork {
            graph,
            weights,
            loss,
            x: file.tensor(&golden, "x", shape)?,
            labels,
            images,
            output: within(&y, |value| OUTPUT * value.abs().max(1.0)),
            losses: within(&losses, |value| LOSS * value.abs()),
        })
    }

    /// The output, and the losses, against the file's.
    fn solve<B: Training>(&self, device: B) -> (Result<Comparison, String>, Result<Comparison, String>) {
        let mut session = match Session::new(device, self.graph.clone(), &self.weights) {
            Ok(session) => session,
            Err(error) => return (Err(error.to_string()), Err(error.to_string())),
        };
        let output = session.infer(&self.x).map(|y| self.output.compare(&y));
        let losses = self.train(&mut session).map(|losses| self.losses.compare(&losses).named("losses"));
        (output.map_err(|e| e.to_string()), losses.map_err(|e| e.to_string()))
    }

    fn train<B: Training>(&self, session: &mut Session<B>) -> tilewise_model::Result<Tensor> {
        let step =
            Step { loss: self.loss.clone(), optimiser: Optimiser::adam(LEARNING_RATE), clip_norm: None };
        let goal = match &self.images {
            Some(images) => Goal::Images(images.view()),
            None => Goal::Labels(&self.labels),
        };
        let losses = (0..self.losses.shape.n).map(|_| session.train_step(self.x.view(), goal, &step));
        Ok(Tensor::from_vec(self.losses.shape, losses.collect::<tilewise_model::Result<_>>()?)?)
    }
}

/// These values, each to be met within its tolerance.
fn within(values: &Tensor, tolerance: impl Fn(f64) -> f64) -> Target {
    let value: Vec<f64> = values.data().iter().map(|&value| f64::from(value)).collect();
    Target {
        shape: values.shape(),
        magnitude: value.iter().map(|value| value.abs()).collect(),
        tolerance: value.iter().map(|&value| tolerance(value)).collect(),
        value,
    }
}

/// The keys that are looked at.
#[derive(Debug, Deserialize)]
struct Config {
    in_channels: usize,
    size: Option<usize>,
    classes: Option<usize>,
    base: Option<usize>,
    #[serde(default)]
    bilinear: bool,
    #[serde(default = "yes")]
    align_corners: bool,
}

fn yes() -> bool {
    true
}

impl Config {
    /// From JSON, or a string of it.
    fn read(config: &Value) -> Result<Self, String> {
        let read = match config {
            Value::String(text) => serde_json::from_str(text),
            value => Config::deserialize(value),
        };
        read.map_err(|e| format!("config: {e}"))
    }

    /// The network for images of this shape, as deep and as wide as its weights are.
    fn graph(&self, net: &str, weights: &Weights, x: Shape4) -> Result<Graph, String> {
        let in_channels = self.in_channels;
        let needed = |key: &str, value: Option<usize>| {
            value.ok_or_else(|| format!("config: {key}: expected a number for {net}, got none"))
        };
        let dims = |name: String| weights.get(&name).map(|array| array.dims.as_slice());
        // The first extents of `NAME1.weight`, `NAME2.weight` …
        let widths = |name: &str| -> Vec<usize> {
            let width = |i: usize| dims(format!("{name}{i}.weight"))?.first().copied();
            (1..).map_while(width).collect()
        };
        let graph = match net {
            "cnn" => {
                let mut dense = widths("fc");
                dense.pop();
                let kernel = dims("conv1.weight".into()).and_then(|dims| dims.last().copied()).unwrap_or(3);
                let (size, classes) = (needed("size", self.size)?, needed("classes", self.classes)?);
                let blocks = widths("conv");
                Cnn { in_channels, size, classes, blocks, kernel, dense, ..Cnn::default() }.graph()
            }
            "autoencoder" => {
                AutoEncoder::of_weights(weights, in_channels, needed("size", self.size)?).graph()
            }
            "unet" => {
                let level =
                    |i: &usize| dims(format!("down{i}.maxpool_conv.1.double_conv.0.weight")).is_some();
                let levels = (1..).take_while(level).count();
                let (base, classes) = (needed("base", self.base)?, needed("classes", self.classes)?);
                let up = if self.bilinear { Up::Bilinear } else { Up::Transposed };
                let size = x.h.max(x.w);
                UNet { in_channels, size, classes, base, levels, up, ..UNet::default() }
                    .graph()
                    .and_then(|graph| if self.align_corners { Ok(graph) } else { with_centres(&graph) })
            }
            other => return Err(format!("net: expected unet, cnn or autoencoder, got {other:?}")),
        };
        graph.map_err(|e| e.to_string())
    }
}

/// The same network, but its bilinear layers align the centres of the corner pixels' areas, and not the corners.
fn with_centres(graph: &Graph) -> tilewise_model::Result<Graph> {
    let mut other = Graph::new(graph.input_shape())?;
    for layer in &graph.layers()[1..] {
        let op = match layer.op {
            Op::Upsample { factor, mode: UpsampleMode::Bilinear { .. } } => {
                Op::Upsample { factor, mode: UpsampleMode::Bilinear { align_corners: false } }
            }
            op => op,
        };
        other.push(&layer.name, op, &layer.inputs)?;
    }
    Ok(other)
}
