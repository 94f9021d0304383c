//! A [`Correlation`] on the GPU: what convolution, each phase of a transposed convolution, and a fully connected layer have in
//! common.
//!
//! Weights are packed and uploaded once, `[group][tap][channel][output]`, the outputs padded to whole tiles.

use std::ops::Range;

use super::Gpu;
use super::activation::code;
use super::buffer::{Buffer, GpuView, words};
use super::parts::{pieces, too_large};
use super::recorder::{Dispatch, Slice, WORKGROUP};
use super::wgsl::{Kernel, Shader, shader};
use crate::error::{Dims, Error, Expected, Result};
use crate::shape::Activation;
use crate::shape::correlation::{Correlation, Placement};
use crate::tensor::checked_product;

const DIRECT: Shader = shader!("conv2d_direct", 4, 1, "conv2d_params", "index", "epilogue", "math");
const DEPTHWISE: Shader = shader!("conv2d_depthwise", 4, 1, "conv2d_params", "index", "epilogue", "math");
const GATHER: Shader =
    shader!("conv2d_gather", 4, 1, "conv2d_gemm", "conv2d_params", "index", "epilogue", "math");
const POINTWISE: Shader =
    shader!("conv2d_pointwise", 4, 1, "conv2d_gemm", "conv2d_params", "index", "epilogue", "math");

/// How a correlation is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Method {
    /// An invocation computes so many pixels of one output; for one input channel in a group.
    Depthwise { pixels: usize },
    /// An invocation holds a tile of so many outputs x pixels.
    Direct { outputs: usize, pixels: usize },
    /// A workgroup of `grid` invocations, each with a tile of `tile` outputs x pixels, shares what it reads.
    Gemm { tile: [usize; 2], grid: [usize; 2] },
}

impl Method {
    /// Outputs of a workgroup; weights are padded to a multiple of it.
    pub fn outputs(self) -> usize {
        match self {
            Method::Depthwise { .. } => 1,
            Method::Direct { outputs, .. } => outputs,
            Method::Gemm { tile, grid } => tile[0] * grid[0],
        }
    }

    /// Pixels of a workgroup.
    fn pixels(self) -> usize {
        match self {
            Method::Depthwise { pixels } | Method::Direct { pixels, .. } => WORKGROUP * pixels,
            Method::Gemm { tile, grid } => tile[1] * grid[1],
        }
    }

    /// Weights that the shader reads at once.
    fn vector(self) -> usize {
        if matches!(self, Method::Depthwise { .. }) { 1 } else { 4 }
    }

    /// The register tile: outputs x pixels.
    pub fn tile(self) -> [usize; 2] {
        match self {
            Method::Depthwise { pixels } => [1, pixels],
            Method::Direct { outputs, pixels } => [outputs, pixels],
            Method::Gemm { tile, .. } => tile,
        }
    }

    /// The kernel; `pointwise` where pixels are products' rows of aligned vectors.
    pub fn kernel(self, activation: Activation, pointwise: bool) -> Kernel {
        let [outputs, pixels] = self.tile().map(|size| size as u32);
        let activation = ("ACTIVATION", code(activation).0);
        match self {
            Method::Depthwise { .. } => Kernel::new(DEPTHWISE, [activation, ("TILE_N", pixels)]),
            Method::Direct { .. } => {
                Kernel::new(DIRECT, [activation, ("TILE_M", outputs), ("TILE_N", pixels)])
            }
            Method::Gemm { grid, .. } => {
                let [grid_m, grid_n] = grid.map(|size| size as u32);
                let shader = if pointwise { POINTWISE } else { GATHER };
                let tile = [("TILE_M", outputs), ("TILE_N", pixels), ("GRID_M", grid_m), ("GRID_N", grid_n)];
                Kernel::new(shader, [activation, tile[0], tile[1], tile[2], tile[3]])
            }
        }
    }
}

/// Packed weights of a range of groups, and of a range of the channels and the outputs of each.
struct Section {
    groups: Range<usize>,
    channels: Range<usize>,
    outputs: Range<usize>,
    /// `[group][tap][channel][output]`, outputs padded.
    weights: Buffer,
    weights_len: usize,
    /// `[group][output]`, outputs padded.
    bias: Buffer,
    bias_len: usize,
}

/// What is asked for, beside the geometry.
#[derive(Clone, Copy)]
pub(super) struct Spec<'a> {
    pub op: &'static str,
    pub groups: usize,
    /// Output channels of a group.
    pub outputs: usize,
    /// One per output channel.
    pub bias: Option<&'a [f32]>,
    pub activation: Activation,
    pub method: Method,
}

