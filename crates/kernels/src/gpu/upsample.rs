//! Resizing of planes, by the nearest pixel or bilinear. Where rows and columns come from, which takes more precision than
//! WGSL has, is a table of each axis, uploaded once for its sizes.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Gpu;
use super::buffer::{Buffer, GpuView, GpuViewMut, words};
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

/// Tables that were asked for before, by inputs, outputs and mode.
#[derive(Default)]
pub(super) struct Tables(Mutex<HashMap<(usize, usize, UpsampleMode), Arc<Buffer>>>);

/// Tables kept at most; beyond that all are forgotten.
const MOST_TABLES: usize = 64;

/// Outputs of which a table is kept: half a megabyte.
const LONGEST_KEPT: usize = 1 << 16;

impl Tables {
    fn known(&self) -> MutexGuard<'_, HashMap<(usize, usize, UpsampleMode), Arc<Buffer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives up their memory.
    pub fn clear(&self) {
        self.known().clear();
    }

    /// For each output the first input that it needs, then the weights of those next to them.
    fn get(&self, gpu: &Gpu, input: usize, output: usize, mode: UpsampleMode) -> Result<Arc<Buffer>> {
        let key = (input, output, mode);
        if let Some(table) = self.known().get(&key) {
            return Ok(table.clone());
        }
        let [_, _] = words(OP, [input, output])?;
        let sources = (0..output).map(|o| source(o, input, output, mode).left as u32);
        let weights = (0..output).map(|o| source(o, input, output, mode).weight.to_bits());
        let table: Vec<u32> = sources.chain(weights).collect();
        let table = Arc::new(gpu.upload_bytes(OP, bytemuck::cast_slice(&table))?);
        if output <= LONGEST_KEPT {
            let mut known = self.known();
            if known.len() >= MOST_TABLES {
                known.clear();
            }
            known.insert(key, table.clone());
        }
        Ok(table)
    }
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
        let table_of_rows = self.tables().get(self, input.h, output.h, mode)?;
        let table_of_columns = self.tables().get(self, input.w, output.w, mode)?;
        for window in windows {
            let (from, to) = (x.part(self, &window.input), y.part(self, &window.output));
            let slices = |table, outputs: usize, of: &Range<usize>| {
                [0, outputs].map(|first| Slice::new(self, table, first + of.start, of.len()))
            };
            let (of_rows, of_columns) = (&window.rows, &window.columns);
            let [rows, row_weights] = slices(&table_of_rows, output.h, of_rows);
            let [columns, column_weights] = slices(&table_of_columns, output.w, of_columns);
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
