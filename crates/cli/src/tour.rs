//! The main job: `tilewise` without a command.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use tilewise_bench::check::{self, CheckOptions};
use tilewise_bench::report::Matrix;
use tilewise_bench::suites::networks;
use tilewise_bench::survey::Survey;
use tilewise_bench::throughput::{self, Options};
use tilewise_kernels::Cpu;
use tilewise_model::data::Dataset;
use tilewise_model::train::{Config, Trainer};

use crate::args::{AdapterArg, CheckArgs, PICTURE, all_devices};
use crate::output::{Progress, say};
use crate::train::Bar;
use crate::{Outcome, draw_feature_maps};

/// Per convolution: some fifty of them stay within half a minute.
const TIME: Duration = Duration::from_millis(300);

const NEXT: &str = "\
Try next:
  tilewise bench conv2d --suite core --threads 2 --plot core.svg    the same on more threads, as a picture
  tilewise bench conv2d --shapes my-shapes.json                     your own layers
  tilewise train cnn                                                a network of your own, in a folder with its curves
  tilewise train unet --epochs 5                                    one that finds cells under a microscope
  tilewise bench gemm                                               the microkernel against the FMA peak
  tilewise feature-maps photo.jpg                                   your own image
  tilewise bench conv2d --device gpu                                the GPU, by its own clock
  tilewise check --device all --full                                every check, for some minutes
  tilewise help                                                     everything else";

/// What is trained in the end, and for how long: ten seconds are more than enough on most machines.
const NETWORK: &str = "
    network = { net = 'cnn', blocks = [32, 64], dense = [128] }
    training = { epochs = 20, batch = 32 }
    augment.shift = 1
    schedule.name = 'cosine'";
const LEARNING: Duration = Duration::from_secs(10);

pub fn run(adapter: &AdapterArg) -> Outcome {
    let devices = all_devices(adapter)?;
    say(format_args!("# The machine\n\n{}", Survey::new()?))?;

    say("# Every operator, device and algorithm against the naive reference\n")?;
    let progress = Progress::new();
    let options = CheckOptions { devices, isas: CheckArgs::isas(&[])?, ..CheckOptions::default() };
    let check = check::run(&options, &|done, total, case| progress.show(done, total, case));
    progress.clear();
    say(Matrix(&check))?;

    say("# Throughput\n")?;
    let progress = Progress::new();
    let options = Options { time: TIME, ..Options::default() };
    let layers = networks::suite(networks::ALL)?;
    let bench = throughput::conv2d(&layers, throughput::Pass::Forward, &options, &|done, total, name| {
        progress.show(done, total, name)
    })?;
    progress.clear();
    say(&bench)?;

    say("# Feature maps\n")?;
    say(format_args!("{}\n", draw_feature_maps(None, Path::new(PICTURE))?))?;

    say("# A network learns\n")?;
    learn()?;
    say(format_args!("\n{NEXT}"))?;
    Ok(check.passed() && bench.passed())
}

/// Trains a small CNN on the embedded digits, and says how well it reads those that it never saw.
fn learn() -> Result<(), Box<dyn Error>> {
    let config = Config::parse(NETWORK)?;
    let data = config.open_data()?;
    let mut trainer = Trainer::new(Cpu::new()?, config, &data)?;
    let held_out = trainer.data().1.map_or(0, Dataset::len);
    say(format_args!("A small CNN, {} of real handwritten digits; every fifth is kept from it.", data))?;
    let (began, bar) = (Instant::now(), Bar::new());
    while !trainer.is_finished() && began.elapsed() < LEARNING {
        trainer.train_epoch(&mut |progress| bar.show(progress))?;
    }
    bar.clear();
    if let Some(epoch) = trainer.history().last() {
        let accuracy = epoch.metrics[0];
        say(format_args!(
            "After {} rounds in {:.1} s it reads {:.0} of the {held_out} digits that it never saw: {:.1} %.",
            epoch.epoch,
            began.elapsed().as_secs_f64(),
            accuracy * held_out as f64,
            100.0 * accuracy
        ))?;
    }
    Ok(())
}
