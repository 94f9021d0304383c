//! The command line as types.

use std::error::Error;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand, ValueEnum, value_parser};
use tilewise_bench::case::{Case, Op};
use tilewise_bench::check::{CheckOptions, Devices};
use tilewise_bench::gpu;
use tilewise_bench::suites::networks;
use tilewise_bench::throughput::{Mode, ModelProblem, Options, Pass};
use tilewise_kernels::{Conv2dAlgo, Isa};

use crate::compare::CompareArgs;
use crate::detect::DetectArgs;
use crate::predict::PredictArgs;
use crate::summary::SummaryArgs;
use crate::sweep::SweepArgs;
use crate::train::TrainArgs;

/// Convolution, pooling and activation kernels: check them, time them, look at what they do.
///
/// Without a command: names the machine, checks every operator on the CPU and on the GPU if there is one, times the
/// convolutions of well-known networks and draws feature maps. Takes a minute or two.
///
/// Exit code: 0 if all is well, 1 if a result is wrong, 2 if the request cannot be met.
#[derive(Parser)]
#[command(name = "tilewise", version, args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub adapter: AdapterArg,
}

#[derive(clap::Args)]
pub struct AdapterArg {
    /// The GPU: a part of its name, or its number in `tilewise info` [default: the most capable]
    #[arg(long = "adapter", value_name = "NAME|INDEX")]
    pub name_or_index: Option<String>,
}

impl AdapterArg {
    /// The adapter asked for, where no GPU takes part.
    pub fn refuse(&self) -> Result<(), &'static str> {
        match self.name_or_index {
            None => Ok(()),
            Some(_) => Err("--adapter: chooses a GPU, which needs --device gpu (or, to check, all)"),
        }
    }

    pub fn as_deref(&self) -> Option<&str> {
        self.name_or_index.as_deref()
    }
}

#[derive(Subcommand)]
pub enum Command {
    /// Compare the operators and their gradients with the naive reference, or with golden cases of another library
    ///
    /// Each case is solved on every device, conv2d by every algorithm (rows by its name), and then its gradients are compared,
    /// too (rows `gradients`): to the data, to weights, bias and factors, for random gradients to the result. An activation
    /// fused to the end is left away for that. `--algo` chooses among the algorithms, and leaves the gradients out.
    Check(CheckArgs),
    /// Time an operator on the shapes of real networks
    #[command(subcommand)]
    Bench(Bench),
    /// Draw what convolution, ReLU and pooling make of an image
    FeatureMaps(FeatureMapsArgs),
    /// Find what is abnormal: an AutoEncoder that has only seen normal images gives others back badly
    ///
    /// It is trained on the normal images that are not held out, or takes the weights of a file; its losses on them give the
    /// threshold. Then it judges the images held out, and draws the losses, and the worst cases.
    Detect(DetectArgs),
    /// Train AutoEncoder, U-Net and residual U-Net on the same data with the same budget, and compare them
    Compare(CompareArgs),
    /// Name the machine and its GPUs, and measure its FMA peak and memory bandwidth
    Info(InfoArgs),
    /// Train a network on images: a CNN classifies, an AutoEncoder reconstructs, a U-Net segments
    Train(Box<TrainArgs>),
    /// Train every combination of the values that a configuration lists, and rank them
    ///
    /// A value that is a list is tried with each of all others: lr = [0.1, 0.01]. Where it is a list anyway, a list of lists:
    /// blocks = [[16, 32], [32, 64]]. At most 1,000 trainings.
    Sweep(Box<SweepArgs>),
    /// Ask a trained network about images: classes, masks and overlays, or reconstructions
    Predict(PredictArgs),
    /// Show a network as a table: shapes, parameters, MACs, memory
    Summary(Box<SummaryArgs>),
}

#[derive(clap::Args)]
pub struct CheckArgs {
    /// Only these operators
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = named::<Op>(Op::ALL.map(Op::name)))]
    op: Vec<Op>,
    /// Only these instruction sets of the CPU [default: all that this machine has]
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = named::<Isa>(Isa::ALL.map(Isa::name)))]
    isa: Vec<Isa>,
    /// Only these algorithms of conv2d
    #[arg(
        long,
        value_name = "A,B",
        value_delimiter = ',',
        value_parser = named::<Conv2dAlgo>(Conv2dAlgo::ALL.map(Conv2dAlgo::name))
    )]
    algo: Vec<Conv2dAlgo>,
    /// The devices to check; `all` is the CPU, and the GPU if there is one
    #[arg(long, value_enum, default_value_t = Checked::Cpu)]
    device: Checked,
    #[command(flatten)]
    adapter: AdapterArg,
    /// The full suite: minutes instead of seconds
    #[arg(long)]
    full: bool,
    /// One case, for example n1c3h224w224_o64k7x7s2p3 (conv2d, unless --op or a prefix like max_pool2d: names another)
    #[arg(long, value_name = "CASE", conflicts_with = "full")]
    case: Option<String>,
    /// Golden cases of another library: operators, as tools/make_golden.py makes them, or whole networks, as
    /// tools/make_golden_models.py does; of a folder, all its *.safetensors
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["full", "case"])]
    pub golden: Vec<PathBuf>,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Checked {
    Cpu,
    Gpu,
    All,
}

