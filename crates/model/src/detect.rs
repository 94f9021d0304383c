//! Anomaly detection: an AutoEncoder that has only ever seen what is normal gives back badly what is not.
//!
//! It is trained on normal images; the losses of those images (the mean squared error of each) say where normal ends; what is
//! reconstructed worse is abnormal.

use serde::{Deserialize, Serialize};
use tilewise_kernels::{Shape4, Tensor, Training};

use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::fit::{Fit, image_errors, infer_all};
use crate::graph::Graph;
use crate::metrics::{Binary, auroc, mean_plus_deviations, percentile};
use crate::picture::{Grid, histogram, reconstructions};
use crate::session::Session;
use crate::weights::Weights;

/// Where normal ends.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Threshold {
    /// The mean of the training images' losses, and so many standard deviations above it.
    Deviations(f64),
    /// The loss below which this percentage of the training images lies.
    Percentile(f64),
}

impl Threshold {
    /// The loss above which an image is abnormal, where these are those of normal images.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a percentage is not within 0..=100, or a number is none.
    pub fn of(self, losses: &[f32]) -> Result<f64> {
        match self {
            Threshold::Deviations(k) if k.is_finite() => mean_plus_deviations(losses, k),
            Threshold::Deviations(k) => Err(Error::invalid("standard deviations", "a finite number", k)),
            Threshold::Percentile(percent) => percentile(losses, percent),
        }
    }
}

/// Normal images to train on, and images held out, of which it is known whether they are abnormal.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    /// To train on: normal ones.
    pub train: Dataset,
    /// Normal and abnormal ones.
    pub held_out: Dataset,
    /// Which of those are abnormal.
    pub abnormal: Vec<bool>,
}

impl Samples {
    /// One class is normal, all others are not: trains on the images of that class that are not held out.
    ///
    /// ```
    /// use tilewise_model::{data, detect::Samples};
    /// let samples = Samples::of_class(&data::digits()?, 3, 5)?;
    /// assert_eq!(samples.abnormal.len(), 359);
    /// # Ok::<(), tilewise_model::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no such class, or none of its images to train on; as [`Dataset::split`].
    pub fn of_class(data: &Dataset, class: usize, holdout: usize) -> Result<Self> {
        let (train, held_out) = data.split(holdout)?;
        let train = train.subset(&train.of_class(class)?)?;
        if train.is_empty() {
            return Err(Error::invalid("normal images to train on", "at least one", 0));
        }
        let abnormal = held_out.labels()?.iter().map(|&label| label != class).collect();
        Ok(Samples { train, held_out, abnormal })
    }

    /// Images that are normal, of which those not held out are trained on, and images that are not, if there are any.
    ///
    /// # Errors
    /// [`Error::Invalid`] if they differ in size; as [`Dataset::split`].
    pub fn of_sets(normal: &Dataset, abnormal: Option<&Dataset>, holdout: usize) -> Result<Self> {
        // What is known of them otherwise does not matter here.
        let plain = |data: &Dataset| Dataset::new(data.images().clone(), crate::data::Targets::None);
        let (train, held_out) = plain(normal)?.split(holdout)?;
        let count = held_out.len();
        let held_out = match abnormal {
            Some(abnormal) => Dataset::concatenated(vec![held_out, plain(abnormal)?])?,
            None => held_out,
        };
        let abnormal = (0..held_out.len()).map(|index| index >= count).collect();
        Ok(Samples { train, held_out, abnormal })
    }
}

/// A network that knows what is normal, on a device.
pub struct Detector<B: Training> {
    session: Session<B>,
    batch: usize,
    training: Vec<f32>,
    threshold: f64,
}

impl<B: Training> Detector<B> {
    /// Trains a network that gives back images of the shape that it takes, on normal images.
    ///
    /// # Errors
    /// As [`Fit::train`] and [`Threshold::of`].
    pub fn train(
        device: B,
        graph: Graph,
        fit: &Fit,
        threshold: Threshold,
        normal: &Dataset,
        progress: &mut dyn FnMut(u64, f64),
    ) -> Result<Self> {
        let weights = graph.init(fit.seed);
        let mut session = Session::new(device, graph, &weights)?;
        fit.train(&mut session, normal, progress)?;
        Self::calibrated(session, fit.batch, threshold, normal)
    }

    /// Takes a network that was trained before; the threshold comes from its losses on normal images.
    ///
    /// # Errors
    /// [`Error::Weights`] if they are of another network; as [`Threshold::of`].
    pub fn with_weights(
        device: B,
        graph: Graph,
        weights: &Weights,
        batch: usize,
        threshold: Threshold,
        normal: &Dataset,
    ) -> Result<Self> {
        Self::calibrated(Session::new(device, graph, weights)?, batch, threshold, normal)
    }

