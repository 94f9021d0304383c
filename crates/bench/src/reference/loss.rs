//! The losses, averaged over all their samples, by their definitions.

use super::{Answer, at, positions};
use tilewise_kernels::{CrossEntropy, Shape4};

/// What counts of one pixel: its class, the factors of `-ln p` of every class, and whether any of them counts at all.
struct Pixel {
    factors: Vec<f64>,
    label: Option<usize>,
}

/// The pixel at `n, h, w`. Its factors: the share of the label times its weight, and what is spread over all classes.
fn pixel(input: Shape4, [n, h, w]: [usize; 3], labels: &[usize], params: CrossEntropy<'_>) -> Pixel {
    let label = labels[(n * input.h + h) * input.w + w];
    let label = (params.ignore_index != Some(label)).then_some(label);
    let smoothing = f64::from(params.label_smoothing);
    let factors = (0..input.c).map(|c| {
        let of_label = if label == Some(c) { 1.0 - smoothing } else { 0.0 };
        let of_class = if label.is_some() { smoothing / input.c as f64 } else { 0.0 };
        weight(params, c) * (of_label + of_class)
    });
    Pixel { factors: factors.collect(), label }
}

fn weight(params: CrossEntropy<'_>, class: usize) -> f64 {
    params.class_weights.map_or(1.0, |weights| f64::from(weights[class]))
}

/// What the sum over all pixels is divided by: the weights of the labels that count.
fn divisor(labels: &[usize], params: CrossEntropy<'_>) -> f64 {
    let counted = labels.iter().filter(|&&label| params.ignore_index != Some(label));
    counted.map(|&label| weight(params, label)).sum()
}

/// Whether a class has a part in the loss of a pixel: without smoothing the label alone, whatever the others are.
fn takes_part(pixel: &Pixel, class: usize, params: CrossEntropy<'_>) -> bool {
    pixel.label.is_some() && (pixel.label == Some(class) || params.label_smoothing != 0.0)
}

/// Over `n, h, w`, the mean of `log(sum over c of exp(x)) - x[label]`, with weights and smoothing; `labels` in the order
/// n, h, w.
pub fn cross_entropy(input: Shape4, x: &[f32], labels: &[usize], params: CrossEntropy<'_>) -> Answer {
    let samples = input.n * input.h * input.w;
    let (mut sum, mut magnitude) = (0.0, 0.0);
    for n in 0..input.n {
        for h in 0..input.h {
            for w in 0..input.w {
                let pixel = pixel(input, [n, h, w], labels, params);
                let logits: Vec<f64> = (0..input.c).map(|c| at(x, input, [n, c, h, w])).collect();
                let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let log_sum = logits.iter().map(|v| (v - max).exp()).sum::<f64>().ln();
                for c in (0..input.c).filter(|&c| takes_part(&pixel, c, params)) {
                    sum += pixel.factors[c] * (max - logits[c] + log_sum);
                    magnitude += pixel.factors[c] * (max.abs() + log_sum.abs() + logits[c].abs() + 1.0);
                }
            }
        }
    }
    let divisor = divisor(labels, params);
    // Two sums over the classes, one over the samples, and the few operations of a logarithm and an exponential.
    Answer::scalar(sum / divisor, magnitude / divisor, 2 * input.c + samples + 12)
}

/// `gx = gy / divisor * (softmax(x) * sum of the factors - factor of the class)`.
pub fn cross_entropy_backward(
    input: Shape4,
    x: &[f32],
    labels: &[usize],
    params: CrossEntropy<'_>,
    gy: f32,
) -> Answer {
    let share = f64::from(gy) / divisor(labels, params);
    Answer::sums(input, 2 * input.c + 16, |[n, c, h, w]| {
        let pixel = pixel(input, [n, h, w], labels, params);
        let logits: Vec<f64> = (0..input.c).map(|c| at(x, input, [n, c, h, w])).collect();
        let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|v| (v - max).exp()).sum();
        let below_max = logits[c] - max;
        let probability = below_max.exp() / sum;
        if pixel.label.is_none() {
            // Nothing; and of nothing times NaN, NaN, as in PyTorch.
            return (0.0 * probability, 0.0);
        }
        // An exponential turns the rounding of its argument into a relative error as large as the argument.
        let spread = if probability == 0.0 { 0.0 } else { probability * (1.0 + below_max.abs()) };
        let (factor, all) = (pixel.factors[c], pixel.factors.iter().sum::<f64>());
        (share * (probability * all - factor), share.abs() * (spread * all + factor))
    })
}

