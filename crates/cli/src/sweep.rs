//! `tilewise sweep`: every combination of some values, trained and ranked.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::Serialize;
use tilewise_bench::{files, gpu};
use tilewise_model::train::{Config, Device, History, Variant, variants};

use crate::Outcome;
use crate::args::AdapterArg;
use crate::hyper::ConfigArgs;
use crate::output::say;
use crate::train::{Job, on_cpu};

#[derive(Args)]
pub struct SweepArgs {
    /// The network, where the configuration does not name it
    #[arg(value_name = "NET", value_parser = PossibleValuesParser::new(Config::NAMES), required_unless_present = "config")]
    net: Option<String>,
    /// The folder for the trainings, one folder each
    #[arg(long, value_name = "DIR", default_value = "runs/sweep")]
    out: PathBuf,
    /// Go on with a sweep that was stopped; what is finished is not trained again
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    adapter: AdapterArg,
    /// Write the ranking as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
}

/// A training of the sweep.
#[derive(Serialize)]
struct Row {
    choices: Vec<(String, String)>,
    epoch: u64,
    metrics: Vec<f64>,
    loss: f64,
    /// Why there is no result.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
    run: PathBuf,
}

#[derive(Serialize)]
struct Report<'a> {
    metrics: &'a [String],
    ranking: &'a [Row],
}

pub fn run(args: &SweepArgs) -> Outcome {
    let named = |error| match &args.config.config {
        Some(path) => format!("{}: {error}", path.display()),
        None => format!("{error}"),
    };
    let variants = variants(&args.config.table(args.net.as_deref(), None)?).map_err(named)?;
    let (mut rows, mut metrics): (Vec<Row>, Vec<String>) = (Vec::new(), Vec::new());
    for (i, variant) in variants.iter().enumerate() {
        let chosen = variant.choices.iter().map(|(key, value)| format!("{key} = {value}"));
        say(format_args!("\n# {} of {}: {}", i + 1, variants.len(), chosen.collect::<Vec<_>>().join(", ")))?;
        let folder = args.out.join(format!("{:03}", i + 1));
        let (row, names) = train(args, variant, &folder)?;
        if let Some(names) = names {
            metrics = names;
        }
        rows.push(row);
    }
    // NaN is no number to rank by; failures go last.
    let rank =
        |row: &Row| row.metrics.first().copied().filter(|value| !value.is_nan()).unwrap_or(f64::NEG_INFINITY);
    rows.sort_by(|a, b| rank(b).total_cmp(&rank(a)));
    say(format_args!("\n{}", table(&variants, &metrics, &rows)))?;
    if let Some(path) = &args.json {
        files::write_json(path, &Report { metrics: &metrics, ranking: &rows })?;
    }
    Ok(true)
}

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// Trains one; a training that diverges is a result, too.
fn train(args: &SweepArgs, variant: &Variant, folder: &Path) -> Fallible<(Row, Option<Vec<String>>)> {
    let training = variant.config.training.clone();
    let job = Job::new(folder, args.resume, variant.config.clone())?;
    let outcome: Fallible<History> = match training.device {
        Device::Cpu => {
            args.adapter.refuse()?;
            on_cpu(training.threads, |cpu| job.train(cpu))
        }
        Device::Gpu => {
            let device = gpu::open(args.adapter.as_deref())?;
            job.train(device).map_err(Into::into)
        }
    };
    let mut row = Row {
        choices: variant.choices.clone(),
        epoch: 0,
        metrics: vec![],
        loss: f64::NAN,
        failed: None,
        run: folder.to_owned(),
    };
    match outcome {
        Ok(history) => {
            if let Some(best) = history.best() {
                (row.epoch, row.metrics, row.loss) = (best.epoch, best.metrics.clone(), best.loss);
            }
            Ok((row, Some(history.metrics)))
        }
        Err(error) => match error.downcast_ref() {
            Some(tilewise_model::Error::Diverged { .. }) => {
                say(format_args!("{error}"))?;
                row.failed = Some(error.to_string());
                Ok((row, None))
            }
            _ => Err(error),
        },
    }
}

/// The trainings, the best first.
fn table(variants: &[Variant], metrics: &[String], rows: &[Row]) -> String {
    let mut keys: Vec<&str> = Vec::new();
    for (key, _) in variants.iter().flat_map(|variant| &variant.choices) {
        if !keys.contains(&key.as_str()) {
            keys.push(key);
        }
    }
    let header = ["rank"].into_iter().chain(keys.iter().copied()).chain(metrics.iter().map(String::as_str));
    let header: Vec<&str> = header.chain(["loss", "epoch", "run"]).collect();
    let mut lines = vec![header.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()];
    for (i, row) in rows.iter().enumerate() {
        let choice = |key: &&str| {
            let found = row.choices.iter().find(|(own, _)| own == key);
            found.map_or("-".to_owned(), |(_, value)| value.clone())
        };
        let mut line = vec![(i + 1).to_string()];
        line.extend(keys.iter().map(choice));
        line.extend((0..metrics.len()).map(|i| row.metrics.get(i).map_or("-".into(), |v| format!("{v:.4}"))));
        match row.failed {
            Some(_) => line.extend(["diverged".into(), "-".into()]),
            None => line.extend([format!("{:.4}", row.loss), row.epoch.to_string()]),
        }
        line.push(row.run.display().to_string());
        lines.push(line);
    }
    markdown(&lines)
}

/// Lines of cells, the first being the header, as Markdown.
fn markdown(lines: &[Vec<String>]) -> String {
    let width = |i: usize| lines.iter().map(|line| line[i].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..lines[0].len()).map(width).collect();
    let line = |cells: &[String]| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!(" {cell:<width$} "));
        format!("|{}|", cells.collect::<Vec<_>>().join("|"))
    };
    let rule: Vec<_> = widths.iter().map(|width| "-".repeat(*width)).collect();
    let body = lines[1..].iter().map(|cells| line(cells));
    [line(&lines[0]), line(&rule)].into_iter().chain(body).collect::<Vec<_>>().join("\n")
}
