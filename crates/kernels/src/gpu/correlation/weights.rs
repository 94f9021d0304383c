//! The gradient of a correlation to its weights: a matrix product over pixels, whose parts are added up by a second pass.
//!
//! `gw[output][channel][tap] = sum over images and pixels of gy[output][pixel] * x[channel][what the tap reads for the pixel]`.
//! There are few sums and many pixels: the pixels are cut into parts, so that there is work for a whole GPU and sums stay
//! short. Both passes add up in a fixed order.

use std::ops::Range;

use super::tiles::Tiles;
use super::weights_method::{METHODS, Method};
use super::{countable, tap_entry};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::gpu::buffer::{Buffer, GpuTensor, GpuView, words};
use crate::gpu::context::AdapterKind;
use crate::gpu::parts::{by_element, elementwise, too_large};
use crate::gpu::recorder::{Dispatch, Slice, WORKGROUP};
use crate::gpu::wgsl::{Kernel, Shader, shader};
use crate::shape::Update;
use crate::shape::correlation::{Correlation, Placement};
use crate::tensor::{Shape4, checked_product};

const SUM: Shader = shader!("conv2d_backward_weights_sum", 1, 1, "index");

/// f32 of the sums of all parts at most (256 MiB), if there is more than one part.
const SUMS_LEN: usize = 64 << 20;

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    METHODS.into_iter().map(Method::kernel).chain([Kernel::new(SUM, [])])
}

/// What is to be computed.
#[derive(Clone, Copy)]
pub(in crate::gpu) struct Spec {
    pub op: &'static str,
    pub groups: usize,
    /// Output channels of a group.
    pub outputs: usize,
    /// Positions in the kernel.
    pub kernel: usize,
}

/// The gradient to the weights of a correlation.
pub(in crate::gpu) struct WeightsGradient {
    spec: Spec,
    method: Method,
    /// Of whole images, or of tiles of them.
    correlation: Correlation,
    tiles: Option<Tiles>,
    /// Where each tap of the kernel reads.
    taps: Buffer,
}

/// Weights that are computed together: of some groups, and some outputs and channels of each.
struct Block {
    groups: Range<usize>,
    outputs: Range<usize>,
    channels: Range<usize>,
}

impl Block {
    /// What a run reads of a view: some of all channels of each group.
    fn slice<'a>(
        &self,
        gpu: &Gpu,
        view: GpuView<'a>,
        run: &Run,
        all: usize,
        some: &Range<usize>,
    ) -> Slice<'a> {
        let plane = view.shape.plane_len();
        let channel = self.groups.start * all + some.start;
        let start = view.start + run.images.start * view.batch_stride + channel * plane;
        let image = ((self.groups.len() - 1) * all + some.len()) * plane;
        Slice::new(gpu, view.buffer, start, (run.images.len() - 1) * view.batch_stride + image)
    }
}

/// Some images, and the parts of their pixels.
struct Run {
    images: Range<usize>,
    /// Pixels of a part.
    part: usize,
    parts: usize,
}

impl WeightsGradient {
    pub fn new(gpu: &Gpu, spec: Spec, correlation: &Correlation) -> Result<Self> {
        let products = checked_product(spec.op, "products", &[correlation.channels, spec.kernel])?;
        let method = Method::choose(gpu.adapter().kind, spec.outputs, products);
        Self::with_method(gpu, spec, correlation, method)
    }

    pub(super) fn with_method(
        gpu: &Gpu,
        spec: Spec,
        correlation: &Correlation,
        method: Method,
    ) -> Result<Self> {
        let Spec { op, groups, outputs, kernel } = spec;
        if kernel > gpu.reach() / 4 {
            return Err(too_large(op, "taps of a kernel on this GPU", gpu.reach() / 4, kernel));
        }
        let image = |channels: usize, [h, w]: [usize; 2]| Shape4::new(1, groups * channels, h, w);
        let (x, gy) = (image(correlation.channels, correlation.input), image(outputs, correlation.output));
        let mut whole = [(correlation.clone(), Placement::dense(correlation.output))];
        let tiles = Tiles::cut(gpu, op, x, gy, &mut whole)?;
        let [(correlation, _)] = &whole;
        let correlation = countable(op, correlation)?;
        // A tap that only ever meets padding reads a row that is in no plane.
        let mut taps = vec![[0, i32::MIN, 0, 0]; kernel];
        for tap in &correlation.taps {
            taps[tap.index] = tap_entry(op, &correlation, tap, 0)?;
        }
        let taps = gpu.upload_bytes(op, bytemuck::cast_slice(&taps))?;
        Ok(WeightsGradient { spec, method, correlation, tiles, taps })
    }

