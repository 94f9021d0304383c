//! Reductions: a workgroup adds up a line or a strip of elements together (`shaders/reduce.wgsl`), and what a dispatch
//! leaves of a tensor, one entry a strip, another one adds up.

use std::ops::Range;

use super::Gpu;
use super::buffer::{Buffer, GpuView};
use super::parts::{Part, by_element};
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

/// The strips of the channels of some views of one shape. The results of a channel's strips lie as far apart as there are
/// channels: first those of strip 0 of every channel, then those of strip 1, and so on.
pub(super) struct Strips {
    /// Parts, and where the result of the first strip of each goes.
    pub parts: Vec<(Part, usize)>,
    /// Strips of a channel.
    pub count: usize,
}

impl Strips {
    pub fn new(gpu: &Gpu, views: &[GpuView<'_>]) -> Self {
        let channels = views.first().map_or(0, |view| view.shape.c);
        let mut count = 0;
        let in_turn = |part: Part| {
            let first = count * channels + part.channels.start;
            // Where a part has not all channels, the next ones go on with the others.
            if part.channels.end == channels {
                count += part.of_channel().div_ceil(STRIP);
            }
            (part, first)
        };
        let parts = by_element(gpu, views).into_iter().map(in_turn).collect();
        Strips { parts, count }
    }
}

/// The channels below the middle, and those from there on: where the results of all are more than a dispatch reaches.
pub(super) fn halves(channels: usize) -> [Range<usize>; 2] {
    [0..channels / 2, channels / 2..channels]
}
