//! Padding and cropping.

use super::{Answer, at};
use tilewise_kernels::{CropShape, PadShape};

/// The input in a frame of `value`.
pub fn pad(shape: &PadShape, value: f32, x: &[f32]) -> Answer {
    let (input, p) = (shape.input(), shape.padding());
    Answer::exact(shape.output(), |[n, c, h, w]| {
        let inside = h >= p.top && h < p.top + input.h && w >= p.left && w < p.left + input.w;
        if inside { at(x, input, [n, c, h - p.top, w - p.left]) } else { f64::from(value) }
    })
}

/// The input without its margins.
pub fn crop(shape: &CropShape, x: &[f32]) -> Answer {
    let (input, m) = (shape.input(), shape.margins());
    Answer::exact(shape.output(), |[n, c, h, w]| at(x, input, [n, c, h + m.top, w + m.left]))
}
