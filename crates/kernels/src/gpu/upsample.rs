//! Resizing of planes, by the nearest pixel or bilinear. Where the rows and columns come from goes up as a table.

use super::Gpu;
use super::activation::flag;
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
const BACKWARD: Shader = shader!("upsample_backward", 2, 1, "index");

fn kernel(shader: Shader, mode: UpsampleMode) -> Kernel {
    Kernel::new(shader, [("BILINEAR", matches!(mode, UpsampleMode::Bilinear { .. }).into())])
}

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    let modes = [UpsampleMode::Nearest, UpsampleMode::Bilinear { align_corners: false }];
    [SHADER, BACKWARD].into_iter().flat_map(move |shader| modes.map(|mode| kernel(shader, mode)))
}

/// For each output of a dimension the first input that it needs, then the weight of the next one.
fn push_table(table: &mut Vec<u32>, input: usize, output: usize, mode: UpsampleMode) -> Result<()> {
    let [_, _] = words(OP, [input, output])?;
    let source = |o| match mode {
        UpsampleMode::Nearest => (nearest(o, input, output), 0.0),
        UpsampleMode::Bilinear { align_corners } => {
            let Between { left, weight, .. } = Between::new(o, input, output, align_corners);
            (left, weight)
        }
    };
    table.extend((0..output).map(|o| source(o).0 as u32));
    table.extend((0..output).map(|o| source(o).1.to_bits()));
    Ok(())
}

/// [`push_table`], then for each input the first output that came from it, and the one behind the last.
fn push_table_backward(table: &mut Vec<u32>, input: usize, output: usize, mode: UpsampleMode) -> Result<()> {
    let first = table.len();
    push_table(table, input, output, mode)?;
    let left = table[first..first + output].to_vec();
    let neighbour = usize::from(mode != UpsampleMode::Nearest);
    let right = |left: u32| (left as usize + neighbour).min(input - 1);
    // Both grow with the output.
    table.extend((0..input).map(|i| left.partition_point(|&left| right(left) < i) as u32));
    table.extend((0..input).map(|i| left.partition_point(|&left| left as usize <= i) as u32));
    Ok(())
}

impl Gpu {
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
        push_table_backward(&mut table, input.h, output.h, mode)?;
        let columns = table.len();
        push_table_backward(&mut table, input.w, output.w, mode)?;
        let buffer = self.upload_bytes(op, bytemuck::cast_slice(&table))?;
        let tables = Slice::new(self, &buffer, 0, table.len());
        for part in parts {
            let (from, to) = (gy.part(self, &part), gx.part(self, &part));
            let image = part.channels.len() * input.plane_len();
            let count = part.images.len() * image;
            let sizes = words(
                op,
                [
                    count,
                    image,
                    input.plane_len(),
                    input.w,
                    output.h,
                    output.w,
                    tables.first,
                    tables.first + columns,
                    from.first,
                    gy.batch_stride,
                    to.first,
                    gx.batch_stride,
                ],
            )?;
            self.dispatch(&Dispatch {
                op,
                kernel: kernel(BACKWARD, mode),
                params: &[&sizes[..], &[flag(update)]].concat(),
                reads: &[from, tables],
                writes: &[to],
                workgroups: count.div_ceil(WORKGROUP),
            })?;
        }
        Ok(())
    }

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
                kernel: kernel(SHADER, mode),
                params: &params,
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
    use crate::gpu::testing::{close, noise, on_all};
    use crate::tensor::Shape4;

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
}
