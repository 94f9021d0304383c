//! Golden cases: what another library computed, in a safetensors file: operators, or whole networks ([`network`]).
//!
//! Of operators, the metadata key `cases` of the file is a JSON list; each entry is
//! `{"name", "op", "params": {...}, "inputs": [...], "outputs": [...], "grads": [...]}`, and the tensor of input `x` is
//! stored as `NAME/x`. `grads` names gradients (`gx` for `x`) for the incoming gradient `gy`, which is stored as an input.
//! Tensors are f32, labels i64. `tools/make_golden.py` makes such files.
//!
//! A case becomes a [`Problem`], and from there everything is as in [`crate::check`]: solved on every device by
//! every algorithm, within the same tolerances, and so are its gradients. The oracle's own answers are held against the file,
//! too, in rows of the device `reference`. The files come from strangers, so nothing in them is believed: a file that cannot be
//! read is an error, a case that cannot be understood a failure of its operator, and nothing is skipped in silence.

mod file;
pub mod network;
mod problem;

use std::path::{Path, PathBuf};

use tilewise_kernels::{Conv2dAlgo, Tensor, UpsampleMode};

use crate::case::{Inputs, Numbers, Op, Problem};
use crate::check::{self, CheckOptions, CheckReport, Device, REFERENCE, gradients, oracle};
use crate::compare::{Comparison, Target};
use file::{CaseEntry, GoldenFile};

/// Roundings that lie between a term as the other library had it and the file: one of an input or a parameter, which
/// it may have had in f64, and one of the result.
const FILE_ROUNDINGS: usize = 2;

/// The share of the kernels' tolerance that f64 sums taken in another order need.
const ANOTHER_ORDER: f64 = 1e-6;

/// How the names of golden files end, in folders.
const ENDING: &str = "safetensors";

/// Why a file cannot be read as golden cases.
#[derive(Debug, thiserror::Error)]
pub enum GoldenError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// It is no safetensors file with cases or networks, or a folder without such files.
    #[error("{}: {what}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// Checks the cases of all files: those whose operator `options.ops` names, on `options.devices`, by `options.algos`.
/// Of a folder, all files that end in `.safetensors`. Networks are checked unless operators or algorithms are chosen.
/// `progress(done, total, case)` is called before each case.
///
/// # Errors
/// [`GoldenError`], before anything is computed, if a file cannot be read.
pub fn run(
    paths: &[PathBuf],
    options: &CheckOptions,
    progress: &dyn Fn(usize, usize, &str),
) -> Result<CheckReport, GoldenError> {
    let paths = files_at(paths)?;
    let files = paths.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    let total = files.iter().map(|f| f.cases.len() + f.networks.len()).sum();
    let (mut report, mut done) = (CheckReport::new(&options.devices), 0);
    for (path, file) in paths.iter().zip(&files) {
        for entry in &file.cases {
            progress(done, total, &entry.name);
            check_case(path, file, entry, options, &mut report);
            done += 1;
        }
        for entry in &file.networks {
            progress(done, total, &entry.name);
            network::check(path, file, entry, options, &mut report);
            done += 1;
        }
    }
    progress(total, total, "");
    Ok(report)
}

/// These files, and those in these folders, by name.
fn files_at(paths: &[PathBuf]) -> Result<Vec<PathBuf>, GoldenError> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let refused = |source| GoldenError::Read { path: path.clone(), source };
        let entries = std::fs::read_dir(path).map_err(refused)?.map(|entry| entry.map(|entry| entry.path()));
        let mut inside = entries.collect::<Result<Vec<_>, _>>().map_err(refused)?;
        inside.retain(|file| file.extension().is_some_and(|ending| ending == ENDING));
        inside.sort();
        if inside.is_empty() {
            let what = format!("expected at least one file *.{ENDING} in the folder, got none");
            return Err(GoldenError::Malformed { path: path.clone(), what });
        }
        files.append(&mut inside);
    }
    Ok(files)
}

fn read(path: &Path) -> Result<GoldenFile, GoldenError> {
    let bytes = std::fs::read(path).map_err(|source| GoldenError::Read { path: path.to_owned(), source })?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    GoldenFile::parse(bytes, &name).map_err(|what| GoldenError::Malformed { path: path.to_owned(), what })
}