    /// Queues the gradient, for views of the planned shapes: an image of `gw` has the weights of an output.
    pub fn run(
        &self,
        gpu: &Gpu,
        x: GpuView<'_>,
        gy: GpuView<'_>,
        gw: GpuView<'_>,
        update: Update,
    ) -> Result<()> {
        let Some(tiles) = &self.tiles else { return self.run_at_once(gpu, x, gy, gw, update) };
        let op = self.spec.op;
        let [_, tile] = tiles.shapes();
        let (of_tile, total) = (GpuTensor::new(gpu, op, tile)?, GpuTensor::new(gpu, op, gw.shape)?);
        let mut so_far = Update::Write;
        tiles.for_each(gpu, op, x, |n, rows, columns, x| {
            let at = [rows.start, columns.start].map(|first| first as isize);
            // At the far edges of an image, less than a tile.
            let shape = Shape4 { h: rows.len(), w: columns.len(), ..tile };
            let gy_of_tile = GpuView { batch_stride: shape.image_len(), ..first_of(&of_tile, shape) };
            gpu.shifted(op, gy.image(n), at, 0.0, gy_of_tile, Update::Write)?;
            self.run_at_once(gpu, x, gy_of_tile, total.view(), so_far)?;
            so_far = Update::Accumulate;
            Ok(())
        })?;
        let parts = if x.shape.n == 0 { 0 } else { 1 };
        add_up(gpu, op, total.view(), parts, gw, update)
    }

    fn run_at_once(
        &self,
        gpu: &Gpu,
        x: GpuView<'_>,
        gy: GpuView<'_>,
        gw: GpuView<'_>,
        update: Update,
    ) -> Result<()> {
        for block in self.blocks(gpu, x, gy, gw) {
            let of_group = block.outputs.len();
            let first = block.groups.start * self.spec.outputs + block.outputs.start;
            let columns = gw.channels(block.channels.clone())?;
            let to = GpuView {
                start: columns.start + first * gw.batch_stride,
                shape: Shape4 { n: block.groups.len() * of_group, ..columns.shape },
                ..columns
            };
            self.run_block(gpu, &block, x, gy, to, update)?;
        }
        Ok(())
    }

    fn run_block(
        &self,
        gpu: &Gpu,
        block: &Block,
        x: GpuView<'_>,
        gy: GpuView<'_>,
        gw: GpuView<'_>,
        update: Update,
    ) -> Result<()> {
        let op = self.spec.op;
        let len = gw.shape.n * gw.shape.image_len();
        let most = (gpu.reach().min(SUMS_LEN) / len).max(1);
        let runs = self.runs(gpu, block, x, gy, most);
        if let [run] = &runs[..]
            && run.parts == 1
        {
            return self.dispatch(gpu, block, run, x, gy, (gw, 0), update);
        }
        // As many runs as their sums have room for, again and again.
        let mut rounds: Vec<(usize, Vec<Run>)> = Vec::new();
        for run in runs {
            match rounds.last_mut() {
                Some((parts, round)) if *parts + run.parts <= most => {
                    *parts += run.parts;
                    round.push(run);
                }
                _ => rounds.push((run.parts, vec![run])),
            }
        }
        let sums_of = |parts: usize| GpuTensor::new(gpu, op, Shape4 { n: parts * gw.shape.n, ..gw.shape });
        let first_pass = |round: &[Run], sums: &GpuTensor| {
            let mut first = 0;
            round.iter().try_for_each(|run| {
                let to = GpuView { start: first * len, ..sums.view() };
                first += run.parts;
                self.dispatch(gpu, block, run, x, gy, (to, len), Update::Write)
            })
        };
        match &rounds[..] {
            // Of no images.
            [] if update == Update::Accumulate => Ok(()),
            [] => add_up(gpu, op, first_of(&sums_of(0)?, gw.shape), 0, gw, update),
            [(parts, round)] => {
                let sums = sums_of(*parts)?;
                first_pass(round, &sums)?;
                add_up(gpu, op, first_of(&sums, gw.shape), *parts, gw, update)
            }
            _ => {
                let total = sums_of(1)?;
                for (i, (parts, round)) in rounds.iter().enumerate() {
                    let sums = sums_of(*parts)?;
                    first_pass(round, &sums)?;
                    let update = if i == 0 { Update::Write } else { Update::Accumulate };
                    add_up(gpu, op, first_of(&sums, gw.shape), *parts, first_of(&total, gw.shape), update)?;
                }
                add_up(gpu, op, first_of(&total, gw.shape), 1, gw, update)
            }
        }
    }

