//! Batch normalisation, by its definition.

use super::{Answer, at, bias_backward, positions};
use tilewise_kernels::Shape4;

/// `(x - mean) / sqrt(var + eps) * gamma + beta`, per channel, with given statistics.
pub fn batch_norm(input: Shape4, x: &[f32], [gamma, beta, mean, var]: [&[f32]; 4], eps: f32) -> Answer {
    // Five operations make the scale, one the product with x; folded into `x * scale + shift` or not, no term passes
    // through more than eight.
    Answer::sums(input, 8, |to| {
        let c = to[1];
        let scale = f64::from(gamma[c]) / (f64::from(var[c]) + f64::from(eps)).sqrt();
        let (x, mean, beta) = (at(x, input, to), f64::from(mean[c]), f64::from(beta[c]));
        ((x - mean) * scale + beta, (x * scale).abs() + (mean * scale).abs() + beta.abs())
    })
}

/// What a training step gives.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainedBatchNorm {
    /// The batch, normalised by its own mean and biased variance.
    pub y: Answer,
    /// The new running mean and variance, `[c, 1, 1, 1]` each, if there are any: `(1 - momentum) * running + momentum *
    /// statistic`, of the unbiased variance.
    pub running: Vec<Answer>,
}

/// As [`batch_norm`], with the statistics of the batch itself. `running` holds mean and variance before the step, and
/// the momentum.
pub fn batch_norm_train(
    input: Shape4,
    x: &[f32],
    [gamma, beta]: [&[f32]; 2],
    eps: f32,
    running: Option<([&[f32]; 2], f32)>,
) -> TrainedBatchNorm {
    let count = input.n * input.h * input.w;
    let channel = |c: usize| {
        let mut values = Vec::with_capacity(count);
        for n in 0..input.n {
            for h in 0..input.h {
                for w in 0..input.w {
                    values.push(at(x, input, [n, c, h, w]));
                }
            }
        }
        values
    };
    let average = |values: &[f64]| values.iter().sum::<f64>() / count as f64;
    // Per channel: mean, mean of |x|, sum of squared deviations.
    let statistics: Vec<(f64, f64, f64)> = (0..input.c)
        .map(|c| {
            let values = channel(c);
            let mean = average(&values);
            let size = average(&values.iter().map(|v| v.abs()).collect::<Vec<_>>());
            (mean, size, values.iter().map(|v| (v - mean).powi(2)).sum())
        })
        .collect();
    // The sums run over the batch. An error of the mean is one of every deviation; a relative error of the variance
    // is half of one of the result.
    let roundings = count + 8;
    let y = Answer::sums(input, roundings, |to| {
        let (mean, size, squares) = statistics[to[1]];
        let scale = f64::from(gamma[to[1]]) / (squares / count as f64 + f64::from(eps)).sqrt();
        let (x, beta) = (at(x, input, to), f64::from(beta[to[1]]));
        let normal = (x - mean) * scale;
        (normal + beta, scale.abs() * (x.abs() + size) + normal.abs() + beta.abs())
    });
    let Some(([old_mean, old_var], momentum)) = running else {
        return TrainedBatchNorm { y, running: Vec::new() };
    };
    let momentum = f64::from(momentum);
    let per_channel = Shape4::new(input.c, 1, 1, 1);
    let mixed = |old: f32, new: f64, size: f64| {
        let old = (1.0 - momentum) * f64::from(old);
        (old + momentum * new, old.abs() + momentum.abs() * size)
    };
    let mean = Answer::sums(per_channel, roundings, |[c, _, _, _]| {
        let (mean, size, _) = statistics[c];
        mixed(old_mean[c], mean, size)
    });
    let var = Answer::sums(per_channel, roundings, |[c, _, _, _]| {
        let (_, size, squares) = statistics[c];
        let unbiased = squares / (count as f64 - 1.0);
        // A deviation is as wrong as the mean it is taken from, relative to the size of the elements.
        let deviation = (squares / count as f64).sqrt();
        mixed(old_var[c], unbiased, unbiased + deviation * size)
    });
    TrainedBatchNorm { y, running: vec![mean, var] }
}

/// The gradients of batch normalisation.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchNormGradients {
    /// That to the input.
    pub gx: Answer,
    /// That to gamma, `[c, 1, 1, 1]`.
    pub ggamma: Answer,
    /// That to beta, `[c, 1, 1, 1]`.
    pub gbeta: Answer,
}