impl CheckArgs {
    /// The instruction sets to check: those asked for, or that of `TILEWISE_ISA`; none for all.
    pub fn isas(asked_for: &[Isa]) -> tilewise_kernels::Result<Vec<Isa>> {
        let forced = asked_for.is_empty() && std::env::var_os("TILEWISE_ISA").is_some();
        if forced { Ok(vec![Isa::selected()?]) } else { asked_for.iter().map(|isa| isa.require()).collect() }
    }

    /// The devices to check. Where all are asked for, a GPU may be missing.
    fn devices(&self) -> Result<Devices, Box<dyn Error>> {
        if self.device == Checked::Gpu && !self.isa.is_empty() {
            return Err("--isa: chooses among those of the CPU, which --device gpu leaves out".into());
        }
        Ok(match self.device {
            Checked::Cpu => self.adapter.refuse().map(|()| Devices::Cpu)?,
            Checked::Gpu => Devices::Gpu(gpu::open(self.adapter.as_deref())?),
            Checked::All => all_devices(&self.adapter)?,
        })
    }

    /// Whether a GPU was asked for that is not there.
    pub fn misses_gpu(&self, options: &CheckOptions) -> bool {
        self.device == Checked::All && options.devices.gpu().is_none()
    }

    /// What to check.
    pub fn options(&self) -> Result<CheckOptions, Box<dyn Error>> {
        let devices = self.devices()?;
        let isas = Self::isas(&self.isa)?;
        let parse = |text: &String| match self.op.as_slice() {
            [op] => Case::parse(*op, text),
            _ => text.parse(),
        };
        let unreadable = |error| format!("--case {}: {error}", self.case.as_deref().unwrap_or_default());
        let case = self.case.as_ref().map(parse).transpose().map_err(unreadable)?;
        let (ops, algos) = (self.op.clone(), self.algo.clone());
        Ok(CheckOptions { ops, devices, isas, algos, full: self.full, case })
    }
}

/// The CPU, and the GPU if there is one.
pub fn all_devices(adapter: &AdapterArg) -> tilewise_kernels::Result<Devices> {
    Ok(gpu::find(adapter.as_deref())?.map_or(Devices::Cpu, Devices::All))
}

#[derive(Subcommand)]
pub enum Bench {
    /// Convolution + bias + ReLU, or a gradient of convolution; weights packed beforehand
    Conv2d(Conv2dArgs),
    /// The microkernel of the CPU, square matrix products, fully connected layers
    Gemm(BenchArgs),
    /// Max, average and global pooling
    Pool(PassArgs),
    /// ReLU and the other activations
    Relu(PassArgs),
    /// Batch normalisation in training
    #[command(name = "batch_norm")]
    BatchNorm(PassArgs),
    /// Steps of SGD, Adam and AdamW, and the clipping of a gradient
    Optimiser(BenchArgs),
    /// A whole network: inference, or steps of training
    Model(ModelArgs),
}

