//! The main job: `tilewise` without a command.

use std::path::Path;
use std::time::Duration;

use tilewise_bench::check::{self, CheckOptions};
use tilewise_bench::report::Matrix;
use tilewise_bench::suites::networks;
use tilewise_bench::survey::Survey;
use tilewise_bench::throughput::{self, Options};

use crate::args::{AdapterArg, CheckArgs, PICTURE, all_devices};
use crate::output::{Progress, say};
use crate::{Outcome, draw_feature_maps};

/// Per convolution: some fifty of them stay within half a minute.
const TIME: Duration = Duration::from_millis(300);

const NEXT: &str = "\
Try next:
  tilewise bench conv2d --suite core --threads 2 --plot core.svg    the same on more threads, as a picture
  tilewise bench conv2d --shapes my-shapes.json                     your own layers
  tilewise bench gemm                                               the microkernel against the FMA peak
  tilewise feature-maps photo.jpg                                   your own image
  tilewise bench conv2d --device gpu                                the GPU, by its own clock
  tilewise check --device all --full                                every check, for some minutes
  tilewise help                                                     everything else";

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
    say(format_args!("{}\n\n{NEXT}", draw_feature_maps(None, Path::new(PICTURE))?))?;
    Ok(check.passed() && bench.passed())
}
