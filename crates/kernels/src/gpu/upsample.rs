//! Resizing of planes, by the nearest pixel or bilinear. Where rows and columns come from, which takes more precision than
//! WGSL has, is a table of each axis, uploaded once for its sizes; for the gradient, which each pixel of the input gathers,
//! where they go.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Gpu;
use super::buffer::{Buffer, GpuTensor, GpuView, GpuViewMut, words};
use super::parts::{Window, by_window};
use super::recorder::{Dispatch, Slice, WORKGROUP};
use super::wgsl::{Kernel, Shader, shader};
use crate::backend::expect_shape;
use crate::error::Result;
use crate::shape::upsample::{Between, nearest};
use crate::shape::{Update, UpsampleMode, UpsampleShape};
use crate::tensor::Shape4;

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

/// A resizing of one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Resizing {
    input: usize,
    output: usize,
    mode: UpsampleMode,
}

impl Resizing {
    /// Those of rows and of columns.
    fn both(input: Shape4, output: Shape4, mode: UpsampleMode) -> [Self; 2] {
        let of = |input, output| Resizing { input, output, mode };
        [of(input.h, output.h), of(input.w, output.w)]
    }

    /// What output `o` lies between.
    fn source(&self, o: usize) -> Between {
        match self.mode {
            UpsampleMode::Nearest => {
                let left = nearest(o, self.input, self.output);
                Between { left, right: left, weight: 0.0 }
            }
            UpsampleMode::Bilinear { align_corners } => {
                Between::new(o, self.input, self.output, align_corners)
            }
        }
    }

    /// The inputs that some outputs need.
    fn sources(&self, outputs: Range<usize>) -> Range<usize> {
        self.source(outputs.start).left..self.source(outputs.end - 1).right + 1
    }

    /// The first output whose first input is `i`; if it is that of none, that of a later one.
    fn begin(&self, i: usize) -> usize {
        let (mut before, mut end) = (0, self.output);
        while before < end {
            let middle = before + (end - before) / 2;
            if self.source(middle).left < i { before = middle + 1 } else { end = middle }
        }
        end
    }

    /// The outputs that some inputs go to.
    fn targets(&self, inputs: Range<usize>) -> Range<usize> {
        let beside = usize::from(matches!(self.mode, UpsampleMode::Bilinear { .. }));
        self.begin(inputs.start.saturating_sub(beside))..self.begin(inputs.end)
    }

    /// For each output the first input that it needs.
    fn sources_table(&self) -> Vec<u32> {
        (0..self.output).map(|o| self.source(o).left as u32).collect()
    }

    /// For each input, and for the one behind the last, [`Resizing::begin`].
    fn begins_table(&self) -> Vec<u32> {
        (0..=self.input).map(|i| self.begin(i) as u32).collect()
    }
}

/// A table of words, and behind them for each output the weight of the input next to its first.
struct Table {
    buffer: Buffer,
    words: usize,
}

impl Table {
    fn words(&self, gpu: &Gpu, range: Range<usize>) -> Slice<'_> {
        Slice::new(gpu, &self.buffer, range.start, range.len())
    }

    fn weights(&self, gpu: &Gpu, outputs: Range<usize>) -> Slice<'_> {
        Slice::new(gpu, &self.buffer, self.words + outputs.start, outputs.len())
    }
}

type Known = HashMap<(Resizing, bool), Arc<Table>>;

/// Tables that were asked for before, forward and backward.
#[derive(Default)]
pub(super) struct Tables(Mutex<Known>);

/// Tables kept at most; beyond that all are forgotten.
const MOST_TABLES: usize = 64;

/// Words of a table that is kept: half a megabyte.
const LONGEST_KEPT: usize = 1 << 17;

impl Tables {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives up their memory.
    pub fn clear(&self) {
        self.known().clear();
    }

    fn get(&self, gpu: &Gpu, of: Resizing, backward: bool) -> Result<Arc<Table>> {
        if let Some(table) = self.known().get(&(of, backward)) {
            return Ok(table.clone());
        }
        let [_, _] = words(OP, [of.input, of.output])?;
        let mut table = if backward { of.begins_table() } else { of.sources_table() };
        let words = table.len();
        table.extend((0..of.output).map(|o| of.source(o).weight.to_bits()));
        let buffer = gpu.upload_bytes(OP, bytemuck::cast_slice(&table))?;
        let kept = Arc::new(Table { buffer, words });
        if table.len() <= LONGEST_KEPT {
            let mut known = self.known();
            if known.len() >= MOST_TABLES {
                known.clear();
            }
            known.insert((of, backward), kept.clone());
        }
        Ok(kept)
    }
}

