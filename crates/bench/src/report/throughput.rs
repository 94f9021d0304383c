//! The report of a bench.

use std::fmt;

use comfy_table::Table;
use serde::{Serialize, Serializer};

use super::table;
use crate::throughput::{Label, Work};
use crate::timing::Timing;

/// A measured rate, and the roof it is held against, measured just before and after it, where there is one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// Arithmetic.
    Compute {
        /// 2 x multiply-accumulates of the plain operator / median time.
        gflops: f64,
        /// The FMA peak, in GFLOP/s, on as many threads; `None` where it is not known (a GPU).
        peak: Option<f64>,
    },
    /// Memory.
    Memory {
        /// Bytes of input and output / median time.
        gbytes_per_s: f64,
        /// The bandwidth of copying, in GB/s, on as many threads; `None` where it is not known (a GPU).
        bandwidth: Option<f64>,
    },
}

impl Rate {
    /// The rate of `work` done in `seconds`, below `roof`.
    pub fn new(work: Work, seconds: f64, roof: Option<f64>) -> Self {
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

    /// The most that the machine gives, in the same unit, if that is known.
    pub fn roof(self) -> Option<f64> {
        match self {
            Rate::Compute { peak: roof, .. } | Rate::Memory { bandwidth: roof, .. } => roof,
        }
    }

    /// The value in percent of the roof.
    pub fn percent(self) -> Option<f64> {
        self.roof().map(|roof| 100.0 * self.value() / roof)
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
    /// `cpu` or `gpu`.
    pub device: &'static str,
    /// The instruction set; on a GPU, the adapter.
    pub isa: String,
    /// The number of threads; on a GPU, the one that queues.
    pub threads: usize,
    /// Seconds per call; on a GPU, by its own clock, if it has one.
    pub timing: Timing,
    /// On a GPU, seconds from a call to its end, by the clock on the wall.
    pub wall: Option<Timing>,
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
    pass: &'a str,
    device: &'a str,
    algo: &'a str,
    isa: &'a str,
    threads: usize,
    ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    wall_ms: Option<f64>,
    #[serde(flatten)]
    rate: RateRecord,
    rel_l2_error: Option<f64>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum RateRecord {
    Compute { gflops: f64, percent_of_peak: Option<f64> },
    Memory { gbytes_per_s: f64, percent_of_bandwidth: Option<f64> },
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (percent, rate) = (self.rate.percent(), self.rate);
        let record = Record {
            name: &self.label.name,
            pass: self.label.pass.name(),
            device: self.device,
            algo: &self.label.algo,
            isa: &self.isa,
            threads: self.threads,
            ms: self.timing.median * 1e3,
            wall_ms: self.wall.map(|wall| wall.median * 1e3),
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

/// How the two times of a GPU came about.
const WALL_NOTE: &str = "ms is by the clock of the device, of calls queued one behind the other; wall ms is what one call alone takes \
     to be queued, to run and to be waited for.";

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

    /// `Convolution + bias + ReLU: avx512, 1 thread`; a GPU has no number of threads.
    pub fn heading(&self) -> String {
        let Some(row) = self.rows.first() else { return self.title.to_owned() };
        if row.wall.is_some() {
            return format!("{}: {}", self.title, row.isa);
        }
        let plural = if row.threads == 1 { "" } else { "s" };
        format!("{}: {}, {} thread{plural}", self.title, row.isa, row.threads)
    }

    /// The lowest and highest roof, and the median percentage of it; for a GPU, how its times were taken.
    fn summary(&self) -> Option<String> {
        let first = self.rows.first()?.rate;
        if self.rows.iter().any(|row| row.wall.is_some()) {
            return Some(WALL_NOTE.to_owned());
        }
        let sorted = |value: fn(&Row) -> Option<f64>| {
            let mut values: Vec<f64> = self.rows.iter().filter_map(value).collect();
            values.sort_by(f64::total_cmp);
            (!values.is_empty()).then_some(values)
        };
        let (roofs, percents) = (sorted(|row| row.rate.roof())?, sorted(|row| row.rate.percent())?);
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
        // What no row has needs no column.
        let has_wall = self.rows.iter().any(|row| row.wall.is_some());
        let has_roof = self.rows.iter().any(|row| row.rate.roof().is_some());
        let columns = |wall: String, roof: String| (has_wall.then_some(wall), has_roof.then_some(roof));
        let (wall, roof) = columns("wall ms".to_owned(), roof.to_owned());
        let fixed = ["network", "layer", "shape", "algorithm", "ms"].map(str::to_owned).into_iter();
        let header: Vec<String> = fixed
            .chain(wall)
            .chain([unit.to_owned()])
            .chain(roof)
            .chain(["rel. L2 error".to_owned()])
            .collect();
        let mut table = table(&header.iter().map(String::as_str).collect::<Vec<_>>(), 4);
        let mut group = "";
        for row in &self.rows {
            let Label { group: own, name, shape, algo, .. } = &row.label;
            // A network is named once, at its first row.
            let shown = if own == group { "" } else { own };
            group = own;
            let error = match (&row.mismatch, row.rel_l2_error) {
                (Some(_), Some(error)) => format!("WRONG: {error:.1e}"),
                (_, Some(error)) => format!("{error:.1e}"),
                (_, None) => "-".to_owned(),
            };
            let wall = row.wall.map_or("-".to_owned(), |wall| format!("{:.3}", wall.median * 1e3));
            let percent = row.rate.percent().map_or("-".to_owned(), |percent| format!("{percent:.0}%"));
            let (wall, percent) = columns(wall, percent);
            let fixed = [shown, name, shape, algo].map(str::to_owned).into_iter();
            let time = [format!("{:.3}", row.timing.median * 1e3)];
            let rate = [format!("{:.1}", row.rate.value())];
            table.add_row(fixed.chain(time).chain(wall).chain(rate).chain(percent).chain([error]));
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
    use crate::throughput::Pass;

    fn row(name: &str, work: Work, mismatch: Option<String>) -> Row {
        let label = Label {
            group: "VGG-16".into(),
            name: name.into(),
            shape: "64,56x56 -> 64 3x3".into(),
            algo: "direct".into(),
            pass: Pass::Forward,
        };
        let timing = Timing { min: 0.001, median: 0.002, max: 0.003, samples: 3 };
        Row {
            label,
            device: "cpu",
            isa: "avx2".into(),
            threads: 1,
            timing,
            wall: None,
            rate: Rate::new(work, timing.median, Some(100.0)),
            rel_l2_error: Some(1.25e-6),
            mismatch,
        }
    }

    #[test]
    fn json_has_the_documented_fields_in_order() {
        let report = Report::new("Convolution", vec![row("a", Work::Flops(1e8), None)]);
        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            r#"[{"name":"a","pass":"forward","device":"cpu","algo":"direct","isa":"avx2","threads":1,"ms":2.0,"#.to_owned()
                + r#""gflops":50.0,"percent_of_peak":50.0,"rel_l2_error":1.25e-6}]"#
        );
        let report = Report::new("Pooling", vec![row("a", Work::Bytes(1e7), None)]);
        let json = serde_json::to_string(&report).unwrap();
        assert!(json.contains(r#""gbytes_per_s":5.0,"percent_of_bandwidth":5.0"#), "{json}");
    }

    #[test]
    fn a_row_of_a_gpu_has_its_two_times_and_no_roof() {
        let mut row = row("a", Work::Flops(1e8), None);
        row.wall = Some(Timing { median: 0.004, ..row.timing });
        row.rate = Rate::new(Work::Flops(1e8), row.timing.median, None);
        (row.device, row.isa) = ("gpu", "Some card".into());
        let report = Report::new("Convolution", vec![row]);
        let json = serde_json::to_string(&report).unwrap();
        assert!(json.contains(r#""device":"gpu","algo":"direct","isa":"Some card","threads":1,"#), "{json}");
        assert!(json.contains(r#""ms":2.0,"wall_ms":4.0,"gflops":50.0,"percent_of_peak":null,"#), "{json}");
        let text = report.to_string();
        assert!(text.starts_with("Convolution: Some card\n") && !text.contains("% of peak"), "{text}");
        assert!(text.contains("wall ms") && text.contains("4.000"), "{text}");
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
