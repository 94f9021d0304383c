//! Mean 0 and standard deviation 1 for each channel, as measured on the images trained on.

use serde::{Deserialize, Serialize};
use tilewise_kernels::Tensor;

use super::dataset::Dataset;
use crate::error::{Error, Result};

/// What is taken off each channel and what it is divided by: `(x - mean) / std`. Measured once, saved with the network,
/// applied to whatever the network sees.
///
/// ```
/// use tilewise_model::data::{self, Normalise};
/// let digits = data::digits()?;
/// let normalise = Normalise::of(&digits)?;
/// let mut x = digits.images().clone();
/// normalise.apply(&mut x)?;
/// let mean = x.data().iter().map(|&v| f64::from(v)).sum::<f64>() / x.data().len() as f64;
/// assert!(mean.abs() < 1e-6);
/// # Ok::<(), tilewise_model::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalise {
    /// The mean of each channel.
    pub mean: Vec<f32>,
    /// The standard deviation of each channel (of the whole population: divided by the number of pixels).
    pub std: Vec<f32>,
}

/// A channel that is constant is divided by 1: it becomes 0.
const CONSTANT: f64 = 1e-6;

impl Normalise {
    /// Measures all images of a data set.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there are none.
    pub fn of(data: &Dataset) -> Result<Self> {
        if data.is_empty() {
            return Err(Error::invalid("normalisation", "at least one image", 0));
        }
        let images = data.images().view();
        let values = |c| (0..data.len()).flat_map(move |n| images.plane(n, c)).map(|&value| f64::from(value));
        let count = (data.len() * data.size()[0] * data.size()[1]) as f64;
        let (mut mean, mut std) = (Vec::new(), Vec::new());
        for c in 0..data.channels() {
            let m = values(c).sum::<f64>() / count;
            let s = (values(c).map(|value| (value - m).powi(2)).sum::<f64>() / count).sqrt();
            mean.push(m as f32);
            std.push(if s > CONSTANT { s as f32 } else { 1.0 });
        }
        Ok(Normalise { mean, std })
    }

    /// Normalises images in place.
    ///
    /// # Errors
    /// [`Error::Invalid`] if their channels are not as many as were measured, or a number cannot be divided by.
    pub fn apply(&self, images: &mut Tensor) -> Result<()> {
        self.each(images, |value, mean, std| (value - mean) / std)
    }

    /// Takes [`Normalise::apply`] back, to within rounding: for pictures.
    ///
    /// # Errors
    /// As there.
    pub fn undo(&self, images: &mut Tensor) -> Result<()> {
        self.each(images, |value, mean, std| value * std + mean)
    }

    /// Whether these numbers, perhaps read from a file, fit images of so many channels.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn check(&self, channels: usize) -> Result<()> {
        for (what, values) in [("means", &self.mean), ("standard deviations", &self.std)] {
            if values.len() != channels {
                let what = format!("normalisation: number of {what}");
                return Err(Error::invalid(what, channels, values.len()));
            }
        }
        if let Some(std) = self.std.iter().find(|&&std| !(std.is_finite() && std > 0.0)) {
            return Err(Error::invalid("normalisation: standard deviation", "above 0", std));
        }
        if let Some(mean) = self.mean.iter().find(|mean| !mean.is_finite()) {
            return Err(Error::invalid("normalisation: mean", "a finite number", mean));
        }
        Ok(())
    }

    fn each(&self, images: &mut Tensor, f: impl Fn(f32, f32, f32) -> f32) -> Result<()> {
        let shape = images.shape();
        self.check(shape.c)?;
        let plane = (shape.h * shape.w).max(1);
        for (i, plane) in images.data_mut().chunks_exact_mut(plane).enumerate() {
            let (mean, std) = (self.mean[i % shape.c], self.std[i % shape.c]);
            plane.iter_mut().for_each(|value| *value = f(*value, mean, std));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tilewise_kernels::Shape4;

    use super::*;
    use crate::data::Targets;

    #[test]
    fn each_channel_has_its_own_mean_and_deviation() {
        // Channel 0: 1, 3, 5, 7; channel 1 is constant.
        let images =
            Tensor::from_vec(Shape4::new(2, 2, 1, 2), vec![1.0, 3.0, 9.0, 9.0, 5.0, 7.0, 9.0, 9.0]).unwrap();
        let set = Dataset::new(images.clone(), Targets::None).unwrap();
        let normalise = Normalise::of(&set).unwrap();
        assert_eq!(normalise, Normalise { mean: vec![4.0, 9.0], std: vec![5f32.sqrt(), 1.0] });
        let mut x = images.clone();
        normalise.apply(&mut x).unwrap();
        assert_eq!(x.at(0, 0, 0, 0), -3.0 / 5f32.sqrt());
        assert_eq!(x.at(1, 1, 0, 1), 0.0);
        normalise.undo(&mut x).unwrap();
        for (a, b) in x.data().iter().zip(images.data()) {
            assert!((a - b).abs() < 1e-6);
        }
        let text = serde_json::to_string(&normalise).unwrap();
        assert_eq!(serde_json::from_str::<Normalise>(&text).unwrap(), normalise);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut x = Tensor::zeros(Shape4::new(1, 2, 1, 1)).unwrap();
        let refuses = |mean: &[f32], std: &[f32], x: &mut Tensor| {
            Normalise { mean: mean.to_vec(), std: std.to_vec() }.apply(x).is_err()
        };
        assert!(refuses(&[0.0], &[1.0], &mut x) && refuses(&[0.0; 2], &[1.0, 0.0], &mut x));
        assert!(refuses(&[0.0, f32::NAN], &[1.0; 2], &mut x) && !refuses(&[0.0; 2], &[1.0; 2], &mut x));
        let empty = Dataset::new(Tensor::zeros(Shape4::new(0, 1, 1, 1)).unwrap(), Targets::None).unwrap();
        assert!(Normalise::of(&empty).is_err());
    }
}
