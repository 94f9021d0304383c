//! The losses, averaged over all their samples, by their definitions.

use super::{Answer, at};
use tilewise_kernels::Shape4;

/// Mean over `n, h, w` of `log(sum over c of exp(x)) - x[label]`; `labels` in the order n, h, w.
pub fn cross_entropy(input: Shape4, x: &[f32], labels: &[usize]) -> Answer {
    let samples = input.n * input.h * input.w;
    let (mut sum, mut magnitude) = (0.0, 0.0);
    for n in 0..input.n {
        for h in 0..input.h {
            for w in 0..input.w {
                let logits: Vec<f64> = (0..input.c).map(|c| at(x, input, [n, c, h, w])).collect();
                let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let log_sum = logits.iter().map(|v| (v - max).exp()).sum::<f64>().ln();
                let right = logits[labels[(n * input.h + h) * input.w + w]];
                sum += max + log_sum - right;
                magnitude += max.abs() + log_sum.abs() + right.abs() + 1.0;
            }
        }
    }
    // One sum over the classes, one over the samples, and the few operations of a logarithm and an exponential.
    Answer::scalar(sum / samples as f64, magnitude / samples as f64, input.c + samples + 8)
}

/// Mean of `(1 - target) * x + max(-x, 0) + log(1 + exp(-|x|))`: binary cross entropy of `sigmoid(x)`, in the form in which
/// PyTorch has it, for which infinities matter.
pub fn bce_with_logits(x: &[f32], target: &[f32]) -> Answer {
    let (mut sum, mut magnitude) = (0.0, 0.0);
    for (&x, &t) in x.iter().zip(target) {
        let (x, t) = (f64::from(x), f64::from(t));
        // A comparison, not `max`, which would drop a NaN.
        let opposite = if x > 0.0 { 0.0 } else { -x };
        let log = (-x.abs()).exp().ln_1p();
        sum += (1.0 - t) * x + opposite + log;
        magnitude += x.abs() + (x * t).abs() + log;
    }
    Answer::scalar(sum / x.len() as f64, magnitude / x.len() as f64, x.len() + 8)
}

/// Mean of `(x - target)^2`.
pub fn mse(x: &[f32], target: &[f32]) -> Answer {
    let sum: f64 = x.iter().zip(target).map(|(&x, &t)| (f64::from(x) - f64::from(t)).powi(2)).sum();
    let mean = sum / x.len() as f64;
    // Relative errors only: the difference, its square (twice that error), the sum, the division.
    Answer::scalar(mean, mean, x.len() + 5)
}

/// `gx = gy / samples * (softmax(x) - 1 at the label)`.
pub fn cross_entropy_backward(input: Shape4, x: &[f32], labels: &[usize], gy: f32) -> Answer {
    let share = f64::from(gy) / (input.n * input.h * input.w) as f64;
    Answer::sums(input, input.c + 12, |[n, c, h, w]| {
        let logits: Vec<f64> = (0..input.c).map(|c| at(x, input, [n, c, h, w])).collect();
        let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|v| (v - max).exp()).sum();
        let below_max = logits[c] - max;
        let probability = below_max.exp() / sum;
        let hit = if labels[(n * input.h + h) * input.w + w] == c { 1.0 } else { 0.0 };
        // An exponential turns the rounding of its argument into a relative error as large as the argument.
        let spread = if probability == 0.0 { 0.0 } else { probability * (1.0 + below_max.abs()) };
        (share * (probability - hit), share.abs() * (spread + hit))
    })
}

/// The gradients to logits and target: `gy / count * (sigmoid(x) - target)` and `gy / count * -x`.
pub fn bce_with_logits_backward(input: Shape4, x: &[f32], target: &[f32], gy: f32) -> [Answer; 2] {
    let share = f64::from(gy) / x.len() as f64;
    let gx = Answer::sums(input, 16, |to| {
        let (x, t) = (at(x, input, to), at(target, input, to));
        let sigmoid = 1.0 / (1.0 + (-x).exp());
        (share * (sigmoid - t), share.abs() * (sigmoid + t.abs()))
    });
    let gtarget = Answer::sums(input, 3, |to| {
        let term = -share * at(x, input, to);
        (term, term.abs())
    });
    [gx, gtarget]
}

/// The gradients to `x` and target: `gy / count * 2 (x - target)` and its negative.
pub fn mse_backward(input: Shape4, x: &[f32], target: &[f32], gy: f32) -> [Answer; 2] {
    let share = f64::from(gy) / x.len() as f64;
    // Relative errors only: the difference, the share, the products.
    let toward = |sign: f64| {
        Answer::sums(input, 5, |to| {
            let term = sign * share * 2.0 * (at(x, input, to) - at(target, input, to));
            (term, term.abs())
        })
    };
    [toward(1.0), toward(-1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let y = cross_entropy(Shape4::new(1, 2, 1, 2), &[0.0, 5.0, 0.0, 5.0], &[0, 1]);
        assert!((y.value[0] - 2f64.ln()).abs() < 1e-15);
        let y = bce_with_logits(&[0.0, 1000.0], &[1.0, 1.0]);
        assert!((y.value[0] - 2f64.ln() / 2.0).abs() < 1e-15);
        assert_eq!(mse(&[1.0, 2.0], &[3.0, 2.0]).value, [2.0]);
    }

    #[test]
    fn the_mean_of_nothing_is_nan() {
        assert!(cross_entropy(Shape4::new(0, 3, 1, 1), &[], &[]).value[0].is_nan());
        assert!(mse(&[], &[]).value[0].is_nan());
    }

    #[test]
    fn gradients_by_hand() {
        let gx = cross_entropy_backward(Shape4::new(1, 2, 1, 2), &[0.0, 5.0, 0.0, 5.0], &[0, 1], 8.0);
        assert_eq!(gx.value, [-2.0, 2.0, 2.0, -2.0]);
        let [gx, gtarget] = bce_with_logits_backward(Shape4::new(1, 1, 1, 2), &[0.0, 3.0], &[1.0, 0.5], 4.0);
        assert_eq!((gx.value[0], &gtarget.value[..]), (-1.0, &[0.0, -6.0][..]));
        let [gx, gtarget] = mse_backward(Shape4::new(1, 1, 1, 2), &[1.0, 2.0], &[3.0, 2.0], 0.5);
        assert_eq!((gx.value, gtarget.value), (vec![-1.0, 0.0], vec![1.0, 0.0]));
    }

    #[test]
    fn infinite_logits_as_in_pytorch() {
        let (inf, shape) = (f32::INFINITY, Shape4::new(3, 3, 1, 1));
        let x = [1.0, -inf, 2.0, inf, 1.0, 2.0, -inf, 1.0, 2.0];
        let gx = cross_entropy_backward(shape, &x, &[0, 0, 0], 3.0).value;
        assert_eq!((gx[1], gx[6]), (0.0, -1.0));
        assert!(gx[3..6].iter().all(|g| g.is_nan()), "{gx:?}");
    }
}
