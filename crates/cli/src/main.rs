//! `tilewise`: parses, calls [`tilewise_bench`] and [`tilewise_model`], prints. Exit code 0 only if all is well, 1 if a result is wrong, 2 if the
//! request cannot be met.

mod args;
mod compare;
mod detect;
mod device;
mod hyper;
mod output;
mod predict;
mod summary;
mod sweep;
mod tour;
mod train;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use tilewise_bench::gpu::HOW_TO_GET_ONE;
use tilewise_bench::report::Report;
use tilewise_bench::suites::{networks, read_shapes};
use tilewise_bench::survey::Survey;
use tilewise_bench::{check, feature_maps::FeatureMaps, files, golden, plot, throughput};
use tilewise_kernels::Cpu;

use args::{Args, Bench, CheckArgs, Command, Conv2dArgs, FeatureMapsArgs, InfoArgs, ModelArgs, OutputArgs};
use output::{Progress, say, warn};

/// Whether everything that was computed is right.
type Outcome = Result<bool, Box<dyn Error>>;

fn main() -> ExitCode {
    let Args { command, adapter } = Args::parse();
    let outcome = match command {
        None => tour::run(&adapter),
        Some(Command::Check(args)) => run_check(args),
        Some(Command::Bench(args)) => run_bench(args),
        Some(Command::FeatureMaps(args)) => run_feature_maps(&args),
        Some(Command::Detect(args)) => detect::run(&args),
        Some(Command::Compare(args)) => compare::run(&args),
        Some(Command::Info(args)) => run_info(&args),
        Some(Command::Train(args)) => train::run(&args),
        Some(Command::Sweep(args)) => sweep::run(&args),
        Some(Command::Predict(args)) => predict::run(&args),
        Some(Command::Summary(args)) => summary::run(&args),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            warn(format_args!("tilewise: {error}"));
            ExitCode::from(2)
        }
    }
}

fn run_check(args: CheckArgs) -> Outcome {
    let options = args.options()?;
    let skipped = args.misses_gpu(&options).then(|| format!("THE GPU WAS SKIPPED: {HOW_TO_GET_ONE}"));
    skipped.iter().for_each(warn);
    let (golden, json) = (args.golden, args.json);
    let progress = Progress::new();
    let report = match golden.as_slice() {
        [] => check::run(&options, &|done, total, case| progress.show(done, total, case)),
        files => golden::run(files, &options, &|done, total, case| progress.show(done, total, case))?,
    };
    progress.clear();
    say(&report)?;
    skipped.iter().try_for_each(say)?;
    if let Some(path) = json {
        files::write_json(&path, &report)?;
    }
    if report.cases() == 0 && report.failures().next().is_none() {
        return Err("nothing was checked: no case fits what was asked for".into());
    }
    Ok(report.passed())
}

fn run_bench_model(args: &ModelArgs) -> Outcome {
    let (problem, mode) = args.problem()?;
    let row = throughput::model(&problem, mode, &args.measure.options(None)?)?;
    say(&row)?;
    if let Some(path) = &args.json {
        files::write_json(path, &[&row])?;
    }
    Ok(row.passed())
}

fn run_bench(args: Bench) -> Outcome {
    let progress = Progress::new();
    let show = |done, total, name: &str| progress.show(done, total, name);
    let (report, output) = match args {
        Bench::Conv2d(args) => {
            let pass = args.pass()?;
            let Conv2dArgs { suite, shapes, algo, measure, output, .. } = args;
            let layers = match shapes {
                Some(path) => read_shapes(&path)?,
                None => networks::suite(&suite)?,
            };
            (throughput::conv2d(&layers, pass, &measure.options(algo)?, &show)?, output)
        }
        Bench::Gemm(args) => (throughput::gemm(&args.measure.options(None)?, &show)?, args.output),
        Bench::Pool(args) => {
            (throughput::pool(args.pass(), &args.measure.options(None)?, &show)?, args.output)
        }
        Bench::Relu(args) => {
            (throughput::relu(args.pass(), &args.measure.options(None)?, &show)?, args.output)
        }
        Bench::BatchNorm(args) => {
            (throughput::batch_norm(args.pass(), &args.measure.options(None)?, &show)?, args.output)
        }
        Bench::Model(args) => return run_bench_model(&args),
        Bench::Optimiser(args) => (throughput::optimiser(&args.measure.options(None)?, &show)?, args.output),
    };
    progress.clear();
    publish(&report, &output)
}

/// Prints a bench report and writes the files asked for.
fn publish(report: &Report, output: &OutputArgs) -> Outcome {
    say(report)?;
    if let Some(path) = &output.json {
        files::write_json(path, report)?;
    }
    if let Some(path) = &output.plot {
        files::write(path, plot::bars(report)?.as_bytes())?;
    }
    Ok(report.passed())
}

fn run_feature_maps(args: &FeatureMapsArgs) -> Outcome {
    say(draw_feature_maps(args.image.as_deref(), &args.out)?)?;
    Ok(true)
}

/// Writes the picture and says how its maps came about.
fn draw_feature_maps(image: Option<&Path>, out: &Path) -> Result<String, Box<dyn Error>> {
    let maps = FeatureMaps::new(&Cpu::new()?, image)?;
    files::write(out, &maps.png(out)?)?;
    Ok(format!("{maps}picture:       {}", out.display()))
}

fn run_info(args: &InfoArgs) -> Outcome {
    let survey = Survey::new()?;
    say(format_args!("tilewise {}\n{survey}", env!("CARGO_PKG_VERSION")))?;
    if let Some(path) = &args.json {
        files::write_json(path, &survey)?;
    }
    Ok(true)
}
