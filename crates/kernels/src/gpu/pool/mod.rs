//! Max and average pooling, and the average of whole planes. The gradients are in [`backward`].

mod argmax;
mod backward;

pub use argmax::GpuArgmax;

use std::ops::Range;

use super::Gpu;
use super::buffer::{GpuTensor, GpuView, GpuViewMut, words};
use super::parts::by_window;
use super::recorder::{Dispatch, Slice, WORKGROUP};
use super::reduce::{LANES, divisor, lanes};
use super::wgsl::{Kernel, Shader, shader};
use crate::backend::expect_shape;
use crate::error::{Dims, Error, Result};
use crate::shape::{AvgPool2dParams, MaxPool2dParams, PoolShape};
use crate::tensor::Shape4;

const GLOBAL: &str = "global_avg_pool";

const WINDOWS: Shader = shader!("pool", 1, 1, "pool_params", "pool_windows", "index", "order", "math");
const ARGMAX: Shader = shader!("pool_argmax", 1, 2, "pool_params", "pool_windows", "index", "order");
const PLANES: Shader = shader!("pool_global", 1, 1, "index", "reduce", "math");

fn windows(mean: bool) -> Kernel {
    Kernel::new(WINDOWS, [("MEAN", mean.into())])
}

fn planes(lanes: u32) -> Kernel {
    Kernel::new(PLANES, [("LANES", lanes)])
}

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    let forward = [false, true].into_iter().map(windows).chain(LANES.into_iter().map(planes));
    forward.chain([Kernel::new(ARGMAX, [])]).chain(backward::kernels())
}

/// Elements that a workgroup adds up of a plane that no dispatch can reach: enough to be worth it, few enough for strips to
/// fill a GPU.
const PLANE_STRIP: usize = 1 << 16;

/// What becomes of a window.
#[derive(Clone, Copy)]
enum Fold<'a> {
    Largest,
    /// The largest, and its place in its plane: whole numbers, in a tensor of the shape of the output.
    Argmax(GpuView<'a>),
    Mean {
        count_include_pad: bool,
    },
}

/// The words of extents, kernel, stride and padding, if the GPU can count the positions of all windows.
fn geometry(op: &'static str, shape: &PoolShape) -> Result<[u32; 8]> {
    let (input, kernel, stride, padding) = (shape.input(), shape.kernel(), shape.stride(), shape.padding());
    reachable(op, input.h, kernel[0], stride[0], padding[0])?;
    reachable(op, input.w, kernel[1], stride[1], padding[1])?;
    words(op, [input.h, input.w, kernel[0], kernel[1], stride[0], stride[1], padding[0], padding[1]])
}

impl Gpu {
    pub(super) fn max_pool2d_into(
        &self,
        x: GpuView<'_>,
        params: MaxPool2dParams,
        y: GpuViewMut<'_>,
    ) -> Result<()> {
        let op = "max_pool2d";
        let shape = PoolShape::max(x.shape(), params)?;
        expect_shape(op, "output shape", shape.output(), y.shape())?;
        self.pool_windows(op, x, shape, Fold::Largest, y.0)
    }

    pub(super) fn avg_pool2d_into(
        &self,
        x: GpuView<'_>,
        params: AvgPool2dParams,
        y: GpuViewMut<'_>,
    ) -> Result<()> {
        let op = "avg_pool2d";
        let shape = PoolShape::avg(x.shape(), params)?;
        expect_shape(op, "output shape", shape.output(), y.shape())?;
        self.pool_windows(op, x, shape, Fold::Mean { count_include_pad: params.count_include_pad }, y.0)
    }

