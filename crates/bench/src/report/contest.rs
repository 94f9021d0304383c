//! The report of a comparison of networks.

use std::fmt;

use serde::Serialize;
use tilewise_model::compare::Standing;

use super::table;

/// Networks that were trained on the same data with the same budget.
#[derive(Debug, Clone, Serialize)]
pub struct Contest {
    /// `segment`, `reconstruct` or `anomaly`.
    pub task: &'static str,
    /// The data and the budget, in words.
    pub conditions: String,
    /// In the order in which they were trained.
    pub networks: Vec<Contender>,
}

/// One of them.
#[derive(Debug, Clone, Serialize)]
pub struct Contender {
    /// What it is called.
    pub name: String,
    /// What was measured on the images held out, and its value.
    pub quality: Vec<(&'static str, f64)>,
    /// Numbers that are learnt.
    pub parameters: usize,
    /// Multiply-accumulates of one image.
    pub macs: f64,
    /// Of inference.
    pub ms_per_image: f64,
    /// All epochs.
    pub train_seconds: f64,
    /// The most bytes that the process had while it was trained and measured, where the system tells.
    pub peak_memory_bytes: Option<u64>,
}

impl Contender {
    /// How a network did, and the memory that it took.
    pub fn new(name: &str, standing: &Standing, peak_memory_bytes: Option<u64>) -> Self {
        let Standing { quality, parameters, macs, ms_per_image, train_seconds, .. } = standing;
        Contender {
            name: name.to_owned(),
            quality: quality.clone(),
            parameters: *parameters,
            macs: *macs,
            ms_per_image: *ms_per_image,
            train_seconds: *train_seconds,
            peak_memory_bytes,
        }
    }
}

impl fmt::Display for Contest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let qualities = self.networks.first().map_or(&[][..], |network| &network.quality);
        let mut header = vec!["network"];
        header.extend(qualities.iter().map(|(name, _)| *name));
        header.extend(["parameters", "million MACs", "ms / image", "training s", "peak MiB"]);
        let mut table = table(&header, 1);
        for network in &self.networks {
            let mut cells = vec![network.name.clone()];
            cells.extend(network.quality.iter().map(|(_, value)| format!("{value:.4}")));
            cells.extend([
                network.parameters.to_string(),
                format!("{:.2}", network.macs / 1e6),
                format!("{:.3}", network.ms_per_image),
                format!("{:.1}", network.train_seconds),
                network
                    .peak_memory_bytes
                    .map_or("-".to_owned(), |bytes| format!("{:.0}", bytes as f64 / (1 << 20) as f64)),
            ]);
            table.add_row(cells);
        }
        writeln!(f, "{}: {}\n\n{table}\n", self.task, self.conditions)?;
        write!(
            f,
            "Measured on the images held out. MACs are those of one image; the peak is the memory of the process, data \
             included, while the network was trained and measured."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_for_each_network() {
        let network = |name: &str, dice| Contender {
            name: name.to_owned(),
            quality: vec![("Dice", dice)],
            parameters: 1234,
            macs: 5.5e6,
            ms_per_image: 0.25,
            train_seconds: 3.0,
            peak_memory_bytes: (dice > 0.5).then_some(7 << 20),
        };
        let networks = vec![network("AutoEncoder", 0.25), network("U-Net", 0.75)];
        let contest = Contest { task: "segment", conditions: "cells".into(), networks };
        let text = contest.to_string();
        assert!(
            text.starts_with("segment: cells\n") && text.contains("| U-Net") && text.contains("0.7500"),
            "{text}"
        );
        assert!(text.contains("|        - |") && text.contains("|        7 |"), "{text}");
        let json = serde_json::to_value(&contest).unwrap();
        assert_eq!(json["networks"][1]["quality"][0][1], 0.75);
    }
}
