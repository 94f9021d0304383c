//! Weights packed for a correlation, `[group][tap][channel][output]`: what one dispatch reaches is a section.

use std::ops::Range;

use super::Engine;
use super::method::Method;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::gpu::buffer::{Buffer, GpuView, words};
use crate::gpu::parts::{pieces, too_large};
use crate::gpu::recorder::{Dispatch, Slice, WORKGROUP};
use crate::gpu::wgsl::{Kernel, Shader, shader};
use crate::shape::correlation::Correlation;
use crate::tensor::{checked_product, try_zeroed};

const PACK: Shader = shader!("conv2d_pack", 2, 1, "index");

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    [Kernel::new(PACK, [])].into_iter()
}

/// Packed weights of a range of groups, and of a range of the channels and the outputs of each.
pub(super) struct Section {
    pub groups: Range<usize>,
    pub channels: Range<usize>,
    pub outputs: Range<usize>,
    /// The outputs, rounded up to whole tiles; what is behind the last may hold anything.
    pub padded: usize,
    /// `[group][tap][channel][output]`, outputs padded.
    pub weights: Buffer,
    pub weights_len: usize,
    /// `[group][output]`, outputs padded.
    pub bias: Buffer,
    pub bias_len: usize,
}

/// What an image of the weights belongs to: its elements are those of the other, tap by tap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gpu) enum Rows {
    Outputs,
    Channels,
}

/// Values to be packed, and how far apart they lie in groups, outputs and channels.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    values: GpuView<'a>,
    group: usize,
    output: usize,
    channel: usize,
    /// Positions in the kernel.
    kernel: usize,
}

impl Rows {
    pub(super) fn source(self, weights: GpuView<'_>, outputs: usize, channels: usize) -> Source<'_> {
        let (stride, kernel) = (weights.batch_stride, weights.shape.plane_len());
        let (group, output, channel) = match self {
            Rows::Outputs => (outputs * stride, stride, kernel),
            Rows::Channels => (channels * stride, kernel, stride),
        };
        Source { values: weights, group, output, channel, kernel }
    }
}

/// Groups, outputs and channels; in a dispatch, the last two are counted from the first of the section.
type Block = [Range<usize>; 3];

impl Section {
    /// Sections of as many groups and outputs as one dispatch can reach with all their channels or, where it reaches not even
    /// those of one tile, with some, whose sums are added up in order: weights of any values, biases of zeros.
    pub fn all(
        gpu: &Gpu,
        op: &'static str,
        [groups, outputs]: [usize; 2],
        correlation: &Correlation,
        tile: usize,
    ) -> Result<Vec<Section>> {
        let (taps, channels) = (correlation.taps.len(), correlation.channels);
        // The table of taps, of four words each, is within reach too.
        let per_channel = checked_product(op, "packed weights", &[taps.max(1), tile.max(4)])?;
        let tiles = gpu.reach() / checked_product(op, "packed weights", &[per_channel, channels.max(1)])?;
        let channels_each = if tiles > 0 { channels.max(1) } else { gpu.reach() / per_channel };
        if channels_each == 0 {
            return Err(too_large(op, "taps of a kernel on this GPU", gpu.reach() / tile.max(4), taps));
        }
        let of_group = outputs.div_ceil(tile);
        let (groups_each, outputs_each) =
            if tiles >= of_group { (tiles / of_group, outputs) } else { (1, tiles.max(1) * tile) };
        let mut sections = Vec::new();
        for groups in pieces(groups, groups_each) {
            for outputs in pieces(outputs, outputs_each) {
                // Of no channels there is one piece, too: outputs that no tap reaches are written.
                for channels in pieces(channels.max(1), channels_each).map(|c| c.start..c.end.min(channels)) {
                    sections.push(Section::new(
                        gpu,
                        op,
                        [groups.clone(), outputs.clone(), channels],
                        taps,
                        tile,
                    )?);
                }
            }
        }
        Ok(sections)
    }

