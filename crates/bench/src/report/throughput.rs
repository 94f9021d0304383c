//! The report of a bench.

use std::fmt;

use comfy_table::Table;
use serde::{Serialize, Serializer};

use super::table;
use crate::throughput::{Label, Work};
use crate::timing::Timing;

/// A measured rate, and the roof it is held against, measured just before and after it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// Arithmetic.
    Compute {
        /// 2 x multiply-accumulates of the plain operator / median time.
        gflops: f64,
        /// The FMA peak, in GFLOP/s, on as many threads.
        peak: f64,
    },
    /// Memory.
    Memory {
        /// Bytes of input and output / median time.
        gbytes_per_s: f64,
        /// The bandwidth of copying, in GB/s, on as many threads.
        bandwidth: f64,
    },
}

impl Rate {
    /// The rate of `work` done in `seconds`, below `roof`.
    pub fn new(work: Work, seconds: f64, roof: f64) -> Self {
        match work {
            Work::Flops(flops) => Rate::Compute { gflops: flops / seconds / 1e9, peak: roof },
            Work::Bytes(bytes) => Rate::Memory { gbytes_per_s: bytes / seconds / 1e9, bandwidth: roof },
        }
    }

    /// GFLOP/s or GB/s.
    pub fn value(self) -> f64 {
        match self {
            Rate::Compute { gflops: value, .. } | Rate::Memory { gbytes_per_s: value, .. } => value,
        }
    }

    /// The most that the machine gives, in the same unit.
    pub fn roof(self) -> f64 {
        match self {
            Rate::Compute { peak: roof, .. } | Rate::Memory { bandwidth: roof, .. } => roof,
        }
    }

    /// The value in percent of the roof.
    pub fn percent(self) -> f64 {
        100.0 * self.value() / self.roof()
    }

    /// `GFLOP/s` or `GB/s`.
    pub const fn unit(self) -> &'static str {
        match self {
            Rate::Compute { .. } => "GFLOP/s",
            Rate::Memory { .. } => "GB/s",
        }
    }

    /// What the roof is called.
    pub const fn roof_name(self) -> &'static str {
        match self {
            Rate::Compute { .. } => "FMA peak",
            Rate::Memory { .. } => "memory bandwidth",
        }
    }
}

/// One measurement.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was measured.
    pub label: Label,
    /// `cpu`
    pub device: &'static str,
    /// The instruction set.
    pub isa: &'static str,
    /// The number of threads.
    pub threads: usize,
    /// Seconds per call.
    pub timing: Timing,
    /// What follows from the median.
    pub rate: Rate,
    /// The error of the outputs that were compared with the reference, `|got - want| / |want|`; `None` if the workload
    /// has no output.
    pub rel_l2_error: Option<f64>,
    /// What is wrong with the result, if anything is.
    pub mismatch: Option<String>,
}

/// A row as JSON has it.
#[derive(Serialize)]
struct Record<'a> {
    name: &'a str,
    device: &'a str,
    algo: &'a str,
    isa: &'a str,
    threads: usize,
    ms: f64,
    #[serde(flatten)]
    rate: RateRecord,
    rel_l2_error: Option<f64>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum RateRecord {
    Compute { gflops: f64, percent_of_peak: f64 },
    Memory { gbytes_per_s: f64, percent_of_bandwidth: f64 },
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (percent, rate) = (self.rate.percent(), self.rate);
        let record = Record {
            name: &self.label.name,
            device: self.device,
            algo: &self.label.algo,
            isa: self.isa,
            threads: self.threads,
            ms: self.timing.median * 1e3,
            rate: match rate {
                Rate::Compute { gflops, .. } => RateRecord::Compute { gflops, percent_of_peak: percent },
                Rate::Memory { gbytes_per_s, .. } => {
                    RateRecord::Memory { gbytes_per_s, percent_of_bandwidth: percent }
                }
            },
            rel_l2_error: self.rel_l2_error,
        };
        record.serialize(serializer)
    }
}

/// All rows of one `bench` command. As JSON it is the list of its rows.
#[derive(Debug, Clone)]
pub struct Report {
    /// What was timed.
    pub title: &'static str,
    /// In the order of measurement; of one instruction set, number of threads and unit.
    pub rows: Vec<Row>,
    /// What a reader should know beside the table.
    pub notes: Vec<String>,
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.rows.serialize(serializer)
    }
}

/// A quiet machine keeps the median call within this multiple of the fastest.
const BUSY: f64 = 1.15;

impl Report {
    /// Without notes.
    pub fn new(title: &'static str, rows: Vec<Row>) -> Self {
        Report { title, rows, notes: Vec::new() }
    }

    /// Whether every result that was compared with the reference is right.
    pub fn passed(&self) -> bool {
        self.rows.iter().all(|row| row.mismatch.is_none())
    }

    /// `Convolution + bias + ReLU: avx512, 1 thread`
    pub fn heading(&self) -> String {
        let Some(row) = self.rows.first() else { return self.title.to_owned() };
        let plural = if row.threads == 1 { "" } else { "s" };
        format!("{}: {}, {} thread{plural}", self.title, row.isa, row.threads)
    }

