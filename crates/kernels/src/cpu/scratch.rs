//! Memory for intermediate results and packed weights: f32 on cache-line boundaries, made once, used many times.

use bytemuck::{Pod, Zeroable};

use crate::error::{Error, Result};
use crate::tensor::try_zeroed;

/// One cache line, also the widest vector.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

// SAFETY: f32 may be zeroed, and an array of 64 bytes aligned to 64 has no padding.
unsafe impl Zeroable for Line {}
// SAFETY: as above; any bits are f32s.
unsafe impl Pod for Line {}

/// f32 in a cache line.
pub(crate) const LINE: usize = 16;

/// Reusable working memory of a plan; see [`crate::Conv2dPlan::scratch`].
///
/// What it holds between two runs means nothing: any values do, and one scratch may serve any number of plans, as
/// long as it is large enough for each (see [`Scratch::with_len`]).
#[derive(Debug, Clone, Default)]
pub struct Scratch {
    lines: Vec<Line>,
}

impl Scratch {
    /// Zeros, at least `len` of them.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the allocator refuses.
    pub fn with_len(len: usize) -> Result<Self> {
        Ok(Scratch { lines: try_zeroed("scratch", len.div_ceil(LINE))? })
    }

    /// All of it.
    pub fn as_slice(&self) -> &[f32] {
        bytemuck::cast_slice(&self.lines)
    }

    /// All of it, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.lines)
    }

    /// Checks that a plan's needs are met, naming the plan.
    pub(crate) fn require(&mut self, op: &'static str, len: usize) -> Result<&mut [f32]> {
        let slice = self.as_mut_slice();
        if slice.len() < len {
            return Err(Error::invalid(
                op,
                "scratch length",
                crate::error::Expected::AtLeast(len),
                slice.len(),
            ));
        }
        Ok(slice)
    }
}

/// `len` rounded up to whole cache lines, so that parts laid end to end stay aligned.
pub(crate) const fn whole_lines(len: usize) -> usize {
    len.next_multiple_of(LINE)
}
