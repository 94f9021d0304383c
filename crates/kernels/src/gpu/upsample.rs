//! Resizing of planes, by the nearest pixel or bilinear. Where the rows and columns come from goes up as a table; for the
//! gradient, which each pixel of the input gathers, where they go.

use super::Gpu;
use super::buffer::{GpuView, GpuViewMut, words};
use super::parts::by_channel;
use super::recorder::{Dispatch, Slice, WORKGROUP};
use super::wgsl::{Kernel, Shader, shader};
use crate::backend::expect_shape;
use crate::error::Result;
use crate::shape::upsample::{Between, nearest};
use crate::shape::{Update, UpsampleMode, UpsampleShape};

const OP: &str = "upsample";

const SHADER: Shader = shader!("upsample", 5, 1, "index");
const BACKWARD: Shader = shader!("upsample_backward", 5, 1, "update", "index");

fn constant(mode: UpsampleMode) -> (&'static str, u32) {
    ("BILINEAR", matches!(mode, UpsampleMode::Bilinear { .. }).into())
}

fn kernel(mode: UpsampleMode) -> Kernel {
    Kernel::new(SHADER, [constant(mode)])
}

fn backward(mode: UpsampleMode, update: Update) -> Kernel {
    Kernel::new(BACKWARD, [constant(mode), update.constant()])
}

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    let modes = [UpsampleMode::Nearest, UpsampleMode::Bilinear { align_corners: false }];
    let backward = |mode| Update::ALL.map(|update| backward(mode, update));
    modes.into_iter().map(kernel).chain(modes.into_iter().flat_map(backward))
}

/// Where output `o` came from: the first input that it needs, and the weight of the next one.
fn source(o: usize, input: usize, output: usize, mode: UpsampleMode) -> (usize, f32) {
    match mode {
        UpsampleMode::Nearest => (nearest(o, input, output), 0.0),
        UpsampleMode::Bilinear { align_corners } => {
            let Between { left, weight, .. } = Between::new(o, input, output, align_corners);
            (left, weight)
        }
    }
}

/// For each output of a dimension the first input that it needs, then the weight of the next one.
fn push_table(table: &mut Vec<u32>, input: usize, output: usize, mode: UpsampleMode) -> Result<()> {
    let [_, _] = words(OP, [input, output])?;
    table.extend((0..output).map(|o| source(o, input, output, mode).0 as u32));
    table.extend((0..output).map(|o| source(o, input, output, mode).1.to_bits()));
    Ok(())
}

/// For each input of a dimension, and for the one behind the last, the first output whose first input it is (or would be: that
/// of a later one, if it is that of none); then for each output the weight of the next one.
fn push_backward_table(table: &mut Vec<u32>, input: usize, output: usize, mode: UpsampleMode) -> Result<()> {
    let [_, last] = words(OP, [input, output])?;
    let mut begins = vec![last; input + 1];
    let mut next = 0;
    for o in 0..output {
        let (first, _) = source(o, input, output, mode);
        while next <= first {
            begins[next] = o as u32;
            next += 1;
        }
    }
    table.extend(begins);
    table.extend((0..output).map(|o| source(o, input, output, mode).1.to_bits()));
    Ok(())
}

impl Gpu {
    pub(super) fn upsample_into(&self, x: GpuView<'_>, mode: UpsampleMode, y: GpuViewMut<'_>) -> Result<()> {
        let y = y.0;
        let shape = UpsampleShape::new(x.shape(), [y.shape.h, y.shape.w], mode)?;
        let (input, output) = (shape.input(), shape.output());
        expect_shape(OP, "output shape", output, y.shape())?;
        let parts = by_channel(self, OP, &[x, y])?;
        if parts.is_empty() {
            return Ok(());
        }
        let mut table = Vec::new();
        push_table(&mut table, input.h, output.h, mode)?;
        push_table(&mut table, input.w, output.w, mode)?;
        let table = self.upload_bytes(OP, bytemuck::cast_slice(&table))?;
        let slice = |start, len| Slice::new(self, &table, start, len);
        let (rows, row_weights) = (slice(0, output.h), slice(output.h, output.h));
        let (columns, column_weights) =
            (slice(2 * output.h, output.w), slice(2 * output.h + output.w, output.w));
        for part in parts {
            let (from, to) = (x.part(self, &part), y.part(self, &part));
            let image = part.channels.len() * output.plane_len();
            let count = part.images.len() * image;
            let params = words(
                OP,
                [
                    count,
                    image,
                    output.plane_len(),
                    output.w,
                    input.h,
                    input.w,
                    rows.first,
                    row_weights.first,
                    columns.first,
                    column_weights.first,
                    from.first,
                    x.batch_stride,
                    to.first,
                    y.batch_stride,
                ],
            )?;
            self.dispatch(&Dispatch {
                op: OP,
                kernel: kernel(mode),
                params: &params,
                reads: &[from, rows, row_weights, columns, column_weights],
                writes: &[to],
                workgroups: count.div_ceil(WORKGROUP),
            })?;
        }
        Ok(())
    }

