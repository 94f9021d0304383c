//! `tilewise train`: a network, on images, into a folder.

use std::error::Error;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::PossibleValuesParser;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tilewise_bench::team::Team;
use tilewise_bench::{files, gpu};
use tilewise_kernels::{Cpu, Training};
use tilewise_model::data::Dataset;
use tilewise_model::train::{Config, Device, Epoch, History, Progress, Run, Trainer};

use crate::Outcome;
use crate::args::AdapterArg;
use crate::hyper::ConfigArgs;
use crate::output::say;

#[derive(Args)]
pub struct TrainArgs {
    /// The network; lenet, vgg and resnet are CNNs
    #[arg(
        value_name = "NET",
        value_parser = PossibleValuesParser::new(Config::NAMES),
        required_unless_present_any = ["config", "resume"]
    )]
    net: Option<String>,
    /// The folder for configuration, metrics, curves and weights [default: the first of runs/NET, runs/NET-2, … that is free;
    /// with --resume, the last that is not]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on where the training in the folder stopped: to the same weights, bit for bit, as if it never had. Only --epochs, --device
    /// and --threads may be given anew
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    adapter: AdapterArg,
    /// Write what happened as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
}

pub fn run(args: &TrainArgs) -> Outcome {
    let folder = place(args)?;
    let old = (args.resume && Run::is_one(&folder)).then(|| Run::open(&folder)?.config()).transpose()?;
    let below = old.map(|config| config.to_table());
    let config = args.config.read(&args.config.table(args.net.as_deref(), below)?)?;
    let training = config.training.clone();
    if training.device == Device::Cpu {
        args.adapter.refuse()?;
    }
    let job = Job::new(&folder, args.resume, config)?;
    let history = match training.device {
        Device::Cpu => on_cpu(training.threads, |cpu| job.train(cpu))?,
        Device::Gpu => job.train(gpu::open(args.adapter.as_deref())?)?,
    };
    let best = history.best();
    if let Some(epoch) = best {
        say(format_args!(
            "best: epoch {}, {}\nrun:  {}",
            epoch.epoch,
            measured(&history, epoch),
            folder.display()
        ))?;
    }
    if let Some(path) = &args.json {
        files::write_json(path, &Report { run: &folder, best, history: &history })?;
    }
    Ok(true)
}

/// What happened, as JSON.
#[derive(Serialize)]
struct Report<'a> {
    run: &'a Path,
    best: Option<&'a Epoch>,
    #[serde(flatten)]
    history: &'a History,
}

/// Runs `f` on the CPU with so many threads; 0 for all.
pub fn on_cpu<T: Send>(
    threads: usize,
    f: impl FnOnce(Cpu) -> tilewise_model::Result<T> + Send,
) -> Result<T, Box<dyn Error>> {
    let cpu = Cpu::new()?;
    Ok(match threads {
        0 => f(cpu)?,
        threads => Team::new(threads)?.run(|| f(cpu.threads(threads)))?,
    })
}

/// The folder of the training.
fn place(args: &TrainArgs) -> Result<PathBuf, Box<dyn Error>> {
    if let Some(folder) = &args.out {
        return Ok(folder.clone());
    }
    let net = match (&args.net, args.resume) {
        (None, true) => return Err("--resume: which? Name the network, or the folder: --out DIR".into()),
        (net, _) => net.as_deref().unwrap_or("training"),
    };
    let folder = |i: usize| match i {
        1 => PathBuf::from(format!("runs/{net}")),
        _ => PathBuf::from(format!("runs/{net}-{i}")),
    };
    let free = (1..).find(|i| !folder(*i).exists()).expect("no disk holds as many");
    Ok(folder(if args.resume { free.saturating_sub(1).max(1) } else { free }))
}

/// A training to be done.
pub struct Job<'a> {
    folder: &'a Path,
    /// The training that is there, if it goes on.
    old: Option<Run>,
    config: Config,
    data: Dataset,
}