/// A correlation, its weights packed and uploaded.
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
    /// `weight(group, output, channel, tap of the kernel)`.
    pub fn new(
        gpu: &Gpu,
        spec: Spec<'_>,
        correlation: &Correlation,
        placement: Placement,
        weight: impl Fn(usize, usize, usize, usize) -> f32,
    ) -> Result<Self> {
        let Spec { op, outputs, bias, activation, method, .. } = spec;
        let correlation = &Self::countable(op, correlation)?;
        let taps = Self::taps(op, correlation, method)?;
        let tile = method.outputs();
        debug_assert!(
            !matches!(method, Method::Gemm { grid, .. } if grid[0] * grid[1] % (method.pixels() / 4) != 0)
        );
        let mut sections = Vec::new();
        for [groups, outputs_of_section, channels] in Self::sections(gpu, spec, correlation)? {
            let range = &outputs_of_section;
            let padded = range.len().next_multiple_of(tile);
            let factors = [groups.len(), correlation.taps.len(), channels.len(), padded];
            let len = checked_product(op, "packed weights", &factors)?;
            let mut packed = crate::tensor::try_zeroed(op, len)?;
            let mut rows = packed.chunks_exact_mut(padded);
            for group in groups.clone() {
                for tap in &correlation.taps {
                    for (channel, row) in channels.clone().zip(&mut rows) {
                        for (value, output) in row.iter_mut().zip(range.clone()) {
                            *value = weight(group, output, channel, tap.index);
                        }
                    }
                }
            }
            let mut biases = crate::tensor::try_zeroed(op, groups.len() * padded)?;
            if let Some(bias) = bias {
                for (group, row) in groups.clone().zip(biases.chunks_exact_mut(padded)) {
                    let from = group * outputs;
                    row[..range.len()].copy_from_slice(&bias[from + range.start..from + range.end]);
                }
            }
            sections.push(Section {
                groups,
                channels,
                outputs: outputs_of_section,
                weights_len: packed.len(),
                weights: gpu.upload_bytes(op, bytemuck::cast_slice(&packed))?,
                bias_len: biases.len(),
                bias: gpu.upload_bytes(op, bytemuck::cast_slice(&biases))?,
            });
        }
        let taps_len = taps.len() * 4;
        let taps = gpu.upload_bytes(op, bytemuck::cast_slice(&taps))?;
        let correlation = correlation.clone();
        Ok(Engine { op, method, activation, correlation, placement, outputs, taps, taps_len, sections })
    }

    /// Groups, outputs and channels of which one dispatch reaches the weights: all channels if it can, else parts of them,
    /// in order, to be added up.
    fn sections(gpu: &Gpu, spec: Spec<'_>, correlation: &Correlation) -> Result<Vec<[Range<usize>; 3]>> {
        let Spec { op, groups, outputs, method, .. } = spec;
        let (tile, taps, channels) = (method.outputs(), correlation.taps.len(), correlation.channels);
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
                    sections.push([groups.clone(), outputs.clone(), channels]);
                }
            }
        }
        Ok(sections)
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
            last.ok_or(Error::Overflow {
                op,
                arg: "a position on the GPU",
                dims: Dims::new(&[outputs, *step]),
            })?;
        }
        Ok(correlation)
    }

    /// Where each tap reads: elements from the pixel, rows, columns, and nothing; for a GEMM, where each product does.
    fn taps(op: &'static str, correlation: &Correlation, method: Method) -> Result<Vec<[i32; 4]>> {
        let [height, width] = correlation.input;
        let word = |value: isize| {
            i32::try_from(value).map_err(|_| {
                let most = Expected::AtMost(i32::MAX as usize);
                Error::invalid(op, "elements between two taps on this GPU", most, value.unsigned_abs())
            })
        };
        let channels = if let Method::Gemm { .. } = method { correlation.channels } else { 1 };
        let entry = |channel: usize, at: [isize; 2]| {
            let offset = at[0].saturating_mul(width as isize).saturating_add(at[1]);
            let offset = offset.saturating_add((channel * height * width) as isize);
            Ok([word(offset)?, word(at[0])?, word(at[1])?, 0])
        };
        let taps = correlation.taps.iter();
        taps.flat_map(|tap| (0..channels).map(move |channel| entry(channel, tap.at))).collect()
    }

    /// Whether pixels are the products' rows as they lie, in aligned vectors of four.
    fn is_pointwise(&self, from: &Slice<'_>, x: GpuView<'_>) -> bool {
        let Correlation { input, output, step, ref taps, .. } = self.correlation;
        let as_they_lie = step == [1, 1] && input == output && taps.len() == 1 && taps[0].at == [0, 0];
        as_they_lie && [x.shape.plane_len(), x.batch_stride, from.first].iter().all(|n| n % 4 == 0)
    }

    /// Queues `y = activation(correlation(x) + bias)`, for views of the planned shapes.
    pub fn run(&self, gpu: &Gpu, x: GpuView<'_>, y: GpuView<'_>) -> Result<()> {
        for section in &self.sections {
            for part in self.parts(gpu, section, x, y) {
                self.dispatch(gpu, section, &part, x, y)?;
            }
        }
        Ok(())
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
        // Only those of single pixels: larger planes are in tiles.
        let pieces = |of: &Range<usize>, view: GpuView<'_>| {
            let (start, end, most) = (of.start, of.end, reach / view.shape.plane_len().max(1));
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
        let padded = section.outputs.len().next_multiple_of(tile);
        let ends = usize::from(part.channels.start == 0) + 2 * usize::from(part.channels.end == depth);
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
                padded / self.method.vector(),
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
