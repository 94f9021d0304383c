//! A [`Correlation`] on the GPU: what convolution, transposed convolution, fully connected layer and their gradients have in
//! common.
//!
//! Weights are packed on the device, `[group][tap][channel][output]`, the outputs padded to whole tiles ([`sections`]). The
//! gradient to the weights is in [`weights`]. Images larger than what one dispatch reaches are in [`tiles`].

mod method;
mod sections;
mod tiles;
mod weighted;
mod weights;
mod weights_method;

#[cfg(test)]
mod tests;

use std::ops::Range;

use super::Gpu;
use super::activation::code;
use super::buffer::{Buffer, GpuView, words};
use super::parts::pieces;
use super::recorder::{Dispatch, Slice};
use super::wgsl::Kernel;
use crate::error::{Dims, Error, Expected, Result};
use crate::shape::correlation::{Correlation, Placement, Tap};
use crate::shape::{Activation, Update};
use crate::tensor::checked_product;
pub(super) use method::Method;
pub(super) use sections::Rows;
use sections::Section;
pub(super) use weighted::{Geometry, HostWeights, Weighted};
pub(super) use weights::{Spec as WeightsSpec, WeightsGradient};

/// Every kernel of this folder, but for those of the methods.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    sections::kernels().chain(weights::kernels())
}

/// What is asked for, beside the geometry.
#[derive(Clone, Copy)]
pub(super) struct Spec {
    pub op: &'static str,
    pub groups: usize,
    /// Output channels of a group.
    pub outputs: usize,
    pub activation: Activation,
    pub method: Method,
}

/// A correlation with its weights on the device.
pub(super) struct Engine {
    op: &'static str,
    method: Method,
    activation: Activation,
    correlation: Correlation,
    placement: Placement,
    outputs: usize,
    /// [`Engine::taps`].
    taps: Buffer,
    taps_len: usize,
    sections: Vec<Section>,
}

impl Engine {
    /// Without weights yet, and with a bias of zeros.
    pub fn new(gpu: &Gpu, spec: Spec, correlation: &Correlation, placement: Placement) -> Result<Self> {
        let Spec { op, groups, outputs, activation, method } = spec;
        let correlation = countable(op, correlation)?;
        let taps = Self::taps(op, &correlation, method)?;
        debug_assert!(
            !matches!(method, Method::Gemm { grid, .. } if grid[0] * grid[1] % (method.pixels() / 4) != 0)
        );
        let sections = Section::all(gpu, op, [groups, outputs], &correlation, method.outputs())?;
        let taps_len = taps.len() * 4;
        let taps = gpu.upload_bytes(op, bytemuck::cast_slice(&taps))?;
        Ok(Engine { op, method, activation, correlation, placement, outputs, taps, taps_len, sections })
    }

    /// Where each tap reads; for a GEMM, where each product does.
    fn taps(op: &'static str, correlation: &Correlation, method: Method) -> Result<Vec<[i32; 4]>> {
        let channels = if let Method::Gemm { .. } = method { correlation.channels } else { 1 };
        let taps = correlation.taps.iter();
        taps.flat_map(|tap| (0..channels).map(move |channel| tap_entry(op, correlation, tap, channel)))
            .collect()
    }

    /// Whether pixels are the products' rows as they lie, in aligned vectors of four.
    fn is_pointwise(&self, from: &Slice<'_>, x: GpuView<'_>) -> bool {
        let Correlation { input, output, step, ref taps, .. } = self.correlation;
        let as_they_lie = step == [1, 1] && input == output && taps.len() == 1 && taps[0].at == [0, 0];
        as_they_lie && [x.shape.plane_len(), x.batch_stride, from.first].iter().all(|n| n % 4 == 0)
    }

    /// Packs weights, of which an image has those of an output or of an input channel.
    fn set_weights(&self, gpu: &Gpu, weights: GpuView<'_>, rows: Rows) -> Result<()> {
        let source = rows.source(weights, self.outputs, self.correlation.channels);
        self.sections.iter().try_for_each(|section| section.set_weights(gpu, self, source))
    }

