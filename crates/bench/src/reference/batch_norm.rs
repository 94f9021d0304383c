//! Batch normalisation, by its definition.

use super::{Answer, at};
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
}
