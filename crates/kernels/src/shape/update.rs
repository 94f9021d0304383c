//! What becomes of the values in the memory of a gradient.

/// Whether a gradient replaces what its memory holds, or is added to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Update {
    /// `g = gradient`; what was there is never read.
    #[default]
    Write,
    /// `g += gradient`: for a tensor that several operators read, or for the sum over several batches.
    Accumulate,
}
