//! Every operator, device and algorithm against the naive reference.
//!
//! A case is solved once by the [`oracle`], then by the [`kernels`] on each instruction set of the CPU and on the GPU and,
//! for conv2d, by each algorithm that supports it there; [`crate::compare`] judges. The cases are data:
//! [`crate::suites::check`].

mod device;
pub mod gradients;
pub mod kernels;
pub mod laws;
pub mod oracle;
mod report;
pub(crate) mod winograd;

pub use device::{Device, Devices};
pub use report::{CheckReport, Failure, Row};
pub(crate) use report::{GRADIENTS, REFERENCE};

use tilewise_kernels::{Conv2dAlgo, Isa, Tensor};

use crate::case::{Case, Inputs, Op, Operand, Problem};
use crate::compare::{Comparison, Target};
use crate::{gpu, suites};

/// What to check. The default is the quick suite on every instruction set of this machine's CPU.
#[derive(Debug, Clone, Default)]
pub struct CheckOptions {
    /// Only these operators; empty for all.
    pub ops: Vec<Op>,
    /// The devices to run on.
    pub devices: Devices,
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
    /// Everything that this machine has, as tests want it ([`gpu::of_tests`]).
    pub fn of_tests() -> Self {
        let devices = gpu::of_tests().map_or(Devices::Cpu, |gpu| Devices::All(gpu.clone()));
        CheckOptions { devices, ..CheckOptions::default() }
    }

    /// The devices to run on, the CPU once for each instruction set.
    pub fn devices(&self) -> Vec<Device> {
        let isas = if self.isas.is_empty() { Isa::available().collect() } else { self.isas.clone() };
        self.devices.list(&isas)
    }

    /// Whether cases of `op` are wanted.
    pub(crate) fn wants(&self, op: Op) -> bool {
        self.ops.is_empty() || self.ops.contains(&op)
    }

