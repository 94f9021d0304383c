//! Resizing of planes, by the nearest pixel or bilinear. Where the rows and columns come from goes up as a table.

use std::ops::Range;

use super::Gpu;
use super::buffer::{GpuView, GpuViewMut, words};
use super::parts::by_window;
use super::recorder::{Dispatch, Slice, WORKGROUP};
use super::wgsl::{Kernel, Shader, shader};
use crate::backend::expect_shape;
use crate::error::Result;
use crate::shape::upsample::{Between, nearest};
use crate::shape::{UpsampleMode, UpsampleShape};

const OP: &str = "upsample";

const SHADER: Shader = shader!("upsample", 5, 1, "index");

fn kernel(mode: UpsampleMode) -> Kernel {
    Kernel::new(SHADER, [("BILINEAR", matches!(mode, UpsampleMode::Bilinear { .. }).into())])
}

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    [UpsampleMode::Nearest, UpsampleMode::Bilinear { align_corners: false }].into_iter().map(kernel)
}

/// For each output of a dimension the first input that it needs, then the weight of the next one.
fn push_table(table: &mut Vec<u32>, input: usize, output: usize, mode: UpsampleMode) -> Result<()> {
    let [_, _] = words(OP, [input, output])?;
    table.extend((0..output).map(|o| source(o, input, output, mode).left as u32));
    table.extend((0..output).map(|o| source(o, input, output, mode).weight.to_bits()));
    Ok(())
}

/// What output `o` lies between.
fn source(o: usize, input: usize, output: usize, mode: UpsampleMode) -> Between {
    match mode {
        UpsampleMode::Nearest => {
            let left = nearest(o, input, output);
            Between { left, right: left, weight: 0.0 }
        }
        UpsampleMode::Bilinear { align_corners } => Between::new(o, input, output, align_corners),
    }
}

impl Gpu {
    pub(super) fn upsample_into(&self, x: GpuView<'_>, mode: UpsampleMode, y: GpuViewMut<'_>) -> Result<()> {
        let y = y.0;
        let shape = UpsampleShape::new(x.shape(), [y.shape.h, y.shape.w], mode)?;
        let (input, output) = (shape.input(), shape.output());
        expect_shape(OP, "output shape", output, y.shape())?;
        let extents = [[input.h, output.h], [input.w, output.w]];
        let reads = |axis: usize, outputs: Range<usize>| {
            let [input, output] = extents[axis];
            let source = |o| source(o, input, output, mode);
            source(outputs.start).left..source(outputs.end - 1).right + 1
        };
        let windows = by_window(self, OP, x, y, reads)?;
        if windows.is_empty() {
            return Ok(());
        }
        let mut table = Vec::new();
        push_table(&mut table, input.h, output.h, mode)?;
        push_table(&mut table, input.w, output.w, mode)?;
        let table = self.upload_bytes(OP, bytemuck::cast_slice(&table))?;
        for window in windows {
            let (from, to) = (x.part(self, &window.input), y.part(self, &window.output));
            let slice = |start, of: &Range<usize>| Slice::new(self, &table, start + of.start, of.len());
            let (of_rows, of_columns) = (&window.rows, &window.columns);
            let (rows, row_weights) = (slice(0, of_rows), slice(output.h, of_rows));
            let (columns, column_weights) =
                (slice(2 * output.h, of_columns), slice(2 * output.h + output.w, of_columns));
            let count = window.output.count();
            let sizes = words(
                OP,
                [
                    count,
                    window.output.image(),
                    window.output.elements.len(),
                    of_columns.len(),
                    input.h,
                    input.w,
                    rows.first,
                    row_weights.first,
                    columns.first,
                    column_weights.first,
                    x.batch_stride,
                    to.first,
                    y.batch_stride,
                ],
            )?;
            let mut params = [0; 14];
            params[..13].copy_from_slice(&sizes);
            params[13] = window.first(&from);
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
