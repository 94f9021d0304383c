//! The report of anomaly detection.

use std::fmt;

use serde::Serialize;
use tilewise_model::detect::{Detection, Threshold};

use super::table;

/// Detectors, one for each kind of normal images.
#[derive(Debug, Clone, Serialize)]
pub struct Detections {
    /// The data and the training, in words.
    pub conditions: String,
    /// Where normal ends.
    pub threshold: Threshold,
    /// In the order in which they were trained.
    pub detectors: Vec<DetectorRow>,
    /// The mean of their areas under the ROC curve; null where there is none.
    pub mean_auroc: f64,
}

/// What one detector found.
#[derive(Debug, Clone, Serialize)]
pub struct DetectorRow {
    /// What was normal.
    pub normal: String,
    /// How many images it was trained on.
    pub trained_on: usize,
    /// Normal images held out.
    pub normal_held_out: u64,
    /// Abnormal images.
    pub abnormal: u64,
    /// The loss above which an image is abnormal.
    pub threshold: f64,
    /// The share of the abnormal ones that were found.
    pub detected: f64,
    /// The share of the normal ones that were taken for abnormal.
    pub false_alarms: f64,
    /// The area under the ROC curve of the losses.
    pub auroc: f64,
}

impl DetectorRow {
    /// What is told of a detection.
    pub fn new(normal: &str, detection: &Detection) -> Self {
        let counts = detection.counts;
        DetectorRow {
            normal: normal.to_owned(),
            trained_on: detection.training.len(),
            normal_held_out: counts.false_positives + counts.true_negatives,
            abnormal: counts.true_positives + counts.false_negatives,
            threshold: detection.threshold,
            detected: counts.recall(),
            false_alarms: counts.false_alarms(),
            auroc: detection.auroc,
        }
    }
}

impl Detections {
    /// With the mean of the areas.
    pub fn new(conditions: String, threshold: Threshold, detectors: Vec<DetectorRow>) -> Self {
        let mean_auroc = detectors.iter().map(|row| row.auroc).sum::<f64>() / detectors.len() as f64;
        Detections { conditions, threshold, detectors, mean_auroc }
    }
}

impl fmt::Display for Detections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = [
            "normal",
            "trained on",
            "normal held out",
            "abnormal",
            "threshold",
            "detected",
            "false alarms",
            "AUROC",
        ];
        let mut table = table(&header, 1);
        let number = |value: f64, text: String| if value.is_nan() { "-".to_owned() } else { text };
        for row in &self.detectors {
            table.add_row([
                row.normal.clone(),
                row.trained_on.to_string(),
                row.normal_held_out.to_string(),
                row.abnormal.to_string(),
                format!("{:.5}", row.threshold),
                number(row.detected, format!("{:.1}%", 100.0 * row.detected)),
                number(row.false_alarms, format!("{:.1}%", 100.0 * row.false_alarms)),
                number(row.auroc, format!("{:.4}", row.auroc)),
            ]);
        }
        let threshold = match self.threshold {
            Threshold::Deviations(k) => {
                format!("the mean of the training images' losses + {k} x their deviation")
            }
            Threshold::Percentile(p) => format!("the loss below which {p}% of the training images lie"),
        };
        write!(
            f,
            "{}\n\n{table}\n\nAbnormal is what has a loss above the threshold: {threshold}.",
            self.conditions
        )?;
        match self.detectors.len() {
            0 | 1 => Ok(()),
            _ => write!(f, "\nMean AUROC: {:.4}", self.mean_auroc),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_that_of_the_rows() {
        let row = |normal: &str, auroc| DetectorRow {
            normal: normal.to_owned(),
            trained_on: 100,
            normal_held_out: 20,
            abnormal: 180,
            threshold: 0.0123,
            detected: 0.75,
            false_alarms: f64::NAN,
            auroc,
        };
        let detections =
            Detections::new("digits".into(), Threshold::Deviations(1.0), vec![row("0", 0.5), row("1", 1.0)]);
        let text = detections.to_string();
        assert!(text.contains("75.0%") && text.ends_with("Mean AUROC: 0.7500"), "{text}");
        assert_eq!(serde_json::to_value(&detections).unwrap()["threshold"]["deviations"], 1.0);
    }
}
