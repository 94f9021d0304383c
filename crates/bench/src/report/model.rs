//! The report of a bench of a whole network.

use std::fmt;

use serde::{Serialize, Serializer};
use tilewise_kernels::Shape4;

use super::table;
use crate::timing::Timing;

/// One network, measured.
#[derive(Debug, Clone)]
pub struct ModelRow {
    /// What was measured: `lenet`, `unet16`.
    pub network: String,
    /// `infer` or `train`.
    pub mode: &'static str,
    /// `cpu` or `gpu`.
    pub device: &'static str,
    /// The instruction set; on a GPU, the adapter.
    pub isa: String,
    /// The number of threads.
    pub threads: usize,
    /// The batch.
    pub input: Shape4,
    /// Numbers that are learnt.
    pub parameters: usize,
    /// Multiply-accumulates of one forward pass of the batch.
    pub macs: f64,
    /// Seconds per call, until the result is there.
    pub timing: Timing,
    /// 2 x MACs (x 3 in training) / median time.
    pub gflops: f64,
    /// The same in percent of the FMA peak on as many threads, where that is known.
    pub percent_of_peak: Option<f64>,
    /// The most bytes of memory that the process has had so far, where the system tells.
    pub peak_memory: Option<u64>,
    /// What is wrong with the result, if anything is.
    pub mismatch: Option<String>,
}

impl ModelRow {
    /// Images of all batches in a second.
    pub fn images_per_s(&self) -> f64 {
        self.input.n as f64 / self.timing.median
    }

    /// Whether the result was one.
    pub fn passed(&self) -> bool {
        self.mismatch.is_none()
    }
}

/// The row as JSON has it.
#[derive(Serialize)]
struct Record<'a> {
    network: &'a str,
    mode: &'a str,
    device: &'a str,
    isa: &'a str,
    threads: usize,
    batch: usize,
    channels: usize,
    height: usize,
    width: usize,
    parameters: usize,
    macs: f64,
    median_ms: f64,
    min_ms: f64,
    samples: usize,
    images_per_s: f64,
    gflops: f64,
    percent_of_peak: Option<f64>,
    peak_memory_bytes: Option<u64>,
}

impl Serialize for ModelRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Shape4 { n: batch, c: channels, h: height, w: width } = self.input;
        let record = Record {
            network: &self.network,
            mode: self.mode,
            device: self.device,
            isa: &self.isa,
            threads: self.threads,
            batch,
            channels,
            height,
            width,
            parameters: self.parameters,
            macs: self.macs,
            median_ms: self.timing.median * 1e3,
            min_ms: self.timing.min * 1e3,
            samples: self.timing.samples,
            images_per_s: self.images_per_s(),
            gflops: self.gflops,
            percent_of_peak: self.percent_of_peak,
            peak_memory_bytes: self.peak_memory,
        };
        record.serialize(serializer)
    }
}

impl fmt::Display for ModelRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.threads == 1 { "" } else { "s" };
        let threads =
            if self.device == "cpu" { format!(", {} thread{plural}", self.threads) } else { String::new() };
        let header = [
            "network",
            "mode",
            "batch",
            "parameters",
            "million MACs",
            "ms",
            "images/s",
            "GFLOP/s",
            "% of peak",
            "peak MiB",
        ];
        let mut table = table(&header, 3);
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        table.add_row([
            self.network.clone(),
            self.mode.to_owned(),
            self.input.to_string(),
            self.parameters.to_string(),
            format!("{:.1}", self.macs / 1e6),
            format!("{:.3}", self.timing.median * 1e3),
            format!("{:.1}", self.images_per_s()),
            format!("{:.1}", self.gflops),
            or_dash(self.percent_of_peak.map(|percent| format!("{percent:.0}%"))),
            or_dash(self.peak_memory.map(|bytes| format!("{:.1}", bytes as f64 / (1 << 20) as f64))),
        ]);
        writeln!(f, "Networks: {}{threads}\n\n{table}\n", self.isa)?;
        writeln!(
            f,
            "The median of {} calls, each until its result is there; the fastest took {:.3} ms. A MAC is two FLOPs, a step of \
             training three forward passes. The peak is the memory of the process.",
            self.timing.samples,
            self.timing.min * 1e3
        )?;
        match &self.mismatch {
            Some(mismatch) => writeln!(f, "WRONG: {}: {mismatch}", self.network),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_the_documented_fields() {
        let row = ModelRow {
            network: "unet16".into(),
            mode: "train",
            device: "cpu",
            isa: "avx2".into(),
            threads: 2,
            input: Shape4::new(4, 3, 256, 256),
            parameters: 7,
            macs: 1e9,
            timing: Timing { min: 0.1, median: 0.2, max: 0.3, samples: 3 },
            gflops: 30.0,
            percent_of_peak: Some(12.0),
            peak_memory: Some(3 << 20),
            mismatch: None,
        };
        let json = serde_json::to_value(&row).unwrap();
        for (key, value) in [("median_ms", 200.0), ("images_per_s", 20.0), ("gflops", 30.0)] {
            assert_eq!(json[key], value, "{key}");
        }
        assert_eq!(json["peak_memory_bytes"], 3 << 20);
        let text = row.to_string();
        assert!(text.starts_with("Networks: avx2, 2 threads\n") && text.contains("4x3x256x256"), "{text}");
    }
}