    /// The ways to solve `problem` on a device: each algorithm for conv2d, the only one for others.
    fn algos(&self, problem: &Problem, device: &Device) -> Vec<Option<Conv2dAlgo>> {
        let wanted = |algo: &Conv2dAlgo| self.algos.is_empty() || self.algos.contains(algo);
        match problem {
            Problem::Conv2d { shape, .. } => {
                let fits = |algo: &Conv2dAlgo| wanted(algo) && device.supports(*algo, shape);
                Conv2dAlgo::ALL.into_iter().filter(fits).map(Some).collect()
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
    let mut report = CheckReport::new(&options.devices);
    for (done, case) in cases.iter().enumerate() {
        let text = case.to_string();
        progress(done, cases.len(), &text);
        let prepared = Inputs::generate(case).map(|inputs| {
            let targets = oracle::targets(&case.problem, &inputs, case.numbers, None);
            (inputs, targets)
        });
        let mut by_algo = TargetsByAlgo::default();
        for (device, algo) in ways(options, &case.problem) {
            let outcome = match &prepared {
                Ok((inputs, targets)) => {
                    let own = || oracle::targets(&case.problem, inputs, case.numbers, algo);
                    let targets = by_algo.get(algo, targets, own);
                    solve_and_compare(&device, algo, &case.problem, inputs, targets)
                }
                Err(error) => Err(error.to_string()),
            };
            let algo = algo.map_or("-", Conv2dAlgo::name);
            let row = report.row(case.problem.op().name(), device.name(), algo);
            row.add(outcome, &text, || {
                let algo = if algo == "-" { String::new() } else { format!(" --algo {algo}") };
                format!("tilewise check {}{algo} --case \"{text}\"", device.flags())
            });
        }
        if options.algos.is_empty() && !case.problem.op().is_step() {
            check_gradients(case, &text, options, &mut report);
        }
    }
    progress(cases.len(), cases.len(), "");
    report
}

/// The targets of algorithms that have their own, made when first asked for.
#[derive(Default)]
pub(crate) struct TargetsByAlgo(Vec<(Conv2dAlgo, Vec<Target>)>);

impl TargetsByAlgo {
    /// Those of an algorithm: `of_all`, or what `own` makes.
    pub fn get<'a>(
        &'a mut self,
        algo: Option<Conv2dAlgo>,
        of_all: &'a [Target],
        own: impl FnOnce() -> Vec<Target>,
    ) -> &'a [Target] {
        let Some(algo) = algo.filter(|algo| winograd::is_winograd(*algo)) else { return of_all };
        let at = self.0.iter().position(|(known, _)| *known == algo);
        let at = at.unwrap_or_else(|| {
            self.0.push((algo, own()));
            self.0.len() - 1
        });
        &self.0[at].1
    }
}

/// The gradients of a case on every device.
fn check_gradients(case: &Case, text: &str, options: &CheckOptions, report: &mut CheckReport) {
    let case = gradients::of(case);
    let prepared = Inputs::generate(&case).and_then(|inputs| {
        let gy = gradients::upstream(&case)?;
        let targets = gradients::targets(&case.problem, &inputs, gy.data(), case.numbers);
        Ok((inputs, gy, targets))
    });
    for device in options.devices() {
        let outcome = || {
            let (inputs, gy, targets) = prepared.as_ref().map_err(ToString::to_string)?;
            let got = device.gradients(&case.problem, inputs, gy).map_err(|e| e.to_string())?;
            if got.len() != targets.len() {
                return Err(format!("{} gradients, expected {}", got.len(), targets.len()));
            }
            let named = targets.iter().zip(&got).zip(gradients::operands(&case.problem));
            let compare = |((target, got), operand): ((&Target, &Tensor), Operand)| {
                let name = &operand.name;
                let algo = device.algo_of_gradient(&case.problem, name, inputs).map_err(|e| e.to_string())?;
                let target = winograd::gradient(target, algo, &case.problem, name, inputs, gy);
                Ok(target.compare(got).named(name))
            };
            named.map(compare).collect()
        };
        let row = report.row(case.problem.op().name(), device.name(), GRADIENTS);
        row.add(outcome(), text, || format!("tilewise check {} --case \"{text}\"", device.flags()));
    }
}

/// Every device with every algorithm.
pub(crate) fn ways(options: &CheckOptions, problem: &Problem) -> Vec<(Device, Option<Conv2dAlgo>)> {
    let of_device = |device: Device| {
        let algos = options.algos(problem, &device);
        algos.into_iter().map(move |algo| (device.clone(), algo))
    };
    options.devices().into_iter().flat_map(of_device).collect()
}

/// Solves a problem in one way and compares all that it gives, in the order of [`Problem::outputs`].
///
/// # Errors
/// If the kernels refuse, in words.
pub fn solve_and_compare(
    device: &Device,
    algo: Option<Conv2dAlgo>,
    problem: &Problem,
    inputs: &Inputs,
    targets: &[Target],
) -> Result<Vec<Comparison>, String> {
    let outputs = device.solve(problem, inputs, algo).map_err(|e| e.to_string())?;
    if outputs.len() != targets.len() {
        return Err(format!("{} outputs, expected {}", outputs.len(), targets.len()));
    }
    Ok(targets.iter().zip(&outputs).map(|(target, got)| target.compare(got)).collect())
}

/// Checks one case on every device by every algorithm that supports it there.
///
/// # Errors
/// All failures, with the commands that show them again: what a test prints.
pub fn verify(case: &Case) -> Result<(), String> {
    let report = run(&CheckOptions { case: Some(case.clone()), ..CheckOptions::of_tests() }, &|_, _, _| {});
    if report.passed() {
        return Ok(());
    }
    let lines: Vec<String> = report.failures().map(|f| format!("{}\n  {}", f.message, f.repro)).collect();
    Err(if lines.is_empty() { format!("{case}: nothing ran") } else { lines.join("\n") })
}
