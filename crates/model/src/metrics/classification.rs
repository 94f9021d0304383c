//! Which class, and how often that was right.

use tilewise_kernels::TensorView;

use super::{check_pairs, share};
use crate::error::{Error, Result};

/// How often images of each class were taken for each class.
///
/// With `TP` the images of a class that were recognised, `FP` those of other classes taken for it and `FN` its own taken
/// for others:
///
/// | | |
/// |---|---|
/// | accuracy | images recognised / all images |
/// | precision | `TP / (TP + FP)` |
/// | recall | `TP / (TP + FN)` |
/// | F1 | `2 TP / (2 TP + FP + FN)`, the harmonic mean of both |
///
/// A class that is there but never predicted has precision 0, one predicted but not there recall 0; a class of which
/// there is neither has NaN, and is left out of the macro means (the plain means over classes). Without images, all are
/// NaN.
///
/// ```
/// use tilewise_model::metrics::ConfusionMatrix;
/// let truth = [0, 0, 1, 1, 1];
/// let predicted = [0, 1, 1, 1, 0];
/// let matrix = ConfusionMatrix::of(2, &truth, &predicted)?;
/// assert_eq!(matrix.accuracy(), 3.0 / 5.0);
/// assert_eq!(matrix.count(1, 0), 1);
/// assert_eq!(matrix.recall(1), 2.0 / 3.0);
/// assert_eq!(matrix.macro_recall(), (1.0 / 2.0 + 2.0 / 3.0) / 2.0);
/// # Ok::<(), tilewise_model::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfusionMatrix {
    classes: usize,
    /// Row by row: the row is the true class, the column the predicted one.
    counts: Vec<u64>,
}

/// 10,000 classes have a matrix of 800 MB.
const MAX_CLASSES: usize = 10_000;

impl ConfusionMatrix {
    /// Of no images yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there are no classes or more than 10,000.
    pub fn new(classes: usize) -> Result<Self> {
        if classes == 0 || classes > MAX_CLASSES {
            return Err(Error::invalid("confusion matrix: classes", format!("1 to {MAX_CLASSES}"), classes));
        }
        Ok(ConfusionMatrix { classes, counts: vec![0; classes * classes] })
    }

    /// Of images with these true classes, taken for those.
    ///
    /// # Errors
    /// As [`ConfusionMatrix::new`] and [`ConfusionMatrix::add`].
    pub fn of(classes: usize, truth: &[usize], predicted: &[usize]) -> Result<Self> {
        let mut matrix = ConfusionMatrix::new(classes)?;
        matrix.add(truth, predicted)?;
        Ok(matrix)
    }

    /// Counts further images.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is not one prediction for each image, or there is no such class; nothing was counted.
    pub fn add(&mut self, truth: &[usize], predicted: &[usize]) -> Result<()> {
        check_pairs("confusion matrix: predictions", truth.len(), predicted.len())?;
        if let Some(class) = truth.iter().chain(predicted).find(|&&class| class >= self.classes) {
            let expected = format!("less than {}", self.classes);
            return Err(Error::invalid("confusion matrix: class", expected, class));
        }
        for (&truth, &predicted) in truth.iter().zip(predicted) {
            self.counts[truth * self.classes + predicted] += 1;
        }
        Ok(())
    }

    /// How many classes there are.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// How many images of class `truth` were taken for `predicted`.
    ///
    /// # Panics
    /// If there is no such class, as slices do.
    pub fn count(&self, truth: usize, predicted: usize) -> u64 {
        assert!(
            truth < self.classes && predicted < self.classes,
            "[{truth}, {predicted}] of {}",
            self.classes
        );
        self.counts[truth * self.classes + predicted]
    }

    /// How many images there are.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many images of a class there are.
    pub fn support(&self, class: usize) -> u64 {
        (0..self.classes).map(|predicted| self.count(class, predicted)).sum()
    }

    /// How many images were taken for a class.
    pub fn predicted(&self, class: usize) -> u64 {
        (0..self.classes).map(|truth| self.count(truth, class)).sum()
    }

    /// The share of images that were recognised.
    pub fn accuracy(&self) -> f64 {
        share((0..self.classes).map(|class| self.count(class, class)).sum(), self.total())
    }

    /// Of the images taken for a class, the share that belongs to it.
    pub fn precision(&self, class: usize) -> f64 {
        self.of_class(class, self.count(class, class), self.predicted(class))
    }

    /// Of the images of a class, the share that was recognised.
    pub fn recall(&self, class: usize) -> f64 {
        self.of_class(class, self.count(class, class), self.support(class))
    }

    /// The harmonic mean of precision and recall.
    pub fn f1(&self, class: usize) -> f64 {
        self.of_class(class, 2 * self.count(class, class), self.support(class) + self.predicted(class))
    }

    /// The mean of the classes' precisions.
    pub fn macro_precision(&self) -> f64 {
        self.mean(Self::precision)
    }