    /// Cuts the weights where one dispatch cannot reach them, or all that an image has for them: into groups or, where one is
    /// too large, into some outputs and some channels of each.
    fn blocks(&self, gpu: &Gpu, x: GpuView<'_>, gy: GpuView<'_>, gw: GpuView<'_>) -> Vec<Block> {
        let Spec { groups, outputs, kernel, .. } = self.spec;
        let channels = self.correlation.channels;
        let (reach, x_plane, gy_plane) = (gpu.reach(), x.shape.plane_len(), gy.shape.plane_len());
        let row = channels * kernel;
        // All that follows counts elements that are there.
        let together = [
            reach / (channels * x_plane),
            reach / (outputs * gy_plane),
            reach / (outputs * row),
            reach.checked_sub(row).map_or(0, |left| (1 + left / gw.batch_stride.max(1)) / outputs),
        ];
        let together = together.into_iter().min().unwrap_or(0);
        if together > 0 {
            let block = |first: usize| Block {
                groups: first..groups.min(first + together),
                outputs: 0..outputs,
                channels: 0..channels,
            };
            return (0..groups).step_by(together).map(block).collect();
        }
        // Planes and kernels are within reach.
        let channels_each = (reach / x_plane.max(kernel)).min(channels);
        let row = channels_each * kernel;
        let outputs_each =
            (reach / gy_plane).min(reach / row).min(1 + (reach - row) / gw.batch_stride.max(1));
        let mut blocks = Vec::new();
        for group in 0..groups {
            for output in (0..outputs).step_by(outputs_each) {
                for channel in (0..channels).step_by(channels_each) {
                    blocks.push(Block {
                        groups: group..group + 1,
                        outputs: output..outputs.min(output + outputs_each),
                        channels: channel..channels.min(channel + channels_each),
                    });
                }
            }
        }
        blocks
    }