    fn new(gpu: &Gpu, op: &'static str, block: Block, taps: usize, tile: usize) -> Result<Section> {
        let [groups, outputs, channels] = block;
        let padded = outputs.len().next_multiple_of(tile);
        let weights_len =
            checked_product(op, "packed weights", &[groups.len(), taps, channels.len(), padded])?;
        let bias: Vec<f32> = try_zeroed(op, groups.len() * padded)?;
        Ok(Section {
            padded,
            weights: gpu.take_buffer(op, weights_len as u64 * 4, false)?,
            weights_len,
            bias_len: bias.len(),
            bias: gpu.upload_bytes(op, bytemuck::cast_slice(&bias))?,
            groups,
            channels,
            outputs,
        })
    }

    pub fn set_weights(&self, gpu: &Gpu, engine: &Engine, source: Source<'_>) -> Result<()> {
        let taps = engine.correlation.taps.len();
        let to = Slice::new(gpu, &self.weights, 0, self.weights_len);
        self.pack(gpu, engine, source, taps, to, self.whole(self.channels.len()))
    }

    pub fn set_bias(&self, gpu: &Gpu, engine: &Engine, bias: GpuView<'_>) -> Result<()> {
        let source = Source { values: bias, group: engine.outputs, output: 1, channel: 0, kernel: 1 };
        let to = Slice::new(gpu, &self.bias, 0, self.bias_len);
        self.pack(gpu, engine, source, 1, to, self.whole(1))
    }

    fn whole(&self, channels: usize) -> Block {
        [self.groups.clone(), 0..self.outputs.len(), 0..channels]
    }

    /// Packs a block; in halves, where it lies too far apart for one dispatch.
    fn pack(
        &self,
        gpu: &Gpu,
        engine: &Engine,
        source: Source<'_>,
        taps: usize,
        to: Slice<'_>,
        block: Block,
    ) -> Result<()> {
        let [groups, outputs, channels] = block;
        let count =
            checked_product(engine.op, "weights", &[groups.len(), taps, channels.len(), outputs.len()])?;
        if count == 0 {
            return Ok(());
        }
        let lies = [
            (groups.len() - 1) * source.group,
            (outputs.len() - 1) * source.output,
            (channels.len() - 1) * source.channel,
        ];
        let span = lies.iter().sum::<usize>() + source.kernel;
        if span > gpu.reach() {
            let [first, second] = match (0..3).max_by_key(|&axis| lies[axis]) {
                Some(axis) if lies[axis] > 0 => halves(&[groups, outputs, channels], axis),
                _ => {
                    return Err(too_large(engine.op, "elements of a kernel on this GPU", gpu.reach(), span));
                }
            };
            self.pack(gpu, engine, source, taps, to, first)?;
            return self.pack(gpu, engine, source, taps, to, second);
        }
        let start = source.values.start
            + groups.start * source.group
            + (self.outputs.start + outputs.start) * source.output
            + (self.channels.start + channels.start) * source.channel;
        let from = Slice::new(gpu, source.values.buffer, start, span);
        let is_bias = source.channel == 0;
        let depth = if is_bias { 1 } else { self.channels.len() };
        let group = (groups.start - self.groups.start) * taps;
        let sizes = [
            count,
            outputs.len(),
            channels.len(),
            taps,
            from.first,
            source.group,
            source.output,
            source.channel,
            to.first + (group * depth + channels.start) * self.padded + outputs.start,
            depth,
            self.padded,
            // A product of a GEMM has an entry for each channel.
            if let Method::Gemm { .. } = engine.method { engine.correlation.channels } else { 1 },
            usize::from(is_bias),
        ];
        gpu.dispatch(&Dispatch {
            op: engine.op,
            kernel: Kernel::new(PACK, []),
            params: &words(engine.op, sizes)?,
            reads: &[Slice::new(gpu, &engine.taps, 0, engine.taps_len), from],
            writes: &[to],
            workgroups: count.div_ceil(WORKGROUP),
        })
    }
}

/// Both halves of a block along an axis.
fn halves(block: &Block, axis: usize) -> [Block; 2] {
    let Range { start, end } = block[axis];
    let middle = start + (end - start) / 2;
    [start..middle, middle..end].map(|half| {
        let mut block = block.clone();
        block[axis] = half;
        block
    })
}
