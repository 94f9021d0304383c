//! What happened, epoch by epoch.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::picture::{Panel, Series, curves};

/// An epoch that is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Epoch {
    /// Its number, from 1.
    pub epoch: u64,
    /// Steps taken by its end.
    pub steps: u64,
    /// The learning rate of its last step.
    pub lr: f64,
    /// The mean loss of its steps, each before it was taken.
    pub train_loss: f64,
    /// The loss on the images held out, after it.
    pub loss: f64,
    /// What was measured on them, as [`History::metrics`] names it.
    pub metrics: Vec<f64>,
    /// Seconds that it took, of training alone.
    pub seconds: f64,
    /// Images trained on in a second.
    pub images_per_second: f64,
}

/// All epochs so far.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// What was measured.
    pub metrics: Vec<String>,
    /// From the first on.
    pub epochs: Vec<Epoch>,
}

impl History {
    /// The epoch whose first metric was the largest; of equal ones the earliest.
    pub fn best(&self) -> Option<&Epoch> {
        let value = |epoch: &Epoch| epoch.metrics.first().copied().unwrap_or(f64::NAN);
        self.epochs.iter().reduce(|best, epoch| {
            let better = value(epoch) > value(best) || (value(best).is_nan() && !value(epoch).is_nan());
            if better { epoch } else { best }
        })
    }

    /// The epoch that was the last.
    pub fn last(&self) -> Option<&Epoch> {
        self.epochs.last()
    }

    /// A line for each epoch, below a line of names. Numbers are written so that they are read back exactly.
    pub fn to_csv(&self) -> String {
        let mut csv = "epoch,steps,lr,train_loss,loss".to_owned();
        self.metrics.iter().for_each(|name| csv.extend([",", name]));
        csv.push_str(",seconds,images_per_second\n");
        for Epoch { epoch, steps, lr, train_loss, loss, metrics, seconds, images_per_second } in &self.epochs
        {
            let _ = write!(csv, "{epoch},{steps},{lr},{train_loss},{loss}");
            for value in metrics {
                let _ = write!(csv, ",{value}");
            }
            let _ = writeln!(csv, ",{seconds:.3},{images_per_second:.1}");
        }
        csv
    }

    /// Losses and metrics over epochs, as SVG.
    ///
    /// # Errors
    /// Those of [`curves`].
    pub fn to_svg(&self, title: &str) -> Result<String> {
        let series = |name: &str, value: &dyn Fn(&Epoch) -> f64| Series {
            name: name.into(),
            points: self.epochs.iter().map(|epoch| (epoch.epoch as f64, value(epoch))).collect(),
        };
        let losses = vec![series("training", &|e| e.train_loss), series("held out", &|e| e.loss)];
        let mut panels = vec![Panel { name: "loss".into(), series: losses, log: true }];
        for (i, name) in self.metrics.iter().enumerate() {
            let value = |epoch: &Epoch| epoch.metrics.get(i).copied().unwrap_or(f64::NAN);
            let series = vec![series("held out", &value)];
            panels.push(Panel { name: name.replace('_', " "), series, log: false });
        }
        panels.push(Panel { name: "learning rate".into(), series: vec![series("lr", &|e| e.lr)], log: true });
        curves(title, "epoch", &panels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(values: &[f64]) -> History {
        let epoch = |(i, &value): (usize, &f64)| Epoch {
            epoch: i as u64 + 1,
            steps: 10 * (i as u64 + 1),
            lr: 0.1,
            train_loss: 1.0 / 3.0,
            loss: 0.5,
            metrics: vec![value],
            seconds: 1.0,
            images_per_second: 7.0,
        };
        History { metrics: vec!["accuracy".into()], epochs: values.iter().enumerate().map(epoch).collect() }
    }

    #[test]
    fn the_best_epoch_is_the_first_of_the_largest_metric() {
        let best = |values: &[f64]| history(values).best().map(|epoch| epoch.epoch);
        assert_eq!(best(&[]), None);
        assert_eq!(best(&[0.1, 0.7, 0.7, 0.3]), Some(2));
        assert_eq!(best(&[f64::NAN, 0.2, f64::NAN]), Some(2));
        assert_eq!(best(&[f64::NAN, f64::NAN]), Some(1));
    }

    #[test]
    fn tables_and_curves_have_every_epoch() {
        let history = history(&[0.25, f64::NAN]);
        let csv = history.to_csv();
        let lines: Vec<_> = csv.lines().collect();
        assert_eq!(lines[0], "epoch,steps,lr,train_loss,loss,accuracy,seconds,images_per_second");
        assert_eq!(lines[1], "1,10,0.1,0.3333333333333333,0.5,0.25,1.000,7.0");
        assert!(lines[2].contains("NaN") && lines.len() == 3);
        assert!(history.to_svg("digits").unwrap().contains("accuracy"));
    }
}
