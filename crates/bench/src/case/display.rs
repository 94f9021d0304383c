//! Case to text: what parses back to the same case. Defaults are left out.

use std::fmt;

use tilewise_kernels::{Activation, Adam, Padding, Shape4, UpsampleMode};

use super::{Case, Numbers, Op, Problem, Statistics};

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.problem)?;
        f.write_str(match self.numbers {
            Numbers::Real => "",
            Numbers::Integer => "+ints",
            Numbers::Special => "+special",
        })?;
        if self.seed != 1 {
            write!(f, "+seed{}", self.seed)?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.op() != Op::Conv2d {
            write!(f, "{}:", self.op())?;
        }
        match self {
            Problem::Conv2d { shape, bias, activation } => {
                let p = shape.params();
                extents(f, shape.input())?;
                let [kh, kw] = shape.kernel();
                write!(f, "_o{}k{kh}x{kw}", shape.output().c)?;
                pair(f, "s", p.stride, [1, 1])?;
                padding(f, p.padding)?;
                pair(f, "d", p.dilation, [1, 1])?;
                groups(f, p.groups)?;
                epilogue(f, *bias, *activation)
            }
            Problem::ConvTranspose2d { shape, bias, activation } => {
                let p = shape.params();
                extents(f, shape.input())?;
                let [kh, kw] = shape.kernel();
                write!(f, "_o{}k{kh}x{kw}", shape.output().c)?;
                pair(f, "s", p.stride, [1, 1])?;
                padding(f, p.padding)?;
                pair(f, "e", p.output_padding, [0, 0])?;
                pair(f, "d", p.dilation, [1, 1])?;
                groups(f, p.groups)?;
                epilogue(f, *bias, *activation)
            }
            Problem::MaxPool2d { shape, params: p } => {
                pool(f, shape.input(), p.kernel, p.stride, p.padding, p.ceil_mode)
            }
            Problem::AvgPool2d { shape, params: p } => {
                pool(f, shape.input(), p.kernel, p.stride, p.padding, p.ceil_mode)?;
                f.write_str(if p.count_include_pad { "" } else { "+nopad" })
            }
            Problem::Activation { input, activation } => {
                extents(f, *input)?;
                match activation {
                    Activation::LeakyRelu { slope } => write!(f, "_slope{slope}"),
                    Activation::Elu { alpha } => write!(f, "_alpha{alpha}"),
                    _ => Ok(()),
                }
            }
            Problem::Softmax(shape) => {
                extents(f, shape.input())?;
                write!(f, "_axis{}", shape.axis().index())
            }
            Problem::Linear { shape, bias, activation } => {
                extents(f, shape.input())?;
                write!(f, "_o{}", shape.output().c)?;
                epilogue(f, *bias, *activation)
            }
            Problem::BatchNorm { input, eps, statistics } => {
                extents(f, *input)?;
                write!(f, "_eps{eps}")?;
                match statistics {
                    Statistics::Given => Ok(()),
                    Statistics::Batch => f.write_str("+train"),
                    Statistics::Tracked { momentum } => write!(f, "momentum{momentum}+train"),
                }
            }
            Problem::Upsample(shape) => {
                extents(f, shape.input())?;
                write!(f, "_size{}x{}", shape.output().h, shape.output().w)?;
                let corners = shape.mode() == UpsampleMode::Bilinear { align_corners: true };
                f.write_str(if corners { "+corners" } else { "" })
            }
            Problem::Concat { parts } => {
                let channels: Vec<String> = parts.iter().map(|p| p.c.to_string()).collect();
                let Shape4 { n, h, w, .. } = parts.first().copied().unwrap_or(Shape4::new(0, 0, 0, 0));
                write!(f, "n{n}c{}h{h}w{w}", channels.join(","))
            }
            Problem::Pad { shape, value } => {
                extents(f, shape.input())?;
                f.write_str("_")?;
                padding(f, shape.padding())?;
                write!(f, "v{value}")
            }
            Problem::Crop(shape) => {
                extents(f, shape.input())?;
                f.write_str("_")?;
                padding(f, shape.margins())
            }
            Problem::CrossEntropy { input, weighted, label_smoothing, ignore_index } => {
                extents(f, *input)?;
                let mut names = Names::default();
                names.real(f, "smoothing", *label_smoothing, 0.0)?;
                if let Some(ignored) = ignore_index {
                    names.next(f)?;
                    write!(f, "ignore{ignored}")?;
                }
                f.write_str(if *weighted { "+weighted" } else { "" })
            }
            Problem::BceWithLogits { input, weighted } => {
                extents(f, *input)?;
                f.write_str(if *weighted { "+weighted" } else { "" })
            }
            Problem::Dice { input, smooth } => {
                extents(f, *input)?;
                write!(f, "_smooth{smooth}")
            }
            Problem::Sgd { input, sgd } => {
                extents(f, *input)?;
                write!(f, "_lr{}", sgd.lr)?;
                let mut names = Names { any: true };
                names.real(f, "momentum", sgd.momentum, 0.0)?;
                names.real(f, "decay", sgd.weight_decay, 0.0)?;
                f.write_str(if sgd.nesterov { "+nesterov" } else { "" })
            }
            Problem::Adam { input, adam, step } => {
                extents(f, *input)?;
                let default = Adam::default();
                write!(f, "_lr{}", adam.lr)?;
                if (adam.beta1, adam.beta2) != (default.beta1, default.beta2) {
                    write!(f, "betas{},{}", adam.beta1, adam.beta2)?;
                }
                let mut names = Names { any: true };
                names.real(f, "eps", adam.eps, default.eps)?;
                names.real(f, "decay", adam.weight_decay, default.weight_decay)?;
                write!(f, "step{step}")?;
                f.write_str(if adam.decoupled { "+decoupled" } else { "" })
            }
            Problem::ClipNorm { input, max_norm } => {
                extents(f, *input)?;
                write!(f, "_max{max_norm}")
            }
            Problem::GlobalAvgPool { input }
            | Problem::Add { input }
            | Problem::Mse { input }
            | Problem::L1 { input } => extents(f, *input),
        }
    }
}