/// Mean of `(1 - target) * x + (1 + (w - 1) * target) * (max(-x, 0) + log(1 + exp(-|x|)))`: binary cross entropy of
/// `sigmoid(x)`, in the form in which PyTorch has it, for which infinities matter; `w` is the weight of the channel.
pub fn bce_with_logits(input: Shape4, x: &[f32], target: &[f32], pos_weight: Option<&[f32]>) -> Answer {
    let (mut sum, mut magnitude) = (0.0, 0.0);
    for to in positions(input) {
        let (x, t) = (at(x, input, to), at(target, input, to));
        let weight = pos_weight.map_or(1.0, |weights| f64::from(weights[to[1]]));
        let of_log = 1.0 + (weight - 1.0) * t;
        // A comparison, not `max`, which would drop a NaN.
        let opposite = if x > 0.0 { 0.0 } else { -x };
        let log = (-x.abs()).exp().ln_1p();
        sum += (1.0 - t) * x + of_log * (opposite + log);
        magnitude += x.abs() + (x * t).abs() + (1.0 + weight * t.abs()) * (opposite.abs() + log);
    }
    let count = x.len() as f64;
    Answer::scalar(sum / count, magnitude / count, x.len() + 12)
}

/// The gradients to logits and target: `gy / count * ((1 + (w - 1) target) * sigmoid(x) - w * target)` and
/// `gy / count * (-x + (w - 1) * log(1 + exp(-x)))`.
pub fn bce_with_logits_backward(
    input: Shape4,
    x: &[f32],
    target: &[f32],
    pos_weight: Option<&[f32]>,
    gy: f32,
) -> [Answer; 2] {
    let share = f64::from(gy) / x.len() as f64;
    let weight = |c: usize| pos_weight.map_or(1.0, |weights| f64::from(weights[c]));
    let gx = Answer::sums(input, 18, |to| {
        let (x, t, weight) = (at(x, input, to), at(target, input, to), weight(to[1]));
        let sigmoid = 1.0 / (1.0 + (-x).exp());
        let value = (1.0 + (weight - 1.0) * t) * sigmoid - weight * t;
        (share * value, share.abs() * ((1.0 + t.abs() + weight * t.abs()) * sigmoid + weight * t.abs()))
    });
    let gtarget = Answer::sums(input, 12, |to| {
        let (x, weight) = (at(x, input, to), weight(to[1]));
        let softplus = if x > 0.0 { 0.0 } else { -x } + (-x.abs()).exp().ln_1p();
        let of_log = if weight == 1.0 { 0.0 } else { (weight - 1.0) * softplus };
        (share * (of_log - x), share.abs() * (of_log.abs() + x.abs()))
    });
    [gx, gtarget]
}