/// With given statistics: `gx = gy * gamma / sqrt(var + eps)`, `ggamma = sum of gy * (x - mean) / sqrt(var + eps)`.
pub fn batch_norm_backward(
    input: Shape4,
    x: &[f32],
    [gamma, mean, var]: [&[f32]; 3],
    eps: f32,
    gy: &[f32],
) -> BatchNormGradients {
    let inverse = |c: usize| 1.0 / (f64::from(var[c]) + f64::from(eps)).sqrt();
    let gx = Answer::sums(input, 8, |to| {
        let term = at(gy, input, to) * f64::from(gamma[to[1]]) * inverse(to[1]);
        (term, term.abs())
    });
    let mut ggamma = Answer::zeros(Shape4::new(input.c, 1, 1, 1), input.n * input.h * input.w + 8);
    for to in positions(input) {
        let (c, g) = (to[1], at(gy, input, to));
        ggamma.add([c, 0, 0, 0], g * at(x, input, to) * inverse(c));
        ggamma.add([c, 0, 0, 0], -g * f64::from(mean[c]) * inverse(c));
    }
    BatchNormGradients { gx, ggamma, gbeta: bias_backward(input, gy) }
}

/// With the statistics of the batch, through which each element moves all of its channel. With the normalised input
/// `z = (x - mean) / sqrt(var + eps)`: `ggamma = sum of gy * z`, `gbeta = sum of gy` and
/// `gx = gamma / sqrt(var + eps) * (gy - gbeta / count - z * ggamma / count)`. The running statistics have no gradient.
pub fn batch_norm_train_backward(
    input: Shape4,
    x: &[f32],
    gamma: &[f32],
    eps: f32,
    gy: &[f32],
) -> BatchNormGradients {
    let count = input.n * input.h * input.w;
    let per_channel = Shape4::new(input.c, 1, 1, 1);
    let mean = channel_means(input, |to| at(x, input, to));
    let size = channel_means(input, |to| at(x, input, to).abs());
    let var = channel_means(input, |to| (at(x, input, to) - mean[to[1]]).powi(2));
    let inverse = |c: usize| 1.0 / (var[c] + f64::from(eps)).sqrt();
    // The normalised input, and its magnitude as in the forward pass.
    let normal = |to: [usize; 4]| {
        let (c, x) = (to[1], at(x, input, to));
        let z = (x - mean[c]) * inverse(c);
        (z, inverse(c) * (x.abs() + size[c]) + z.abs())
    };
    // The sums for the statistics, then those over the gradients.
    let roundings = 2 * count + 16;
    let mut ggamma = Answer::zeros(per_channel, roundings);
    for to in positions(input) {
        let (g, (z, magnitude)) = (at(gy, input, to), normal(to));
        ggamma.value[to[1]] += g * z;
        ggamma.magnitude[to[1]] += g.abs() * magnitude;
    }
    let gbeta = bias_backward(input, gy);
    let gx = Answer::sums(input, roundings, |to| {
        let (c, g, (z, z_magnitude)) = (to[1], at(gy, input, to), normal(to));
        let (scale, n) = (f64::from(gamma[c]) * inverse(c), count as f64);
        let value = scale * (g - gbeta.value[c] / n - z * ggamma.value[c] / n);
        // Of the product of z and ggamma either factor may be off.
        let product = z_magnitude * ggamma.value[c].abs() + z.abs() * ggamma.magnitude[c];
        (value, scale.abs() * (g.abs() + gbeta.magnitude[c] / n + product / n))
    });
    BatchNormGradients { gx, ggamma, gbeta }
}

/// The mean of `f` over each channel.
fn channel_means(input: Shape4, f: impl Fn([usize; 4]) -> f64) -> Vec<f64> {
    let mut means = vec![0.0; input.c];
    for to in positions(input) {
        means[to[1]] += f(to) / (input.n * input.h * input.w) as f64;
    }
    means
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // Mean 2, squared deviations 1 + 1: biased variance 1, unbiased 2.
        let out = batch_norm_train(
            Shape4::new(2, 1, 1, 1),
            &[1.0, 3.0],
            [&[10.0], &[0.5]],
            0.0,
            Some(([&[4.0], &[8.0]], 0.5)),
        );
        assert_eq!(out.y.value, [-9.5, 10.5]);
        assert_eq!((out.running[0].value[0], out.running[1].value[0]), (3.0, 5.0));
    }

    #[test]
    fn gradients_by_hand() {
        // Normalised: -1 and 1, whatever the two values are; so nothing comes back to them.
        let shape = Shape4::new(2, 1, 1, 1);
        let back = batch_norm_train_backward(shape, &[1.0, 3.0], &[10.0], 0.0, &[2.0, 5.0]);
        assert_eq!((back.ggamma.value, back.gbeta.value), (vec![3.0], vec![7.0]));
        assert_eq!(back.gx.value, [0.0, 0.0]);
        let back = batch_norm_backward(shape, &[1.0, 3.0], [&[10.0], &[1.0], &[4.0]], 0.0, &[2.0, 5.0]);
        assert_eq!((back.ggamma.value, back.gbeta.value), (vec![5.0], vec![7.0]));
        assert_eq!(back.gx.value, [10.0, 25.0]);
    }
}
