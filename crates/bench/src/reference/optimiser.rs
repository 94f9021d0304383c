//! Steps of the optimisers, and the clipping of a gradient by its norm, in f64.
//!
//! Each answer is a tensor after the step: the parameters first, then what the optimiser remembers.

use super::{Answer, at, index, positions};
use tilewise_kernels::{Adam, Sgd, Shape4};

/// `g + weight_decay * p`, and the sum of the absolute values of the two.
fn decayed(p: f64, g: f64, weight_decay: f64) -> (f64, f64) {
    (g + weight_decay * p, g.abs() + (weight_decay * p).abs())
}

/// `p`, and the velocity `v` if there is one.
pub fn sgd(input: Shape4, sgd: &Sgd, p: &[f32], g: &[f32], v: Option<&[f32]>) -> Vec<Answer> {
    let Sgd { lr, momentum, weight_decay, nesterov } = *sgd;
    let [lr, momentum, weight_decay] = [lr, momentum, weight_decay].map(f64::from);
    let (mut parameters, mut velocity) = (Answer::zeros(input, 8), Answer::zeros(input, 4));
    for to in positions(input) {
        let i = index(input, to);
        let p = at(p, input, to);
        let (g, g_size) = decayed(p, at(g, input, to), weight_decay);
        let old = v.map_or(0.0, |v| at(v, input, to));
        let (new, new_size) = (momentum * old + g, momentum * old.abs() + g_size);
        let (step, step_size) =
            if nesterov { (g + momentum * new, g_size + momentum * new_size) } else { (new, new_size) };
        parameters.value[i] = p - lr * step;
        parameters.magnitude[i] = p.abs() + lr * step_size;
        (velocity.value[i], velocity.magnitude[i]) = (new, new_size);
    }
    [parameters].into_iter().chain(v.map(|_| velocity)).collect()
}

/// `p`, the mean `m` of the gradients, and that of their squares, `v`.
pub fn adam(input: Shape4, adam: &Adam, step: u64, [p, g, m, v]: [&[f32]; 4]) -> [Answer; 3] {
    let Adam { lr, beta1, beta2, eps, weight_decay, decoupled } = *adam;
    let [lr, beta1, beta2, eps, weight_decay] = [lr, beta1, beta2, eps, weight_decay].map(f64::from);
    let [added, taken] = if decoupled { [0.0, weight_decay] } else { [weight_decay, 0.0] };
    let mut parameters = Answer::zeros(input, 24);
    let [mut means, mut squares] = [Answer::zeros(input, 6), Answer::zeros(input, 8)];
    for to in positions(input) {
        let i = index(input, to);
        let p = at(p, input, to);
        let (g, g_size) = decayed(p, at(g, input, to), added);
        let mean = beta1 * at(m, input, to) + (1.0 - beta1) * g;
        let mean_size = beta1 * at(m, input, to).abs() + (1.0 - beta1) * g_size;
        let square = beta2 * at(v, input, to) + (1.0 - beta2) * g * g;
        let square_size = beta2 * at(v, input, to) + (1.0 - beta2) * g_size * g_size;
        let unbiased = |mean: f64, beta: f64| mean / (1.0 - beta.powf(step as f64));
        let divisor = unbiased(square, beta2).sqrt() + eps;
        parameters.value[i] = p - lr * taken * p - lr * unbiased(mean, beta1) / divisor;
        // The error of the square passes through a root into the quotient.
        let of_root = if square > 0.0 { square_size / square } else { 1.0 };
        let quotient_size = unbiased(mean_size, beta1) / divisor * (1.0 + of_root);
        parameters.magnitude[i] = p.abs() + lr * taken * p.abs() + lr * quotient_size;
        (means.value[i], means.magnitude[i]) = (mean, mean_size);
        (squares.value[i], squares.magnitude[i]) = (square, square_size);
    }
    [parameters, means, squares]
}

/// The gradient, its norm brought down to `max_norm`, and the norm that it had.
pub fn clip_norm(input: Shape4, g: &[f32], max_norm: f32) -> [Answer; 2] {
    let norm = g.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
    let factor = f64::from(max_norm) / (norm + 1e-6);
    // A comparison, not `min`, which would drop a NaN.
    let factor = if factor > 1.0 { 1.0 } else { factor };
    let clipped = Answer::sums(input, g.len() + 8, |to| {
        let value = at(g, input, to) * factor;
        (value, value.abs())
    });
    [clipped, Answer::scalar(norm, norm, g.len() + 4)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Shape4 = Shape4::new(1, 1, 1, 1);

    fn values(answers: &[Answer]) -> Vec<f64> {
        answers.iter().map(|answer| answer.value[0]).collect()
    }

    #[test]
    fn by_hand() {
        let plain = Sgd { lr: 0.5, momentum: 0.0, weight_decay: 0.0, nesterov: false };
        assert_eq!(values(&sgd(ONE, &plain, &[1.0], &[4.0], None)), [-1.0]);
        // g = 4 + 2 * 1, v = 0.5 * 8 + 6 = 10.
        let heavy = Sgd { momentum: 0.5, weight_decay: 2.0, ..plain };
        assert_eq!(values(&sgd(ONE, &heavy, &[1.0], &[4.0], Some(&[8.0]))), [-4.0, 10.0]);
        // 6 + 0.5 * 10.
        let ahead = Sgd { nesterov: true, ..heavy };
        assert_eq!(values(&sgd(ONE, &ahead, &[1.0], &[4.0], Some(&[8.0]))), [-4.5, 10.0]);
    }

    #[test]
    fn the_first_step_of_adam_is_the_learning_rate() {
        let plain = Adam { lr: 0.25, eps: 0.0, ..Adam::default() };
        for g in [1e-3, 1.0, -1e3] {
            let [p, ..] = adam(ONE, &plain, 1, [&[1.0], &[g], &[0.0], &[0.0]]);
            assert!((p.value[0] - 1.0 + 0.25 * f64::from(g.signum())).abs() < 1e-12);
        }
        let decoupled = Adam { weight_decay: 0.5, decoupled: true, ..plain };
        let [p, ..] = adam(ONE, &decoupled, 1, [&[1.0], &[1.0], &[0.0], &[0.0]]);
        assert!((p.value[0] - (1.0 - 0.125 - 0.25)).abs() < 1e-12);
    }

    #[test]
    fn a_norm_is_clipped_or_left() {
        let pair = Shape4::new(1, 1, 1, 2);
        let [g, norm] = clip_norm(pair, &[3.0, -4.0], 1.0);
        assert!((g.value[0] - 0.6).abs() < 1e-6 && (g.value[1] + 0.8).abs() < 1e-6);
        assert_eq!(norm.value, [5.0]);
        assert_eq!(clip_norm(pair, &[3.0, -4.0], 6.0)[0].value, [3.0, -4.0]);
    }
}