/// Fields that are left out where they are the default; the first that is not has an underscore in front.
#[derive(Default)]
struct Names {
    any: bool,
}

impl Names {
    fn next(&mut self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if std::mem::replace(&mut self.any, true) { Ok(()) } else { f.write_str("_") }
    }

    fn real(&mut self, f: &mut fmt::Formatter<'_>, name: &str, value: f32, default: f32) -> fmt::Result {
        if value == default {
            return Ok(());
        }
        self.next(f)?;
        write!(f, "{name}{value}")
    }
}

fn extents(f: &mut fmt::Formatter<'_>, s: Shape4) -> fmt::Result {
    write!(f, "n{}c{}h{}w{}", s.n, s.c, s.h, s.w)
}

/// `s2x1`, or `s2` where both are the same, or nothing where both are the default.
fn pair(f: &mut fmt::Formatter<'_>, name: &str, [h, w]: [usize; 2], default: [usize; 2]) -> fmt::Result {
    if [h, w] == default {
        Ok(())
    } else if h == w {
        write!(f, "{name}{h}")
    } else {
        write!(f, "{name}{h}x{w}")
    }
}

fn padding(f: &mut fmt::Formatter<'_>, p: Padding) -> fmt::Result {
    if p == Padding::symmetric(p.top, p.left) {
        pair(f, "p", [p.top, p.left], [0, 0])
    } else {
        write!(f, "p{},{},{},{}", p.top, p.bottom, p.left, p.right)
    }
}

fn groups(f: &mut fmt::Formatter<'_>, groups: usize) -> fmt::Result {
    if groups == 1 { Ok(()) } else { write!(f, "g{groups}") }
}

fn epilogue(f: &mut fmt::Formatter<'_>, bias: bool, activation: Activation) -> fmt::Result {
    match activation {
        Activation::Identity => {}
        Activation::LeakyRelu { slope } => write!(f, "+leaky_relu{slope}")?,
        Activation::Elu { alpha } => write!(f, "+elu{alpha}")?,
        other => write!(f, "+{}", other.name())?,
    }
    f.write_str(if bias { "" } else { "+nobias" })
}

fn pool(
    f: &mut fmt::Formatter<'_>,
    input: Shape4,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    ceil_mode: bool,
) -> fmt::Result {
    extents(f, input)?;
    write!(f, "_k{}x{}", kernel[0], kernel[1])?;
    pair(f, "s", stride, kernel)?;
    pair(f, "p", padding, [0, 0])?;
    f.write_str(if ceil_mode { "+ceil" } else { "" })
}
