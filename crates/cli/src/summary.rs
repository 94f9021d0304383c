//! `tilewise summary`: a network as a table.

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;
use tilewise_bench::files;
use tilewise_model::Summary;
use tilewise_model::train::Config;
use tilewise_model::zoo::{AutoEncoder, Cnn, Network, UNet};

use crate::Outcome;
use crate::hyper::ConfigArgs;
use crate::output::say;

#[derive(Args)]
pub struct SummaryArgs {
    /// The network; lenet, vgg and resnet are CNNs
    #[arg(value_name = "NET", value_parser = PossibleValuesParser::new(Config::NAMES), required_unless_present = "config")]
    net: Option<String>,
    /// Write it as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
}

pub fn run(args: &SummaryArgs) -> Outcome {
    let given = args.config.table(args.net.as_deref(), None)?;
    let mut config = args.config.read(&given)?;
    let images = config.data.size;
    fill(&mut config.network, images);
    let graph = config.graph()?;
    // One image, unless a batch was asked for.
    let asked = given.get("training").is_some_and(|training| training.get("batch").is_some());
    let batch = if asked { config.training.batch } else { 1 };
    let input = tilewise_kernels::Shape4 { n: batch, ..graph.input_shape() };
    let summary = Summary::new(&graph, input)?;
    say(format_args!("{} for images of {}x{}x{}\n", config.network.name(), input.c, input.h, input.w))?;
    say(&summary)?;
    if let Some(path) = &args.json {
        files::write_json(path, &summary)?;
    }
    Ok(true)
}

/// Sizes that the data would decide: those of the networks' defaults.
fn fill(network: &mut Network, images: usize) {
    let or = |own: &mut usize, default: usize| {
        if *own == 0 {
            *own = default;
        }
    };
    match network {
        Network::Cnn(net) => {
            let default = Cnn::default();
            or(&mut net.size, images);
            or(&mut net.in_channels, default.in_channels);
            or(&mut net.size, default.size);
            or(&mut net.classes, default.classes);
        }
        Network::AutoEncoder(net) => {
            let default = AutoEncoder::default();
            or(&mut net.size, images);
            or(&mut net.in_channels, default.in_channels);
            or(&mut net.size, default.size);
        }
        Network::UNet(net) => {
            let default = UNet::default();
            or(&mut net.size, images);
            or(&mut net.in_channels, default.in_channels);
            or(&mut net.size, default.size);
            or(&mut net.classes, default.classes);
        }
    }
}
