//! Everything that decides a training: one structure, one TOML file, one flag on the command line for each number.

use serde::{Deserialize, Serialize};
use tilewise_kernels::{Adam, Sgd, Shape4};

use super::task::Task;
use crate::data::{self, Augment, Colour, Dataset};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::loss::Loss;
use crate::optimiser::Optimiser;
use crate::schedule::{Decay, Schedule};
use crate::session::Step;
use crate::zoo::{AutoEncoder, Cnn, Network, UNet};

/// What is trained, on what, and how.
///
/// ```
/// use tilewise_model::train::Config;
/// let config = Config::parse("network.net = 'cnn'\nnetwork.blocks = [8, 16]\noptimiser.lr = 0.01")?;
/// assert_eq!((config.optimiser.lr, config.training.batch), (0.01, 64));
/// let error = Config::parse("network.net = 'cnn'\noptimiser.momentun = 0.9").unwrap_err();
/// assert_eq!(error.to_string(), "unknown key optimiser.momentun: did you mean optimiser.momentum?");
/// # Ok::<(), tilewise_model::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The network. Its `in_channels`, `size` and `classes` are those of the data where they are 0.
    pub network: Network,
    /// The images.
    pub data: DataConfig,
    /// How images are changed at random.
    pub augment: Augment,
    /// What is to become small.
    pub loss: LossConfig,
    /// Who changes the weights.
    pub optimiser: OptimiserConfig,
    /// How the learning rate changes.
    pub schedule: ScheduleConfig,
    /// How long, how many at a time, where.
    pub training: TrainingConfig,
}

/// The images, and what becomes of them before a network sees them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// A name or path, as [`data::open`] takes it.
    pub path: String,
    /// Rows and columns that images are resized to; 0 leaves them as they are.
    pub size: usize,
    /// The channels that images get.
    pub colour: Colour,
    /// Whether masks are black, not white, where the object sought is.
    pub invert_masks: bool,
    /// Every so-manieth image is held out, to measure on; with 0 none is, and what is measured is the images trained on.
    pub holdout: usize,
    /// Whether each channel gets mean 0 and deviation 1, as measured on the images trained on.
    pub normalise: bool,
}

/// The names of the losses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "those of `Loss`")]
pub enum LossName {
    CrossEntropy,
    BceWithLogits,
    Mse,
    L1,
    Dice,
    BceDice,
}

/// What is to become small: a [`Loss`], and the settings of all of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossConfig {
    /// Which.
    pub name: LossName,
    /// Of `cross_entropy`: how much of the target is spread over all classes.
    pub label_smoothing: f64,
    /// Of `cross_entropy`: a factor for each class; none is 1 everywhere.
    pub class_weights: Vec<f64>,
    /// Of `bce_with_logits`: how much more a target of 1 weighs than one of 0.
    pub pos_weight: f64,
    /// Of `dice` and `bce_dice`: added above and below the fraction.
    pub smooth: f64,
}

/// The names of the optimisers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "those of `Optimiser`")]
pub enum OptimiserName {
    Sgd,
    Adam,
    AdamW,
}

/// Who changes the weights: an [`Optimiser`], and the settings of all of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimiserConfig {
    /// Which.
    pub name: OptimiserName,
    /// The learning rate, at its peak.
    pub lr: f64,
    /// Of `sgd`: the share of the velocity that is kept.
    pub momentum: f64,
    /// Of `sgd`: whether the gradient is taken ahead of the step.
    pub nesterov: bool,
    /// Of `adam` and `adamw`: the decay of the mean of the gradients.
    pub beta1: f64,
    /// Of `adam` and `adamw`: the decay of the mean of their squares.
    pub beta2: f64,
    /// Of `adam` and `adamw`: added to the root.
    pub eps: f64,
    /// The weight decay; of `adamw`, decoupled.
    pub weight_decay: f64,
    /// Gradients of a larger norm are scaled down to this; 0 lets all be.
    pub clip_norm: f64,
}

/// The names of the schedules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "those of `Decay`")]
pub enum ScheduleName {
    Constant,
    Step,
    Cosine,
}

