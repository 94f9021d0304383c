//! Every key of a configuration as a flag: what is given lies over the file, and that over what the network begins with.

use std::error::Error;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, value_parser};
use serde::Serialize;
use tilewise_model::train::{Config, overlay, read_table};
use toml::{Table, Value};

/// A configuration: a file, and flags.
#[derive(Args)]
pub struct ConfigArgs {
    /// A configuration in TOML; flags go over what it says
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub hyper: Hyper,
}

impl ConfigArgs {
    /// The table of file and flags for a network, on top of what there may be already.
    pub fn table(&self, net: Option<&str>, below: Option<Table>) -> Result<Table, Box<dyn Error>> {
        let mut table = below.unwrap_or_default();
        if let Some(path) = &self.config {
            overlay(&mut table, &read_table(path)?);
        }
        overlay(&mut table, &Table::try_from(&self.hyper)?);
        let Some(net) = net else { return Ok(table) };
        let kind = |net: &str| Config::named(net).map(|config| config.network.name());
        match table.get("network").and_then(|network| network.get("net")).and_then(Value::as_str) {
            Some(own) if kind(own)? != kind(net)? => {
                return Err(format!("network.net: expected {net}, as on the command line, got {own}").into());
            }
            Some(_) => {}
            None => overlay(&mut table, &Table::from_iter([("network".into(), net_of(net))])),
        }
        Ok(table)
    }

    /// The configuration; an error names the file, if there is one.
    pub fn read(&self, table: &Table) -> Result<Config, Box<dyn Error>> {
        Config::from_table(table).map_err(|error| match &self.config {
            Some(path) => format!("{}: {error}", path.display()).into(),
            None => error.into(),
        })
    }
}

fn net_of(net: &str) -> Value {
    Value::Table(Table::from_iter([("net".into(), Value::from(net))]))
}

/// The sections of a configuration.
#[derive(Args, Serialize, Default)]
pub struct Hyper {
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    data: Data,
    #[command(flatten)]
    augment: Augment,
    #[command(flatten)]
    loss: Loss,
    #[command(flatten)]
    optimiser: Optimiser,
    #[command(flatten)]
    schedule: Schedule,
    #[command(flatten)]
    training: Training,
}

#[derive(Args, Serialize, Default)]
#[command(next_help_heading = "Network")]
struct Network {
    /// Channels of the images [default: those of the data]
    #[arg(long, value_name = "N")]
    in_channels: Option<usize>,
    /// Classes of a cnn, channels of a unet's result [default: those of the data]
    #[arg(long, value_name = "N")]
    classes: Option<usize>,
    /// Of a cnn: feature maps of each block [default: 32,64]
    #[arg(long, value_name = "A,B")]
    blocks: Option<List<usize>>,
    /// Of a cnn: convolutions in each block [default: 1]
    #[arg(long, value_name = "N")]
    convs: Option<usize>,
    /// Of a cnn: rows and columns of the kernels, odd [default: 3]
    #[arg(long, value_name = "N")]
    kernel: Option<usize>,
    /// Of a cnn: features of the dense layers before the last one, or none [default: 128]
    #[arg(long, value_name = "A,B")]
    dense: Option<List<usize>>,
    /// Of a cnn: whether a batch normalisation follows each convolution
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    batch_norm: Option<bool>,
    /// Of a cnn or unet: whether what comes into a block is added to what comes out
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    residual: Option<bool>,
    /// Of a cnn: whether the dense layers see the mean of each feature map only
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    global_pool: Option<bool>,
    /// Of an autoencoder: feature maps of each convolution [default: 16,32]
    #[arg(long, value_name = "A,B")]
    maps: Option<List<usize>>,
    /// Of an autoencoder: numbers in the middle, 0 for none but the feature maps [default: 0]
    #[arg(long, value_name = "N")]
    latent: Option<usize>,
    /// Of an autoencoder: whether the function of the hidden layers follows those numbers, too [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    latent_activation: Option<bool>,
    /// Of a unet: feature maps of the first level [default: 16]
    #[arg(long, value_name = "N")]
    base: Option<usize>,
    /// Of a unet: how often it goes down [default: 4]
    #[arg(long, value_name = "N")]
    levels: Option<usize>,
    /// Of a unet: how it comes up again: transposed or bilinear [default: transposed]
    #[arg(long, value_name = "NAME")]
    up: Option<String>,
    /// Of a unet: whether the way up sees the way down [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    skips: Option<bool>,
    /// The function behind each hidden layer: relu, leaky_relu, relu6, elu, gelu or silu [default: relu]
    #[arg(long, value_name = "NAME")]
    activation: Option<String>,
}

