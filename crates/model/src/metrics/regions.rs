//! Yes or no, for each pixel or each image: regions that overlap, anomalies that are found.

use super::{check_pairs, share};
use crate::error::Result;

/// How often what was said to be so is so. Of pixels that belong to an object, or of images that are abnormal.
///
/// | | |
/// |---|---|
/// | accuracy | `(TP + TN) / all`: of pixels, pixel accuracy |
/// | precision | `TP / (TP + FP)` |
/// | recall | `TP / (TP + FN)`: of images, the detected rate |
/// | false-alarm rate | `FP / (FP + TN)` |
/// | Dice | `2 TP / (2 TP + FP + FN)`, which is F1 |
/// | IoU | `TP / (TP + FP + FN)`: intersection over union, the Jaccard index |
///
/// A share of nothing is NaN: recall where nothing is so, Dice where nothing is so or was said to be. Counted over all
/// images of a set rather than averaged over images, so that an image without any object does not decide.
///
/// ```
/// use tilewise_model::metrics::Binary;
/// let predicted = [0.9, 0.6, 0.2, 0.1];
/// let truth = [1.0, 0.0, 1.0, 0.0];
/// let counts = Binary::of(&predicted, &truth, 0.5)?;
/// assert_eq!((counts.dice(), counts.iou(), counts.accuracy()), (0.5, 1.0 / 3.0, 0.5));
/// # Ok::<(), tilewise_model::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Binary {
    /// It is so, and was said to be (TP).
    pub true_positives: u64,
    /// It is not so, and was said to be (FP).
    pub false_positives: u64,
    /// It is so, and was not said to be (FN).
    pub false_negatives: u64,
    /// It is not so, and was not said to be (TN).
    pub true_negatives: u64,
}

impl Binary {
    /// Counts where `scores` are above `threshold` (0.5 for probabilities, 0 for logits), against where `truth` is above
    /// one half. A score that is NaN is above nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) if they are not as many.
    pub fn of(scores: &[f32], truth: &[f32], threshold: f32) -> Result<Self> {
        check_pairs("truth", scores.len(), truth.len())?;
        let mut counts = Binary::default();
        for (&score, &truth) in scores.iter().zip(truth) {
            counts.count(truth > 0.5, score > threshold);
        }
        Ok(counts)
    }

    /// Counts one more.
    pub fn count(&mut self, truth: bool, predicted: bool) {
        *match (truth, predicted) {
            (true, true) => &mut self.true_positives,
            (false, true) => &mut self.false_positives,
            (true, false) => &mut self.false_negatives,
            (false, false) => &mut self.true_negatives,
        } += 1;
    }

    /// Adds the counts of other images.
    pub fn add(&mut self, other: Binary) {
        self.true_positives += other.true_positives;
        self.false_positives += other.false_positives;
        self.false_negatives += other.false_negatives;
        self.true_negatives += other.true_negatives;
    }

    /// How many were counted.
    pub fn total(&self) -> u64 {
        self.true_positives + self.false_positives + self.false_negatives + self.true_negatives
    }

    /// The share that was right; of pixels, pixel accuracy.
    pub fn accuracy(&self) -> f64 {
        share(self.true_positives + self.true_negatives, self.total())
    }

    /// Of what was said to be so, the share that is.
    pub fn precision(&self) -> f64 {
        share(self.true_positives, self.true_positives + self.false_positives)
    }

    /// Of what is so, the share that was said to be: the detected rate.
    pub fn recall(&self) -> f64 {
        share(self.true_positives, self.true_positives + self.false_negatives)
    }

    /// Of what is not so, the share that was said to be.
    pub fn false_alarms(&self) -> f64 {
        share(self.false_positives, self.false_positives + self.true_negatives)
    }

    /// The Dice coefficient, which is F1.
    pub fn dice(&self) -> f64 {
        share(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives)
    }

    /// Intersection over union.
    pub fn iou(&self) -> f64 {
        share(self.true_positives, self.true_positives + self.false_positives + self.false_negatives)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_case_worked_by_hand() {
        let counts = Binary { true_positives: 6, false_positives: 2, false_negatives: 4, true_negatives: 8 };
        assert_eq!([counts.dice(), counts.iou(), counts.accuracy()], [12.0 / 18.0, 6.0 / 12.0, 14.0 / 20.0]);
        assert_eq!(
            [counts.precision(), counts.recall(), counts.false_alarms()],
            [6.0 / 8.0, 6.0 / 10.0, 2.0 / 10.0]
        );
    }

    #[test]
    fn of_nothing_there_is_no_share() {
        let none = Binary::of(&[], &[], 0.5).unwrap();
        assert!([none.accuracy(), none.dice(), none.iou(), none.recall()].iter().all(|v| v.is_nan()));
        let empty = Binary::of(&[0.0; 3], &[0.0; 3], 0.5).unwrap();
        assert!(empty.dice().is_nan() && empty.accuracy() == 1.0 && empty.false_alarms() == 0.0);
        assert_eq!(Binary::of(&[1.0; 3], &[0.0; 3], 0.5).unwrap().dice(), 0.0);
        assert_eq!(Binary::of(&[f32::NAN], &[1.0], 0.5).unwrap().false_negatives, 1);
        assert!(Binary::of(&[0.0], &[], 0.5).is_err());
    }

    proptest! {
        #[test]
        fn regions_are_sets_of_pixels(pixels in proptest::collection::vec((any::<bool>(), any::<bool>()), 1..60)) {
            let places = |of: fn(&(bool, bool)) -> bool| {
                let found = pixels.iter().enumerate().filter(|(_, pixel)| of(pixel)).map(|(i, _)| i);
                found.collect::<std::collections::BTreeSet<_>>()
            };
            let (a, b) = (places(|p| p.0), places(|p| p.1));
            let values = |of: fn(&(bool, bool)) -> bool| -> Vec<f32> {
                pixels.iter().map(|pixel| f32::from(u8::from(of(pixel)))).collect()
            };
            let (predicted, truth) = (values(|p| p.0), values(|p| p.1));
            let (first, second) = (pixels.len() / 2, pixels.len());
            let mut counts = Binary::of(&predicted[..first], &truth[..first], 0.5).unwrap();
            counts.add(Binary::of(&predicted[first..second], &truth[first..second], 0.5).unwrap());
            let (and, or) = (a.intersection(&b).count() as f64, a.union(&b).count() as f64);
            prop_assert_eq!(counts.iou().to_bits(), (and / or).to_bits());
            prop_assert_eq!(counts.dice().to_bits(), (2.0 * and / (a.len() + b.len()) as f64).to_bits());
            let right = pixels.iter().filter(|(a, b)| a == b).count() as f64;
            prop_assert_eq!(counts.accuracy(), right / pixels.len() as f64);
        }
    }
}