/// How the learning rate changes: a [`Schedule`], in epochs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// Which.
    pub name: ScheduleName,
    /// Epochs of the warm-up, or a part of one.
    pub warmup: f64,
    /// Of `step`: epochs from one fall to the next.
    pub every: f64,
    /// Of `step`: what is left after each fall.
    pub factor: f64,
    /// Of `cosine`: the share of the learning rate at the end.
    pub floor: f64,
}

/// Where a network is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// The processor.
    Cpu,
    /// A graphics card, through wgpu.
    Gpu,
}

/// How long, how many at a time, where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// How often each image is seen.
    pub epochs: u64,
    /// Images of a step.
    pub batch: usize,
    /// Decides the first weights, the order of the images and their changes.
    pub seed: u64,
    /// Where.
    pub device: Device,
    /// Threads of the CPU; 0 for all. They change no bit of the result.
    pub threads: usize,
}

/// The most numbers that a network of a configuration may have: 2 GiB, and training takes four times that.
const MAX_NUMBERS: usize = 1 << 29;

impl Config {
    /// What training a network begins with.
    pub fn new(network: Network) -> Self {
        let task = Task::of(&network);
        let (path, loss) = match task {
            Task::Classify => ("digits", LossName::CrossEntropy),
            Task::Reconstruct => ("digits", LossName::Mse),
            Task::Segment => ("cells", LossName::BceWithLogits),
        };
        Config {
            network,
            data: DataConfig {
                path: path.into(),
                size: 0,
                colour: Colour::Keep,
                invert_masks: false,
                holdout: 5,
                // What an AutoEncoder gives back lies within 0..=1, so it gets that.
                normalise: task != Task::Reconstruct,
            },
            augment: Augment::default(),
            loss: LossConfig {
                name: loss,
                label_smoothing: 0.0,
                class_weights: vec![],
                pos_weight: 1.0,
                smooth: 1.0,
            },
            optimiser: OptimiserConfig {
                name: OptimiserName::Adam,
                lr: 1e-3,
                momentum: 0.0,
                nesterov: false,
                beta1: 0.9,
                beta2: 0.999,
                eps: 1e-8,
                weight_decay: 0.0,
                clip_norm: 0.0,
            },
            schedule: ScheduleConfig {
                name: ScheduleName::Constant,
                warmup: 0.0,
                every: 10.0,
                factor: 0.1,
                floor: 0.0,
            },
            training: TrainingConfig {
                epochs: 10,
                batch: if task == Task::Segment { 4 } else { 64 },
                seed: 0,
                device: Device::Cpu,
                threads: 0,
            },
        }
    }

    /// The names that [`Config::named`] knows.
    pub const NAMES: [&str; 6] = ["cnn", "lenet", "vgg", "resnet", "autoencoder", "unet"];

    /// What training a network of this name begins with: one of [`Config::NAMES`], of which `lenet`, `vgg` and `resnet` are CNNs.
    /// Sizes of the network are 0, which is those of the data.
    pub fn named(name: &str) -> Result<Self> {
        let cnn = |cnn: Cnn| Network::Cnn(Cnn { in_channels: 0, size: 0, classes: 0, ..cnn });
        let network = match name {
            "cnn" => cnn(Cnn::default()),
            "lenet" => cnn(Cnn::lenet()),
            "vgg" => cnn(Cnn::vgg()),
            "resnet" => cnn(Cnn::resnet()),
            "autoencoder" => {
                Network::AutoEncoder(AutoEncoder { in_channels: 0, size: 0, ..AutoEncoder::default() })
            }
            "unet" => Network::UNet(UNet { in_channels: 0, size: 0, classes: 0, ..UNet::default() }),
            other => {
                return Err(Error::invalid(
                    "network.net",
                    format!("one of {}", Self::NAMES.join(", ")),
                    other,
                ));
            }
        };
        Ok(Config::new(network))
    }

    /// What the network is trained for.
    pub fn task(&self) -> Task {
        Task::of(&self.network)
    }