#[derive(Args, Serialize, Default)]
#[command(next_help_heading = "Data")]
struct Data {
    /// The images: digits, cells, or a file or folder (IDX, CIFAR-10, CSV, class folders, images and masks) [default: digits, for a
    /// unet cells]
    #[arg(id = "data", long = "data", value_name = "NAME|PATH")]
    path: Option<String>,
    /// Rows and columns that images are resized to [default: as they are]
    #[arg(long, value_name = "N")]
    size: Option<usize>,
    /// The channels that images get: keep, grey or rgb [default: keep]
    #[arg(long, value_name = "NAME")]
    colour: Option<String>,
    /// Whether masks are black where the object sought is
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    invert_masks: Option<bool>,
    /// Every K-th image is held out, to measure on; 0 for none [default: 5]
    #[arg(long, value_name = "K")]
    holdout: Option<usize>,
    /// Whether each channel gets mean 0 and deviation 1 [default: true, for an autoencoder false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    normalise: Option<bool>,
}

#[derive(Args, Serialize, Default)]
#[command(next_help_heading = "Augmentation")]
struct Augment {
    /// A part of so many rows and columns, anywhere in it, stands for each image: of a unet, or an autoencoder without
    /// latent numbers [default: 0, the whole image]
    #[arg(long, value_name = "PIXELS")]
    crop: Option<usize>,
    /// Half of the images: left becomes right
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    flip_horizontal: Option<bool>,
    /// Half of the images: top becomes bottom
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    flip_vertical: Option<bool>,
    /// Half of the images, if square: rows become columns; with both flips, all rotations by 90 degrees
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    transpose: Option<bool>,
    /// Each image is moved by at most so many pixels, each way [default: 0]
    #[arg(long, value_name = "PIXELS")]
    shift: Option<usize>,
    /// What comes in where an image was moved away: zero or edge [default: zero]
    #[arg(long, value_name = "NAME")]
    fill: Option<String>,
}

#[derive(Args, Serialize, Default)]
#[command(next_help_heading = "Loss")]
struct Loss {
    /// cross_entropy; mse or l1 for an autoencoder [default: mse]; bce_with_logits, dice or bce_dice for a unet [default:
    /// bce_with_logits]
    #[arg(id = "loss", long = "loss", value_name = "NAME")]
    name: Option<String>,
    /// Of cross_entropy: how much of the target is spread over all classes [default: 0]
    #[arg(long, value_name = "SHARE")]
    label_smoothing: Option<f64>,
    /// Of cross_entropy: a factor for each class, or none
    #[arg(long, value_name = "A,B")]
    class_weights: Option<List<f64>>,
    /// Of bce_with_logits: how much more a target of 1 weighs than one of 0 [default: 1]
    #[arg(long, value_name = "FACTOR")]
    pos_weight: Option<f64>,
    /// Of dice and bce_dice: added above and below the fraction [default: 1]
    #[arg(long, value_name = "NUMBER")]
    smooth: Option<f64>,
}

#[derive(Args, Serialize, Default)]
#[command(next_help_heading = "Optimiser")]
struct Optimiser {
    /// sgd, adam or adamw [default: adam]
    #[arg(id = "optimiser", long = "optimiser", value_name = "NAME")]
    name: Option<String>,
    /// The learning rate, at its peak [default: 0.001]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    lr: Option<f64>,
    /// Of sgd: the share of the velocity that is kept [default: 0]
    #[arg(long, value_name = "SHARE")]
    momentum: Option<f64>,
    /// Of sgd: whether the gradient is taken ahead of the step
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    nesterov: Option<bool>,
    /// Of adam, adamw: the decay of the mean of the gradients [default: 0.9]
    #[arg(long, value_name = "SHARE")]
    beta1: Option<f64>,
    /// Of adam, adamw: the decay of the mean of their squares [default: 0.999]
    #[arg(long, value_name = "SHARE")]
    beta2: Option<f64>,
    /// Of adam, adamw: added to the root [default: 1e-8]
    #[arg(long, value_name = "NUMBER")]
    eps: Option<f64>,
    /// The weight decay [default: 0]
    #[arg(long, value_name = "NUMBER")]
    weight_decay: Option<f64>,
    /// Gradients of a larger norm are scaled down to this; 0 lets all be [default: 0]
    #[arg(long, value_name = "NORM")]
    clip_norm: Option<f64>,
}

