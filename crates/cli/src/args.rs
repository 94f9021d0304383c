//! The command line as types.

use std::error::Error;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand, value_parser};
use tilewise_bench::case::{Case, Op};
use tilewise_bench::check::CheckOptions;
use tilewise_bench::suites::networks;
use tilewise_bench::throughput::Options;
use tilewise_kernels::{Conv2dAlgo, Isa};

/// Convolution, pooling and activation kernels: check them, time them, look at what they do.
///
/// Without a command: names the machine, checks every operator, times the convolutions of well-known networks and
/// draws feature maps. Takes a minute or two.
///
/// Exit code: 0 if all is well, 1 if a result is wrong, 2 if the request cannot be met.
#[derive(Parser)]
#[command(name = "tilewise", version)]
pub struct Args {
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Subcommand)]
pub enum Command {
    /// Compare the operators with the naive reference, or with golden cases of another library
    Check(CheckArgs),
    /// Time an operator on the shapes of real networks
    #[command(subcommand)]
    Bench(Bench),
    /// Draw what convolution, ReLU and pooling make of an image
    FeatureMaps(FeatureMapsArgs),
    /// Name the machine and measure its FMA peak and memory bandwidth
    Info(InfoArgs),
}

#[derive(clap::Args)]
pub struct CheckArgs {
    /// Only these operators
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = named::<Op>(Op::ALL.map(Op::name)))]
    op: Vec<Op>,
    /// Only these instruction sets [default: all that this machine has]
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
    /// The device to check
    #[arg(long, value_parser = ["cpu"], default_value = "cpu")]
    device: String,
    /// The full suite: minutes instead of seconds
    #[arg(long)]
    full: bool,
    /// One case, for example n1c3h224w224_o64k7x7s2p3 (conv2d, unless --op or a prefix like max_pool2d: names another)
    #[arg(long, value_name = "CASE", conflicts_with = "full")]
    case: Option<String>,
    /// Golden cases, as tools/make_golden.py makes them
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["full", "case"])]
    pub golden: Vec<PathBuf>,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl CheckArgs {
    /// The instruction sets to check: those asked for, or that of `TILEWISE_ISA`; none for all.
    pub fn isas(asked_for: &[Isa]) -> tilewise_kernels::Result<Vec<Isa>> {
        let forced = asked_for.is_empty() && std::env::var_os("TILEWISE_ISA").is_some();
        if forced { Ok(vec![Isa::selected()?]) } else { asked_for.iter().map(|isa| isa.require()).collect() }
    }

    /// What to check.
    pub fn options(&self) -> Result<CheckOptions, Box<dyn Error>> {
        let isas = Self::isas(&self.isa)?;
        let case = match (&self.case, self.op.as_slice()) {
            (Some(text), [op]) => Some(Case::parse(*op, text)?),
            (Some(text), _) => Some(text.parse()?),
            (None, _) => None,
        };
        Ok(CheckOptions { ops: self.op.clone(), isas, algos: self.algo.clone(), full: self.full, case })
    }
}

#[derive(Subcommand)]
pub enum Bench {
    /// Convolution + bias + ReLU, weights packed beforehand
    Conv2d(Conv2dArgs),
    /// The microkernel, square matrix products, fully connected layers
    Gemm(BenchArgs),
    /// Max, average and global pooling
    Pool(BenchArgs),
    /// ReLU and the other activations
    Relu(BenchArgs),
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
    /// The algorithm [default: what the table chooses for each shape]
    #[arg(long, value_parser = named::<Conv2dAlgo>(Conv2dAlgo::ALL.map(Conv2dAlgo::name)))]
    pub algo: Option<Conv2dAlgo>,
    #[command(flatten)]
    pub measure: MeasureArgs,
    #[command(flatten)]
    pub output: OutputArgs,
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
    /// The number of threads
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u16).range(1..=1024), allow_negative_numbers = true)]
    threads: u16,
    /// The instruction set [default: TILEWISE_ISA, or the fastest that this machine has]
    #[arg(long, value_parser = named::<Isa>(Isa::ALL.map(Isa::name)))]
    isa: Option<Isa>,
    /// Seconds to spend on each row
    #[arg(long, value_name = "SECONDS", default_value = "0.5", value_parser = seconds, allow_negative_numbers = true)]
    time: Duration,
}

impl MeasureArgs {
    pub fn options(&self, algo: Option<Conv2dAlgo>) -> Options {
        Options { isa: self.isa, threads: self.threads.into(), algo, time: self.time }
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