    /// The images.
    ///
    /// # Errors
    /// Those of [`data::open`]; [`Error::Invalid`] if they lack what the task needs.
    pub fn open_data(&self) -> Result<Dataset> {
        let DataConfig { size, colour, invert_masks, .. } = self.data;
        let size = (size > 0).then_some([size; 2]);
        let data = data::open_with(&self.data.path, &data::Options { colour, size, invert_masks })?;
        self.task().check(&data)?;
        Ok(data)
    }

    /// Gives the network the sizes of the data where it has none.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it has others, or the images are not square and the network needs that.
    pub fn fit(&mut self, data: &Dataset) -> Result<()> {
        self.task().check(data)?;
        let [h, w] = data.size();
        let any_size = match &self.network {
            Network::Cnn(_) => false,
            Network::AutoEncoder(net) => net.latent == 0,
            Network::UNet(_) => true,
        };
        if h != w && !any_size {
            let what = format!("images for {}", self.network.name());
            return Err(Error::invalid(
                what,
                "as many rows as columns (--size N resizes)",
                format!("{h}x{w}"),
            ));
        }
        let classes = data.class_names().len();
        // An image that is not square may be of any size: what the network is planned for is a square in it.
        let (channels, mut size) = (data.channels(), h.min(w));
        let crop = self.augment.crop;
        if crop > 0 {
            let most = if any_size { size } else { 0 };
            let whose = if any_size { "the images" } else { "a network of one size" };
            if crop > most {
                let expected = format!("at most {most}, as of {whose}");
                return Err(Error::invalid("augment.crop", expected, crop));
            }
            size = crop;
        }
        let fit = |key: &str, own: &mut usize, of_data: usize| match *own {
            0 => {
                *own = of_data;
                Ok(())
            }
            own if own == of_data || (key == "size" && any_size) => Ok(()),
            own => Err(Error::invalid(format!("network.{key}"), format!("{of_data}, as the data has"), own)),
        };
        match &mut self.network {
            Network::Cnn(net) => {
                fit("in_channels", &mut net.in_channels, channels)?;
                fit("size", &mut net.size, size)?;
                fit("classes", &mut net.classes, classes)
            }
            Network::AutoEncoder(net) => {
                fit("in_channels", &mut net.in_channels, channels)?;
                fit("size", &mut net.size, size)
            }
            Network::UNet(net) => {
                fit("in_channels", &mut net.in_channels, channels)?;
                fit("size", &mut net.size, size)?;
                fit("classes", &mut net.classes, 1)
            }
        }
    }

    /// The network.
    ///
    /// # Errors
    /// Those of [`Network::graph`]; [`Error::Invalid`] for one that no memory holds.
    pub fn graph(&self) -> Result<Graph> {
        let graph = self.network.graph()?;
        let numbers = graph.trained();
        if numbers > MAX_NUMBERS {
            return Err(Error::invalid(
                "network: weights",
                format!("at most {MAX_NUMBERS} numbers"),
                numbers,
            ));
        }
        Ok(graph)
    }