fn check_case(
    path: &Path,
    file: &GoldenFile,
    entry: &CaseEntry,
    options: &CheckOptions,
    report: &mut CheckReport,
) {
    // A name that is no operator is never filtered away.
    if entry.op.parse::<Op>().is_ok_and(|op| !options.wants(op)) {
        return;
    }
    let repro = |device: Option<&Device>, algo: &str| {
        let algo = if algo == "-" { String::new() } else { format!(" --algo {algo}") };
        let device = device.map_or(String::new(), |device| format!(" {}", device.flags()));
        format!("tilewise check --op {}{device}{algo} --golden \"{}\"", entry.op, path.display())
    };
    let golden = match GoldenCase::read(file, entry) {
        Ok(golden) => golden,
        Err(message) => {
            let row = report.row(&entry.op, "-", "-");
            row.add(Err(message), &entry.name, || repro(None, "-"));
            return;
        }
    };
    check_gradients(file, entry, &golden, options, report, &repro);
    let own = |algo| oracle::targets(&golden.problem, &golden.inputs, Numbers::Real, algo);
    report.row(&entry.op, REFERENCE, "f64").add(
        compare_oracle(&own(None), &golden.outputs),
        &entry.name,
        || repro(None, "-"),
    );
    let with_values = |(own, want): (Target, &Tensor)| own.with_values(want.data(), FILE_ROUNDINGS);
    let targets = |algo| -> Option<Vec<Target>> {
        own(algo).into_iter().zip(&golden.outputs).map(with_values).collect()
    };
    let of_all = targets(None);
    let mut by_algo = check::TargetsByAlgo::default();
    for (device, algo) in check::ways(options, &golden.problem) {
        let outcome = match &of_all {
            Some(of_all) => {
                let targets = by_algo.get(algo, of_all, || targets(algo).unwrap_or_default());
                check::solve_and_compare(&device, algo, &golden.problem, &golden.inputs, targets)
            }
            None => Err("the oracle's answer has another length".to_owned()),
        };
        let algo = algo.map_or("-", Conv2dAlgo::name);
        let row = report.row(&entry.op, device.name(), algo);
        row.add(outcome, &entry.name, || repro(Some(&device), algo));
    }
}

/// The oracle in f64 against the outputs in the file.
fn compare_oracle(own: &[Target], golden: &[Tensor]) -> Result<Vec<Comparison>, String> {
    own.iter().zip(golden).map(|(own, golden)| compare_in_f64(own, golden, ANOTHER_ORDER)).collect()
}

/// Each gradient in the file against the oracle in f64 and, on every device, against the kernels.
fn check_gradients(
    file: &GoldenFile,
    entry: &CaseEntry,
    GoldenCase { problem, inputs, .. }: &GoldenCase,
    options: &CheckOptions,
    report: &mut CheckReport,
    repro: &dyn Fn(Option<&Device>, &str) -> String,
) {
    if entry.grads.is_empty() {
        return;
    }
    let y = problem.outputs()[0].shape;
    let gy = file.tensor(&entry.name, "gy", y);
    let own = gy.as_ref().map_err(Clone::clone).map(|gy| gradients::reference(problem, inputs, gy.data()));
    let mut add = |device: Option<&Device>, name: &str, outcome: Result<Comparison, String>| {
        let case = format!("{}/{name}", entry.name);
        let row = report.row(&entry.op, device.map_or(REFERENCE, Device::name), check::GRADIENTS);
        row.add(outcome.map(|comparison| vec![comparison]), &case, || repro(device, "-"));
    };
    // PyTorch's CPU kernel of this one gradient adds the pixels that copied an input in f32, whatever the type of the
    // tensors: its sums went through the roundings that are counted for ours.
    let in_f32 = matches!(problem, Problem::Upsample(shape) if shape.mode() == UpsampleMode::Nearest);
    let share = if in_f32 { 1.0 } else { ANOTHER_ORDER };
    let read = |name: &str| -> Result<(Target, Tensor), String> {
        let own = own.as_ref().map_err(Clone::clone)?.iter().find(|(own, _)| own == name);
        let (_, own) = own
            .ok_or_else(|| format!("{}: {name} is the gradient of no operand of this operator", entry.op))?;
        Ok((Target::rounded(own.clone()), file.tensor(&entry.name, name, own.shape)?))
    };
    let golden: Vec<_> = entry.grads.iter().map(|name| (name, read(name))).collect();
    for (name, read) in &golden {
        let compare = |(own, golden): &(Target, Tensor)| compare_in_f64(own, golden, share);
        add(None, name, read.as_ref().map_err(Clone::clone).and_then(compare));
    }
    if !options.algos.is_empty() {
        return;
    }
    let operands = gradients::operands(problem);
    for device in options.devices() {
        let solved = gy
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|gy| device.gradients(problem, inputs, gy).map_err(|e| e.to_string()));
        for (name, read) in &golden {
            let compare = || {
                let (own, golden) = read.as_ref().map_err(Clone::clone)?;
                let at = operands.iter().position(|operand| operand.name == **name);
                let at = at.ok_or_else(|| format!("{name}: no kernel computes this gradient"))?;
                let algo = device.algo_of_gradient(problem, name, inputs).map_err(|e| e.to_string())?;
                let gy = gy.as_ref().map_err(Clone::clone)?;
                let own = check::winograd::gradient(own, algo, problem, name, inputs, gy);
                let target = own.with_values(golden.data(), FILE_ROUNDINGS);
                let target = target.ok_or("the oracle's answer has another length")?;
                Ok(target.compare(&solved.as_ref().map_err(Clone::clone)?[at]))
            };
            add(Some(&device), name, compare());
        }
    }
}

