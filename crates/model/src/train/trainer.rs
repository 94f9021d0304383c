//! Epochs: steps on the images trained on, then a look at those held out.

use std::time::Instant;

use tilewise_kernels::Training;

use super::checkpoint::Checkpoint;
use super::config::Config;
use super::history::{Epoch, History};
use super::task::Task;
use crate::data::{Batch, Dataset, Loader, Normalise};
use crate::error::{Error, Result};
use crate::schedule::Schedule;
use crate::session::{Session, Step};
use crate::weights::Weights;

/// How far training is, after each step.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The epoch under way, from 1.
    pub epoch: u64,
    /// All epochs.
    pub epochs: u64,
    /// Steps taken in this epoch.
    pub batch: u64,
    /// Steps of an epoch.
    pub batches: u64,
    /// The mean loss of this epoch's steps.
    pub loss: f64,
    /// Images trained on in a second, in this epoch.
    pub images_per_second: f64,
    /// Seconds until all epochs are over, as it looks.
    pub seconds_left: f64,
    /// The epochs that are over.
    pub history: &'a History,
}

/// A network in training.
///
/// The seed decides the first weights, the order of the images in each epoch, and how they are changed. On the CPU it decides the
/// weights that come out, bit for bit, whatever the number of threads; and whoever goes on from a checkpoint gets what an uninterrupted
/// training gets.
///
/// ```
/// use tilewise_kernels::Cpu;
/// use tilewise_model::train::{Config, Trainer};
/// let mut config = Config::parse("network = { net = 'cnn', blocks = [4], dense = [] }")?;
/// config.training.epochs = 2;
/// let data = config.open_data()?.subset(&Vec::from_iter(0..200))?;
/// let mut trainer = Trainer::new(Cpu::new()?, config, &data)?;
/// while !trainer.is_finished() {
///     let epoch = trainer.train_epoch(&mut |progress| assert!(progress.loss > 0.0))?;
///     println!("epoch {}: accuracy {:.3}", epoch.epoch, epoch.metrics[0]);
/// }
/// assert_eq!(trainer.history().epochs.len(), 2);
/// # Ok::<(), tilewise_model::Error>(())
/// ```
pub struct Trainer<B: Training> {
    config: Config,
    task: Task,
    session: Session<B>,
    train: Dataset,
    held_out: Option<Dataset>,
    normalise: Option<Normalise>,
    step: Step,
    schedule: Schedule,
    history: History,
    /// When this object's first epoch began, and how many were over then.
    began: Option<(Instant, u64)>,
}

impl<B: Training> Trainer<B> {
    /// Begins. The configuration takes the sizes of the data ([`Config::fit`]).
    ///
    /// # Errors
    /// Those of [`Config::check`], [`Config::fit`], [`Config::graph`]; [`Error::Invalid`] if no image would be held out or trained on;
    /// those of the device.
    pub fn new(device: B, mut config: Config, data: &Dataset) -> Result<Self> {
        config.check()?;
        config.fit(data)?;
        let graph = config.graph()?;
        let weights = graph.init(config.training.seed);
        let (train, held_out) = match config.data.holdout {
            0 => (data.clone(), None),
            holdout => {
                let (train, held_out) = data.split(holdout)?;
                (train, Some(held_out))
            }
        };
        let normalise = config.data.normalise.then(|| Normalise::of(&train)).transpose()?;
        let batches = Loader::in_order(&train, config.training.batch)?.batches() as u64;
        let task = config.task();
        let metrics = task.metrics().iter().map(|name| (*name).to_owned()).collect();
        Ok(Trainer {
            task,
            session: Session::new(device, graph, &weights)?,
            normalise,
            step: config.step(),
            schedule: config.schedule(batches),
            history: History { metrics, epochs: Vec::new() },
            config,
            train,
            held_out,
            began: None,
        })
    }

    /// Goes on where a checkpoint was made with this configuration, on this data.
    ///
    /// # Errors
    /// As [`Trainer::new`]; [`Error::Weights`] or [`Error::Invalid`] if the checkpoint is of another network or other data.
    pub fn resume(device: B, config: Config, data: &Dataset, checkpoint: &Checkpoint) -> Result<Self> {
        let mut trainer = Trainer::new(device, config, data)?;
        let Checkpoint { weights, optimiser, history } = checkpoint;
        if history.metrics != trainer.history.metrics {
            let [expected, got] = [&trainer.history, history].map(|history| history.metrics.join(", "));
            return Err(Error::invalid("checkpoint: metrics", expected, got));
        }
        let whole = history
            .epochs
            .iter()
            .zip(1..)
            .all(|(epoch, i)| epoch.epoch == i && epoch.metrics.len() == history.metrics.len());
        let steps = history.epochs.len() as u64 * trainer.batches();
        if !whole || history.last().map_or(0, |epoch| epoch.steps) != steps || optimiser.step != steps {
            let expected = format!("{steps}, as many epochs of this data and batch have");
            return Err(Error::invalid("checkpoint: steps", expected, optimiser.step));
        }
        trainer.session.set_weights(weights)?;
        if steps > 0 {
            trainer.session.set_optimiser_state(optimiser)?;
        }
        trainer.history = history.clone();
        Ok(trainer)
    }