    /// Cuts the images into as many as one dispatch can reach, and their pixels into at most `most` parts.
    fn runs(&self, gpu: &Gpu, block: &Block, x: GpuView<'_>, gy: GpuView<'_>, most: usize) -> Vec<Run> {
        let images = x.shape.n;
        let within = |view: GpuView<'_>, stride: usize, channels: usize| {
            let image = ((block.groups.len() - 1) * stride + channels) * view.shape.plane_len();
            1 + (gpu.reach() - image) / view.batch_stride.max(1)
        };
        let together = within(x, self.correlation.channels, block.channels.len()).min(within(
            gy,
            self.spec.outputs,
            block.outputs.len(),
        ));
        let [of_outputs, of_products] = self.method.block();
        let products = block.channels.len() * self.spec.kernel;
        let blocks =
            block.groups.len() * block.outputs.len().div_ceil(of_outputs) * products.div_ceil(of_products);
        let wanted: usize = if gpu.adapter().kind == AdapterKind::Cpu { 16 } else { 512 };
        let run = |first: usize| {
            let images = first..images.min(first + together);
            let steps = (images.len() * gy.shape.plane_len()).div_ceil(self.method.step());
            let Range { start: few, end: many } = self.method.steps();
            let parts = wanted.div_ceil(blocks).min(steps / few).max(steps.div_ceil(many));
            let each = steps.div_ceil(parts.clamp(1, most));
            Run { images, part: each * self.method.step(), parts: steps.div_ceil(each) }
        };
        (0..images).step_by(together).map(run).collect()
    }

    /// Queues the first pass for some images: sums of each part, `pitch` elements apart, from the first of `to` on.
    #[expect(clippy::too_many_arguments, reason = "three tensors, and which part of them")]
    fn dispatch(
        &self,
        gpu: &Gpu,
        block: &Block,
        run: &Run,
        x: GpuView<'_>,
        gy: GpuView<'_>,
        (to, pitch): (GpuView<'_>, usize),
        update: Update,
    ) -> Result<()> {
        let Spec { op, outputs: all_outputs, kernel, .. } = self.spec;
        let Correlation { channels: all_channels, input, step, .. } = self.correlation;
        let [height, width] = [gy.shape.h, gy.shape.w];
        let (x_plane, plane) = (x.shape.plane_len(), gy.shape.plane_len());
        let (groups, outputs) = (block.groups.len(), block.outputs.len());
        let from_x = block.slice(gpu, x, run, all_channels, &block.channels);
        let from_gy = block.slice(gpu, gy, run, all_outputs, &block.outputs);
        let rows = groups * outputs;
        let products = block.channels.len() * kernel;
        let sums_len = (run.parts - 1) * pitch + (rows - 1) * to.batch_stride + products;
        let sums = Slice::new(gpu, to.buffer, to.start, sums_len);
        let [of_outputs, of_products] = self.method.block();
        let (product_blocks, output_blocks) = (products.div_ceil(of_products), outputs.div_ceil(of_outputs));
        let on = self.method.step();
        let sizes = [
            product_blocks,
            output_blocks,
            groups,
            run.parts,
            run.images.len() * plane,
            plane,
            height,
            width,
            run.part,
            on / plane,
            on / width % height,
            on % width,
            step[0],
            step[1],
            input[0],
            input[1],
            kernel,
            products,
            outputs,
            from_x.first,
            x.batch_stride,
            all_channels * x_plane,
            from_gy.first,
            gy.batch_stride,
            all_outputs * plane,
            sums.first,
            to.batch_stride,
            pitch,
            usize::from(update == Update::Accumulate),
        ];
        gpu.dispatch(&Dispatch {
            op,
            kernel: self.method.kernel(),
            params: &words(op, sizes)?,
            reads: &[Slice::new(gpu, &self.taps, 0, kernel * 4), from_gy, from_x],
            writes: &[sums],
            workgroups: checked_product(
                op,
                "workgroups",
                &[product_blocks, output_blocks, groups, run.parts],
            )?,
        })
    }
}

/// The first of several tensors that lie one behind the other.
fn first_of(tensors: &GpuTensor, shape: Shape4) -> GpuView<'_> {
    GpuView { shape, ..tensors.view() }
}

/// Queues the sum of `parts` tensors of the shape of `to`, one behind the other from the first element of `sums` on.
pub(super) fn add_up(
    gpu: &Gpu,
    op: &'static str,
    sums: GpuView<'_>,
    parts: usize,
    to: GpuView<'_>,
    update: Update,
) -> Result<()> {
    let pitch = to.shape.n * to.shape.image_len();
    let views = elementwise([sums, to]);
    // Several fit into one dispatch together.
    for part in by_element(gpu, &views) {
        let [sums, to] = views;
        let row = part.channels.len();
        let start = sums.start + part.images.start * sums.batch_stride + part.channels.start;
        let len = parts.saturating_sub(1) * pitch + (part.images.len() - 1) * sums.batch_stride + row;
        let from = Slice::new(gpu, sums.buffer, start, if parts == 0 { 0 } else { len });
        let into = to.part(gpu, &part);
        let count = part.images.len() * row;
        let sizes = [
            count,
            row,
            parts,
            from.first,
            sums.batch_stride,
            pitch,
            into.first,
            to.batch_stride,
            usize::from(update == Update::Accumulate),
        ];
        gpu.dispatch(&Dispatch {
            op,
            kernel: Kernel::new(SUM, []),
            params: &words(op, sizes)?,
            reads: &[from],
            writes: &[into],
            workgroups: count.div_ceil(WORKGROUP),
        })?;
    }
    Ok(())
}
