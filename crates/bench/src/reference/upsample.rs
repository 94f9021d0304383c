//! Nearest and bilinear interpolation, by their definitions.

use super::{Answer, at, index, positions};
use tilewise_kernels::{UpsampleMode, UpsampleShape};

/// Planes of another size.
pub fn upsample(shape: &UpsampleShape, x: &[f32]) -> Answer {
    match shape.mode() {
        UpsampleMode::Nearest => nearest(shape, x),
        UpsampleMode::Bilinear { align_corners } => bilinear(shape, align_corners, x),
    }
}

/// The definition is PyTorch's for f32, with its two roundings: they decide which pixel is copied.
fn nearest(shape: &UpsampleShape, x: &[f32]) -> Answer {
    let (input, output) = (shape.input(), shape.output());
    Answer::exact(output, |[n, c, h, w]| {
        at(x, input, [n, c, source(h, input.h, output.h), source(w, input.w, output.w)])
    })
}

/// The input that output `o` copies, along one axis.
fn source(o: usize, inputs: usize, outputs: usize) -> usize {
    let scale = inputs as f32 / outputs as f32;
    let position = o as f32 * scale;
    (position.floor() as usize).min(inputs - 1)
}

fn bilinear(shape: &UpsampleShape, align_corners: bool, x: &[f32]) -> Answer {
    let (input, output) = (shape.input(), shape.output());
    // A weight of a row, one of a column, their product with the element, three additions. The weights are differences
    // to one, so their errors are relative to one: hence the sum of all four neighbours, unweighted.
    Answer::sums(output, 8, |[n, c, h, w]| {
        let rows = neighbours(h, input.h, output.h, align_corners);
        let cols = neighbours(w, input.w, output.w, align_corners);
        let (mut value, mut magnitude) = (0.0, 0.0);
        for (row, row_weight) in rows {
            for (col, col_weight) in cols {
                let v = at(x, input, [n, c, row, col]);
                value += row_weight * col_weight * v;
                magnitude += v.abs();
            }
        }
        (value, magnitude)
    })
}

/// The two inputs between which output `i` lies, and their weights. At the last input both are the same.
fn neighbours(i: usize, inputs: usize, outputs: usize, align_corners: bool) -> [(usize, f64); 2] {
    let position = if align_corners {
        if outputs > 1 { i as f64 * (inputs - 1) as f64 / (outputs - 1) as f64 } else { 0.0 }
    } else {
        ((i as f64 + 0.5) * inputs as f64 / outputs as f64 - 0.5).max(0.0)
    };
    let before = (position.floor() as usize).min(inputs - 1);
    let after = (before + 1).min(inputs - 1);
    let weight = position - before as f64;
    [(before, 1.0 - weight), (after, weight)]
}

/// Each output gives its gradient to the inputs it was made of, by their weights.
pub fn upsample_backward(shape: &UpsampleShape, gy: &[f32]) -> Answer {
    let (input, output) = (shape.input(), shape.output());
    let weights = |o: usize, inputs: usize, outputs: usize| match shape.mode() {
        UpsampleMode::Nearest => vec![(source(o, inputs, outputs), 1.0)],
        UpsampleMode::Bilinear { align_corners } => {
            let [(before, w), (after, v)] = neighbours(o, inputs, outputs, align_corners);
            // At an input itself f32 may come out on its other side: that neighbour's weight is zero, give or take.
            vec![(before.saturating_sub(1), 0.0), (before, w), (after, v), ((after + 1).min(inputs - 1), 0.0)]
        }
    };
    // How many outputs an element goes into; the weights are as in the forward pass.
    let mut meetings = vec![0usize; input.h * input.w];
    let mut gx = Answer::zeros(input, 0);
    for [n, c, i, j] in positions(output) {
        let g = at(gy, output, [n, c, i, j]);
        for (row, row_weight) in weights(i, input.h, output.h) {
            for (col, col_weight) in weights(j, input.w, output.w) {
                let to = index(input, [n, c, row, col]);
                gx.value[to] += row_weight * col_weight * g;
                gx.magnitude[to] += g.abs();
                if (n, c) == (0, 0) {
                    meetings[row * input.w + col] += 1;
                }
            }
        }
    }
    let most = meetings.into_iter().max().unwrap_or(0);
    gx.roundings = match shape.mode() {
        UpsampleMode::Nearest => most.saturating_sub(1),
        UpsampleMode::Bilinear { .. } => most + 8,
    };
    gx
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewise_kernels::Shape4;

    fn row(x: &[f32], outputs: usize, mode: UpsampleMode) -> Vec<f64> {
        let shape = UpsampleShape::new(Shape4::new(1, 1, 1, x.len()), [1, outputs], mode).unwrap();
        upsample(&shape, x).value
    }

    #[test]
    fn by_hand() {
        let edges = UpsampleMode::Bilinear { align_corners: false };
        let corners = UpsampleMode::Bilinear { align_corners: true };
        assert_eq!(row(&[0.0, 4.0], 4, edges), [0.0, 1.0, 3.0, 4.0]);
        assert_eq!(row(&[0.0, 4.0], 5, corners), [0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(row(&[7.0, 4.0], 1, corners), [7.0]);
        assert_eq!(row(&[1.0, 2.0, 3.0], 5, UpsampleMode::Nearest), [1.0, 1.0, 2.0, 2.0, 3.0]);
    }

    #[test]
    fn gradients_by_hand() {
        let back = |inputs: usize, gy: &[f32], mode| {
            let shape = UpsampleShape::new(Shape4::new(1, 1, 1, inputs), [1, gy.len()], mode).unwrap();
            upsample_backward(&shape, gy).value
        };
        let edges = UpsampleMode::Bilinear { align_corners: false };
        assert_eq!(back(3, &[1.0, 2.0, 4.0, 8.0, 16.0], UpsampleMode::Nearest), [3.0, 12.0, 16.0]);
        assert_eq!(back(2, &[1.0, 4.0, 8.0, 16.0], edges), [1.0 + 3.0 + 2.0, 1.0 + 6.0 + 16.0]);
    }
}
