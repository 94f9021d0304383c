//! The folder of a training: what it was told, how it went, what came out.
//!
//! | file | what it holds |
//! |---|---|
//! | `config.toml` | everything that decides the training |
//! | `data.toml` | what the data was: class names, normalisation, a checksum |
//! | `checkpoint.safetensors` | all that is needed to go on |
//! | `last.safetensors`, `best.safetensors` | the weights after the last epoch, and after the best one |
//! | `metrics.csv`, `curves.svg` | how it went |
//!
//! Each file is written beside its place and renamed, the checkpoint first: whoever is killed at any moment has lost no epoch
//! that was over. What the checkpoint has and other files do not yet have, they get when training goes on.

use std::fs;
use std::path::{Path, PathBuf};

use flate2::Crc;
use serde::{Deserialize, Serialize};
use tilewise_kernels::Training;

use super::checkpoint::Checkpoint;
use super::config::Config;
use super::table::{keys, read_table};
use super::trainer::{Progress, Trainer};
use crate::data::{Dataset, Normalise, Targets};
use crate::error::{Error, Result};
use crate::files;
use crate::weights::Weights;

const CONFIG: &str = "config.toml";
const DATA: &str = "data.toml";
const CHECKPOINT: &str = "checkpoint.safetensors";
const LAST: &str = "last.safetensors";
const BEST: &str = "best.safetensors";
const METRICS: &str = "metrics.csv";
const CURVES: &str = "curves.svg";

/// Class names and means of channels are some kilobytes.
const MAX_BYTES: u64 = 16 << 20;

/// What may differ when a training goes on: how long, and where.
const MAY_CHANGE: [&str; 3] = ["training.epochs", "training.device", "training.threads"];

/// What the data was that a network was trained on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataNote {
    /// The number of images.
    pub images: usize,
    /// CRC-32 of images and targets, in hexadecimal.
    pub checksum: String,
    /// The names of the classes, if there are any.
    pub classes: Vec<String>,
    /// How the images were normalised, if they were.
    pub normalise: Option<Normalise>,
}

impl DataNote {
    fn new(data: &Dataset, normalise: Option<&Normalise>) -> Self {
        let mut crc = Crc::new();
        crc.update(bytemuck::cast_slice(data.images().data()));
        match data.targets() {
            Targets::None => {}
            Targets::Labels { labels, .. } => crc.update(bytemuck::cast_slice(labels)),
            Targets::Masks(masks) => crc.update(bytemuck::cast_slice(masks.data())),
        }
        DataNote {
            images: data.len(),
            checksum: format!("{:08x}", crc.sum()),
            classes: data.class_names().to_vec(),
            normalise: normalise.cloned(),
        }
    }
}

/// The folder of a training.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    folder: PathBuf,
}

