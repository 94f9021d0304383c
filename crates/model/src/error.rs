//! What can go wrong with a network, its data and its files.

use std::fmt::Display;
use std::path::{Path, PathBuf};

/// The result of every fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a network, a data set or a file was refused. Nothing was overwritten.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A kernel refused its arguments, or ran out of memory or device.
    #[error(transparent)]
    Kernel(#[from] tilewise_kernels::Error),
    /// A layer does not fit what comes into it.
    #[error("layer {layer}: {source}")]
    Layer {
        /// The layer's name, as in its weights' names.
        layer: String,
        /// What its operator said.
        source: Box<tilewise_kernels::Error>,
    },
    /// A value from outside (a hyper-parameter, a shape, a count) is not what is needed.
    #[error("{what}: expected {expected}, got {got}")]
    Invalid {
        /// What had the value.
        what: String,
        /// What would have been accepted.
        expected: String,
        /// What came.
        got: String,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file was read, and is not what it should be: truncated, damaged, or of another kind.
    #[error("{}: {message}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it: what was expected, and what came.
        message: String,
    },
    /// A key of a configuration that does not exist.
    #[error("unknown key {key}: did you mean {nearest}?")]
    UnknownKey {
        /// The key, with its section.
        key: String,
        /// The key that is most like it.
        nearest: String,
    },
    /// A loss was no finite number any more.
    #[error(
        "training diverged: the loss is {loss} in epoch {epoch}, after {step} steps; a lower learning rate (--lr) or a bound to the \
         gradient (--clip-norm) may help"
    )]
    Diverged {
        /// The epoch, from 1.
        epoch: u64,
        /// Steps taken.
        step: u64,
        /// What it was.
        loss: f64,
    },
    /// A picture could not be drawn or encoded.
    #[error("cannot draw the picture: {0}")]
    Draw(String),
    /// Weights do not belong to the network.
    #[error("weights: {0}")]
    Weights(crate::weights::Mismatch),
}

impl Error {
    /// [`Error::Invalid`], from anything that prints.
    pub fn invalid(what: impl Display, expected: impl Display, got: impl Display) -> Self {
        Error::Invalid { what: what.to_string(), expected: expected.to_string(), got: got.to_string() }
    }

    /// [`Error::Io`] at a path; for `map_err`.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Error::Io { path: path.as_ref().to_owned(), source }
    }

    /// [`Error::Format`], from anything that prints.
    pub fn format(path: impl AsRef<Path>, message: impl Display) -> Self {
        Error::Format { path: path.as_ref().to_owned(), message: message.to_string() }
    }
}