    /// Refuses what no training has.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the key.
    pub fn check(&self) -> Result<()> {
        let Config { data, loss, schedule, training, optimiser, .. } = self;
        at_least("training.batch", training.batch as f64, 1.0)?;
        at_least("training.epochs", training.epochs as f64, 1.0)?;
        if data.holdout == 1 {
            return Err(Error::invalid("data.holdout", "0 (none), or at least 2", 1));
        }
        if data.normalise && self.task() == Task::Reconstruct {
            let expected = "false, as an AutoEncoder gives back images of 0 to 1";
            return Err(Error::invalid("data.normalise", expected, true));
        }
        if !self.task().losses().contains(&loss.name) {
            let name = |name: &LossName| loss_of(&LossConfig { name: *name, ..loss.clone() }, 1).name();
            let known: Vec<_> = self.task().losses().iter().map(name).collect();
            let expected = format!("one of {}, for a network of this kind", known.join(", "));
            return Err(Error::invalid("loss.name", expected, name(&loss.name)));
        }
        for (key, value) in [
            ("loss.smooth", loss.smooth),
            ("optimiser.lr", optimiser.lr),
            ("optimiser.weight_decay", optimiser.weight_decay),
            ("optimiser.clip_norm", optimiser.clip_norm),
            ("schedule.warmup", schedule.warmup),
            ("schedule.factor", schedule.factor),
        ] {
            at_least(key, value, 0.0)?;
        }
        for (key, value) in [("loss.pos_weight", loss.pos_weight), ("schedule.every", schedule.every)] {
            if !(value.is_finite() && value > 0.0) {
                return Err(Error::invalid(key, "a number above 0", value));
            }
        }
        loss.class_weights.iter().try_for_each(|weight| at_least("loss.class_weights", *weight, 0.0))?;
        for (key, value) in
            [("loss.label_smoothing", loss.label_smoothing), ("schedule.floor", schedule.floor)]
        {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::invalid(key, "a number from 0 to 1", value));
            }
        }
        match self.step().optimiser {
            Optimiser::Sgd(sgd) => sgd.validate()?,
            Optimiser::Adam(adam) => adam.validate()?,
        }
        Ok(())
    }

    /// What each step does, at the peak of the learning rate.
    pub fn step(&self) -> Step {
        let OptimiserConfig { name, lr, momentum, nesterov, beta1, beta2, eps, weight_decay, clip_norm } =
            self.optimiser;
        let [lr, momentum, beta1, beta2, eps, weight_decay] =
            [lr, momentum, beta1, beta2, eps, weight_decay].map(|value| value as f32);
        let decoupled = name == OptimiserName::AdamW;
        let optimiser = match name {
            OptimiserName::Sgd => Optimiser::Sgd(Sgd { lr, momentum, weight_decay, nesterov }),
            OptimiserName::Adam | OptimiserName::AdamW => {
                Optimiser::Adam(Adam { lr, beta1, beta2, eps, weight_decay, decoupled })
            }
        };
        let outputs = match &self.network {
            Network::UNet(net) => net.classes,
            _ => 1,
        };
        let clip_norm = (clip_norm > 0.0).then_some(clip_norm as f32);
        Step { loss: loss_of(&self.loss, outputs), optimiser, clip_norm }
    }

    /// The learning rate's course, for so many steps an epoch.
    pub fn schedule(&self, steps_per_epoch: u64) -> Schedule {
        let steps = |epochs: f64| (epochs * steps_per_epoch as f64).round() as u64;
        let ScheduleConfig { name, warmup, every, factor, floor } = self.schedule;
        let decay = match name {
            ScheduleName::Constant => Decay::Constant,
            ScheduleName::Step => Decay::Step { every: steps(every).max(1), factor },
            ScheduleName::Cosine => Decay::Cosine { floor },
        };
        let all = self.training.epochs.saturating_mul(steps_per_epoch);
        Schedule { decay, warmup: steps(warmup), steps: all }
    }

    /// The shape of a batch of so many images of the size that the network is planned for.
    ///
    /// # Errors
    /// As [`Config::graph`].
    pub fn input(&self, batch: usize) -> Result<Shape4> {
        Ok(Shape4 { n: batch, ..self.graph()?.input_shape() })
    }
}

fn loss_of(config: &LossConfig, outputs: usize) -> Loss {
    let smooth = config.smooth as f32;
    let weights: Vec<f32> = config.class_weights.iter().map(|weight| *weight as f32).collect();
    match config.name {
        LossName::CrossEntropy => Loss::CrossEntropy {
            class_weights: (!weights.is_empty()).then_some(weights),
            label_smoothing: config.label_smoothing as f32,
            ignore_index: None,
        },
        LossName::BceWithLogits => Loss::BceWithLogits {
            pos_weight: (config.pos_weight != 1.0).then(|| vec![config.pos_weight as f32; outputs]),
        },
        LossName::Mse => Loss::Mse,
        LossName::L1 => Loss::L1,
        LossName::Dice => Loss::Dice { smooth },
        LossName::BceDice => Loss::BceDice { smooth },
    }
}

fn at_least(key: &str, value: f64, least: f64) -> Result<()> {
    if value.is_finite() && value >= least {
        return Ok(());
    }
    Err(Error::invalid(key, format!("a finite number, at least {least}"), value))
}