    fn pool_windows(
        &self,
        op: &'static str,
        x: GpuView<'_>,
        shape: PoolShape,
        fold: Fold<'_>,
        y: GpuView<'_>,
    ) -> Result<()> {
        let geometry = geometry(op, &shape)?;
        let padding_counts = matches!(fold, Fold::Mean { count_include_pad: true });
        let (kernel, positions) = match fold {
            Fold::Largest => (windows(false), None),
            Fold::Mean { .. } => (windows(true), None),
            Fold::Argmax(positions) => (Kernel::new(ARGMAX, []), Some(positions)),
        };
        let written: Vec<GpuView<'_>> = [y].into_iter().chain(positions).collect();
        let extents = [x.shape.h, x.shape.w];
        let reads = |axis: usize, outputs: Range<usize>| {
            let (kernel, stride, padding) =
                (shape.kernel()[axis], shape.stride()[axis], shape.padding()[axis]);
            let of_input = |at: usize| at.saturating_sub(padding).min(extents[axis]);
            of_input(outputs.start * stride)..of_input((outputs.end - 1) * stride + kernel)
        };
        for window in by_window(self, &[x], &written, reads) {
            let copy = window.bring(self, op, x)?;
            let (from, outputs) = (window.source(self, x, &copy), &window.output);
            let to: Vec<Slice<'_>> = written.iter().map(|view| view.part(self, outputs)).collect();
            let count = outputs.count();
            let sizes = [count, outputs.image(), outputs.elements.len(), window.columns.len()];
            let mut params = [
                &words(op, sizes)?[..],
                &words(op, [window.rows.start, window.columns.start])?,
                &geometry,
                &[padding_counts.into(), window.joined.into(), window.last.into()],
                &window.needs_words(op)?,
                &[from.first],
                &words(op, [from.pitch, x.batch_stride])?,
            ]
            .concat();
            for (slice, view) in to.iter().zip(&written) {
                params.extend(words(op, [slice.first, view.batch_stride])?);
            }
            self.dispatch(&Dispatch {
                op,
                kernel,
                params: &params,
                reads: &[from.slice],
                writes: &to,
                workgroups: count.div_ceil(WORKGROUP),
            })?;
        }
        Ok(())
    }

    pub(super) fn global_avg_pool_into(&self, x: GpuView<'_>, y: GpuViewMut<'_>) -> Result<()> {
        let shape = x.shape();
        expect_shape(GLOBAL, "output shape", Shape4 { h: 1, w: 1, ..shape }, y.shape())?;
        self.divided_sums(x, divisor(shape.plane_len()), y.0)
    }

    /// The sum of each plane, divided.
    fn divided_sums(&self, x: GpuView<'_>, divisor: f32, y: GpuView<'_>) -> Result<()> {
        let plane = x.shape.plane_len();
        if plane > self.reach() {
            let sum_one = |n, c: usize| {
                let (x, y) = (x.channels(c..c + 1)?, y.channels(c..c + 1)?);
                self.divided_sum_of_strips(x.planes(n, 0..plane), divisor, y.planes(n, 0..1))
            };
            return (0..x.shape.n).try_for_each(|n| (0..x.shape.c).try_for_each(|c| sum_one(n, c)));
        }
        let (op, lanes) = (GLOBAL, lanes(plane));
        for window in by_window(self, &[x], &[y], |axis, _| 0..[x.shape.h, x.shape.w][axis]) {
            let (from, to) = (window.source(self, x, &None).slice, y.part(self, &window.output));
            let count = window.output.count();
            let [count_word, channels, plane_word] = words(op, [count, window.output.channels.len(), plane])?;
            let [x_first, x_stride, y_first, y_stride] =
                words(op, [from.first, x.batch_stride, to.first, y.batch_stride])?;
            let divisor = divisor.to_bits();
            self.dispatch(&Dispatch {
                op,
                kernel: planes(lanes),
                params: &[count_word, channels, plane_word, divisor, x_first, x_stride, y_first, y_stride],
                reads: &[from],
                writes: &[to],
                workgroups: count,
            })?;
        }
        Ok(())
    }

    /// The sum of one plane that a dispatch cannot reach, divided: of strips, then of their sums.
    fn divided_sum_of_strips(&self, x: GpuView<'_>, divisor: f32, y: GpuView<'_>) -> Result<()> {
        let (plane, strip) = (x.shape.w, PLANE_STRIP.min(self.reach()));
        let whole = plane / strip;
        let sums = GpuTensor::new(self, GLOBAL, Shape4::new(1, plane.div_ceil(strip), 1, 1))?;
        let strips = |elements: Range<usize>| {
            let shape = Shape4::new(1, elements.len().div_ceil(strip), 1, strip.min(elements.len()));
            GpuView { shape, ..x.planes(0, elements) }
        };
        self.divided_sums(strips(0..whole * strip), 1.0, sums.view().channels(0..whole)?)?;
        if plane > whole * strip {
            self.divided_sums(strips(whole * strip..plane), 1.0, sums.view().channels(whole..whole + 1)?)?;
        }
        let sums = sums.view();
        let as_plane = Shape4::new(1, 1, 1, sums.shape.c);
        self.divided_sums(GpuView { shape: as_plane, ..sums }, divisor, y)
    }
}