impl Gpu {
    pub(super) fn upsample_into(&self, x: GpuView<'_>, mode: UpsampleMode, y: GpuViewMut<'_>) -> Result<()> {
        let y = y.0;
        let shape = UpsampleShape::new(x.shape(), [y.shape.h, y.shape.w], mode)?;
        let (input, output) = (shape.input(), shape.output());
        expect_shape(OP, "output shape", output, y.shape())?;
        let axes = Resizing::both(input, output, mode);
        let windows = by_window(self, &[x], &[y], |axis, outputs| axes[axis].sources(outputs));
        if windows.is_empty() {
            return Ok(());
        }
        let [rows, columns] = axes.map(|axis| self.upsample_tables().get(self, axis, false));
        let (rows, columns) = (rows?, columns?);
        for window in windows {
            let (of_rows, of_columns) = (&window.rows, &window.columns);
            let tables = [
                rows.words(self, of_rows.clone()),
                rows.weights(self, of_rows.clone()),
                columns.words(self, of_columns.clone()),
                columns.weights(self, of_columns.clone()),
            ];
            let own = words(OP, [input.h, input.w])?;
            self.resize(OP, kernel(mode), &window, [x, y], tables, &own)?;
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
        let op = "upsample_backward";
        let shape = UpsampleShape::new(gx.shape(), [gy.shape.h, gy.shape.w], mode)?;
        let (input, output) = (shape.input(), shape.output());
        expect_shape(op, "output gradient shape", output, gy.shape)?;
        let axes = Resizing::both(input, output, mode);
        let windows = by_window(self, &[gy], &[gx.0], |axis, inputs| axes[axis].targets(inputs));
        if windows.is_empty() {
            return Ok(());
        }
        if update == Update::Accumulate && windows.iter().any(|window| window.joined) {
            // Sums of several dispatches are complete before they are added.
            let mut sums = GpuTensor::new(self, op, gx.shape())?;
            self.upsample_backward_into(mode, gy, sums.view_mut(), Update::Write)?;
            return self.add_backward_into(sums.view(), gx, update);
        }
        let [rows, columns] = axes.map(|axis| self.upsample_tables().get(self, axis, true));
        let (rows, columns) = (rows?, columns?);
        for window in windows {
            // Each looks at the input in front of it, too, and at the one behind.
            let around = |range: &Range<usize>| range.start.saturating_sub(1)..range.end + 1;
            let (of_rows, of_columns, [to_rows, to_columns]) = (&window.rows, &window.columns, &window.needs);
            let tables = [
                rows.words(self, around(of_rows)),
                rows.weights(self, to_rows.clone()),
                columns.words(self, around(of_columns)),
                columns.weights(self, to_columns.clone()),
            ];
            let sizes = [output.h, output.w, of_rows.start, of_columns.start, input.h, input.w];
            let own = [&words(op, sizes)?[..], &window.needs_words(op)?].concat();
            let update = if window.joined { Update::Accumulate } else { update };
            self.resize(op, backward(mode, update), &window, [gy, gx.0], tables, &own)?;
        }
        Ok(())
    }

    /// Queues a kernel whose parameters are those of the window and, between them, its own.
    fn resize(
        &self,
        op: &'static str,
        kernel: Kernel,
        window: &Window,
        [x, y]: [GpuView<'_>; 2],
        tables: [Slice<'_>; 4],
        own: &[u32],
    ) -> Result<()> {
        let copy = window.bring(self, op, x)?;
        let (from, to, outputs) =
            (window.source(self, x, &copy), y.part(self, &window.output), &window.output);
        let count = outputs.count();
        let params = [
            &words(op, [count, outputs.image(), outputs.elements.len(), window.columns.len()])?[..],
            own,
            &words(op, tables.map(|table| table.first))?,
            &[from.first],
            &words(op, [from.pitch, x.batch_stride, to.first, y.batch_stride])?,
        ];
        let [rows, row_weights, columns, column_weights] = tables;
        self.dispatch(&Dispatch {
            op,
            kernel,
            params: &params.concat(),
            reads: &[from.slice, rows, row_weights, columns, column_weights],
            writes: &[to],
            workgroups: count.div_ceil(WORKGROUP),
        })
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
