//! Text to case.

use std::str::FromStr;

use tilewise_kernels::{
    Activation, Adam, AvgPool2dParams, Axis, Conv2dParams, Conv2dShape, ConvTranspose2dParams,
    ConvTranspose2dShape, CropShape, LinearShape, MaxPool2dParams, PadShape, PoolShape, Sgd, Shape4,
    SoftmaxShape, UpsampleMode, UpsampleShape,
};

use super::text::Fields;
use super::{Case, CaseError, Numbers, Op, Problem, Statistics};

type Result<T> = std::result::Result<T, CaseError>;

impl FromStr for Case {
    type Err = CaseError;

    fn from_str(text: &str) -> Result<Self> {
        Case::parse(Op::Conv2d, text)
    }
}

impl Case {
    /// Reads a case; `op` is the operator where the text names none.
    ///
    /// # Errors
    /// [`CaseError`]: says which field, what was expected, what came.
    pub fn parse(op: Op, text: &str) -> Result<Self> {
        let (op, text) = match text.split_once(':') {
            Some((name, rest)) => (name.parse()?, rest),
            None => (op, text),
        };
        let mut parts = text.split('+');
        let body = parts.next().unwrap_or_default();
        let mut flags = Flags(parts.collect());
        let (extents, params) = body.split_once('_').unwrap_or((body, ""));
        let mut extents_fields = Fields::lex("extents, as in n1c3h224w224", extents)?;
        let parts = extents_fields.extents()?;
        extents_fields.finish()?;
        let mut fields = Fields::lex(parameters_of(op), params)?;
        let problem = problem(op, &parts, &mut fields, &mut flags)?.validated()?;
        fields.finish()?;
        let numbers = match (flags.take("ints"), flags.take("special")) {
            (true, _) => Numbers::Integer,
            (_, true) => Numbers::Special,
            _ => Numbers::Real,
        };
        let seed = flags.take_with("seed", "a seed, as in seed7")?.unwrap_or(1);
        flags.finish(op)?;
        Ok(Case { problem, numbers, seed })
    }
}

/// What may follow the extents, in words.
fn parameters_of(op: Op) -> &'static str {
    match op {
        Op::Conv2d => "fields o, k, s, p, d, g, as in o64k7x7s2p3",
        Op::ConvTranspose2d => "fields o, k, s, p, e, d, g, as in o64k3x3s2p1e1",
        Op::MaxPool2d | Op::AvgPool2d => "fields k, s, p, as in k3x3s2p1",
        Op::LeakyRelu => "field slope, as in slope0.1",
        Op::Elu => "field alpha, as in alpha1",
        Op::Softmax => "field axis, as in axis1",
        Op::Linear => "field o, as in o10",
        Op::BatchNorm => "fields eps and momentum, as in eps0.001momentum0.1",
        Op::UpsampleNearest | Op::UpsampleBilinear => "field size, as in size8x8",
        Op::Pad => "fields p and v, as in p1,2,3,4v0.5",
        Op::Crop => "field p, as in p1,2,3,4",
        Op::CrossEntropy => "fields smoothing and ignore, as in smoothing0.1ignore255",
        Op::Dice => "field smooth, as in smooth1",
        Op::Sgd => "fields lr, momentum and decay, as in lr0.1momentum0.9",
        Op::Adam => "fields lr, betas, eps, decay and step, as in lr0.001betas0.9,0.999step3",
        Op::ClipNorm => "field max, as in max1",
        _ => "no fields",
    }
}

