//! What a trained network says of images: from the folder of its training.

use tilewise_kernels::{Shape4, Tensor, Training};

use crate::data::{Colour, Normalise, Options};
use crate::error::Result;
use crate::session::Session;
use crate::train::{Run, Task};
use crate::zoo::Network;

/// A trained network with all that it needs to be asked.
pub struct Predictor<B: Training> {
    session: Session<B>,
    task: Task,
    classes: Vec<String>,
    normalise: Option<Normalise>,
    options: Options,
}

/// What a network says of a batch of images.
#[derive(Debug, Clone, PartialEq)]
pub enum Prediction {
    /// The probability of each class, `[n, classes, 1, 1]`, which sum to 1.
    Classes(Tensor),
    /// The images as the network gives them back, of their shape.
    Images(Tensor),
    /// The probability of each pixel to belong to the object sought, `[n, classes, h, w]`.
    Masks(Tensor),
}

impl<B: Training> Predictor<B> {
    /// The network of a training, with the weights of its best epoch.
    ///
    /// # Errors
    /// Those of [`Run::config`], [`Run::data`], [`Run::best_weights`] and of the device.
    pub fn open(device: B, run: &Run) -> Result<Self> {
        let (config, data) = (run.config()?, run.data()?);
        let graph = config.graph()?;
        let Shape4 { c, h, w, .. } = graph.input_shape();
        if let Some(normalise) = &data.normalise {
            normalise.check(c)?;
        }
        let one_size = match &config.network {
            Network::Cnn(_) => true,
            Network::AutoEncoder(net) => net.latent > 0,
            Network::UNet(_) => false,
        };
        let size = (one_size || config.data.size > 0).then_some([h, w]);
        let colour = match c {
            1 => Colour::Grey,
            3 => Colour::Rgb,
            _ => Colour::Keep,
        };
        Ok(Predictor {
            session: Session::new(device, graph, &run.best_weights()?)?,
            task: config.task(),
            classes: data.classes,
            normalise: data.normalise,
            options: Options { colour, size, invert_masks: config.data.invert_masks },
        })
    }

    /// What the network was trained for.
    pub fn task(&self) -> Task {
        self.task
    }

    /// The names of the classes, of a network that tells classes apart.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// How image files are read for it ([`crate::data::read_image`]): its channels, and its size if it has only one.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Asks the network. The images are as they come from [`crate::data::read_image`]: not normalised.
    ///
    /// # Errors
    /// [`crate::Error::Layer`] or [`crate::Error::Invalid`] if they do not fit; those of the device.
    pub fn predict(&mut self, images: &Tensor) -> Result<Prediction> {
        let mut normalised = None;
        if let Some(normalise) = &self.normalise {
            normalise.apply(normalised.insert(images.clone()))?;
        }
        let mut y = self.session.infer(normalised.as_ref().unwrap_or(images))?;
        Ok(match self.task {
            Task::Classify => {
                let classes = y.shape().c;
                y.data_mut().chunks_exact_mut(classes).for_each(softmax);
                Prediction::Classes(y)
            }
            Task::Reconstruct => Prediction::Images(y),
            Task::Segment => {
                y.data_mut().iter_mut().for_each(|value| *value = 1.0 / (1.0 + (-*value).exp()));
                Prediction::Masks(y)
            }
        })
    }
}

/// Exponentials that sum to 1, of numbers of any size.
fn softmax(values: &mut [f32]) {
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    values.iter_mut().for_each(|value| *value = (*value - largest).exp());
    let sum: f32 = values.iter().sum();
    values.iter_mut().for_each(|value| *value /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{self, Cells};
    use crate::metrics::predictions;
    use crate::train::Config;
    use tilewise_kernels::Cpu;

    #[test]
    fn a_trained_network_answers_as_it_was_measured() {
        let folder = tempfile::tempdir().unwrap();
        let config = "network = { net = 'cnn', blocks = [8], dense = [] }
            optimiser.lr = 0.02
            training = { epochs = 3, batch = 32 }";
        let config = Config::parse(config).unwrap();
        let digits = data::digits().unwrap().subset(&Vec::from_iter(0..500)).unwrap();
        let (run, mut trainer) = Run::begin(folder.path(), Cpu::new().unwrap(), config, &digits).unwrap();
        assert!(Predictor::open(Cpu::new().unwrap(), &run).is_err(), "nothing was learnt yet");
        run.train(&mut trainer, &mut |_| {}).unwrap();

        let mut predictor = Predictor::open(Cpu::new().unwrap(), &run).unwrap();
        assert_eq!((predictor.options().size, predictor.classes().len()), (Some([8, 8]), 10));
        let held_out = trainer.data().1.unwrap();
        let Prediction::Classes(y) = predictor.predict(held_out.images()).unwrap() else { panic!() };
        for scores in y.data().chunks_exact(10) {
            assert!((scores.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        }
        let answers = predictions(y.view()).unwrap();
        let right = answers.iter().zip(held_out.labels().unwrap()).filter(|(a, b)| a == b).count();
        assert_eq!(right as f64 / 100.0, trainer.history().best().unwrap().metrics[0]);
    }

    #[test]
    fn a_unet_answers_for_images_of_any_size() {
        let folder = tempfile::tempdir().unwrap();
        let config = "network = { net = 'unet', base = 2, levels = 1 }\ntraining.epochs = 1";
        let cells = Cells { count: 5, size: 32, seed: 0 }.generate().unwrap();
        let config = Config::parse(config).unwrap();
        let (run, mut trainer) = Run::begin(folder.path(), Cpu::new().unwrap(), config, &cells).unwrap();
        run.train(&mut trainer, &mut |_| {}).unwrap();
        let mut predictor = Predictor::open(Cpu::new().unwrap(), &run).unwrap();
        let x = Tensor::zeros(Shape4::new(1, 1, 21, 34)).unwrap();
        let Prediction::Masks(y) = predictor.predict(&x).unwrap() else { panic!() };
        assert_eq!(y.shape(), x.shape());
        assert!(y.data().iter().all(|p| (0.0..=1.0).contains(p)));
    }
}