impl Run {
    /// A folder in which a training has begun.
    ///
    /// # Errors
    /// [`Error::Format`] if none has.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self> {
        let run = Run { folder: folder.into() };
        if run.has_begun() {
            return Ok(run);
        }
        let message = format!("expected the folder of a training, with {CONFIG}, got none");
        Err(Error::format(run.folder, message))
    }

    /// Whether a training has begun in this folder.
    pub fn is_one(folder: &Path) -> bool {
        folder.join(CONFIG).is_file()
    }

    /// Begins a training in a folder, which is made if it is not there.
    ///
    /// # Errors
    /// Those of [`Trainer::new`]; [`Error::Format`] if another training has begun there; [`Error::Io`].
    pub fn begin<B: Training>(
        folder: impl Into<PathBuf>,
        device: B,
        config: Config,
        data: &Dataset,
    ) -> Result<(Self, Trainer<B>)> {
        let run = Run { folder: folder.into() };
        if run.has_begun() {
            let message =
                "expected a folder without a training, got one with; resume goes on there (--resume)";
            return Err(Error::format(run.folder, message));
        }
        let trainer = Trainer::new(device, config, data)?;
        fs::create_dir_all(&run.folder).map_err(Error::io(&run.folder))?;
        let note = DataNote::new(data, trainer.normalise());
        let note = toml::to_string(&note).map_err(|e| Error::invalid("class names", "texts", e))?;
        files::write(&run.path(DATA), note.as_bytes())?;
        // The last one: whoever finds it finds the others.
        files::write(&run.path(CONFIG), trainer.config().to_toml().as_bytes())?;
        Ok((run, trainer))
    }

    /// Goes on where a training stopped: to the same bits as if it never had. Only how long it takes and where may be changed.
    ///
    /// # Errors
    /// [`Error::Invalid`] if something else was changed, the data included; those of [`Trainer::resume`], [`Checkpoint::load`].
    pub fn resume<B: Training>(&self, device: B, config: Config, data: &Dataset) -> Result<Trainer<B>> {
        self.check_same(&config, data)?;
        let path = self.path(CHECKPOINT);
        if !path.exists() {
            // It was stopped within its first epoch.
            return Trainer::new(device, config, data);
        }
        let checkpoint = Checkpoint::load(&path)?;
        let trainer =
            Trainer::resume(device, config, data, &checkpoint).map_err(|e| Error::format(&path, e))?;
        files::write(&self.path(CONFIG), trainer.config().to_toml().as_bytes())?;
        self.publish(&checkpoint)?;
        Ok(trainer)
    }

    fn check_same(&self, config: &Config, data: &Dataset) -> Result<()> {
        let mut config = config.clone();
        config.fit(data)?;
        let [old, new] = [self.config()?, config].map(|config| config.to_table());
        for (section, values) in &new {
            for (key, value) in values.as_table().into_iter().flatten() {
                let name = format!("{section}.{key}");
                let old = old.get(section).and_then(|section| section.get(key));
                if old != Some(value) && !MAY_CHANGE.contains(&name.as_str()) {
                    let old = old.map_or("nothing".into(), ToString::to_string);
                    let expected = format!("{old}, as the training began with");
                    return Err(Error::invalid(format!("resume: {name}"), expected, value));
                }
            }
        }
        let (old, new) = (self.data()?, DataNote::new(data, None));
        if (old.images, &old.checksum, &old.classes) != (new.images, &new.checksum, &new.classes) {
            let say = |note: &DataNote| format!("{} images (checksum {})", note.images, note.checksum);
            let expected = format!("{}, as the training began with", say(&old));
            return Err(Error::invalid("resume: data", expected, say(&new)));
        }
        Ok(())
    }

    /// Trains until all epochs are over, saving after each.
    ///
    /// # Errors
    /// Those of [`Trainer::train_epoch`]; [`Error::Io`].
    pub fn train<B: Training>(
        &self,
        trainer: &mut Trainer<B>,
        progress: &mut dyn FnMut(&Progress<'_>),
    ) -> Result<()> {
        while !trainer.is_finished() {
            trainer.train_epoch(progress)?;
            self.save(trainer)?;
        }
        Ok(())
    }

    /// Saves where a training stands, at the end of an epoch.
    ///
    /// # Errors
    /// Those of the device; [`Error::Io`].
    pub fn save<B: Training>(&self, trainer: &Trainer<B>) -> Result<()> {
        let checkpoint = trainer.checkpoint()?;
        checkpoint.save(&self.path(CHECKPOINT))?;
        self.publish(&checkpoint)
    }

    /// Writes what follows from a checkpoint. The best weights are the checkpoint's, or are there already: written after an
    /// earlier epoch, before the next checkpoint.
    fn publish(&self, checkpoint: &Checkpoint) -> Result<()> {
        let Checkpoint { weights, history, .. } = checkpoint;
        let (best, last) = (history.best(), history.last());
        if best.is_some() && best.map(|epoch| epoch.epoch) == last.map(|epoch| epoch.epoch) {
            weights.save(self.path(BEST))?;
        }
        weights.save(self.path(LAST))?;
        files::write(&self.path(METRICS), history.to_csv().as_bytes())?;
        let name = self.folder.file_name().map_or("training".into(), |name| name.to_string_lossy());
        files::write(&self.path(CURVES), history.to_svg(&name)?.as_bytes())
    }

    /// Everything that decided the training.
    ///
    /// # Errors
    /// Those of [`Config::load`]; [`Error::Format`] for a file that lacks a key.
    pub fn config(&self) -> Result<Config> {
        let path = self.path(CONFIG);
        let table = read_table(&path)?;
        let config = Config::from_table(&table).map_err(|e| Error::format(&path, e))?;
        // It was written with every key, so one that is not there was cut off.
        let there = keys(&table);
        match keys(&config.to_table()).into_iter().find(|key| !there.contains(key)) {
            Some(key) => {
                Err(Error::format(&path, format!("expected {key}, got none: was the file cut off?")))
            }
            None => Ok(config),
        }
    }

    /// What the data was.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Format`].
    pub fn data(&self) -> Result<DataNote> {
        let path = self.path(DATA);
        let text = String::from_utf8(files::read(&path, MAX_BYTES)?)
            .map_err(|_| Error::format(&path, "expected TOML, got bytes that are no text"))?;
        toml::from_str(&text).map_err(|e| Error::format(&path, format!("expected what the data was: {e}")))
    }

    /// The weights after the best epoch.
    ///
    /// # Errors
    /// Those of [`Weights::load`]: there are none before the first epoch is over.
    pub fn best_weights(&self) -> Result<Weights> {
        Weights::load(self.path(BEST))
    }

    /// The weights after the last epoch.
    ///
    /// # Errors
    /// As [`Run::best_weights`].
    pub fn last_weights(&self) -> Result<Weights> {
        Weights::load(self.path(LAST))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn has_begun(&self) -> bool {
        Run::is_one(&self.folder)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }
}