    pub(super) fn upsample_backward_into(
        &self,
        mode: UpsampleMode,
        gy: GpuView<'_>,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        let (op, gx) = ("upsample_backward", gx.0);
        let shape = UpsampleShape::new(gx.shape, [gy.shape.h, gy.shape.w], mode)?;
        let (input, output) = (shape.input(), shape.output());
        expect_shape(op, "output gradient shape", output, gy.shape)?;
        let parts = by_channel(self, op, &[gy, gx])?;
        if parts.is_empty() {
            return Ok(());
        }
        let mut table = Vec::new();
        push_backward_table(&mut table, input.h, output.h, mode)?;
        push_backward_table(&mut table, input.w, output.w, mode)?;
        let table = self.upload_bytes(op, bytemuck::cast_slice(&table))?;
        let mut end = 0;
        let tables = [input.h + 1, output.h, input.w + 1, output.w].map(|len| {
            end += len;
            Slice::new(self, &table, end - len, len)
        });
        let [rows, row_weights, columns, column_weights] = tables;
        for part in parts {
            let (from, to) = (gy.part(self, &part), gx.part(self, &part));
            let image = part.channels.len() * input.plane_len();
            let count = part.images.len() * image;
            let sizes = [
                count,
                image,
                input.plane_len(),
                input.w,
                input.h,
                output.h,
                output.w,
                rows.first,
                row_weights.first,
                columns.first,
                column_weights.first,
                from.first,
                gy.batch_stride,
                to.first,
                gx.batch_stride,
            ];
            self.dispatch(&Dispatch {
                op,
                kernel: backward(mode, update),
                params: &words(op, sizes)?,
                reads: &[from, rows, row_weights, columns, column_weights],
                writes: &[to],
                workgroups: count.div_ceil(WORKGROUP),
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cpu;
    use crate::gpu::testing::{close, gradients_on_all, noise, on_all};
    use crate::tensor::{Shape4, Tensor};

    #[test]
    fn every_size_is_that_of_the_cpu() -> Result<()> {
        let edges = UpsampleMode::Bilinear { align_corners: false };
        let corners = UpsampleMode::Bilinear { align_corners: true };
        for (x, [h, w]) in [
            ([2, 3, 4, 5], [8, 10]),
            ([1, 1, 1, 1], [7, 1]),
            ([0, 1, 2, 2], [3, 3]),
            ([3, 4, 9, 30], [5, 7]),
            ([1, 60, 4, 5], [5, 4]),
            ([2, 2, 2, 2], [20, 41]),
            ([1, 2, 6, 5], [1, 1]),
        ] {
            let mut x = noise(x.into(), 5);
            if let [first, ..] = x.data_mut() {
                *first = f32::INFINITY;
            }
            let output = Shape4 { h, w, ..x.shape() };
            for (mode, tolerance) in [(UpsampleMode::Nearest, 0.0), (edges, 3e-7), (corners, 3e-7)] {
                let expected = Cpu::new()?.upsample(&x, [h, w], mode)?;
                for y in on_all(&x, output, |gpu, x, y| gpu.upsample_into(x, mode, y)) {
                    assert!(close(&y, &expected, tolerance), "{mode:?} {}: {y:?} {expected:?}", x.shape());
                }
            }
        }
        Ok(())
    }

    #[test]
    fn every_gradient_is_that_of_the_cpu() -> Result<()> {
        let edges = UpsampleMode::Bilinear { align_corners: false };
        let corners = UpsampleMode::Bilinear { align_corners: true };
        for (input, [h, w]) in [
            ([2, 3, 4, 5], [8, 10]),
            ([1, 1, 1, 1], [7, 1]),
            ([0, 1, 2, 2], [3, 3]),
            ([3, 4, 9, 30], [5, 7]),
            ([1, 60, 4, 5], [5, 4]),
            ([2, 2, 2, 2], [20, 41]),
            ([1, 2, 6, 5], [1, 1]),
            ([2, 2, 4, 5], [4, 5]),
            ([1, 1, 1, 700], [1, 900]),
        ] {
            let input = Shape4::from(input);
            let gy = noise(Shape4 { h, w, ..input }, 6);
            for mode in [UpsampleMode::Nearest, edges, corners] {
                let mut expected = Tensor::zeros(input)?;
                let cpu = Cpu::new()?;
                cpu.upsample_backward_into(mode, gy.view(), expected.view_mut(), Update::Write)?;
                for gx in gradients_on_all([&gy], input, |gpu, [gy], gx, update| {
                    gpu.upsample_backward_into(mode, gy, gx, update)
                }) {
                    assert!(close(&gx, &expected, 6e-6), "{mode:?} {input}: {gx:?} {expected:?}");
                }
            }
        }
        Ok(())
    }
}
