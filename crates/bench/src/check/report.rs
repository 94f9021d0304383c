//! What a check found, to be printed or serialised.

use serde::Serialize;

use super::Devices;
use crate::compare::Comparison;

/// What stands for the device in rows that judge the oracle itself.
pub(crate) const REFERENCE: &str = "reference";

/// What stands for the algorithm in rows of gradients.
pub(crate) const GRADIENTS: &str = "gradients";

/// The result of [`crate::check::run`] or [`crate::golden::run`].
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CheckReport {
    /// One per operator, device and algorithm.
    pub rows: Vec<Row>,
    /// The adapter and driver that `gpu` stands for, if a GPU was checked.
    pub gpu: Option<String>,
}

/// All cases of one operator on one device by one algorithm.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The operator.
    pub operator: String,
    /// The instruction set of the CPU, or `gpu`; `reference` where the oracle itself is judged.
    pub isa: String,
    /// The algorithm; `-` for operators that have one only, `gradients` for all gradients of a case.
    pub algo: String,
    /// How many cases ran.
    pub cases: usize,
    /// The largest error as a multiple of its tolerance: at most 1 where all is well. 0 also where equality was asked
    /// for and held; infinite (null in JSON) where it did not.
    pub worst_error: f64,
    /// The largest error relative to the largest value of its result.
    pub relative_error: f64,
    /// The largest tolerance relative to the largest value of its result; 0 where equality was asked for.
    pub tolerance: f64,
    /// The cases that went wrong.
    pub failures: Vec<Failure>,
}

/// A case that went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The case.
    pub case: String,
    /// What is wrong with the result.
    pub message: String,
    /// The command that shows it again.
    pub repro: String,
}

impl CheckReport {
    /// Without rows.
    pub(crate) fn new(devices: &Devices) -> Self {
        CheckReport { gpu: devices.gpu().map(|gpu| gpu.adapter().to_string()), ..CheckReport::default() }
    }

    /// Whether kernels were checked and everything is right.
    pub fn passed(&self) -> bool {
        self.cases() > 0 && self.rows.iter().all(|row| row.failures.is_empty())
    }

    /// Runs of cases through the kernels, over all rows.
    pub fn cases(&self) -> usize {
        self.rows.iter().filter(|row| row.isa != REFERENCE).map(|row| row.cases).sum()
    }

    /// All failures.
    pub fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.rows.iter().flat_map(|row| &row.failures)
    }

    /// The row of these three, made if it is not there.
    pub(crate) fn row(&mut self, operator: &str, isa: &str, algo: &str) -> &mut Row {
        let same = |row: &Row| row.operator == operator && row.isa == isa && row.algo == algo;
        let i = self.rows.iter().position(same).unwrap_or_else(|| {
            self.rows.push(Row {
                operator: operator.to_owned(),
                isa: isa.to_owned(),
                algo: algo.to_owned(),
                cases: 0,
                worst_error: 0.0,
                relative_error: 0.0,
                tolerance: 0.0,
                failures: Vec::new(),
            });
            self.rows.len() - 1
        });
        &mut self.rows[i]
    }
}

impl Row {
    /// Adds one case: its outputs' comparisons, or why there are none.
    pub(crate) fn add(
        &mut self,
        outcome: Result<Vec<Comparison>, String>,
        case: &str,
        repro: impl FnOnce() -> String,
    ) {
        self.cases += 1;
        let message = match outcome {
            Err(message) => message,
            Ok(comparisons) => {
                for c in &comparisons {
                    self.worst_error = self.worst_error.max(c.worst);
                    self.relative_error = self.relative_error.max(c.relative);
                    self.tolerance = self.tolerance.max(c.tolerance);
                }
                match comparisons.iter().find(|c| !c.passed()) {
                    None => return,
                    Some(wrong) => wrong.to_string(),
                }
            }
        };
        self.failures.push(Failure { case: case.to_owned(), message, repro: repro() });
    }
}
