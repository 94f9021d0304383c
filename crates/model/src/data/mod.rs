//! Data to train and to look at.

mod augment;
mod bytes;
mod cells;
mod cifar;
mod convert;
mod csv;
mod dataset;
mod digits;
mod folder;
mod idx;
mod image_file;
mod loader;
mod normalise;
mod open;
mod random;

pub use augment::{Augment, Fill};
pub use cells::Cells;
pub use cifar::read_cifar10;
pub use csv::read_csv;
pub use dataset::{Dataset, Targets, split_indices};
pub use digits::{DIGITS, Digit, digits, digits_tensor};
pub use folder::{read_classes, read_pairs};
pub use idx::read_idx;
pub use image_file::{Colour, Options, read_image, read_images};
pub use loader::{Batch, Loader};
pub use normalise::Normalise;
pub use open::{open, open_with};