fn problem(op: Op, parts: &[Shape4], fields: &mut Fields, flags: &mut Flags) -> Result<Problem> {
    if op == Op::Concat {
        return Ok(Problem::Concat { parts: parts.to_vec() });
    }
    let &[input] = parts else {
        return Err(CaseError::syntax("field c", "one count (only concat takes several)", "a list"));
    };
    Ok(match op {
        Op::Conv2d => {
            let out_channels = fields.count("o", None)?;
            let kernel = fields.pair("k", None)?;
            let params = Conv2dParams {
                stride: fields.pair("s", Some([1, 1]))?,
                padding: fields.padding()?,
                dilation: fields.pair("d", Some([1, 1]))?,
                groups: fields.count("g", Some(1))?,
                ..Conv2dParams::default()
            };
            let shape = Conv2dShape::new(input, out_channels, kernel, params)?;
            Problem::Conv2d { shape, bias: !flags.take("nobias"), activation: flags.activation()? }
        }
        Op::ConvTranspose2d => {
            let out_channels = fields.count("o", None)?;
            let kernel = fields.pair("k", None)?;
            let params = ConvTranspose2dParams {
                stride: fields.pair("s", Some([1, 1]))?,
                padding: fields.padding()?,
                output_padding: fields.pair("e", Some([0, 0]))?,
                dilation: fields.pair("d", Some([1, 1]))?,
                groups: fields.count("g", Some(1))?,
            };
            let shape = ConvTranspose2dShape::new(input, out_channels, kernel, params)?;
            Problem::ConvTranspose2d { shape, bias: !flags.take("nobias"), activation: flags.activation()? }
        }
        Op::MaxPool2d => {
            let kernel = fields.pair("k", None)?;
            let params = MaxPool2dParams {
                kernel,
                stride: fields.pair("s", Some(kernel))?,
                padding: fields.pair("p", Some([0, 0]))?,
                ceil_mode: flags.take("ceil"),
            };
            Problem::MaxPool2d { shape: PoolShape::max(input, params)?, params }
        }
        Op::AvgPool2d => {
            let kernel = fields.pair("k", None)?;
            let params = AvgPool2dParams {
                kernel,
                stride: fields.pair("s", Some(kernel))?,
                padding: fields.pair("p", Some([0, 0]))?,
                ceil_mode: flags.take("ceil"),
                count_include_pad: !flags.take("nopad"),
            };
            Problem::AvgPool2d { shape: PoolShape::avg(input, params)?, params }
        }
        Op::GlobalAvgPool => Problem::GlobalAvgPool { input },
        Op::Identity => Problem::Activation { input, activation: Activation::Identity },
        Op::Relu => Problem::Activation { input, activation: Activation::Relu },
        Op::LeakyRelu => {
            let slope = fields.real("slope", Some(0.01))?;
            Problem::Activation { input, activation: Activation::LeakyRelu { slope } }
        }
        Op::Relu6 => Problem::Activation { input, activation: Activation::Relu6 },
        Op::Elu => {
            let alpha = fields.real("alpha", Some(1.0))?;
            Problem::Activation { input, activation: Activation::Elu { alpha } }
        }
        Op::Gelu => Problem::Activation { input, activation: Activation::Gelu },
        Op::Silu => Problem::Activation { input, activation: Activation::Silu },
        Op::Sigmoid => Problem::Activation { input, activation: Activation::Sigmoid },
        Op::Tanh => Problem::Activation { input, activation: Activation::Tanh },
        Op::Softmax => {
            let axis = fields.count("axis", Some(1))?;
            let axis = Axis::ALL.get(axis).copied().ok_or_else(|| {
                CaseError::syntax("field axis", "0, 1, 2 or 3 (n, c, h or w)", axis.to_string())
            })?;
            Problem::Softmax(SoftmaxShape::new(input, axis)?)
        }
        Op::Linear => {
            let shape = LinearShape::new(input, fields.count("o", None)?)?;
            Problem::Linear { shape, bias: !flags.take("nobias"), activation: flags.activation()? }
        }
        Op::BatchNorm => {
            let eps = fields.real("eps", Some(1e-5))?;
            let momentum = fields.real("momentum", Some(f32::NAN))?;
            let statistics = match (flags.take("train"), momentum.is_nan()) {
                (true, true) => Statistics::Batch,
                (true, false) => Statistics::Tracked { momentum },
                (false, true) => Statistics::Given,
                (false, false) => {
                    return Err(CaseError::syntax(
                        "field momentum",
                        "+train beside it",
                        momentum.to_string(),
                    ));
                }
            };
            Problem::BatchNorm { input, eps, statistics }
        }
        Op::UpsampleNearest => {
            let size = fields.pair("size", None)?;
            Problem::Upsample(UpsampleShape::new(input, size, UpsampleMode::Nearest)?)
        }
        Op::UpsampleBilinear => {
            let size = fields.pair("size", None)?;
            let mode = UpsampleMode::Bilinear { align_corners: flags.take("corners") };
            Problem::Upsample(UpsampleShape::new(input, size, mode)?)
        }
        Op::Concat => Problem::Concat { parts: parts.to_vec() },
        Op::Add => Problem::Add { input },
        Op::Pad => {
            let shape = PadShape::new(input, fields.padding()?)?;
            Problem::Pad { shape, value: fields.real("v", Some(0.0))? }
        }
        Op::Crop => Problem::Crop(CropShape::new(input, fields.padding()?)?),
        Op::CrossEntropy => Problem::CrossEntropy {
            input,
            weighted: flags.take("weighted"),
            label_smoothing: fields.real("smoothing", Some(0.0))?,
            ignore_index: fields.optional_count("ignore")?,
        },
        Op::BceWithLogits => Problem::BceWithLogits { input, weighted: flags.take("weighted") },
        Op::Mse => Problem::Mse { input },
        Op::L1 => Problem::L1 { input },
        Op::Dice => Problem::Dice { input, smooth: fields.real("smooth", Some(1.0))? },
        Op::Sgd => {
            let default = Sgd::default();
            let sgd = Sgd {
                lr: fields.real("lr", Some(default.lr))?,
                momentum: fields.real("momentum", Some(default.momentum))?,
                weight_decay: fields.real("decay", Some(default.weight_decay))?,
                nesterov: flags.take("nesterov"),
            };
            Problem::Sgd { input, sgd }
        }
        Op::Adam => {
            let default = Adam::default();
            let [beta1, beta2] = fields.reals("betas", [default.beta1, default.beta2])?;
            let adam = Adam {
                lr: fields.real("lr", Some(default.lr))?,
                beta1,
                beta2,
                eps: fields.real("eps", Some(default.eps))?,
                weight_decay: fields.real("decay", Some(default.weight_decay))?,
                decoupled: flags.take("decoupled"),
            };
            Problem::Adam { input, adam, step: fields.count("step", Some(1))? as u64 }
        }
        Op::ClipNorm => Problem::ClipNorm { input, max_norm: fields.real("max", Some(1.0))? },
    })
}

