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

/// Refuses labels that are not one class per pixel of `x`, which has this shape.
pub(crate) fn check_labels(op: &'static str, x: Shape4, labels: &[usize]) -> Result<()> {
    let Some(last_class) = x.c.checked_sub(1) else {
        return Err(Error::invalid(op, "classes", Expected::AtLeast(1), 0));
    };
    let pixels = x.n * x.plane_len();
    if labels.len() != pixels {
        return Err(Error::invalid(op, "number of labels", pixels, labels.len()));
    }
    match labels.iter().find(|&&label| label > last_class) {
        Some(&label) => Err(Error::invalid(op, "label", Expected::AtMost(last_class), label)),
        None => Ok(()),
    }
}
