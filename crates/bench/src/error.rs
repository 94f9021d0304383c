//! What can be wrong with a request: said with the file, the entry and the field, so that the user can mend it.

use std::io;
use std::path::{Path, PathBuf};

/// The result of every fallible function that measures or draws.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a request was refused or could not be finished.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A kernel refused a shape, an instruction set or an algorithm.
    #[error(transparent)]
    Kernels(#[from] tilewise_kernels::Error),
    /// A network, its data or its files were refused.
    #[error(transparent)]
    Model(#[from] tilewise_model::Error),
    /// A kernel refused one layer of a suite or a shapes file.
    #[error("layer {layer}: {source}")]
    Layer {
        /// The name of the layer.
        layer: String,
        /// What the kernel said.
        source: Box<tilewise_kernels::Error>,
    },
    /// A file cannot be read or written.
    #[error("{}: cannot {action}: {source}", path.display())]
    File {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not JSON.
    #[error("{}: not JSON: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where it stops being JSON.
        source: serde_json::Error,
    },
    /// A shapes file holds something else than a list of shapes.
    #[error("{}: expected a list of at least one shape, got {got}", path.display())]
    NoShapes {
        /// The file.
        path: PathBuf,
        /// What it holds.
        got: &'static str,
    },
    /// A field of a shapes file is missing or is not what it should be.
    #[error("{}: entry {entry}: field \"{field}\": expected {expected}, got {got}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// Number and, where it has one, name of the entry: `3 ("conv1")`.
        entry: String,
        /// The name of the field.
        field: &'static str,
        /// What would have been accepted.
        expected: &'static str,
        /// What the file says.
        got: String,
    },
    /// An entry of a shapes file is no convolution, though every field is a number that it may be.
    #[error("{}: entry {entry}: {source}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// Number and name of the entry.
        entry: String,
        /// What does not fit.
        source: Box<tilewise_kernels::Error>,
    },
    /// A suite of that name does not exist.
    #[error("unknown suite \"{name}\"; there are {known}")]
    UnknownSuite {
        /// The name asked for.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// None of the layers asked for has a shape that the algorithm asked for computes.
    #[error("algorithm {algo} fits none of the shapes; the first is {layer}: {shape}")]
    NoLayerFits {
        /// The algorithm asked for.
        algo: &'static str,
        /// The first layer.
        layer: String,
        /// Its shape.
        shape: String,
    },
    /// Threads could not be started.
    #[error("cannot start {threads} threads: {source}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// What rayon said.
        source: rayon::ThreadPoolBuildError,
    },
    /// An image cannot be decoded, or a picture not encoded.
    #[error("{}: {source}", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        source: image::ImageError,
    },
    /// An image is too small to be convolved and pooled.
    #[error("{}: expected an image of at least {min}x{min} pixels, got {width}x{height}", path.display())]
    ImageTooSmall {
        /// The file.
        path: PathBuf,
        /// The least side.
        min: u32,
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// A plot cannot be drawn.
    #[error("cannot draw the plot: {0}")]
    Plot(String),
}

impl Error {
    /// Turns what the system said about reading `path` into [`Error::File`].
    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Error::File { action: "read", path: path.to_owned(), source }
    }

    /// Turns what the system said about writing `path` into [`Error::File`].
    pub(crate) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Error::File { action: "write", path: path.to_owned(), source }
    }
}
