//! Training: from a configuration and images to weights, with all that happened on the way in a folder.
//!
//! ```
//! use tilewise_kernels::Cpu;
//! use tilewise_model::train::{Config, Run};
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path().join("digits");
//! let mut config = Config::parse("network = { net = 'cnn', blocks = [4], dense = [] }")?;
//! config.training.epochs = 1;
//! let data = config.open_data()?.subset(&Vec::from_iter(0..200))?;
//! let (run, mut trainer) = Run::begin(folder, Cpu::new()?, config, &data)?;
//! run.train(&mut trainer, &mut |_| {})?;
//! assert_eq!(run.best_weights()?, trainer.weights()?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod checkpoint;
mod config;
mod history;
mod run;
mod sweep;
mod table;
mod task;
mod trainer;

pub use checkpoint::Checkpoint;
pub use config::{
    Config, DataConfig, Device, LossConfig, LossName, OptimiserConfig, OptimiserName, ScheduleConfig,
    ScheduleName, TrainingConfig,
};
pub use history::{Epoch, History};
pub use run::{DataNote, Run};
pub use sweep::{Variant, variants};
pub use table::{overlay, read_table};
pub use task::{Evaluation, Task};
pub use trainer::{Progress, Trainer};
