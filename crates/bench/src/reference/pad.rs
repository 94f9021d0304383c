//! Padding and cropping.

use super::{Answer, at, positions};
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

/// The gradient to what was padded: `gy` without the frame.
pub fn pad_backward(shape: &PadShape, gy: &[f32]) -> Answer {
    let (output, p) = (shape.output(), shape.padding());
    Answer::exact(shape.input(), |[n, c, h, w]| at(gy, output, [n, c, h + p.top, w + p.left]))
}

/// The gradient to what was cropped: `gy` within margins of zeros.
pub fn crop_backward(shape: &CropShape, gy: &[f32]) -> Answer {
    let (output, m) = (shape.output(), shape.margins());
    let mut gx = Answer::zeros(shape.input(), 0);
    for [n, c, h, w] in positions(output) {
        gx.add([n, c, h + m.top, w + m.left], at(gy, output, [n, c, h, w]));
    }
    gx
}
