//! Reductions: a workgroup adds up a line or a strip of elements together (`shaders/reduce.wgsl`), and what a dispatch
//! leaves of a tensor, one entry a strip, another one adds up.

use super::Gpu;
use super::buffer::Buffer;
use super::recorder::Slice;
use crate::error::Result;

/// Invocations of a workgroup that reduces, for short lines and for long ones.
pub(super) const LANES: [u32; 2] = [64, 256];

/// Elements of a strip: enough for each lane to be worth its place in the tree, few enough for strips to fill a GPU, and
/// counted exactly by an f32.
pub(super) const STRIP: usize = 4096;

/// The invocations for lines of `len` elements.
pub(super) const fn lanes(len: usize) -> u32 {
    LANES[(len > 1024) as usize]
}

/// What the sum of `count` elements is divided by: the mean of nothing is NaN.
pub(super) fn divisor(count: usize) -> f32 {
    if count == 0 { f32::NAN } else { count as f32 }
}

/// Memory for the results of strips, `words` f32 each.
pub(super) struct Partials {
    buffer: Buffer,
    len: usize,
}

impl Partials {
    pub fn new(gpu: &Gpu, op: &'static str, entries: usize, words: usize) -> Result<Self> {
        let len = entries.saturating_mul(words);
        Ok(Partials { buffer: gpu.take_buffer(op, (len as u64).saturating_mul(4), false)?, len })
    }

    pub fn slice(&self, gpu: &Gpu) -> Slice<'_> {
        Slice::new(gpu, &self.buffer, 0, self.len)
    }

    /// Entry `i`, of one word.
    pub fn entry(&self, gpu: &Gpu, i: usize) -> Slice<'_> {
        Slice::new(gpu, &self.buffer, i, 1)
    }
}
