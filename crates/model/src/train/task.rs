//! What a network is trained for: what it is compared with, and how good it is.

use tilewise_kernels::{Tensor, Training};

use super::config::LossName;
use crate::data::{Batch, Dataset, Loader};
use crate::error::Result;
use crate::loss::{Loss, Target};
use crate::metrics::{Binary, ConfusionMatrix, predictions};
use crate::session::Session;
use crate::zoo::Network;

/// What a network is trained for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// A class for each image: a CNN.
    Classify,
    /// The image itself: an AutoEncoder.
    Reconstruct,
    /// Which pixels belong to the object sought: a U-Net.
    Segment,
}

/// How good a network is on some images.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// The mean loss of the batches, weighted by their images.
    pub loss: f64,
    /// As [`Task::metrics`] names them.
    pub metrics: Vec<f64>,
}

impl Task {
    /// What a network of this kind is for.
    pub const fn of(network: &Network) -> Self {
        match network {
            Network::Cnn(_) => Task::Classify,
            Network::AutoEncoder(_) => Task::Reconstruct,
            Network::UNet(_) => Task::Segment,
        }
    }

    /// What is measured on the images held out; the first decides which epoch was the best, and more of it is better.
    pub const fn metrics(self) -> &'static [&'static str] {
        match self {
            Task::Classify => &["accuracy"],
            Task::Reconstruct => &["psnr", "mse"],
            Task::Segment => &["dice", "iou", "pixel_accuracy"],
        }
    }

    /// The losses that fit what such a network computes.
    pub const fn losses(self) -> &'static [LossName] {
        match self {
            Task::Classify => &[LossName::CrossEntropy],
            Task::Reconstruct => &[LossName::Mse, LossName::L1],
            Task::Segment => &[LossName::BceWithLogits, LossName::Dice, LossName::BceDice],
        }
    }

    /// Whether a data set has what is compared with.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if not.
    pub fn check(self, data: &Dataset) -> Result<()> {
        match self {
            Task::Classify => data.labels().map(|_| ()),
            Task::Reconstruct => Ok(()),
            Task::Segment => data.masks().map(|_| ()),
        }
    }

    /// What the result for a batch is compared with.
    pub fn target(self, batch: &Batch) -> Target<'_> {
        match self {
            Task::Classify => Target::Labels(batch.labels()),
            Task::Reconstruct => Target::Images(batch.images().view()),
            Task::Segment => Target::Images(batch.masks().view()),
        }
    }

    /// Measures a network on all images that a loader gives.
    ///
    /// # Errors
    /// Those of [`Session::evaluate`].
    pub fn evaluate<B: Training>(
        self,
        session: &mut Session<B>,
        loader: &mut Loader<'_>,
        loss: &Loss,
    ) -> Result<Evaluation> {
        let mut tally = Tally::new(self, session)?;
        let (mut batch, mut sum, mut images) = (Batch::new(), 0.0, 0);
        let mut result: Option<Tensor> = None;
        loader.start(0);
        while loader.next_into(&mut batch)? {
            let shape = session.graph().output_shape(batch.images().shape())?;
            let mut y = match result.take() {
                Some(y) if y.shape() == shape => y,
                _ => Tensor::zeros(shape)?,
            };
            let value = session.evaluate(batch.images().view(), self.target(&batch), loss, &mut y)?;
            sum += f64::from(value) * batch.len() as f64;
            images += batch.len();
            tally.add(&batch, &y)?;
            result = Some(y);
        }
        Ok(Evaluation { loss: sum / images as f64, metrics: tally.metrics() })
    }
}

/// What is counted, batch by batch.
enum Tally {
    Classes(ConfusionMatrix),
    Errors { squares: f64, count: f64 },
    Pixels(Binary),
}

impl Tally {
    fn new<B: Training>(task: Task, session: &Session<B>) -> Result<Self> {
        Ok(match task {
            Task::Classify => {
                let classes = session.graph().shape(session.graph().output()).c;
                Tally::Classes(ConfusionMatrix::new(classes)?)
            }
            Task::Reconstruct => Tally::Errors { squares: 0.0, count: 0.0 },
            Task::Segment => Tally::Pixels(Binary::default()),
        })
    }

    fn add(&mut self, batch: &Batch, y: &Tensor) -> Result<()> {
        match self {
            Tally::Classes(matrix) => matrix.add(batch.labels(), &predictions(y.view())?)?,
            Tally::Errors { squares, count } => {
                let pairs = y.data().iter().zip(batch.images().data());
                *squares += pairs.map(|(y, x)| (f64::from(*y) - f64::from(*x)).powi(2)).sum::<f64>();
                *count += y.data().len() as f64;
            }
            // Logits: half of the probability is at 0.
            Tally::Pixels(binary) => binary.add(Binary::of(y.data(), batch.masks().data(), 0.0)?),
        }
        Ok(())
    }

    fn metrics(&self) -> Vec<f64> {
        match self {
            Tally::Classes(matrix) => vec![matrix.accuracy()],
            Tally::Errors { squares, count } => {
                let mse = squares / count;
                vec![-10.0 * mse.log10(), mse]
            }
            Tally::Pixels(binary) => vec![binary.dice(), binary.iou(), binary.accuracy()],
        }
    }
}