    fn calibrated(
        mut session: Session<B>,
        batch: usize,
        threshold: Threshold,
        normal: &Dataset,
    ) -> Result<Self> {
        let y = infer_all(&mut session, normal, batch)?;
        let training = image_errors(normal.images(), &y)?;
        Ok(Detector { session, batch, threshold: threshold.of(&training)?, training })
    }

    /// The loss above which an image is abnormal.
    pub fn threshold(&self) -> f64 {
        self.threshold
    }

    /// The present weights.
    ///
    /// # Errors
    /// Those of the device.
    pub fn weights(&self) -> Result<Weights> {
        self.session.weights()
    }

    /// The loss of each image, and what the network gives back.
    ///
    /// # Errors
    /// Those of [`Session::infer_into`].
    pub fn losses(&mut self, images: &Dataset) -> Result<(Vec<f32>, Tensor)> {
        let y = infer_all(&mut self.session, images, self.batch)?;
        Ok((image_errors(images.images(), &y)?, y))
    }

    /// Judges the images held out.
    ///
    /// # Errors
    /// Those of [`Session::infer_into`].
    pub fn judge(&mut self, samples: &Samples) -> Result<Detection> {
        let (losses, reconstructions) = self.losses(&samples.held_out)?;
        let mut counts = Binary::default();
        for (&loss, &abnormal) in losses.iter().zip(&samples.abnormal) {
            counts.count(abnormal, f64::from(loss) > self.threshold);
        }
        Ok(Detection {
            training: self.training.clone(),
            threshold: self.threshold,
            auroc: auroc(&losses, &samples.abnormal)?,
            abnormal: samples.abnormal.clone(),
            losses,
            counts,
            reconstructions,
        })
    }
}

/// What a detector found among images held out.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    /// The losses of the images trained on.
    pub training: Vec<f32>,
    /// The loss above which an image is abnormal.
    pub threshold: f64,
    /// The loss of each image held out.
    pub losses: Vec<f32>,
    /// Which of them are abnormal.
    pub abnormal: Vec<bool>,
    /// How often it was right: recall is the detected rate. NaN where there was nothing to detect.
    pub counts: Binary,
    /// The area under the ROC curve of the losses; NaN without images of either kind.
    pub auroc: f64,
    /// What the network gave back.
    pub reconstructions: Tensor,
}

impl Detection {
    /// Losses of normal and abnormal images with the threshold, as SVG.
    ///
    /// # Errors
    /// [`Error::Draw`].
    pub fn histogram(&self, title: &str) -> Result<String> {
        let of_kind = |abnormal: bool| -> Vec<f32> {
            let pairs = self.losses.iter().zip(&self.abnormal);
            pairs.filter(|(_, kind)| **kind == abnormal).map(|(loss, _)| *loss).collect()
        };
        histogram(title, &of_kind(false), &of_kind(true), self.threshold)
    }

    /// The images with the largest losses, then the worst false alarms and the abnormal ones that were missed by most, each at
    /// most `count` and none twice: input, output, error.
    ///
    /// # Errors
    /// [`Error::Draw`]; [`Error::Invalid`] if the images are not those judged.
    pub fn worst(&self, title: &str, images: &Tensor, count: usize) -> Result<Grid> {
        let mut order: Vec<usize> = (0..self.losses.len()).collect();
        order.sort_by(|&a, &b| self.losses[b].total_cmp(&self.losses[a]));
        let is_alarm = |n: usize| f64::from(self.losses[n]) > self.threshold;
        let largest = order.iter().copied().take(count);
        let alarms = order.iter().copied().filter(|&n| !self.abnormal[n] && is_alarm(n)).take(count);
        let missed = order.iter().rev().copied().filter(|&n| self.abnormal[n] && !is_alarm(n)).take(count);
        let mut shown: Vec<usize> = Vec::new();
        for n in largest.chain(alarms).chain(missed) {
            if !shown.contains(&n) {
                shown.push(n);
            }
        }
        let caption = |&n: &usize| {
            let verdict = match (self.abnormal[n], is_alarm(n)) {
                (true, true) => "abnormal\nfound",
                (true, false) => "abnormal\nmissed",
                (false, true) => "normal\nfalse alarm",
                (false, false) => "normal\npassed",
            };
            format!("{verdict}\nloss {:.4}", self.losses[n])
        };
        let captions: Vec<String> = shown.iter().map(caption).collect();
        let (inputs, outputs) = (picked(images, &shown)?, picked(&self.reconstructions, &shown)?);
        reconstructions(title, inputs.view(), outputs.view(), &captions)
    }
}

