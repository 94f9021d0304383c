//! What can go wrong, as data: which operator, which argument, what was expected, what came.
//!
//! No text is built until somebody prints the error.

use std::fmt;
use std::sync::Arc;

use crate::simd::Isa;
use crate::tensor::Shape4;

/// The result of every fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call was refused. Nothing was computed and no output was written.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument does not fit the operator or the other arguments.
    #[error("{op}: {arg}: expected {expected}, got {got}")]
    Invalid {
        /// The operator, for example `conv2d`.
        op: &'static str,
        /// The argument, for example `stride height`.
        arg: &'static str,
        /// What would have been accepted.
        expected: Expected,
        /// What came.
        got: Got,
    },
    /// A size does not fit `usize` (or its bytes do not fit `isize`): nothing was allocated.
    #[error("{op}: {arg}: the size of {dims} does not fit the address space")]
    Overflow {
        /// The operator that needed the size.
        op: &'static str,
        /// What would have had that size.
        arg: &'static str,
        /// The factors whose product is too large.
        dims: Dims,
    },
    /// The allocator refused.
    #[error("{op}: out of memory: {bytes} bytes refused")]
    OutOfMemory {
        /// The operator that asked.
        op: &'static str,
        /// How much it asked for.
        bytes: usize,
    },
    /// The instruction set was asked for by name, but this machine lacks it.
    #[error("isa: {isa} was asked for, but this machine lacks it")]
    IsaMissing {
        /// The instruction set asked for.
        isa: Isa,
    },
    /// The environment variable `TILEWISE_ISA` holds a name that is no instruction set.
    #[error("TILEWISE_ISA: expected portable, avx2 or avx512, got another name")]
    IsaUnknown,
    /// No GPU can be reached.
    #[error(
        "gpu: no adapter found; one comes with a graphics driver (Vulkan on Linux and Windows; without a GPU, Mesa's \
         software driver: package mesa-vulkan-drivers)"
    )]
    NoAdapter,
    /// The adapter asked for by name or index is not there.
    #[error(
        "gpu: adapter: expected a part of the name or the index of one of {count} adapters, got {asked:?}"
    )]
    AdapterUnknown {
        /// What was asked for.
        asked: Arc<str>,
        /// How many adapters there are.
        count: usize,
    },
    /// The GPU has gone: reset, removed or destroyed. Nothing on it can be used any more; what was queued may not have
    /// run.
    #[error("{op}: the GPU was lost")]
    DeviceLost {
        /// The operator that found out.
        op: &'static str,
    },
    /// The GPU's driver refused something that should have been right: a fault of this library or of the driver.
    #[error("{op}: the GPU refused: {message}")]
    Gpu {
        /// The operator that was refused.
        op: &'static str,
        /// What the driver, or the layer in front of it, said.
        message: Arc<str>,
    },
}

impl Error {
    /// [`Error::Invalid`], from anything that converts.
    pub(crate) fn invalid(
        op: &'static str,
        arg: &'static str,
        expected: impl Into<Expected>,
        got: impl Into<Got>,
    ) -> Self {
        Error::Invalid { op, arg, expected: expected.into(), got: got.into() }
    }
}

/// Up to six extents, printed as `2x3x4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dims {
    dims: [usize; 6],
    len: usize,
}

impl Dims {
    /// At most six extents; further ones are dropped.
    pub fn new(dims: &[usize]) -> Self {
        let len = dims.len().min(6);
        let mut kept = [0; 6];
        kept[..len].copy_from_slice(&dims[..len]);
        Dims { dims: kept, len }
    }
}

impl fmt::Display for Dims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, d) in self.dims[..self.len].iter().enumerate() {
            write!(f, "{}{d}", if i == 0 { "" } else { "x" })?;
        }
        Ok(())
    }
}

/// What an argument should have been.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Expected {
    /// Exactly this.
    Value(usize),
    /// This or more.
    AtLeast(usize),
    /// This or less.
    AtMost(usize),
    /// Something that divides this.
    DivisorOf(usize),
    /// This shape.
    Shape(Shape4),
    /// What the words say.
    Words(&'static str),
}

impl From<usize> for Expected {
    fn from(v: usize) -> Self {
        Expected::Value(v)
    }
}
impl From<Shape4> for Expected {
    fn from(s: Shape4) -> Self {
        Expected::Shape(s)
    }
}
impl From<&'static str> for Expected {
    fn from(s: &'static str) -> Self {
        Expected::Words(s)
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expected::Value(v) => write!(f, "{v}"),
            Expected::AtLeast(v) => write!(f, "at least {v}"),
            Expected::AtMost(v) => write!(f, "at most {v}"),
            Expected::DivisorOf(v) => write!(f, "a divisor of {v}"),
            Expected::Shape(s) => write!(f, "{s}"),
            Expected::Words(w) => f.write_str(w),
        }
    }
}

/// What an argument was.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Got {
    /// This count, extent or length.
    Value(usize),
    /// This real number.
    Real(f32),
    /// This shape.
    Shape(Shape4),
    /// What the words say.
    Words(&'static str),
}

impl From<usize> for Got {
    fn from(v: usize) -> Self {
        Got::Value(v)
    }
}
impl From<f32> for Got {
    fn from(v: f32) -> Self {
        Got::Real(v)
    }
}
impl From<Shape4> for Got {
    fn from(s: Shape4) -> Self {
        Got::Shape(s)
    }
}
impl From<&'static str> for Got {
    fn from(s: &'static str) -> Self {
        Got::Words(s)
    }
}

impl fmt::Display for Got {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Got::Value(v) => write!(f, "{v}"),
            Got::Real(v) => write!(f, "{v}"),
            Got::Shape(s) => write!(f, "{s}"),
            Got::Words(w) => f.write_str(w),
        }
    }
}