/// The oracle in f64 against one tensor: nothing but the roundings of the file itself may lie between them, and this
/// share of the kernels' tolerance.
fn compare_in_f64(own: &Target, golden: &Tensor, share: f64) -> Result<Comparison, String> {
    let rounded = own.value.iter().map(|&v| v as f32).collect();
    let rounded = Tensor::from_vec(own.shape, rounded).map_err(|e| e.to_string())?;
    let tolerance = own.tolerance.iter().map(|t| t * share).collect();
    let target = Target { tolerance, ..own.clone() }
        .with_values(golden.data(), FILE_ROUNDINGS)
        .ok_or("the oracle's answer has another length")?;
    Ok(target.compare(&rounded))
}

/// A case of a file, understood.
struct GoldenCase {
    problem: Problem,
    inputs: Inputs,
    outputs: Vec<Tensor>,
}

impl GoldenCase {
    /// Understands the parameters and takes every tensor that the problem names, of exactly its extents.
    fn read(file: &GoldenFile, entry: &CaseEntry) -> Result<Self, String> {
        let problem = problem::understand(file, entry)?.validated().map_err(|e| e.to_string())?;
        let take = |listed: &[String], list: &str, operands: Vec<crate::case::Operand>| {
            operands
                .iter()
                .map(|operand| {
                    if !listed.contains(&operand.name) {
                        return Err(format!("{} is not among its {list}", operand.name));
                    }
                    file.tensor(&entry.name, &operand.name, operand.shape)
                })
                .collect::<Result<Vec<_>, _>>()
        };
        let tensors = take(&entry.inputs, "inputs", problem.inputs())?;
        let outputs = take(&entry.outputs, "outputs", problem.outputs())?;
        let labels = match &problem {
            Problem::CrossEntropy { input, .. } => {
                let ignored = problem::ignore_index(entry);
                file.labels(&entry.name, "labels", *input, ignored)?
            }
            _ => Vec::new(),
        };
        refuse_unknown(entry, &problem)?;
        Ok(GoldenCase { problem, inputs: Inputs { tensors, labels }, outputs })
    }
}

/// A tensor that the problem does not use means that the case was not understood.
fn refuse_unknown(entry: &CaseEntry, problem: &Problem) -> Result<(), String> {
    let mut known: Vec<String> =
        problem.inputs().into_iter().chain(problem.outputs()).map(|o| o.name).collect();
    known.extend(["gy", "labels"].map(str::to_owned));
    match entry.inputs.iter().chain(&entry.outputs).find(|name| !known.contains(name)) {
        Some(name) => Err(format!("{}: {name} is no operand of this operator", entry.op)),
        None => Ok(()),
    }
}