/// The images at these places.
pub(crate) fn picked(images: &Tensor, places: &[usize]) -> Result<Tensor> {
    let shape = images.shape();
    if let Some(place) = places.iter().find(|&&place| place >= shape.n) {
        return Err(Error::invalid("image", format!("one of {}", shape.n), place));
    }
    let pixels = places.iter().flat_map(|&n| images.view().image(n).to_vec()).collect();
    Ok(Tensor::from_vec(Shape4 { n: places.len(), ..shape }, pixels)?)
}

#[cfg(test)]
mod tests {
    use tilewise_kernels::Cpu;

    use super::*;
    use crate::data::{Targets, digits};
    use crate::fit::Goal;
    use crate::zoo::AutoEncoder;

    #[test]
    fn thresholds_are_those_of_the_losses() {
        let losses = [1.0, 3.0, 1.0, 3.0];
        assert_eq!(Threshold::Deviations(1.0).of(&losses).unwrap(), 3.0);
        assert_eq!(Threshold::Percentile(50.0).of(&losses).unwrap(), 2.0);
        assert!(Threshold::Percentile(101.0).of(&losses).is_err());
        assert!(Threshold::Deviations(f64::NAN).of(&losses).is_err());
    }

    #[test]
    fn only_normal_images_are_trained_on() {
        let data = digits().unwrap();
        let samples = Samples::of_class(&data, 7, 5).unwrap();
        assert!(samples.train.labels().unwrap().iter().all(|&label| label == 7));
        let (_, held_out) = data.split(5).unwrap();
        assert_eq!(samples.held_out, held_out);
        assert_eq!(samples.abnormal[0], held_out.labels().unwrap()[0] != 7);

        let ones = data.subset(&data.of_class(1).unwrap()).unwrap();
        let twos = data.subset(&data.of_class(2).unwrap()).unwrap();
        let samples = Samples::of_sets(&ones, Some(&twos), 4).unwrap();
        let (train, held_out) = ones.split(4).unwrap();
        assert_eq!(samples.train.images(), train.images());
        assert_eq!(samples.abnormal.iter().filter(|&&abnormal| !abnormal).count(), held_out.len());
        assert_eq!(samples.held_out.len(), held_out.len() + twos.len());
        let narrow = Dataset::new(Tensor::zeros(Shape4::new(3, 1, 8, 7)).unwrap(), Targets::None).unwrap();
        assert!(Samples::of_sets(&ones, Some(&narrow), 4).is_err());
        assert!(Samples::of_class(&data, 10, 5).is_err());
    }

    #[test]
    fn a_digit_that_was_not_trained_on_is_found() {
        let samples = Samples::of_class(&digits().unwrap(), 0, 5).unwrap();
        let net = AutoEncoder { size: 8, latent: 4, ..AutoEncoder::default() };
        let fit = Fit { epochs: 20, batch: 16, lr: 2e-3, ..Fit::new(Goal::Image) };
        let train = |threads| {
            let device = Cpu::new().unwrap().threads(threads);
            let graph = net.graph().unwrap();
            Detector::train(device, graph, &fit, Threshold::Deviations(1.0), &samples.train, &mut |_, _| {})
        };
        let mut detector = train(1).unwrap();
        let detection = detector.judge(&samples).unwrap();
        assert!(detection.auroc > 0.9, "{}", detection.auroc);
        assert!(detection.counts.recall() > 0.5 && detection.counts.false_alarms() < 0.5, "{detection:?}");
        assert_eq!(train(2).unwrap().weights().unwrap(), detector.weights().unwrap());

        let (graph, weights) = (net.graph().unwrap(), detector.weights().unwrap());
        let threshold = Threshold::Percentile(100.0);
        let device = Cpu::new().unwrap();
        let mut again =
            Detector::with_weights(device, graph, &weights, 64, threshold, &samples.train).unwrap();
        let same = again.judge(&samples).unwrap();
        assert_eq!((same.auroc, &same.losses), (detection.auroc, &detection.losses));
        assert!(same.threshold > detection.threshold && same.counts.recall() <= detection.counts.recall());

        let grid = detection.worst("digits", samples.held_out.images(), 2).unwrap();
        assert_eq!(&grid.png().unwrap()[1..4], b"PNG");
        assert!(detection.histogram("digits").unwrap().contains("threshold"));
    }
}
