//! Weights packed for a correlation, `[group][tap][channel][output]`: what one dispatch reaches is a section.

use std::ops::Range;

use super::Engine;
use super::method::Method;
use crate::error::{Error, Expected, Result};
use crate::gpu::Gpu;
use crate::gpu::buffer::{Buffer, GpuView, words};
use crate::gpu::recorder::{Dispatch, Slice, WORKGROUP};
use crate::gpu::wgsl::{Kernel, Shader, shader};
use crate::tensor::{checked_product, try_zeroed};

const PACK: Shader = shader!("conv2d_pack", 2, 1, "index");

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    [Kernel::new(PACK, [])].into_iter()
}

/// Packed weights of a range of groups, and of a range of the outputs of each.
pub(super) struct Section {
    pub groups: Range<usize>,
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

/// The groups, outputs (counted from the first of the section) and channels of a dispatch.
type Block = [Range<usize>; 3];

impl Section {
    /// Sections of as many groups and outputs as one dispatch can reach, for sums of `depth` products: weights of any values,
    /// biases of zeros.
    pub fn all(
        gpu: &Gpu,
        op: &'static str,
        groups: usize,
        outputs: usize,
        depth: usize,
        tile: usize,
    ) -> Result<Vec<Section>> {
        let per_tile = checked_product(op, "packed weights", &[depth.max(1), tile])?;
        let tiles = gpu.reach() / per_tile;
        if tiles == 0 {
            let (limit, got) = (gpu.reach() / tile, depth);
            return Err(Error::invalid(op, "products in a sum on this GPU", Expected::AtMost(limit), got));
        }
        let of_group = outputs.div_ceil(tile);
        let (groups_each, outputs_each) =
            if tiles >= of_group { (tiles / of_group, outputs) } else { (1, tiles * tile) };
        let mut sections = Vec::new();
        for first_group in (0..groups).step_by(groups_each) {
            let groups = first_group..groups.min(first_group + groups_each);
            for first in (0..outputs).step_by(outputs_each) {
                let outputs = first..outputs.min(first + outputs_each);
                let padded = outputs.len().next_multiple_of(tile);
                let weights_len = checked_product(op, "packed weights", &[groups.len(), depth, padded])?;
                let bias = try_zeroed(op, groups.len() * padded)?;
                sections.push(Section {
                    groups: groups.clone(),
                    outputs,
                    padded,
                    weights: gpu.take_buffer(op, weights_len as u64 * 4, false)?,
                    weights_len,
                    bias_len: bias.len(),
                    bias: gpu.upload_bytes(op, bytemuck::cast_slice(&bias))?,
                });
            }
        }
        Ok(sections)
    }

    pub fn set_weights(&self, gpu: &Gpu, engine: &Engine, source: Source<'_>) -> Result<()> {
        let taps = engine.correlation.taps.len();
        let to = Slice::new(gpu, &self.weights, 0, self.weights_len);
        self.pack(gpu, engine, source, taps, to, self.whole(engine.correlation.channels))
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
                    let most = Expected::AtMost(gpu.reach());
                    return Err(Error::invalid(engine.op, "elements of a kernel on this GPU", most, span));
                }
            };
            self.pack(gpu, engine, source, taps, to, first)?;
            return self.pack(gpu, engine, source, taps, to, second);
        }
        let start = source.values.start
            + groups.start * source.group
            + (self.outputs.start + outputs.start) * source.output
            + channels.start * source.channel;
        let from = Slice::new(gpu, source.values.buffer, start, span);
        let is_bias = source.channel == 0;
        let depth = if is_bias { 1 } else { engine.correlation.channels };
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