#[derive(clap::Args)]
pub struct ModelArgs {
    /// The network: conv32-pool-conv64-pool-dense128; convolutions to 16 and 32 maps and back; a U-Net of 4 levels
    #[arg(value_parser = PossibleValuesParser::new(ModelProblem::NAMES))]
    network: String,
    /// Feature maps of the U-Net's first level [default: 16]
    #[arg(long, value_name = "N", value_parser = count(1 << 20), allow_negative_numbers = true)]
    base: Option<u64>,
    /// Rows and columns of the images [default: 28; U-Net: 256]
    #[arg(long, value_name = "N", value_parser = count(1 << 20), allow_negative_numbers = true)]
    size: Option<u64>,
    /// Images of a call [default: 64; U-Net: 4]
    #[arg(long, value_name = "N", value_parser = count(1 << 20), allow_negative_numbers = true)]
    batch: Option<u64>,
    /// What to time: the result of a batch, or a step of training (forward, loss, gradients, Adam)
    #[arg(long, value_enum, default_value_t = ModelMode::Infer)]
    mode: ModelMode,
    #[command(flatten)]
    pub measure: MeasureArgs,
    /// Write the row as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl ModelArgs {
    /// What to time.
    pub fn problem(&self) -> Result<(ModelProblem, Mode), &'static str> {
        let [base, size, batch] = [self.base, self.size, self.batch].map(|n| n.map(|n| n as usize));
        let problem =
            ModelProblem::new(&self.network, base, size, batch).ok_or("--base: is of unet alone")?;
        let mode = match self.mode {
            ModelMode::Infer => Mode::Infer,
            ModelMode::Train => Mode::Train,
        };
        Ok((problem, mode))
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum ModelMode {
    Infer,
    Train,
}

/// A number from 1 to `most`.
fn count(most: u64) -> impl TypedValueParser<Value = u64> {
    value_parser!(u64).range(1..=most)
}

#[derive(clap::Args)]
pub struct Conv2dArgs {
    /// The layers to time
    #[arg(long, value_name = "NAME", default_value = networks::CORE, value_parser = networks::suite_names())]
    pub suite: String,
    /// Layers from a JSON file instead: a list of {"name", "n", "c", "h", "w", "k", "r", "s", "p"} = batch, input channels,
    /// height, width, output channels, kernel, stride, padding
    #[arg(long, value_name = "FILE", conflicts_with = "suite")]
    pub shapes: Option<PathBuf>,
    /// What to time: the result, the gradient to the input, or that to the weights. The FLOPs are those of the result each time
    #[arg(long, value_enum, default_value_t = WeightedPass::Forward)]
    pub pass: WeightedPass,
    /// The algorithm of the result [default: what the table chooses for each shape]
    #[arg(long, value_parser = named::<Conv2dAlgo>(Conv2dAlgo::ALL.map(Conv2dAlgo::name)))]
    pub algo: Option<Conv2dAlgo>,
    #[command(flatten)]
    pub measure: MeasureArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

impl Conv2dArgs {
    /// What to time. The gradients choose their algorithms themselves.
    pub fn pass(&self) -> Result<Pass, &'static str> {
        match self.pass {
            WeightedPass::Forward => Ok(Pass::Forward),
            _ if self.algo.is_some() => Err("--algo: chooses among those of --pass forward"),
            WeightedPass::Input => Ok(Pass::Input),
            WeightedPass::Weights => Ok(Pass::Weights),
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum WeightedPass {
    Forward,
    Input,
    Weights,
}

#[derive(clap::Args)]
pub struct PassArgs {
    /// What to time: the result, or the gradients
    #[arg(long, value_enum, default_value_t = PlainPass::Forward)]
    pass: PlainPass,
    #[command(flatten)]
    pub measure: MeasureArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

impl PassArgs {
    pub fn pass(&self) -> Pass {
        match self.pass {
            PlainPass::Forward => Pass::Forward,
            PlainPass::Backward => Pass::Backward,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum PlainPass {
    Forward,
    Backward,
}

#[derive(clap::Args)]
pub struct BenchArgs {
    #[command(flatten)]
    pub measure: MeasureArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(clap::Args)]
pub struct MeasureArgs {
    /// The device to time
    #[arg(long, value_enum, default_value_t = Timed::Cpu)]
    device: Timed,
    #[command(flatten)]
    adapter: AdapterArg,
    /// The number of threads of the CPU [default: 1]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=1024), allow_negative_numbers = true)]
    threads: Option<u16>,
    /// The instruction set of the CPU [default: TILEWISE_ISA, or the fastest that this machine has]
    #[arg(long, value_parser = named::<Isa>(Isa::ALL.map(Isa::name)))]
    isa: Option<Isa>,
    /// Seconds to spend on each row
    #[arg(long, value_name = "SECONDS", default_value = "0.5", value_parser = seconds, allow_negative_numbers = true)]
    time: Duration,
}

#[derive(Clone, Copy, ValueEnum)]
enum Timed {
    Cpu,
    Gpu,
}

impl MeasureArgs {
    pub fn options(&self, algo: Option<Conv2dAlgo>) -> Result<Options, Box<dyn Error>> {
        let gpu = match self.device {
            Timed::Cpu => self.adapter.refuse().map(|()| None)?,
            Timed::Gpu if self.threads.is_some() || self.isa.is_some() => {
                return Err("--threads and --isa: are of the CPU, which --device gpu leaves out".into());
            }
            Timed::Gpu => Some(gpu::open(self.adapter.as_deref())?),
        };
        Ok(Options { gpu, isa: self.isa, threads: self.threads.unwrap_or(1).into(), algo, time: self.time })
    }
}

#[derive(clap::Args)]
pub struct OutputArgs {
    /// Write the rows as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draw the rows as a bar chart (SVG)
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
}

#[derive(clap::Args)]
pub struct FeatureMapsArgs {
    /// A PNG or JPEG, grey or colour [default: one of the embedded handwritten digits]
    pub image: Option<PathBuf>,
    /// Where the picture goes
    #[arg(long, value_name = "FILE.png", default_value = PICTURE)]
    pub out: PathBuf,
}

#[derive(clap::Args)]
pub struct InfoArgs {
    /// Write it as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Where feature maps are drawn unless told otherwise.
pub const PICTURE: &str = "feature-maps.png";

/// Accepts the names, and lists them in the help and in errors.
fn named<T>(names: impl IntoIterator<Item = &'static str>) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err: Error + Send + Sync + 'static> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| name.parse::<T>())
}

/// More than zero, an hour at most.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|s| (0.001..=3600.0).contains(s));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "expected seconds between 0.001 and 3600".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn seconds_are_a_time_to_wait() {
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        for bad in ["0", "-1", "inf", "NaN", "1e9", "", "fast"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
