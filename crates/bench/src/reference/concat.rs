//! Concatenation along the channels.

use super::{Answer, at};
use tilewise_kernels::Shape4;

/// The channels of all parts, one part after the other. The parts agree in batch, height and width.
pub fn concat(parts: &[(Shape4, &[f32])]) -> Answer {
    let first = parts.first().map_or(Shape4::new(0, 0, 0, 0), |(part, _)| *part);
    let shape = Shape4 { c: parts.iter().map(|(part, _)| part.c).sum(), ..first };
    Answer::exact(shape, |[n, mut c, h, w]| {
        for (part, data) in parts {
            if c < part.c {
                return at(data, *part, [n, c, h, w]);
            }
            c -= part.c;
        }
        f64::NAN
    })
}

/// The gradient to each part: its channels of `gy`.
pub fn concat_backward(parts: &[Shape4], gy: &[f32]) -> Vec<Answer> {
    let channels = parts.iter().map(|part| part.c).sum();
    let mut first = 0;
    let mut cut = |&part: &Shape4| {
        let output = Shape4 { c: channels, ..part };
        let gx = Answer::exact(part, |[n, c, h, w]| at(gy, output, [n, first + c, h, w]));
        first += part.c;
        gx
    };
    parts.iter().map(&mut cut).collect()
}