    /// The mean of the classes' recalls: balanced accuracy.
    pub fn macro_recall(&self) -> f64 {
        self.mean(Self::recall)
    }

    /// The mean of the classes' F1.
    pub fn macro_f1(&self) -> f64 {
        self.mean(Self::f1)
    }

    /// A ratio, 0 rather than undefined where the class has any images at all.
    fn of_class(&self, class: usize, a: u64, b: u64) -> f64 {
        if b == 0 && self.support(class) + self.predicted(class) > 0 { 0.0 } else { share(a, b) }
    }

    fn mean(&self, of: impl Fn(&Self, usize) -> f64) -> f64 {
        let values = (0..self.classes).map(|class| of(self, class)).filter(|value| !value.is_nan());
        let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
        sum / f64::from(count)
    }
}

/// Where the largest number is; the first, if several are as large. NaN is never the largest; of nothing but NaN, and
/// of nothing, it is 0.
///
/// ```
/// assert_eq!(tilewise_model::metrics::argmax(&[0.1, 0.7, 0.2]), 1);
/// ```
pub fn argmax(scores: &[f32]) -> usize {
    let mut best = (0, f32::NEG_INFINITY);
    for (i, &score) in scores.iter().enumerate() {
        if score > best.1 {
            best = (i, score);
        }
    }
    best.0
}

/// The class of the highest score of each image; scores are `[n, classes, 1, 1]`, before softmax or after it.
///
/// # Errors
/// [`Error::Invalid`] if they have another shape.
pub fn predictions(scores: TensorView<'_>) -> Result<Vec<usize>> {
    let shape = scores.shape();
    if shape.c == 0 || shape.h != 1 || shape.w != 1 {
        return Err(Error::invalid("scores", "images x classes x1x1", shape));
    }
    Ok((0..shape.n).map(|n| argmax(scores.image(n))).collect())
}

#[cfg(test)]
mod tests {
    use tilewise_kernels::{Shape4, Tensor};

    use super::*;

    #[test]
    fn a_matrix_worked_by_hand() {
        // Class:      0 -> 0 0 1;   1 -> 1 1 1 0;   2 -> 0 (never predicted);   3: neither.
        let truth = [0, 0, 0, 1, 1, 1, 1, 2];
        let predicted = [0, 0, 1, 1, 1, 1, 0, 0];
        let m = ConfusionMatrix::of(4, &truth, &predicted).unwrap();
        assert_eq!((m.total(), m.support(1), m.predicted(0), m.count(2, 0)), (8, 4, 4, 1));
        assert_eq!(m.accuracy(), 5.0 / 8.0);
        assert_eq!([m.precision(0), m.precision(1), m.precision(2)], [2.0 / 4.0, 3.0 / 4.0, 0.0]);
        assert_eq!([m.recall(0), m.recall(1), m.recall(2)], [2.0 / 3.0, 3.0 / 4.0, 0.0]);
        assert_eq!([m.f1(0), m.f1(1), m.f1(2)], [4.0 / 7.0, 6.0 / 8.0, 0.0]);
        assert!(m.precision(3).is_nan() && m.recall(3).is_nan() && m.f1(3).is_nan());
        assert_eq!(m.macro_precision(), (0.5 + 0.75 + 0.0) / 3.0);
        assert!((m.macro_f1() - (4.0 / 7.0 + 0.75) / 3.0).abs() < 1e-15);
    }

    #[test]
    fn batches_add_up() {
        let mut m = ConfusionMatrix::new(3).unwrap();
        m.add(&[0, 1], &[0, 2]).unwrap();
        m.add(&[2], &[2]).unwrap();
        assert_eq!(m, ConfusionMatrix::of(3, &[0, 1, 2], &[0, 2, 2]).unwrap());
    }

    #[test]
    fn of_nothing_there_is_no_share_and_what_is_no_class_is_refused() {
        let mut m = ConfusionMatrix::new(2).unwrap();
        assert!([m.accuracy(), m.macro_f1(), m.macro_recall(), m.precision(0)].iter().all(|v| v.is_nan()));
        assert!(m.add(&[0], &[]).is_err() && m.add(&[0], &[2]).is_err() && m.add(&[2], &[0]).is_err());
        assert_eq!(m.total(), 0);
        assert!(ConfusionMatrix::new(0).is_err() && ConfusionMatrix::new(usize::MAX).is_err());
    }

    #[test]
    fn the_highest_score_wins() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), 1);
        assert_eq!(argmax(&[f32::NAN, f32::NEG_INFINITY, -1.0]), 2);
        assert_eq!((argmax(&[]), argmax(&[f32::NAN])), (0, 0));
        let scores = Tensor::from_vec(Shape4::new(2, 3, 1, 1), vec![0.0, 1.0, 2.0, 5.0, 4.0, 3.0]).unwrap();
        assert_eq!(predictions(scores.view()).unwrap(), [2, 0]);
        assert!(predictions(scores.reshape(Shape4::new(2, 1, 3, 1)).unwrap().view()).is_err());
    }
}