    /// Packs a bias of one value per output channel.
    fn set_bias(&self, gpu: &Gpu, bias: GpuView<'_>) -> Result<()> {
        self.sections.iter().try_for_each(|section| section.set_bias(gpu, self, bias))
    }

    /// Queues `y = activation(correlation(x) + bias)`, for views of the planned shapes; or adds it to `y`, all of it in one
    /// dispatch for each sum.
    fn run(&self, gpu: &Gpu, x: GpuView<'_>, y: GpuView<'_>, update: Update) -> Result<()> {
        if update == Update::Accumulate && self.correlation.depth() == 0 {
            return Ok(());
        }
        for section in &self.sections {
            for part in self.parts(gpu, section, x, y) {
                self.dispatch(gpu, section, &part, x, y, update)?;
            }
        }
        Ok(())
    }

    /// Whether one dispatch does not reach all products of a sum.
    fn cuts_sums(&self, gpu: &Gpu, x: GpuView<'_>, y: GpuView<'_>) -> bool {
        let mut parts = self.sections.iter().flat_map(|section| self.parts(gpu, section, x, y));
        parts.any(|part| part.channels.len() < self.correlation.channels)
    }

    /// Cuts what one dispatch cannot reach: into images or, where one is too large, into single groups with some of their
    /// channels, to be added up, and some of their outputs.
    fn parts(&self, gpu: &Gpu, section: &Section, x: GpuView<'_>, y: GpuView<'_>) -> Vec<Part> {
        let (images, reach) = (x.shape.n, gpu.reach());
        let within =
            |view: GpuView<'_>, channels: usize| match reach.checked_sub(channels * view.shape.plane_len()) {
                None => 0,
                Some(left) => images.min(1 + left / view.batch_stride.max(1)),
            };
        let groups_before = section.groups.len() - 1;
        let channels = groups_before * self.correlation.channels + section.channels.len();
        let outputs = groups_before * self.outputs + section.outputs.len();
        let together = within(x, channels).min(within(y, outputs));
        if together > 0 || images == 0 {
            let part = |images| Part {
                images,
                groups: section.groups.clone(),
                channels: section.channels.clone(),
                outputs: section.outputs.clone(),
            };
            return pieces(images, together.max(1)).map(part).collect();
        }
        // Of planes that it can reach: larger ones are in tiles.
        let pieces = |of: &Range<usize>, view: GpuView<'_>| {
            let (start, end, most) = (of.start, of.end, reach / view.shape.plane_len().max(1));
            // Of no channels there is one piece, too: outputs that no tap reaches are written.
            pieces(of.len().max(1), most.max(1)).map(move |at| start + at.start..end.min(start + at.end))
        };
        let (outputs, channels) = (pieces(&section.outputs, y), pieces(&section.channels, x));
        let mut parts = Vec::new();
        for image in 0..images {
            for group in section.groups.clone() {
                for outputs in outputs.clone() {
                    for channels in channels.clone() {
                        let (images, groups) = (image..image + 1, group..group + 1);
                        parts.push(Part { images, groups, channels, outputs: outputs.clone() });
                    }
                }
            }
        }
        parts
    }

    fn dispatch(
        &self,
        gpu: &Gpu,
        section: &Section,
        part: &Part,
        x: GpuView<'_>,
        y: GpuView<'_>,
        update: Update,
    ) -> Result<()> {
        let Correlation { channels: depth, input, output, step, ref taps } = self.correlation;
        let tile = self.method.outputs();
        let (x_plane, y_plane) = (x.shape.plane_len(), y.shape.plane_len());
        let slice = |view: GpuView<'_>, first_channel: usize, channels: usize| {
            let images = part.images.len() - 1;
            let start = view.start + part.images.start * view.batch_stride;
            let plane = view.shape.plane_len();
            (start + first_channel * plane, images * view.batch_stride + channels * plane)
        };
        let groups = part.groups.len();
        let (x_start, x_len) = slice(
            x,
            part.groups.start * depth + part.channels.start,
            (groups - 1) * depth + part.channels.len(),
        );
        let (y_start, y_len) = slice(
            y,
            part.groups.start * self.outputs + part.outputs.start,
            (groups - 1) * self.outputs + part.outputs.len(),
        );
        let from = Slice::new(gpu, x.buffer, x_start, x_len);
        let to = Slice::new(gpu, y.buffer, y_start, y_len);
        let plane = output[0] * output[1];
        let pixels = part.images.len() * plane;
        let pixel_blocks = pixels.div_ceil(self.method.pixels());
        // A part may begin and end within a block of outputs.
        let (first_output, end) =
            (part.outputs.start - section.outputs.start, part.outputs.end - section.outputs.start);
        let first_block = first_output / tile;
        let output_blocks = end.div_ceil(tile) - first_block;
        let ends = usize::from(part.channels.start == 0)
            + 2 * usize::from(part.channels.end == depth)
            + 4 * usize::from(update == Update::Accumulate);
        let sizes = words(
            self.op,
            [
                pixel_blocks,
                output_blocks,
                groups,
                pixels,
                plane,
                output[1],
                step[0],
                step[1],
                input[0],
                input[1],
                taps.len(),
                section.channels.len(),
                part.channels.start - section.channels.start,
                part.channels.len(),
                first_output - first_block * tile,
                end - first_block * tile,
                section.padded / self.method.vector(),
                part.groups.start - section.groups.start,
                first_block,
                from.first,
                x.batch_stride,
                depth * x_plane,
                to.first + self.placement.origin,
                y.batch_stride,
                self.outputs * y_plane,
                y_plane,
                self.placement.row,
                self.placement.column,
                ends,
            ],
        )?;
        let mut params = [0; 30];
        params[..29].copy_from_slice(&sizes);
        params[29] = code(self.activation).1.to_bits();
        gpu.dispatch(&Dispatch {
            op: self.op,
            kernel: self.method.kernel(self.activation, self.is_pointwise(&from, x)),
            params: &params,
            reads: &[
                Slice::new(gpu, &self.taps, 0, self.taps_len),
                Slice::new(gpu, &section.weights, 0, section.weights_len),
                Slice::new(gpu, &section.bias, 0, section.bias_len),
                from,
            ],
            writes: &[to],
            workgroups: checked_product(self.op, "workgroups", &[pixel_blocks, output_blocks, groups])?,
        })
    }
}

