//! Losses: what their arguments must be, on any device.

use crate::error::{Error, Expected, Result};
use crate::tensor::Shape4;

/// What a cross-entropy counts, as in `torch.nn.CrossEntropyLoss`. The default counts every label alike.
///
/// With `w` the class weights, `t` the labels that are not ignored and `e` the smoothing, the loss is
/// `sum of w[t] * ((1 - e) * -ln p[t]) / sum of w[t]` plus `sum over samples and classes of w[c] * e / classes * -ln p[c]`
/// over the same divisor; `p` is the softmax over channels.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CrossEntropy<'a> {
    /// One factor for each class; all 1 if `None`.
    pub class_weights: Option<&'a [f32]>,
    /// The share of the target that is spread evenly over all classes, within 0..=1 (Szegedy et al., 2015).
    pub label_smoothing: f32,
    /// A label, in or beyond the classes, whose pixels count nothing.
    pub ignore_index: Option<usize>,
}

impl CrossEntropy<'_> {
    /// Refuses parameters that do not fit logits of this shape, and labels that are not one class per pixel (or the one
    /// that is ignored).
    pub(crate) fn check(&self, op: &'static str, x: Shape4, labels: &[usize]) -> Result<()> {
        let Some(last_class) = x.c.checked_sub(1) else {
            return Err(Error::invalid(op, "classes", Expected::AtLeast(1), 0));
        };
        if let Some(weights) = self.class_weights {
            check_weights(op, ["number of class weights", "class weight"], weights, x.c)?;
        }
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            return Err(Error::invalid(op, "label smoothing", "a number within 0..=1", self.label_smoothing));
        }
        let pixels = x.n * x.plane_len();
        if labels.len() != pixels {
            return Err(Error::invalid(op, "number of labels", pixels, labels.len()));
        }
        match labels.iter().find(|&&label| label > last_class && !self.ignores(label)) {
            Some(&label) => Err(Error::invalid(op, "label", Expected::AtMost(last_class), label)),
            None => Ok(()),
        }
    }

    /// Whether pixels of this label count nothing.
    pub(crate) fn ignores(&self, label: usize) -> bool {
        self.ignore_index == Some(label)
    }

    /// The factor of a class.
    pub(crate) fn weight(&self, class: usize) -> f32 {
        self.class_weights.map_or(1.0, |weights| weights[class])
    }

    /// The sum of the factors of all classes.
    pub(crate) fn weight_of_all(&self, classes: usize) -> f64 {
        self.class_weights.map_or(classes as f64, |weights| weights.iter().map(|&w| f64::from(w)).sum())
    }

    /// What the sum over all pixels is divided by: the factors of their labels, added up. 0 if all are ignored.
    pub(crate) fn divisor(&self, labels: &[usize]) -> f64 {
        let counted = labels.iter().filter(|&&label| !self.ignores(label));
        match self.class_weights {
            None => counted.count() as f64,
            Some(weights) => counted.map(|&label| f64::from(weights[label])).sum(),
        }
    }

    /// The factor of `-ln p` of the label, and that of every class, before class weights.
    pub(crate) fn shares(&self, classes: usize) -> [f64; 2] {
        let smoothing = f64::from(self.label_smoothing);
        [1.0 - smoothing, smoothing / classes as f64]
    }
}

/// Refuses weights of positive targets that are not one per channel.
pub(crate) fn check_pos_weight(op: &'static str, x: Shape4, pos_weight: Option<&[f32]>) -> Result<()> {
    match pos_weight {
        Some(weights) => check_weights(op, ["number of positive weights", "positive weight"], weights, x.c),
        None => Ok(()),
    }
}

/// Refuses a summand that is negative or not finite.
pub(crate) fn check_smooth(op: &'static str, smooth: f32) -> Result<()> {
    if smooth.is_finite() && smooth >= 0.0 {
        Ok(())
    } else {
        Err(Error::invalid(op, "smooth", "a finite number, at least 0", smooth))
    }
}

fn check_weights(
    op: &'static str,
    [number, one]: [&'static str; 2],
    weights: &[f32],
    expected: usize,
) -> Result<()> {
    if weights.len() != expected {
        return Err(Error::invalid(op, number, expected, weights.len()));
    }
    match weights.iter().find(|w| !(w.is_finite() && **w >= 0.0)) {
        Some(&w) => Err(Error::invalid(op, one, "a finite number, at least 0", w)),
        None => Ok(()),
    }
}