#[derive(Args, Serialize, Default)]
#[command(next_help_heading = "Schedule of the learning rate")]
struct Schedule {
    /// constant, step or cosine [default: constant]
    #[arg(id = "schedule", long = "schedule", value_name = "NAME")]
    name: Option<String>,
    /// Epochs in which it rises to its peak [default: 0]
    #[arg(long, value_name = "EPOCHS")]
    warmup: Option<f64>,
    /// Of step: epochs from one fall to the next [default: 10]
    #[arg(long, value_name = "EPOCHS")]
    every: Option<f64>,
    /// Of step: what is left after each fall [default: 0.1]
    #[arg(long, value_name = "SHARE")]
    factor: Option<f64>,
    /// Of cosine: the share at the end [default: 0]
    #[arg(long, value_name = "SHARE")]
    floor: Option<f64>,
}

#[derive(Args, Serialize, Default)]
#[command(next_help_heading = "Training")]
struct Training {
    /// How often each image is seen [default: 10]
    #[arg(long, value_name = "N")]
    epochs: Option<u64>,
    /// Images of a step [default: 64, for a unet 4]
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Decides the first weights, the order of the images and their changes [default: 0]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(0..=i64::MAX as u64))]
    seed: Option<u64>,
    /// cpu or gpu [default: cpu]
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// Threads of the CPU, 0 for all; they change no bit of the result [default: 0]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(0..=1024))]
    threads: Option<u64>,
}

/// Values with commas between them, or `none`.
#[derive(Clone, Serialize)]
#[serde(transparent)]
struct List<T>(Vec<T>);

impl<T: FromStr<Err: Display>> FromStr for List<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if matches!(text, "none" | "") {
            return Ok(List(Vec::new()));
        }
        let parse = |part: &str| part.trim().parse().map_err(|e| format!("{part}: {e}"));
        text.split(',').map(parse).collect::<Result<_, _>>().map(List)
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        args: ConfigArgs,
    }

    /// The flag of a key.
    fn flag(section: &str, key: &str) -> String {
        match (section, key) {
            ("loss" | "optimiser" | "schedule", "name") => section.into(),
            ("data", "path") => "data".into(),
            _ => key.replace('_', "-"),
        }
    }

    #[test]
    fn every_key_is_a_flag_and_every_flag_a_key() {
        let command = Flags::command();
        let mut flags: Vec<_> = command
            .get_arguments()
            .filter_map(|arg| arg.get_long())
            .filter(|name| *name != "config")
            .collect();
        let mut unused = flags.clone();
        for net in Config::NAMES {
            for (section, values) in Config::named(net).unwrap().to_table() {
                for key in values.as_table().unwrap().keys().map(String::as_str) {
                    // The network's name is the command's argument; its size is that of the images, --size.
                    if section == "network" && ["net", "size"].contains(&key) {
                        continue;
                    }
                    let flag = flag(&section, key);
                    assert!(flags.contains(&flag.as_str()), "no flag --{flag} for {section}.{key}");
                    unused.retain(|name| *name != flag);
                }
            }
        }
        assert!(unused.is_empty(), "flags without a key: {unused:?}");
        flags.sort_unstable();
        flags.dedup();
        assert!(flags.len() > 40);
    }

    #[test]
    fn flags_go_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        std::fs::write(&path, "[network]\nnet = 'lenet'\n[optimiser]\nlr = 0.5\nmomentum = 0.5").unwrap();
        let path = path.to_str().unwrap();
        let args =
            ["x", "--config", path, "--lr", "0.25", "--dense", "none", "--blocks", "4, 8", "--residual"];
        let args = Flags::parse_from(args).args;
        let config = args.read(&args.table(Some("cnn"), None).unwrap()).unwrap();
        assert_eq!((config.optimiser.lr, config.optimiser.momentum), (0.25, 0.5));
        let tilewise_model::zoo::Network::Cnn(cnn) = config.network else { panic!() };
        assert_eq!((cnn.blocks, cnn.dense, cnn.kernel, cnn.residual), (vec![4, 8], vec![], 5, true));
        let error = args.table(Some("unet"), None).unwrap_err().to_string();
        assert!(error.contains("expected unet") && error.contains("lenet"), "{error}");
    }
}