/// What follows the `+` signs, taken out one by one.
struct Flags<'a>(Vec<&'a str>);

impl Flags<'_> {
    fn take(&mut self, name: &str) -> bool {
        let found = self.0.iter().position(|f| *f == name);
        found.map(|i| self.0.remove(i)).is_some()
    }

    /// The value behind `name`, as in `seed7`.
    fn take_with<T: FromStr>(&mut self, name: &str, expected: &'static str) -> Result<Option<T>> {
        let Some(i) = self.0.iter().position(|f| f.starts_with(name)) else { return Ok(None) };
        let flag = self.0.remove(i);
        let value = flag[name.len()..].parse().map_err(|_| CaseError::syntax("flag", expected, flag))?;
        Ok(Some(value))
    }

    /// The fused function: its name, with its parameter right behind it (`leaky_relu0.1`).
    fn activation(&mut self) -> Result<Activation> {
        for f in Activation::ALL {
            if self.take(f.name()) {
                return Ok(f);
            }
        }
        let finite = |v: &f32| v.is_finite();
        if let Some(slope) = self.take_with("leaky_relu", "a slope, as in leaky_relu0.1")?.filter(finite) {
            return Ok(Activation::LeakyRelu { slope });
        }
        if let Some(alpha) = self.take_with("elu", "alpha, as in elu1")?.filter(finite) {
            return Ok(Activation::Elu { alpha });
        }
        Ok(Activation::Identity)
    }

    fn finish(self, op: Op) -> Result<()> {
        let expected = match op {
            Op::Conv2d | Op::ConvTranspose2d | Op::Linear => "nobias, an activation, ints, special or a seed",
            Op::MaxPool2d => "ceil, ints, special or a seed",
            Op::AvgPool2d => "ceil, nopad, ints, special or a seed",
            Op::BatchNorm => "train, ints, special or a seed",
            Op::UpsampleBilinear => "corners, ints, special or a seed",
            Op::CrossEntropy | Op::BceWithLogits => "weighted, ints, special or a seed",
            Op::Sgd => "nesterov, ints, special or a seed",
            Op::Adam => "decoupled, ints, special or a seed",
            _ => "ints, special or a seed",
        };
        match self.0.first() {
            None => Ok(()),
            Some(flag) => Err(CaseError::syntax("flag", expected, *flag)),
        }
    }
}
