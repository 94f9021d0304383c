//! Scores that should be higher for the abnormal, and where to draw the line.

use super::check_pairs;
use crate::error::{Error, Result};

/// The area under the ROC curve: the probability that a positive has a higher score than a negative, both drawn at
/// random; of equal scores, one half.
///
/// `(R - p (p + 1) / 2) / (p q)`, with `R` the sum of the ranks of the `p` positives among all, equal scores sharing their
/// mean rank, and `q` the number of negatives (Mann and Whitney, 1947; Hanley and McNeil, 1982). 1 is perfect, one half
/// is chance. Without a positive or without a negative it is NaN.
///
/// ```
/// let auroc = tilewise_model::metrics::auroc(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true])?;
/// assert_eq!(auroc, 0.75);
/// # Ok::<(), tilewise_model::Error>(())
/// ```
///
/// # Errors
/// [`Error::Invalid`] if they are not as many, or a score is NaN.
pub fn auroc(scores: &[f32], positive: &[bool]) -> Result<f64> {
    check_pairs("auroc: truth", scores.len(), positive.len())?;
    check_numbers("auroc: score", scores)?;
    let mut ranked: Vec<(f32, bool)> = scores.iter().copied().zip(positive.iter().copied()).collect();
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Twice the ranks, so that the mean of two neighbours is whole.
    let (mut first, mut twice_ranks) = (0u128, 0u128);
    // `==`, for which -0 and 0 are equal; `total_cmp` has put them side by side.
    for equal in ranked.chunk_by(|a, b| a.0 == b.0) {
        let last = first + equal.len() as u128;
        let positives = equal.iter().filter(|(_, positive)| *positive).count() as u128;
        twice_ranks += positives * (first + 1 + last);
        first = last;
    }
    let p = positive.iter().filter(|&&positive| positive).count() as u128;
    let q = positive.len() as u128 - p;
    Ok((twice_ranks - p * (p + 1)) as f64 / (2 * p * q) as f64)
}

/// The mean of losses plus `k` times their standard deviation (of the population: divided by their number): what an
/// autoencoder reconstructs worse than that is abnormal. NaN without losses.
///
/// ```
/// use tilewise_model::metrics::mean_plus_deviations;
/// assert_eq!(mean_plus_deviations(&[1.0, 3.0, 1.0, 3.0], 1.0)?, 3.0);
/// # Ok::<(), tilewise_model::Error>(())
/// ```
///
/// # Errors
/// [`Error::Invalid`] if a loss is NaN.
pub fn mean_plus_deviations(losses: &[f32], k: f64) -> Result<f64> {
    check_numbers("losses", losses)?;
    let count = losses.len() as f64;
    let mean = losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / count;
    let variance = losses.iter().map(|&loss| (f64::from(loss) - mean).powi(2)).sum::<f64>() / count;
    Ok(mean + k * variance.sqrt())
}

/// The value below which `percent` of the numbers lie: at rank `percent / 100 * (n - 1)` of the sorted numbers, counted
/// from 0, linear between two (type 7 of Hyndman and Fan, 1996; the default of NumPy). NaN without numbers.
///
/// ```
/// use tilewise_model::metrics::percentile;
/// assert_eq!(percentile(&[4.0, 1.0, 3.0, 2.0], 50.0)?, 2.5);
/// # Ok::<(), tilewise_model::Error>(())
/// ```
///
/// # Errors
/// [`Error::Invalid`] if `percent` is not within 0..=100, or a number is NaN.
pub fn percentile(values: &[f32], percent: f64) -> Result<f64> {
    check_numbers("percentile: numbers", values)?;
    if !(0.0..=100.0).contains(&percent) {
        return Err(Error::invalid("percentile", "0 to 100", percent));
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return Ok(f64::NAN) };
    let rank = percent / 100.0 * last as f64;
    let below = (rank.floor() as usize).min(last);
    let (low, high) = (f64::from(sorted[below]), f64::from(sorted[(below + 1).min(last)]));
    // Equal infinities have no difference.
    Ok(if low == high { low } else { low + (rank - below as f64) * (high - low) })
}

fn check_numbers(what: &str, values: &[f32]) -> Result<()> {
    match values.iter().any(|value| value.is_nan()) {
        true => Err(Error::invalid(what, "a number", f32::NAN)),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_areas() {
        let area = |scores: &[f32], positive: &[u8]| {
            auroc(scores, &positive.iter().map(|&p| p == 1).collect::<Vec<_>>()).unwrap()
        };
        assert_eq!(area(&[1.0, 2.0, 3.0, 4.0], &[0, 0, 1, 1]), 1.0);
        assert_eq!(area(&[1.0, 2.0, 3.0, 4.0], &[1, 1, 0, 0]), 0.0);
        assert_eq!(area(&[5.0; 4], &[0, 1, 1, 0]), 0.5);
        assert_eq!(area(&[1.0, 2.0, 2.0], &[0, 0, 1]), 0.75);
        assert_eq!(area(&[0.0, -0.0], &[0, 1]), 0.5);
        assert_eq!(area(&[f32::NEG_INFINITY, f32::INFINITY], &[0, 1]), 1.0);
        assert!(area(&[1.0, 2.0], &[1, 1]).is_nan() && area(&[], &[]).is_nan());
        assert!(auroc(&[1.0], &[]).is_err() && auroc(&[f32::NAN, 1.0], &[true, false]).is_err());
    }

    proptest! {
        #[test]
        fn the_area_is_the_share_of_pairs_in_the_right_order(
            samples in proptest::collection::vec((-3i8..4, any::<bool>()), 2..40)
        ) {
            let (scores, positive): (Vec<f32>, Vec<bool>) =
                samples.iter().map(|&(score, positive)| (f32::from(score), positive)).unzip();
            let (mut won, mut pairs) = (0.0, 0.0);
            for (i, j) in (0..samples.len()).flat_map(|i| (0..samples.len()).map(move |j| (i, j))) {
                if positive[i] && !positive[j] {
                    pairs += 1.0;
                    won += if scores[i] > scores[j] { 1.0 } else if scores[i] == scores[j] { 0.5 } else { 0.0 };
                }
            }
            let area = auroc(&scores, &positive).unwrap();
            let expected: f64 = won / pairs;
            prop_assert!(area.is_nan() && expected.is_nan() || (area - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn thresholds_worked_by_hand() {
        let losses = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
        assert_eq!(mean_plus_deviations(&losses, 0.0).unwrap(), 5.0);
        assert_eq!(mean_plus_deviations(&losses, 1.5).unwrap(), 8.0);
        assert!(mean_plus_deviations(&[], 1.0).unwrap().is_nan());
        assert!(mean_plus_deviations(&[f32::NAN], 1.0).is_err());
        let at = |percent| percentile(&[50.0, 15.0, 20.0, 35.0, 40.0], percent).unwrap();
        assert_eq!([at(0.0), at(40.0), at(50.0), at(90.0), at(100.0)], [15.0, 29.0, 35.0, 46.0, 50.0]);
        assert!(percentile(&[], 50.0).unwrap().is_nan() && percentile(&[3.0], 99.0).unwrap() == 3.0);
        assert_eq!(percentile(&[f32::INFINITY; 2], 50.0).unwrap(), f64::INFINITY);
        for percent in [-0.1, 100.1, f64::NAN] {
            assert!(percentile(&[1.0], percent).is_err());
        }
    }
}
