//! Every operator, instruction set and algorithm against the naive reference.
//!
//! A case is solved once by the [`oracle`], then by the [`kernels`] on each instruction set and, for conv2d, by each
//! algorithm that supports it; [`crate::compare`] judges. The cases are data: [`crate::suites::check`].

pub mod kernels;
pub mod oracle;
mod report;

pub(crate) use report::REFERENCE;
pub use report::{CheckReport, Failure, NotYet, Row};

use tilewise_kernels::{Conv2dAlgo, Cpu, Isa};

use crate::case::{Case, Inputs, Op, Problem};
use crate::compare::{Comparison, Target};
use crate::suites;

/// What to check. The default is the quick suite on everything that this machine has.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CheckOptions {
    /// Only these operators; empty for all.
    pub ops: Vec<Op>,
    /// Only these instruction sets; empty for all that this machine has.
    pub isas: Vec<Isa>,
    /// Only these algorithms of conv2d; empty for all.
    pub algos: Vec<Conv2dAlgo>,
    /// The full suite: minutes instead of seconds.
    pub full: bool,
    /// This one case instead of a suite (and whatever its operator).
    pub case: Option<Case>,
}

impl CheckOptions {
    /// The instruction sets to run on.
    pub(crate) fn isas(&self) -> Vec<Isa> {
        if self.isas.is_empty() { Isa::available().collect() } else { self.isas.clone() }
    }

    /// Whether cases of `op` are wanted.
    pub(crate) fn wants(&self, op: Op) -> bool {
        self.ops.is_empty() || self.ops.contains(&op)
    }

    /// The ways to solve `problem`: each algorithm for conv2d, the only one for others.
    pub(crate) fn algos(&self, problem: &Problem) -> Vec<Option<Conv2dAlgo>> {
        let wanted = |algo: &Conv2dAlgo| self.algos.is_empty() || self.algos.contains(algo);
        match problem {
            Problem::Conv2d { shape, .. } => {
                Conv2dAlgo::ALL.into_iter().filter(wanted).filter(|a| a.supports(shape)).map(Some).collect()
            }
            _ => vec![None],
        }
    }
}

/// Runs the check. `progress(done, total, case)` is called before each case.
///
/// The report passes only if something ran: a combination that nothing supports is no success.
pub fn run(options: &CheckOptions, progress: &dyn Fn(usize, usize, &str)) -> CheckReport {
    let cases = match &options.case {
        Some(case) => vec![case.clone()],
        None => suites::check::cases(options.full)
            .into_iter()
            .filter(|case| options.wants(case.problem.op()))
            .collect(),
    };
    let mut report = CheckReport::default();
    for (done, case) in cases.iter().enumerate() {
        let text = case.to_string();
        progress(done, cases.len(), &text);
        let prepared = Inputs::generate(case).map(|inputs| {
            let targets = oracle::targets(&case.problem, &inputs, case.numbers);
            (inputs, targets)
        });
        for (isa, algo) in ways(options, &case.problem) {
            let outcome = match &prepared {
                Ok((inputs, targets)) => solve_and_compare(isa, algo, &case.problem, inputs, targets),
                Err(error) => Err(error.to_string()),
            };
            let algo = algo.map_or("-", Conv2dAlgo::name);
            let row = report.row(case.problem.op().name(), isa.name(), algo);
            row.add(outcome, &text, || {
                let algo = if algo == "-" { String::new() } else { format!(" --algo {algo}") };
                format!("tilewise check --isa {isa}{algo} --case \"{text}\"")
            });
        }
    }
    progress(cases.len(), cases.len(), "");
    report
}

/// Every instruction set with every algorithm.
pub(crate) fn ways(options: &CheckOptions, problem: &Problem) -> Vec<(Isa, Option<Conv2dAlgo>)> {
    let algos = options.algos(problem);
    options.isas().into_iter().flat_map(|isa| algos.iter().map(move |&algo| (isa, algo))).collect()
}

/// Solves a problem in one way and compares all that it gives, in the order of [`Problem::outputs`].
///
/// # Errors
/// If the kernels refuse, in words.
pub fn solve_and_compare(
    isa: Isa,
    algo: Option<Conv2dAlgo>,
    problem: &Problem,
    inputs: &Inputs,
    targets: &[Target],
) -> Result<Vec<Comparison>, String> {
    let cpu = Cpu::with_isa(isa).map_err(|e| e.to_string())?;
    let outputs = kernels::solve(&cpu, problem, inputs, algo).map_err(|e| e.to_string())?;
    if outputs.len() != targets.len() {
        return Err(format!("{} outputs, expected {}", outputs.len(), targets.len()));
    }
    Ok(targets.iter().zip(&outputs).map(|(target, got)| target.compare(got)).collect())
}

/// Checks one case on every instruction set by every algorithm that supports it.
///
/// # Errors
/// All failures, with the commands that show them again: what a test prints.
pub fn verify(case: &Case) -> Result<(), String> {
    let report = run(&CheckOptions { case: Some(case.clone()), ..CheckOptions::default() }, &|_, _, _| {});
    if report.passed() {
        return Ok(());
    }
    let lines: Vec<String> = report.failures().map(|f| format!("{}\n  {}", f.message, f.repro)).collect();
    Err(if lines.is_empty() { format!("{case}: nothing ran") } else { lines.join("\n") })
}
