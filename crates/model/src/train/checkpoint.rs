//! All that training needs to go on, in one file: weights, what the optimiser remembers, what happened so far.
//!
//! A safetensors file. Its arrays are the network's under `weights.`, and `moments.0` … of the optimiser; its metadata hold the
//! rest as TOML, with a checksum over all. Random numbers have no state to keep: seed and epoch decide them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::history::History;
use crate::error::{Error, Result};
use crate::files;
use crate::optimiser::OptimiserState;
use crate::weights::Weights;

/// The largest file that is read as a checkpoint.
const MAX_BYTES: u64 = 16 << 30;

const VERSION: u32 = 1;
const WEIGHTS: &str = "weights.";
const MOMENTS: &str = "moments.";

/// Where training stands at the end of an epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// The present weights and running statistics.
    pub weights: Weights,
    /// What the optimiser remembers.
    pub optimiser: OptimiserState,
    /// The epochs that are over.
    pub history: History,
}

/// What is no array.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    version: u32,
    optimiser_step: u64,
    moments: usize,
    history: History,
}

impl Checkpoint {
    /// Writes it beside the file that may be there, and then in its place.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut arrays = Weights::default();
        for (name, array) in self.weights.iter() {
            arrays.insert(format!("{WEIGHTS}{name}"), array.dims.clone(), array.values.clone());
        }
        for (i, moment) in self.optimiser.moments.iter().enumerate() {
            arrays.insert(format!("{MOMENTS}{i}"), vec![moment.len()], moment.clone());
        }
        let note = Note {
            version: VERSION,
            optimiser_step: self.optimiser.step,
            moments: self.optimiser.moments.len(),
            history: self.history.clone(),
        };
        let note =
            toml::to_string(&note).map_err(|e| Error::invalid("checkpoint", "numbers and names", e))?;
        files::write(path, &arrays.to_bytes_with_note(&note)?)
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] for a file that is damaged, cut off, or no checkpoint.
    pub fn load(path: &Path) -> Result<Self> {
        Self::from_bytes(&files::read(path, MAX_BYTES)?).map_err(|message| Error::format(path, message))
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let (mut arrays, note) = Weights::with_note_from_bytes(bytes)?;
        let note = note.filter(|note| !note.is_empty()).ok_or("expected a checkpoint, got weights alone")?;
        let note: Note =
            toml::from_str(&note).map_err(|e| format!("expected the note of a checkpoint: {e}"))?;
        if note.version != VERSION {
            return Err(format!("expected a checkpoint of version {VERSION}, got {}", note.version));
        }
        // No more than there are arrays, whatever the note says.
        let moments = (0..note.moments).map(|i| {
            let moment = arrays.remove(&format!("{MOMENTS}{i}"));
            moment
                .map(|moment| moment.values)
                .ok_or_else(|| format!("expected {MOMENTS}{i}, got no such array"))
        });
        let moments = moments.collect::<Result<_, _>>()?;
        let mut weights = Weights::default();
        for (name, array) in arrays.iter() {
            let name = name.strip_prefix(WEIGHTS).ok_or_else(|| format!("{name}: expected {WEIGHTS}…"))?;
            weights.insert(name, array.dims.clone(), array.values.clone());
        }
        let optimiser = OptimiserState { step: note.optimiser_step, moments };
        Ok(Checkpoint { weights, optimiser, history: note.history })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Epoch;

    fn checkpoint() -> Checkpoint {
        let mut weights = Weights::default();
        weights.insert("conv1.weight", vec![2, 1, 1, 1], vec![1.5, f32::MIN_POSITIVE / 2.0]);
        let epoch = Epoch {
            epoch: 1,
            steps: 3,
            lr: 0.1 + 0.2,
            train_loss: 1.0 / 3.0,
            loss: 2.0,
            metrics: vec![f64::INFINITY],
            seconds: 0.25,
            images_per_second: 12.0,
        };
        Checkpoint {
            weights,
            optimiser: OptimiserState { step: 3, moments: vec![vec![0.1, -0.2], vec![0.3, 0.4]] },
            history: History { metrics: vec!["psnr".into()], epochs: vec![epoch] },
        }
    }

    #[test]
    fn what_was_saved_comes_back_to_the_bit_and_so_do_the_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        checkpoint().save(&path).unwrap();
        let read = Checkpoint::load(&path).unwrap();
        assert_eq!(read, checkpoint());
        let bytes = std::fs::read(&path).unwrap();
        read.save(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn a_damaged_checkpoint_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        checkpoint().save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for end in 0..bytes.len() {
            Checkpoint::from_bytes(&bytes[..end]).unwrap_err();
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            let read = Checkpoint::from_bytes(&damaged);
            assert!(read.is_err() || read == Ok(checkpoint()), "bit of byte {at}");
        }
        checkpoint().weights.save(&path).unwrap();
        let message = Checkpoint::load(&path).unwrap_err().to_string();
        assert!(message.contains("weights alone"), "{message}");
    }
}