impl<'a> Job<'a> {
    /// Reads the data. A training that was stopped before it had begun begins.
    pub fn new(folder: &'a Path, resume: bool, config: Config) -> Result<Self, Box<dyn Error>> {
        let old = (resume && Run::is_one(folder)).then(|| Run::open(folder)).transpose()?;
        let data = config.open_data()?;
        Ok(Job { folder, old, config, data })
    }

    /// Trains, and says how it goes.
    pub fn train<B: Training>(&self, device: B) -> tilewise_model::Result<History> {
        let (run, mut trainer) = match &self.old {
            Some(run) => (run.clone(), run.resume(device, self.config.clone(), &self.data)?),
            None => Run::begin(self.folder, device, self.config.clone(), &self.data)?,
        };
        let (train, held_out) = trainer.data();
        let (images, others) = (train.len(), held_out.map_or(0, Dataset::len));
        let data = format!("{} (trained on {images}, held out {others})", self.data);
        let numbers = trainer.session().graph().trained();
        let net = self.config.network.name();
        // A reader that left, or a full disk behind a pipe, does not stop the training.
        let _ = say(format_args!("{net} of {numbers} numbers, on {data}"));
        if !trainer.history().epochs.is_empty() {
            let _ = say(format_args!("going on after epoch {}", trainer.history().epochs.len()));
        }
        let bar = Bar::new();
        while !trainer.is_finished() {
            trainer.train_epoch(&mut |progress| bar.show(progress))?;
            run.save(&trainer)?;
            let _ = bar.pause(|| say(epoch_line(&trainer)));
        }
        bar.clear();
        Ok(trainer.history().clone())
    }
}

/// The last epoch in a line.
fn epoch_line<B: Training>(trainer: &Trainer<B>) -> String {
    let history = trainer.history();
    let Some(epoch) = history.last() else { return String::new() };
    format!(
        "epoch {:>3}/{}: loss {:.4}, held out {:.4}, {}; {:.0} images/s",
        epoch.epoch,
        trainer.config().training.epochs,
        epoch.train_loss,
        epoch.loss,
        measured(history, epoch),
        epoch.images_per_second
    )
}

/// What was measured in an epoch.
pub fn measured(history: &History, epoch: &Epoch) -> String {
    let pairs = history.metrics.iter().zip(&epoch.metrics);
    pairs.map(|(name, value)| format!("{} {value:.4}", name.replace('_', " "))).collect::<Vec<_>>().join(", ")
}

/// How far the training is: a bar on standard error; nothing where that is no terminal.
pub struct Bar(ProgressBar);

impl Bar {
    pub fn new() -> Self {
        let bar = ProgressBar::new(0);
        // The template is a constant and well-formed; a bar of another style would still be a bar.
        if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {msg}") {
            bar.set_style(style);
        }
        Bar(bar)
    }

    pub fn show(&self, progress: &Progress<'_>) {
        let Progress { epoch, epochs, batch, batches, loss, images_per_second, seconds_left, history } =
            *progress;
        let metric =
            history.last().and_then(|epoch| Some((history.metrics.first()?, epoch.metrics.first()?)));
        let metric = metric.map_or(String::new(), |(name, value)| format!(", {name} {value:.4}"));
        self.0.set_length(batches);
        self.0.set_position(batch);
        self.0.set_prefix(format!("epoch {epoch}/{epochs}"));
        let left = indicatif::HumanDuration(std::time::Duration::from_secs_f64(seconds_left.clamp(0.0, 1e9)));
        self.0.set_message(format!("loss {loss:.4}{metric}, {images_per_second:.0} images/s, {left:#} left"));
    }

    /// Lets `print` print above the bar.
    pub fn pause<T>(&self, print: impl FnOnce() -> T) -> T {
        self.0.suspend(print)
    }

    pub fn clear(&self) {
        self.0.finish_and_clear();
    }
}
