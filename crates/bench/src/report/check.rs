//! The report of a check.

use std::fmt;

use super::table;
use crate::check::{CheckReport, Row};

/// One line for each operator, device and algorithm, then what failed.
impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = [
            "operator",
            "device",
            "algorithm",
            "cases",
            "worst error",
            "tolerance",
            "error / tolerance",
            "result",
        ];
        let mut table = table(&header, 3);
        for row in &self.rows {
            table.add_row([
                row.operator.clone(),
                row.isa.clone(),
                row.algo.clone(),
                row.cases.to_string(),
                format!("{:.1e}", row.relative_error),
                tolerance(row),
                format!("{:.2}", row.worst_error),
                verdict(row),
            ]);
        }
        writeln!(f, "{table}\n\nErrors and tolerances are relative to the largest value of a result.")?;
        write_rest(f, self)
    }
}

/// A check, one line for each operator and algorithm with a column for each device: the largest error as a
/// multiple of its tolerance.
pub struct Matrix<'a>(pub &'a CheckReport);

impl fmt::Display for Matrix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.0;
        let mut isas: Vec<&str> = Vec::new();
        let mut lines: Vec<(&str, &str)> = Vec::new();
        for row in &report.rows {
            let line = (row.operator.as_str(), row.algo.as_str());
            if !isas.contains(&row.isa.as_str()) {
                isas.push(&row.isa);
            }
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        let header: Vec<&str> =
            ["operator", "algorithm", "cases"].into_iter().chain(isas.iter().copied()).collect();
        let mut table = table(&header, 2);
        for (operator, algo) in lines {
            let of_line: Vec<&Row> =
                report.rows.iter().filter(|row| row.operator == operator && row.algo == algo).collect();
            let cases = of_line.iter().map(|row| row.cases).max().unwrap_or(0).to_string();
            let cell = |isa: &&str| match of_line.iter().find(|row| row.isa == *isa) {
                Some(row) if row.failures.is_empty() => format!("{:.2}", row.worst_error),
                Some(row) => verdict(row),
                None => "-".to_owned(),
            };
            let cells = [operator.to_owned(), algo.to_owned(), cases].into_iter();
            table.add_row(cells.chain(isas.iter().map(cell)).collect::<Vec<_>>());
        }
        writeln!(
            f,
            "{table}\n\nThe largest error of all cases as a multiple of what rounding may cause: right is up to 1, 0 is exact."
        )?;
        write_rest(f, report)
    }
}

fn tolerance(row: &Row) -> String {
    if row.tolerance == 0.0 { "exact".to_owned() } else { format!("{:.1e}", row.tolerance) }
}

fn verdict(row: &Row) -> String {
    match row.failures.len() {
        0 => "ok".to_owned(),
        failed => format!("{failed} FAILED"),
    }
}

/// Failures shown in full.
const SHOWN: usize = 12;

fn write_rest(f: &mut fmt::Formatter<'_>, report: &CheckReport) -> fmt::Result {
    if let Some(gpu) = &report.gpu {
        writeln!(f, "gpu: {gpu}")?;
    }
    let failures = report.rows.iter().flat_map(|row| row.failures.iter().map(move |failure| (row, failure)));
    for (row, failure) in failures.take(SHOWN) {
        let (isa, algo) = (&row.isa, &row.algo);
        writeln!(f, "\nFAILED {} {isa} {algo}: {}: {}", row.operator, failure.case, failure.message)?;
        writeln!(f, "  {}", failure.repro)?;
    }
    let failed = report.failures().count();
    if failed > SHOWN {
        writeln!(
            f,
            "\nand {} more (--op, --device, --isa and --algo narrow them down; --json lists all)",
            failed - SHOWN
        )?;
    }
    let runs = report.cases();
    match (runs, failed) {
        (0, _) => writeln!(f, "\nNothing was checked: no case fits what was asked for."),
        (_, 0) => writeln!(f, "\nAll {runs} runs are right."),
        _ => writeln!(f, "\n{failed} of {runs} runs FAILED."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Failure;

    fn row(isa: &str, failures: Vec<Failure>) -> Row {
        Row {
            operator: "conv2d".into(),
            isa: isa.into(),
            algo: "direct".into(),
            cases: 7,
            worst_error: 0.25,
            relative_error: 1e-7,
            tolerance: 4e-7,
            failures,
        }
    }

    #[test]
    fn a_failure_is_shown_with_its_command() {
        let failure = Failure { case: "n1".into(), message: "3 of 9".into(), repro: "tilewise check".into() };
        let report = CheckReport { rows: vec![row("avx2", vec![]), row("avx512", vec![failure])], gpu: None };
        for text in [report.to_string(), Matrix(&report).to_string()] {
            assert!(text.contains("FAILED conv2d avx512 direct: n1: 3 of 9\n  tilewise check\n"), "{text}");
            assert!(text.contains("1 FAILED") && text.ends_with("1 of 14 runs FAILED.\n"), "{text}");
        }
    }

    #[test]
    fn nothing_is_no_success() {
        let report = CheckReport { rows: vec![], gpu: Some("Some card".into()) };
        let text = report.to_string();
        assert!(text.contains("gpu: Some card"), "{text}");
        assert!(text.contains("Nothing was checked") && !report.passed());
    }
}