/// What one dispatch computes.
struct Part {
    images: Range<usize>,
    groups: Range<usize>,
    /// Input channels of each group.
    channels: Range<usize>,
    /// Output channels of each group.
    outputs: Range<usize>,
}

/// The correlation, if the shader can count its positions: signed, in 32 bits. The step to an output that is not there
/// may be of any size.
fn countable(op: &'static str, correlation: &Correlation) -> Result<Correlation> {
    let mut correlation = correlation.clone();
    for axis in [0, 1] {
        let outputs = correlation.output[axis];
        let step = &mut correlation.step[axis];
        if outputs <= 1 {
            *step = 1;
        }
        let last = (outputs.max(1) - 1).checked_mul(*step).filter(|&last| last <= i32::MAX as usize);
        let dims = Dims::new(&[outputs, *step]);
        last.ok_or(Error::Overflow { op, arg: "a position on the GPU", dims })?;
    }
    Ok(correlation)
}

/// Where a tap reads in a channel: elements from the pixel, rows, columns; and its position in the kernel.
fn tap_entry(op: &'static str, correlation: &Correlation, tap: &Tap, channel: usize) -> Result<[i32; 4]> {
    let [height, width] = correlation.input;
    let word = |value: isize| {
        i32::try_from(value).map_err(|_| {
            let most = Expected::AtMost(i32::MAX as usize);
            Error::invalid(op, "elements between two taps on this GPU", most, value.unsigned_abs())
        })
    };
    let offset = tap.at[0].saturating_mul(width as isize).saturating_add(tap.at[1]);
    let offset = offset.saturating_add((channel * height * width) as isize);
    Ok([word(offset)?, word(tap.at[0])?, word(tap.at[1])?, word(tap.index as isize)?])
}