/// Refuses windows whose positions the GPU cannot count.
fn reachable(op: &'static str, input: usize, kernel: usize, stride: usize, padding: usize) -> Result<()> {
    // The last window begins within the padded input, rounded up by a stride at most, and ends a kernel later.
    let end = [input, padding, padding, stride, kernel].into_iter().fold(0, usize::saturating_add);
    match u32::try_from(end) {
        Ok(_) => Ok(()),
        Err(_) => {
            Err(Error::Overflow { op, arg: "a size for the GPU", dims: Dims::new(&[input, kernel, stride]) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cpu;
    use crate::gpu::testing::{self, close, noise, on_all};

    #[test]
    fn pooling_is_that_of_the_cpu() -> Result<()> {
        let cpu = Cpu::new()?;
        for (i, [n, c, h, w]) in
            [[2, 3, 9, 11], [1, 1, 1, 1], [0, 2, 5, 5], [3, 70, 5, 4], [1, 2, 31, 30], [7, 5, 6, 7]]
                .into_iter()
                .enumerate()
        {
            let mut x = noise(Shape4::new(n, c, h, w), i as u32);
            if i == 0 {
                x.data_mut()[..12].copy_from_slice(&[f32::NEG_INFINITY; 12]);
                x.data_mut()[50] = f32::NAN;
                x.data_mut()[70] = f32::INFINITY;
            }
            for (kernel, stride, padding) in [
                ([1, 1], [1, 1], [0, 0]),
                ([2, 2], [2, 2], [0, 0]),
                ([3, 2], [2, 1], [1, 1]),
                ([3, 5], [1, 4], [1, 2]),
                ([9, 3], [3, 3], [4, 0]),
            ] {
                for (ceil_mode, count_include_pad) in
                    [(false, false), (false, true), (true, false), (true, true)]
                {
                    let avg = AvgPool2dParams { kernel, stride, padding, ceil_mode, count_include_pad };
                    let max = MaxPool2dParams { kernel, stride, padding, ceil_mode };
                    let Ok(largest) = cpu.max_pool2d(&x, max) else { continue };
                    let mean = cpu.avg_pool2d(&x, avg)?;
                    for y in on_all(&x, largest.shape(), |gpu, x, y| gpu.max_pool2d_into(x, max, y)) {
                        assert!(close(&y, &largest, 0.0), "{max:?} {}: {y:?} {largest:?}", x.shape());
                    }
                    for y in on_all(&x, mean.shape(), |gpu, x, y| gpu.avg_pool2d_into(x, avg, y)) {
                        assert!(close(&y, &mean, 4e-7), "{avg:?} {}", x.shape());
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn means_of_planes_are_those_of_the_cpu() -> Result<()> {
        for [n, c, h, w] in
            [[2, 3, 9, 11], [3, 70, 5, 4], [2, 3, 0, 4], [0, 1, 2, 2], [1, 9, 31, 30], [1, 1, 1, 1]]
        {
            let mut x = noise(Shape4::new(n, c, h, w), 3);
            x.data_mut().iter_mut().for_each(|v| *v += 1e3);
            if let [a, b, ..] = x.data_mut() {
                (*a, *b) = (f32::INFINITY, 7.0);
            }
            let expected = Cpu::new()?.global_avg_pool(&x)?;
            for y in on_all(&x, expected.shape(), |gpu, x, y| gpu.global_avg_pool_into(x, y)) {
                assert!(close(&y, &expected, 4e-7), "{}: {y:?} {expected:?}", x.shape());
            }
        }
        Ok(())
    }

    #[test]
    fn windows_that_cannot_be_counted_are_refused() -> Result<()> {
        let x = noise(Shape4::new(1, 1, 1, 1), 0);
        let huge = MaxPool2dParams::new(1 << 33).padding(1 << 32);
        let Some(gpu) = testing::devices().first() else { return Ok(()) };
        let (x, mut y) = (
            GpuTensor::uploaded(gpu, "x", x.shape(), x.data())?,
            GpuTensor::uploaded(gpu, "y", x.shape(), &[0.0])?,
        );
        assert!(matches!(gpu.max_pool2d_into(x.view(), huge, y.view_mut()), Err(Error::Overflow { .. })));
        Ok(())
    }
}
