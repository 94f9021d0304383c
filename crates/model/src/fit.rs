//! A network learns to make an image of an image: its mask, or itself.

use tilewise_kernels::{Shape4, Tensor, Training};

use crate::data::{Augment, Batch, Dataset, Loader};
use crate::error::{Error, Result};
use crate::loss::{Loss, Target};
use crate::metrics::mean_squared_error;
use crate::optimiser::Optimiser;
use crate::session::{Session, Step};

/// What a network is to make of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// The image itself; the loss is the mean squared error.
    Image,
    /// The logits of its mask; the loss is the binary cross entropy.
    Mask,
}

impl Goal {
    fn loss(self) -> Loss {
        match self {
            Goal::Image => Loss::Mse,
            Goal::Mask => Loss::bce_with_logits(),
        }
    }
}

/// How a network is trained: by Adam, for some epochs, each in another order that the seed decides.
///
/// ```
/// use tilewise_kernels::Cpu;
/// use tilewise_model::{Session, data, fit::{Fit, Goal}, zoo::AutoEncoder};
/// let digits = data::digits()?.subset(&Vec::from_iter(0..100))?;
/// let net = AutoEncoder { size: 8, ..AutoEncoder::default() }.graph()?;
/// let mut session = Session::new(Cpu::new()?, net.clone(), &net.init(0))?;
/// let fit = Fit { epochs: 3, ..Fit::new(Goal::Image) };
/// let mut losses = Vec::new();
/// fit.train(&mut session, &digits, &mut |_, loss| losses.push(loss))?;
/// assert!(losses.len() == 3 && losses[2] < losses[0]);
/// # Ok::<(), tilewise_model::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// What it is to make of an image.
    pub goal: Goal,
    /// The learning rate.
    pub lr: f32,
    /// Images of a step.
    pub batch: usize,
    /// How often each image is seen.
    pub epochs: u64,
    /// Decides the first weights and the order of the images.
    pub seed: u64,
    /// How images are changed at random.
    pub augment: Augment,
}

impl Fit {
    /// Learning rate 1e-3, batches of 64, 20 epochs, no changes.
    pub fn new(goal: Goal) -> Self {
        Fit { goal, lr: 1e-3, batch: 64, epochs: 20, seed: 0, augment: Augment::default() }
    }

    /// Trains. After each epoch `progress` gets its number, from 1, and its mean loss.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there are no images or no masks where they are needed; [`Error::Diverged`]; those of [`Session::train_step`].
    pub fn train<B: Training>(
        &self,
        session: &mut Session<B>,
        data: &Dataset,
        progress: &mut dyn FnMut(u64, f64),
    ) -> Result<()> {
        if self.goal == Goal::Mask {
            data.masks()?;
        }
        let step = Step { loss: self.goal.loss(), optimiser: Optimiser::adam(self.lr), clip_norm: None };
        let mut loader = Loader::shuffled(data, self.batch, self.seed)?.augment(self.augment);
        let (mut batch, mut taken) = (Batch::new(), 0);
        for epoch in 0..self.epochs {
            loader.start(epoch);
            let mut sum = 0.0;
            while loader.next_into(&mut batch)? {
                let x = batch.images().view();
                let target = match self.goal {
                    Goal::Image => x,
                    Goal::Mask => batch.masks().view(),
                };
                let loss = session.train_step(x, Target::Images(target), &step)?;
                taken += 1;
                if !loss.is_finite() {
                    return Err(Error::Diverged { epoch: epoch + 1, step: taken, loss: loss.into() });
                }
                sum += f64::from(loss) * batch.len() as f64;
            }
            progress(epoch + 1, sum / data.len() as f64);
        }
        Ok(())
    }
}

/// What a network makes of all images, in batches of this size.
///
/// # Errors
/// [`Error::Invalid`] for a batch of none or no images; those of [`Session::infer_into`].
pub fn infer_all<B: Training>(session: &mut Session<B>, data: &Dataset, batch: usize) -> Result<Tensor> {
    let mut all = Tensor::zeros(session.graph().output_shape(data.images().shape())?)?;
    let image = all.shape().image_len();
    let mut rest = all.data_mut();
    let mut loader = Loader::in_order(data, batch)?;
    let (mut batch, mut y) = (Batch::new(), Tensor::zeros(Shape4::new(0, 0, 0, 0))?);
    while loader.next_into(&mut batch)? {
        let shape = session.graph().output_shape(batch.images().shape())?;
        if y.shape() != shape {
            y = Tensor::zeros(shape)?;
        }
        session.infer_into(batch.images().view(), &mut y)?;
        let (to, behind) = rest.split_at_mut(batch.len() * image);
        to.copy_from_slice(y.data());
        rest = behind;
    }
    Ok(all)
}

/// The mean squared error of each image.
///
/// # Errors
/// [`Error::Invalid`] if they are not as many, or not as large.
pub fn image_errors(images: &Tensor, others: &Tensor) -> Result<Vec<f32>> {
    if images.shape() != others.shape() {
        return Err(Error::invalid("images to compare", images.shape(), others.shape()));
    }
    let error = |n| Ok(mean_squared_error(images.view().image(n), others.view().image(n))? as f32);
    (0..images.shape().n).map(error).collect()
}
