//! Losses: what their arguments must be, on any device.

use crate::error::{Error, Expected, Result};
use crate::tensor::Shape4;

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