/// Mean of `(x - target)^2`.
pub fn mse(x: &[f32], target: &[f32]) -> Answer {
    let sum: f64 = x.iter().zip(target).map(|(&x, &t)| (f64::from(x) - f64::from(t)).powi(2)).sum();
    let mean = sum / x.len() as f64;
    // Relative errors only: the difference, its square (twice that error), the sum, the division.
    Answer::scalar(mean, mean, x.len() + 5)
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

/// Mean of `|x - target|`.
pub fn l1(x: &[f32], target: &[f32]) -> Answer {
    let sum: f64 = x.iter().zip(target).map(|(&x, &t)| (f64::from(x) - f64::from(t)).abs()).sum();
    let mean = sum / x.len() as f64;
    // Relative errors only: the difference, the sum, the division.
    Answer::scalar(mean, mean, x.len() + 3)
}

/// The gradients to `x` and target: `gy / count` with the sign of `x - target`, and its negative. Of what has no sign, NaN or
/// 0, nothing.
pub fn l1_backward(input: Shape4, x: &[f32], target: &[f32], gy: f32) -> [Answer; 2] {
    let share = f64::from(gy) / x.len() as f64;
    let toward = |size: f64| {
        Answer::sums(input, 2, |to| {
            let d = at(x, input, to) - at(target, input, to);
            let term = if d > 0.0 {
                size
            } else if d < 0.0 {
                -size
            } else {
                0.0
            };
            (term, term.abs())
        })
    };
    [toward(share), toward(-share)]
}

/// For each plane `2 sum(p t) + smooth` and `sum p + sum t + smooth`, with `p = sigmoid(x)`.
fn overlaps(input: Shape4, x: &[f32], target: &[f32], smooth: f32) -> Vec<[f64; 2]> {
    let mut overlaps = vec![[f64::from(smooth); 2]; input.n * input.c];
    for to in positions(input) {
        let (p, t) = (1.0 / (1.0 + (-at(x, input, to)).exp()), at(target, input, to));
        let [both, either] = &mut overlaps[to[0] * input.c + to[1]];
        *both += 2.0 * p * t;
        *either += p + t;
    }
    overlaps
}

/// Mean over planes of `1 - (2 sum(p t) + smooth) / (sum p + sum t + smooth)` with `p = sigmoid(x)` and targets of 0..=1.
pub fn dice(input: Shape4, x: &[f32], target: &[f32], smooth: f32) -> Answer {
    let overlaps = overlaps(input, x, target, smooth);
    let planes = overlaps.len() as f64;
    let (loss, magnitude) = overlaps.iter().fold((0.0, 0.0), |(loss, magnitude), [both, either]| {
        (loss + 1.0 - both / either, magnitude + 1.0 + both / either)
    });
    Answer::scalar(loss / planes, magnitude / planes, input.h * input.w + overlaps.len() + 16)
}

/// The gradients to logits and target: with `a = 2 / either` and `b = both / either^2` of the plane, and
/// `share = gy / planes`, `share * p (1 - p) (b - a t)` and `share * (b - a p)`.
pub fn dice_backward(input: Shape4, x: &[f32], target: &[f32], smooth: f32, gy: f32) -> [Answer; 2] {
    let overlaps = overlaps(input, x, target, smooth);
    let share = f64::from(gy) / overlaps.len() as f64;
    let roundings = input.h * input.w + 24;
    let of_plane = |[n, c, ..]: [usize; 4]| {
        let [both, either] = overlaps[n * input.c + c];
        (2.0 / either, both / (either * either))
    };
    let gx = Answer::sums(input, roundings, |to| {
        let ((a, b), x, t) = (of_plane(to), at(x, input, to), at(target, input, to));
        let slope = 1.0 / (1.0 + (-x).exp()) / (1.0 + x.exp());
        (share * slope * (b - a * t), share.abs() * slope * (b.abs() + (a * t).abs()))
    });
    let gtarget = Answer::sums(input, roundings, |to| {
        let ((a, b), p) = (of_plane(to), 1.0 / (1.0 + (-at(x, input, to)).exp()));
        (share * (b - a * p), share.abs() * (b.abs() + (a * p).abs()))
    });
    [gx, gtarget]
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: CrossEntropy<'_> =
        CrossEntropy { class_weights: None, label_smoothing: 0.0, ignore_index: None };

    #[test]
    fn by_hand() {
        let y = cross_entropy(Shape4::new(1, 2, 1, 2), &[0.0, 5.0, 0.0, 5.0], &[0, 1], PLAIN);
        assert!((y.value[0] - 2f64.ln()).abs() < 1e-15);
        let y = bce_with_logits(Shape4::new(1, 1, 1, 2), &[0.0, 1000.0], &[1.0, 1.0], None);
        assert!((y.value[0] - 2f64.ln() / 2.0).abs() < 1e-15);
        let y = bce_with_logits(Shape4::new(1, 2, 1, 1), &[0.0, 0.0], &[1.0, 0.0], Some(&[3.0, 9.0]));
        assert!((y.value[0] - 2f64.ln() * 2.0).abs() < 1e-15);
        assert_eq!(mse(&[1.0, 2.0], &[3.0, 2.0]).value, [2.0]);
        assert_eq!(l1(&[1.0, 2.0], &[3.0, 2.0]).value, [1.0]);
        // sigmoid(0) is one half: 1 - (2 (1/2 + 0) + 1) / (1 + 1 + 1).
        let y = dice(Shape4::new(1, 1, 1, 2), &[0.0, 0.0], &[1.0, 0.0], 1.0);
        assert!((y.value[0] - 1.0 / 3.0).abs() < 1e-15);
    }

    #[test]
    fn weights_smoothing_and_ignored_labels_by_hand() {
        let params =
            CrossEntropy { class_weights: Some(&[1.0, 3.0]), label_smoothing: 0.5, ignore_index: Some(9) };
        // Equal logits: every -ln p is ln 2. The label has 1/2 * 3 + 1/4 * (1 + 3), over 3; the pixel of label 9 nothing.
        let shape = Shape4::new(1, 2, 1, 2);
        let y = cross_entropy(shape, &[4.0, 5.0, 4.0, 50.0], &[1, 9], params);
        assert!((y.value[0] - 2f64.ln() * 2.5 / 3.0).abs() < 1e-15);
        // Half of all factors, 5/4, less 1/4 and 9/4, over 3.
        let gx = cross_entropy_backward(shape, &[4.0, 5.0, 4.0, 50.0], &[1, 9], params, 3.0);
        assert_eq!(gx.value, [1.0, 0.0, -1.0, 0.0]);
    }

    #[test]
    fn the_mean_of_nothing_is_nan() {
        let none = Shape4::new(0, 3, 1, 1);
        assert!(cross_entropy(none, &[], &[], PLAIN).value[0].is_nan());
        let params = CrossEntropy { ignore_index: Some(0), ..PLAIN };
        assert!(cross_entropy(Shape4::new(1, 2, 1, 1), &[1.0, 2.0], &[0], params).value[0].is_nan());
        assert!(bce_with_logits(none, &[], &[], None).value[0].is_nan());
        assert!(mse(&[], &[]).value[0].is_nan());
        assert!(l1(&[], &[]).value[0].is_nan());
        assert!(dice(none, &[], &[], 1.0).value[0].is_nan());
    }

    #[test]
    fn gradients_by_hand() {
        let gx = cross_entropy_backward(Shape4::new(1, 2, 1, 2), &[0.0, 5.0, 0.0, 5.0], &[0, 1], PLAIN, 8.0);
        assert_eq!(gx.value, [-2.0, 2.0, 2.0, -2.0]);
        let pair = Shape4::new(1, 1, 1, 2);
        let [gx, gtarget] = bce_with_logits_backward(pair, &[0.0, 3.0], &[1.0, 0.5], None, 4.0);
        assert_eq!((gx.value[0], &gtarget.value[..]), (-1.0, &[0.0, -6.0][..]));
        let [gx, gtarget] = mse_backward(pair, &[1.0, 2.0], &[3.0, 2.0], 0.5);
        assert_eq!((gx.value, gtarget.value), (vec![-1.0, 0.0], vec![1.0, 0.0]));
        let [gx, gtarget] = l1_backward(pair, &[1.0, 2.0], &[3.0, 2.0], 0.5);
        assert_eq!((gx.value, gtarget.value), (vec![-0.25, 0.0], vec![0.25, 0.0]));
        // Both is 1, either 2: a = 1, b = 1/4, and p (1 - p) = 1/4.
        let [gx, gtarget] = dice_backward(pair, &[0.0, 0.0], &[1.0, 0.0], 0.0, 16.0);
        assert_eq!((gx.value, gtarget.value), (vec![-3.0, 1.0], vec![-4.0, -4.0]));
    }

    #[test]
    fn infinite_logits_as_in_pytorch() {
        let (inf, shape) = (f32::INFINITY, Shape4::new(3, 3, 1, 1));
        let x = [1.0, -inf, 2.0, inf, 1.0, 2.0, -inf, 1.0, 2.0];
        let gx = cross_entropy_backward(shape, &x, &[0, 0, 0], PLAIN, 3.0).value;
        assert_eq!((gx[1], gx[6]), (0.0, -1.0));
        assert!(gx[3..6].iter().all(|g| g.is_nan()), "{gx:?}");
    }
}
