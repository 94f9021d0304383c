//! `tilewise compare`: AutoEncoder and U-Net on the same data, with the same budget.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::value_parser;
use tilewise_bench::files;
use tilewise_bench::machine::{forget_peak_memory, peak_memory};
use tilewise_bench::report::{Contender, Contest};
use tilewise_kernels::Training;
use tilewise_model::compare::{Field, Task};
use tilewise_model::data::{self, Augment, Options};
use tilewise_model::fit::Fit;

use crate::Outcome;
use crate::device::{Device, DeviceArgs};
use crate::output::{Progress, say};

#[derive(clap::Args)]
pub struct CompareArgs {
    /// What they are compared in: masks of images, images given back, or the abnormal images found
    #[arg(long, default_value = "segment", value_parser = task())]
    task: Task,
    /// `cells` or `digits`, or a file or folder; to segment, with masks [default: cells; for anomalies, digits]
    #[arg(long, value_name = "NAME|PATH")]
    data: Option<PathBuf>,
    /// For anomalies: the class that is normal [default: the first]
    #[arg(long, value_name = "CLASS")]
    normal: Option<String>,
    /// Resize the images to so many rows and columns
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..), allow_negative_numbers = true)]
    size: Option<u16>,
    /// Masks are black where the object sought is
    #[arg(long)]
    invert_masks: bool,
    /// Every so-manieth image is held out
    #[arg(long, value_name = "K", default_value_t = 5)]
    holdout: usize,
    /// Feature maps of the U-Nets' first level
    #[arg(long, value_name = "N", default_value_t = 8)]
    base: usize,
    /// How often the U-Nets go down [default: as the images allow, at most 4 times]
    #[arg(long, value_name = "N")]
    levels: Option<usize>,
    /// Numbers in the middle of the AutoEncoder, except to segment; 0 for none but its feature maps
    #[arg(long, value_name = "N", default_value_t = 16)]
    latent: usize,
    /// The learning rate
    #[arg(long, default_value_t = 2e-3)]
    lr: f32,
    /// Images of a step [default: 16; to segment, 4]
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// How often each image is seen [default: 20; for anomalies, 40]
    #[arg(long, value_name = "N")]
    epochs: Option<u64>,
    /// Decides the first weights and the order of the images
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Flip and transpose images at random
    #[arg(long)]
    symmetries: bool,
    #[command(flatten)]
    device: DeviceArgs,
    /// Rows of the picture
    #[arg(long, value_name = "N", default_value_t = 4)]
    rows: usize,
    /// Where the picture goes
    #[arg(long, value_name = "FILE.png", default_value = "compare.png")]
    out: PathBuf,
    /// Write the table as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn task() -> impl TypedValueParser<Value = Task> {
    PossibleValuesParser::new(Task::ALL.map(Task::name)).try_map(|name| name.parse::<Task>())
}

pub fn run(args: &CompareArgs) -> Outcome {
    match args.device.open()? {
        Device::Cpu(cpu) => compare(args, &cpu),
        Device::Gpu(gpu) => compare(args, &gpu),
    }
}

fn compare<B: Training + Clone>(args: &CompareArgs, device: &B) -> Outcome {
    let task = args.task;
    let path = args.data.clone().unwrap_or_else(|| task.usual_data().into());
    let size = args.size.map(|size| [size.into(); 2]);
    let options = Options { size, invert_masks: args.invert_masks, ..Options::default() };
    let data = data::open_with(&path, &options)?;
    let normal = args.normal.as_deref().map_or(Ok(0), |name| data.class(name))?;
    let field = Field::new(task, &data, normal, args.holdout)?;
    let batch = args.batch.unwrap_or(if task == Task::Segment { 4 } else { 16 });
    let augment = if args.symmetries { Augment::symmetries() } else { Augment::default() };
    let epochs = args.epochs.unwrap_or(if task == Task::Anomaly { 40 } else { 20 });
    let (lr, seed) = (args.lr, args.seed);
    let fit = Fit { goal: task.goal(), lr, batch, epochs, seed, augment };

    let contenders = field.contenders(args.base, args.levels, args.latent);
    let total = contenders.len() * epochs as usize;
    let progress = Progress::new();
    let (mut networks, mut standings) = (Vec::new(), Vec::new());
    for (i, (name, network)) in contenders.iter().enumerate() {
        let is_own = forget_peak_memory();
        let mut show = |epoch: u64, loss: f64| {
            let done = i * epochs as usize + epoch as usize;
            progress.show(done, total, &format!("{name}: loss {loss:.4}"));
        };
        let standing = field.enter(device.clone(), network, &fit, &mut show)?;
        networks.push(Contender::new(name, &standing, peak_memory().filter(|_| is_own)));
        standings.push((*name, standing));
    }
    progress.clear();

    let mut conditions = format!("{} ({data}), every {}th held out", path.display(), args.holdout);
    if task == Task::Anomaly {
        conditions += &format!(", class {} normal", data.class_names()[normal]);
    }
    conditions += &format!("; {epochs} epochs, batches of {batch}, Adam {lr}, seed {seed}");
    let contest = Contest { task: task.name(), conditions, networks };
    say(&contest)?;
    let title = format!("{} after {epochs} epochs", task.name());
    files::write(&args.out, &field.picture(&title, &standings, args.rows)?.png()?)?;
    say(format_args!("\npicture: {}", args.out.display()))?;
    if let Some(path) = &args.json {
        files::write_json(path, &contest)?;
    }
    Ok(true)
}