    /// Everything that decides it, the network with the sizes of the data.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The epochs that are over.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// How the images are normalised, if they are.
    pub fn normalise(&self) -> Option<&Normalise> {
        self.normalise.as_ref()
    }

    /// The images trained on, and those held out, if any.
    pub fn data(&self) -> (&Dataset, Option<&Dataset>) {
        (&self.train, self.held_out.as_ref())
    }

    /// The network on its device.
    pub fn session(&mut self) -> &mut Session<B> {
        &mut self.session
    }

    /// The present weights.
    ///
    /// # Errors
    /// Those of the device.
    pub fn weights(&self) -> Result<Weights> {
        self.session.weights()
    }

    /// Replaces the weights before the first epoch: to begin with those of another training.
    ///
    /// # Errors
    /// [`Error::Weights`] if they are of another network.
    pub fn set_weights(&mut self, weights: &Weights) -> Result<()> {
        self.session.set_weights(weights)
    }

    /// Whether all epochs are over.
    pub fn is_finished(&self) -> bool {
        self.history.epochs.len() as u64 >= self.config.training.epochs
    }

    /// All that is needed to go on from here.
    ///
    /// # Errors
    /// Those of the device.
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        Ok(Checkpoint {
            weights: self.session.weights()?,
            optimiser: self.session.optimiser_state()?,
            history: self.history.clone(),
        })
    }

    /// Steps of an epoch.
    fn batches(&self) -> u64 {
        (self.train.len() as u64).div_ceil(self.config.training.batch as u64)
    }

    /// One more epoch, and a look at the images held out. Says after each step how far it is.
    ///
    /// # Errors
    /// [`Error::Diverged`] if a loss is no finite number; those of the device.
    pub fn train_epoch(&mut self, progress: &mut dyn FnMut(&Progress<'_>)) -> Result<&Epoch> {
        let (epoch, batches) = (self.history.epochs.len() as u64, self.batches());
        let (first, before) = *self.began.get_or_insert_with(|| (Instant::now(), epoch));
        let Trainer { config, task, session, train, held_out, normalise, step, schedule, history, .. } = self;
        let began = Instant::now();
        let peak = config.optimiser.lr;
        let mut steps = epoch * batches;
        let mut loader =
            Loader::shuffled(train, config.training.batch, config.training.seed)?.augment(config.augment);
        if let Some(normalise) = &normalise {
            loader = loader.normalise(normalise.clone())?;
        }
        loader.start(epoch);
        let finite = |loss: f64, steps| {
            let diverged = Error::Diverged { epoch: epoch + 1, step: steps, loss };
            if loss.is_finite() { Ok(loss) } else { Err(diverged) }
        };
        let (mut batch, mut sum, mut images, mut lr) = (Batch::new(), 0.0, 0, 0.0);
        while loader.next_into(&mut batch)? {
            lr = schedule.lr(peak, steps);
            step.optimiser = step.optimiser.with_lr(lr);
            let loss = session.train_step(batch.images().view(), task.target(&batch), step)?;
            steps += 1;
            sum += finite(f64::from(loss), steps)? * batch.len() as f64;
            images += batch.len();
            let taken = steps - before * batches;
            let left = (config.training.epochs * batches).saturating_sub(steps);
            progress(&Progress {
                epoch: epoch + 1,
                epochs: config.training.epochs,
                batch: steps - epoch * batches,
                batches,
                loss: sum / images as f64,
                images_per_second: images as f64 / began.elapsed().as_secs_f64(),
                seconds_left: first.elapsed().as_secs_f64() / taken as f64 * left as f64,
                history,
            });
        }
        let seconds = began.elapsed().as_secs_f64();

        let mut loader = Loader::in_order(held_out.as_ref().unwrap_or(train), config.training.batch)?;
        if let Some(normalise) = &normalise {
            loader = loader.normalise(normalise.clone())?;
        }
        let evaluation = task.evaluate(session, &mut loader, &step.loss)?;
        history.epochs.push(Epoch {
            epoch: epoch + 1,
            steps,
            lr: f64::from(lr),
            train_loss: sum / images as f64,
            loss: finite(evaluation.loss, steps)?,
            metrics: evaluation.metrics,
            seconds,
            images_per_second: images as f64 / seconds,
        });
        Ok(history.last().expect("pushed just now"))
    }
}
