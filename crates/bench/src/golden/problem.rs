//! The parameters of a case, read strictly: each operator knows its own, and what it does not know is an error.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tilewise_kernels::{
    Activation, Adam, AvgPool2dParams, Axis, Conv2dParams, Conv2dShape, ConvTranspose2dParams,
    ConvTranspose2dShape, CropShape, LinearShape, MaxPool2dParams, PadShape, Padding, PoolShape, Sgd, Shape4,
    SoftmaxShape, UpsampleMode, UpsampleShape,
};

use super::file::{CaseEntry, GoldenFile};
use crate::case::{Op, Problem, Statistics};

/// `[top, bottom, left, right]`, or `[height, width]` for both sides.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Sides {
    Four([usize; 4]),
    Two([usize; 2]),
}

impl From<Sides> for Padding {
    fn from(sides: Sides) -> Self {
        match sides {
            Sides::Four([top, bottom, left, right]) => Padding { top, bottom, left, right },
            Sides::Two([h, w]) => Padding::symmetric(h, w),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoParams {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Conv {
    stride: [usize; 2],
    padding: Sides,
    dilation: [usize; 2],
    groups: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConvTranspose {
    stride: [usize; 2],
    padding: Sides,
    output_padding: [usize; 2],
    dilation: [usize; 2],
    groups: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MaxPool {
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    ceil_mode: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AvgPool {
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    ceil_mode: bool,
    count_include_pad: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Slope {
    slope: f32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Alpha {
    alpha: f32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SoftmaxAxis {
    axis: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Norm {
    training: bool,
    eps: f32,
    /// With it, the running statistics are inputs (`mean`, `var`) and outputs (`new_mean`, `new_var`).
    momentum: Option<f32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resize {
    /// A factor for both directions; either this or the size.
    scale: Option<usize>,
    size: Option<[usize; 2]>,
    #[serde(default)]
    align_corners: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Frame {
    padding: Sides,
    value: f32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Margins {
    margins: Sides,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Loss {
    reduction: Reduction,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelLoss {
    reduction: Reduction,
    #[serde(default)]
    label_smoothing: f32,
    /// PyTorch's own default is -100.
    ignore_index: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DiceLoss {
    reduction: Reduction,
    smooth: f32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SgdStep {
    lr: f32,
    momentum: f32,
    weight_decay: f32,
    nesterov: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AdamStep {
    lr: f32,
    betas: [f32; 2],
    eps: f32,
    weight_decay: f32,
    decoupled: bool,
    step: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Clip {
    max_norm: f32,
}

/// The index that stands for an ignored label of a file: negative ones are no label here, and become the first beyond the
/// classes.
pub(super) fn ignored(ignore_index: Option<i64>, classes: usize) -> Option<usize> {
    ignore_index.map(|index| usize::try_from(index).unwrap_or(classes))
}

/// The label of a file that is ignored.
pub(super) fn ignore_index(entry: &CaseEntry) -> Option<i64> {
    entry.params.get("ignore_index").and_then(Value::as_i64)
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reduction {
    Mean,
}

/// The problem of a case: its parameters, with the extents of its stored tensors.
pub(super) fn understand(file: &GoldenFile, entry: &CaseEntry) -> Result<Problem, String> {
    let op: Op = entry.op.parse().map_err(|e: crate::case::CaseError| e.to_string())?;
    let shape = |name: &str| file.shape(&entry.name, name);
    let has = |name: &str| entry.inputs.iter().any(|input| input == name);
    let bias = has("b");
    let refused = |e: tilewise_kernels::Error| e.to_string();
    let activation = |activation| -> Result<Problem, String> {
        params::<NoParams>(entry)?;
        Ok(Problem::Activation { input: shape("x")?, activation })
    };
    Ok(match op {
        Op::Conv2d => {
            let p: Conv = params(entry)?;
            let (w, padding) = (shape("w")?, p.padding.into());
            let p = Conv2dParams {
                stride: p.stride,
                padding,
                dilation: p.dilation,
                groups: p.groups,
                ..Conv2dParams::default()
            };
            let shape = Conv2dShape::new(shape("x")?, w.n, [w.h, w.w], p).map_err(refused)?;
            Problem::Conv2d { shape, bias, activation: Activation::Identity }
        }
        Op::ConvTranspose2d => {
            let p: ConvTranspose = params(entry)?;
            let w = shape("w")?;
            let out_channels = w.c.checked_mul(p.groups).ok_or("groups: too many")?;
            let p = ConvTranspose2dParams {
                stride: p.stride,
                padding: p.padding.into(),
                output_padding: p.output_padding,
                dilation: p.dilation,
                groups: p.groups,
            };
            let x = shape("x")?;
            let shape = ConvTranspose2dShape::new(x, out_channels, [w.h, w.w], p).map_err(refused)?;
            Problem::ConvTranspose2d { shape, bias, activation: Activation::Identity }
        }
        Op::MaxPool2d => {
            let MaxPool { kernel, stride, padding, ceil_mode } = params(entry)?;
            let params = MaxPool2dParams { kernel, stride, padding, ceil_mode };
            Problem::MaxPool2d { shape: PoolShape::max(shape("x")?, params).map_err(refused)?, params }
        }
        Op::AvgPool2d => {
            let AvgPool { kernel, stride, padding, ceil_mode, count_include_pad } = params(entry)?;
            let params = AvgPool2dParams { kernel, stride, padding, ceil_mode, count_include_pad };
            Problem::AvgPool2d { shape: PoolShape::avg(shape("x")?, params).map_err(refused)?, params }
        }
        Op::GlobalAvgPool => {
            params::<NoParams>(entry)?;
            Problem::GlobalAvgPool { input: shape("x")? }
        }
        Op::Identity => activation(Activation::Identity)?,
        Op::Relu => activation(Activation::Relu)?,
        Op::Relu6 => activation(Activation::Relu6)?,
        Op::Gelu => activation(Activation::Gelu)?,
        Op::Silu => activation(Activation::Silu)?,
        Op::Sigmoid => activation(Activation::Sigmoid)?,
        Op::Tanh => activation(Activation::Tanh)?,
        Op::LeakyRelu => {
            let Slope { slope } = params(entry)?;
            Problem::Activation { input: shape("x")?, activation: Activation::LeakyRelu { slope } }
        }
        Op::Elu => {
            let Alpha { alpha } = params(entry)?;
            Problem::Activation { input: shape("x")?, activation: Activation::Elu { alpha } }
        }
        Op::Softmax => {
            let SoftmaxAxis { axis } = params(entry)?;
            let axis = *Axis::ALL.get(axis).ok_or_else(|| format!("axis: expected 0 to 3, got {axis}"))?;
            Problem::Softmax(SoftmaxShape::new(shape("x")?, axis).map_err(refused)?)
        }
        Op::Linear => {
            params::<NoParams>(entry)?;
            let shape = LinearShape::new(shape("x")?, shape("w")?.n).map_err(refused)?;
            Problem::Linear { shape, bias, activation: Activation::Identity }
        }
        Op::BatchNorm => {
            let Norm { training, eps, momentum } = params(entry)?;
            let statistics = match (training, momentum) {
                (false, None) => Statistics::Given,
                (true, None) => Statistics::Batch,
                (true, Some(momentum)) => Statistics::Tracked { momentum },
                (false, Some(_)) => return Err("momentum: expected only with training".to_owned()),
            };
            Problem::BatchNorm { input: shape("x")?, eps, statistics }
        }
        Op::UpsampleNearest | Op::UpsampleBilinear => {
            let Resize { scale, size, align_corners } = params(entry)?;
            let mode = match op {
                Op::UpsampleNearest if align_corners => {
                    return Err("align_corners: expected only with upsample_bilinear".to_owned());
                }
                Op::UpsampleNearest => UpsampleMode::Nearest,
                _ => UpsampleMode::Bilinear { align_corners },
            };
            let x = shape("x")?;
            let shape = match (scale, size) {
                (Some(factor), None) => UpsampleShape::by_factor(x, factor, mode),
                (None, Some(size)) => UpsampleShape::new(x, size, mode),
                _ => return Err("expected either scale or size".to_owned()),
            };
            Problem::Upsample(shape.map_err(refused)?)
        }
        Op::Concat => {
            params::<NoParams>(entry)?;
            let names = entry.inputs.iter().filter(|name| *name != "gy");
            let parts = names.map(|name| shape(name)).collect::<Result<Vec<_>, _>>()?;
            let first = *parts.first().ok_or("expected at least one input, got none")?;
            if let Some(other) = parts.iter().find(|p| Shape4 { c: first.c, ..**p } != first) {
                return Err(format!("expected parts that differ in channels only, got {first} and {other}"));
            }
            Problem::Concat { parts }
        }
        Op::Add => {
            params::<NoParams>(entry)?;
            Problem::Add { input: shape("a")? }
        }
        Op::Pad => {
            let Frame { padding, value } = params(entry)?;
            Problem::Pad { shape: PadShape::new(shape("x")?, padding.into()).map_err(refused)?, value }
        }
        Op::Crop => {
            let Margins { margins } = params(entry)?;
            Problem::Crop(CropShape::new(shape("x")?, margins.into()).map_err(refused)?)
        }
        Op::CrossEntropy => {
            let LabelLoss { reduction: Reduction::Mean, label_smoothing, ignore_index } = params(entry)?;
            let (input, weighted) = (shape("x")?, has("weight"));
            let ignore_index = ignored(ignore_index, input.c);
            Problem::CrossEntropy { input, weighted, label_smoothing, ignore_index }
        }
        Op::BceWithLogits => {
            let Loss { reduction: Reduction::Mean } = params(entry)?;
            Problem::BceWithLogits { input: shape("x")?, weighted: has("pos_weight") }
        }
        Op::Mse => {
            let Loss { reduction: Reduction::Mean } = params(entry)?;
            Problem::Mse { input: shape("x")? }
        }
        Op::L1 => {
            let Loss { reduction: Reduction::Mean } = params(entry)?;
            Problem::L1 { input: shape("x")? }
        }
        Op::Dice => {
            let DiceLoss { reduction: Reduction::Mean, smooth } = params(entry)?;
            Problem::Dice { input: shape("x")?, smooth }
        }
        Op::Sgd => {
            let SgdStep { lr, momentum, weight_decay, nesterov } = params(entry)?;
            Problem::Sgd { input: shape("p")?, sgd: Sgd { lr, momentum, weight_decay, nesterov } }
        }
        Op::Adam => {
            let AdamStep { lr, betas: [beta1, beta2], eps, weight_decay, decoupled, step } = params(entry)?;
            let adam = Adam { lr, beta1, beta2, eps, weight_decay, decoupled };
            Problem::Adam { input: shape("p")?, adam, step }
        }
        Op::ClipNorm => {
            let Clip { max_norm } = params(entry)?;
            Problem::ClipNorm { input: shape("g")?, max_norm }
        }
    })
}

fn params<T: DeserializeOwned>(entry: &CaseEntry) -> Result<T, String> {
    T::deserialize(Value::Object(entry.params.clone())).map_err(|e| format!("params of {}: {e}", entry.op))
}