    /// The lowest and highest roof, and the median percentage of it.
    fn summary(&self) -> Option<String> {
        let first = self.rows.first()?.rate;
        let sorted = |value: fn(&Row) -> f64| {
            let mut values: Vec<f64> = self.rows.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let (roofs, percents) = (sorted(|row| row.rate.roof()), sorted(|row| row.rate.percent()));
        Some(format!(
            "{} measured before and after each row: {:.0} to {:.0} {}. The median row reaches {:.0}% of it.",
            capitalised(first.roof_name()),
            roofs[0],
            roofs[roofs.len() - 1],
            first.unit(),
            percents[percents.len() / 2],
        ))
    }

    /// Says so where other work on the machine has slowed the median down.
    fn busy(&self) -> Option<String> {
        let is_busy = |row: &&Row| row.timing.median > BUSY * row.timing.min;
        let (busy, all) = (self.rows.iter().filter(is_busy).count(), self.rows.len());
        (busy > 0).then(|| {
            let percent = 100.0 * (BUSY - 1.0);
            format!("The machine was busy: in {busy} of {all} rows the median call took over {percent:.0}% longer than the fastest.")
        })
    }

    fn table(&self) -> Table {
        let unit = self.rows.first().map_or("GFLOP/s", |row| row.rate.unit());
        let roof = self.rows.first().map_or("peak", |row| match row.rate {
            Rate::Compute { .. } => "% of peak",
            Rate::Memory { .. } => "% of bandwidth",
        });
        let header = ["network", "layer", "shape", "algorithm", "ms", unit, roof, "rel. L2 error"];
        let mut table = table(&header, 4);
        let mut group = "";
        for row in &self.rows {
            let Label { group: own, name, shape, algo } = &row.label;
            // A network is named once, at its first row.
            let shown = if own == group { "" } else { own };
            group = own;
            let error = match (&row.mismatch, row.rel_l2_error) {
                (Some(_), Some(error)) => format!("WRONG: {error:.1e}"),
                (_, Some(error)) => format!("{error:.1e}"),
                (_, None) => "-".to_owned(),
            };
            table.add_row([
                shown,
                name,
                shape,
                algo,
                &format!("{:.3}", row.timing.median * 1e3),
                &format!("{:.1}", row.rate.value()),
                &format!("{:.0}%", row.rate.percent()),
                &error,
            ]);
        }
        table
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

/// Heading, table (Markdown), summary, notes, mismatches.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n\n{}\n", self.heading(), self.table())?;
        for line in self.summary().iter().chain(&self.busy()).chain(&self.notes) {
            writeln!(f, "{line}")?;
        }
        for row in &self.rows {
            if let Some(mismatch) = &row.mismatch {
                writeln!(f, "WRONG: {}: {mismatch}", row.label.name)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, work: Work, mismatch: Option<String>) -> Row {
        let label = Label {
            group: "VGG-16".into(),
            name: name.into(),
            shape: "64,56x56 -> 64 3x3".into(),
            algo: "direct".into(),
        };
        let timing = Timing { min: 0.001, median: 0.002, max: 0.003, samples: 3 };
        Row {
            label,
            device: "cpu",
            isa: "avx2",
            threads: 1,
            timing,
            rate: Rate::new(work, timing.median, 100.0),
            rel_l2_error: Some(1.25e-6),
            mismatch,
        }
    }

    #[test]
    fn json_has_the_documented_fields_in_order() {
        let report = Report::new("Convolution", vec![row("a", Work::Flops(1e8), None)]);
        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            r#"[{"name":"a","device":"cpu","algo":"direct","isa":"avx2","threads":1,"ms":2.0,"#.to_owned()
                + r#""gflops":50.0,"percent_of_peak":50.0,"rel_l2_error":1.25e-6}]"#
        );
        let report = Report::new("Pooling", vec![row("a", Work::Bytes(1e7), None)]);
        let json = serde_json::to_string(&report).unwrap();
        assert!(json.contains(r#""gbytes_per_s":5.0,"percent_of_bandwidth":5.0"#), "{json}");
    }

    #[test]
    fn a_wrong_row_fails_the_report_and_says_so() {
        let rows =
            vec![row("good", Work::Flops(1e8), None), row("bad", Work::Flops(1e8), Some("2 of 9".into()))];
        let report = Report::new("Convolution", rows);
        let text = report.to_string();
        assert!(!report.passed());
        assert!(text.contains("WRONG: bad: 2 of 9") && text.contains("WRONG: 1.3e-6"), "{text}");
        assert_eq!(text.matches("VGG-16").count(), 1, "{text}");
        assert!(text.starts_with("Convolution: avx2, 1 thread\n"), "{text}");
    }

    #[test]
    fn an_empty_report_is_no_panic() {
        assert!(Report::new("Convolution", Vec::new()).to_string().starts_with("Convolution\n"));
    }
}
