//! Softmax along any axis: `y = exp(x - max) / sum of exp(x - max)`, the maximum and the sum along the axis.
//!
//! 1. Many or short lines: an invocation walks along each (`softmax.wgsl`).
//! 2. Long lines: a workgroup shares each (`softmax_long.wgsl`).
//! 3. Lines through more memory than one dispatch can reach: the maximum and the sum so far are carried from part to part
//!    (`softmax_peaks.wgsl`), then applied (`softmax_apply.wgsl`). The elements of a single row beyond that are taken as many
//!    short lines side by side, whose maxima and sums are joined (`softmax_join.wgsl`).

use super::Gpu;
use super::buffer::{GpuTensor, GpuView, GpuViewMut, words};
use super::parts::{Part, by_element};
use super::recorder::{Dispatch, Slice, WORKGROUP};
use super::reduce::{LANES, lanes};
use super::wgsl::{Kernel, Shader, shader};
use crate::backend::expect_shape;
use crate::error::Result;
use crate::shape::{Axis, SoftmaxShape};
use crate::tensor::Shape4;

const OP: &str = "softmax";

const LINES: Shader = shader!("softmax", 1, 1, "softmax_lines", "index", "order", "math");
const LONG: Shader = shader!("softmax_long", 1, 1, "softmax_lines", "index", "order", "reduce", "math");
const PEAKS: Shader = shader!("softmax_peaks", 1, 2, "index", "order", "math");
const JOIN: Shader = shader!("softmax_join", 0, 2, "index", "order", "reduce", "math");
const APPLY: Shader = shader!("softmax_apply", 3, 1, "index", "math");

/// Elements from which on a line is long.
const LONG_LINE: usize = 256;

/// So many lines keep a GPU busy with an invocation each, and a warp then reads neighbours where lines lie side by side.
const MANY_LINES: usize = 1 << 14;

fn long(lanes: u32) -> Kernel {
    Kernel::new(LONG, [("LANES", lanes)])
}

fn join(lanes: u32) -> Kernel {
    Kernel::new(JOIN, [("LANES", lanes)])
}

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    let others = [LINES, PEAKS, APPLY].into_iter().map(|shader| Kernel::new(shader, []));
    others.chain(LANES.into_iter().flat_map(|lanes| [long(lanes), join(lanes)]))
}

/// Lines of some part of a tensor.
struct Lines {
    /// How many, and how many of one image.
    count: usize,
    per_image: usize,
    /// Lines side by side, and the elements of as many lines.
    across: usize,
    slab: usize,
    /// Elements of a line, and how far apart they lie in `x` and in `y`.
    len: usize,
    steps: [usize; 2],
}

impl Gpu {
    pub(super) fn softmax_into(&self, x: GpuView<'_>, axis: Axis, y: GpuViewMut<'_>) -> Result<()> {
        let shape = SoftmaxShape::new(x.shape(), axis)?.input();
        expect_shape(OP, "output shape", shape, y.shape())?;
        let (y, plane) = (y.0, shape.plane_len());
        match axis {
            Axis::N => self.softmax_along_images(x, y),
            // The channels of each image as images of one channel.
            Axis::C if shape.image_len() > self.reach() => (0..shape.n).try_for_each(|n| {
                let [x, y] = [x, y].map(|v| v.planes(n, 0..plane));
                self.softmax_along_images(x, y)
            }),
            Axis::C => self.softmax_of_images(x, y, shape.c, plane),
            Axis::H if plane > self.reach() => each_plane(shape, |n, c| {
                let [x, y] = [x, y].map(|v| rows_of(v, n, c));
                self.softmax_along_images(x, y)
            }),
            Axis::H => self.softmax_of_images(x, y, shape.h, shape.w),
            Axis::W if shape.w > self.reach() => each_plane(shape, |n, c| {
                let [x, y] = [x, y].map(|v| rows_of(v, n, c));
                (0..shape.h).try_for_each(|h| self.softmax_along_row(x.image(h), y.image(h)))
            }),
            // The rows of all channels as planes.
            Axis::W => {
                let rows = Shape4::new(shape.n, shape.c * shape.h, 1, shape.w);
                let [x, y] = [x, y].map(|v| GpuView { shape: rows, ..v });
                self.softmax_of_images(x, y, shape.w, 1)
            }
        }
    }

    /// Along lines within images, of `len` elements that lie `across` apart.
    fn softmax_of_images(&self, x: GpuView<'_>, y: GpuView<'_>, len: usize, across: usize) -> Result<()> {
        for part in by_element(self, &[x, y]) {
            let per_image = part.image() / len;
            let (count, slab) = (part.images.len() * per_image, len * across);
            self.softmax_lines(
                x,
                y,
                &part,
                &Lines { count, per_image, across, slab, len, steps: [across; 2] },
            )?;
        }
        Ok(())
    }

    fn softmax_lines(&self, x: GpuView<'_>, y: GpuView<'_>, part: &Part, lines: &Lines) -> Result<()> {
        let (from, to) = (x.part(self, part), y.part(self, part));
        let Lines { count, per_image, across, slab, len, steps: [x_step, y_step] } = *lines;
        let shared = len > LONG_LINE && (across == 1 || count < MANY_LINES);
        let sizes = [
            count,
            per_image,
            across,
            slab,
            len,
            x_step,
            y_step,
            from.first,
            x.batch_stride,
            to.first,
            y.batch_stride,
        ];
        self.dispatch(&Dispatch {
            op: OP,
            kernel: if shared { long(lanes(len)) } else { Kernel::new(LINES, []) },
            params: &words(OP, sizes)?,
            reads: &[from],
            writes: &[to],
            workgroups: if shared { count } else { count.div_ceil(WORKGROUP) },
        })
    }

    /// Along the images of the batch.
    fn softmax_along_images(&self, x: GpuView<'_>, y: GpuView<'_>) -> Result<()> {
        let parts = by_element(self, &[x, y]);
        let (n, image) = (x.shape.n, x.shape.image_len());
        if let [part] = &parts[..] {
            let steps = [x.batch_stride, y.batch_stride];
            let lines = Lines { count: image, per_image: image, across: image, slab: 0, len: n, steps };
            return self.softmax_lines(x, y, part, &lines);
        }
        if parts.is_empty() {
            return Ok(());
        }
        let peaks = Peaks::new(self, Shape4 { n: 1, ..x.shape })?;
        self.find_peaks(x, &parts, false, &peaks)?;
        self.apply_peaks(x, &parts, &peaks, y)
    }

    /// Along one row, as lines side by side.
    fn softmax_along_row(&self, x: GpuView<'_>, y: GpuView<'_>) -> Result<()> {
        let len = x.shape.w;
        let across = MANY_LINES.min(self.reach());
        let peaks = Peaks::new(self, Shape4::new(1, 1, 1, across))?;
        // Then the first lines have one element more.
        let whole = len / across * across;
        let shape = Shape4::new(len / across, 1, 1, across);
        let [x_rest, y_rest] = [x, y].map(|v| v.planes(0, whole..len));
        let [x, y] = [x, y].map(|v| GpuView { shape, batch_stride: across, ..v });
        let (parts, rest) = (by_element(self, &[x, y]), by_element(self, &[x_rest, y_rest]));
        self.find_peaks(x, &parts, false, &peaks)?;
        self.find_peaks(x_rest, &rest, true, &peaks)?;
        self.dispatch(&Dispatch {
            op: OP,
            kernel: join(lanes(across)),
            params: &words(OP, [across])?,
            reads: &[],
            writes: &peaks.part(self, &Part { images: 0..1, channels: 0..1, elements: 0..across }),
            workgroups: 1,
        })?;
        self.apply_peaks(x, &parts, &peaks, y)?;
        self.apply_peaks(x_rest, &rest, &peaks, y_rest)
    }

    /// The maximum and the sum at each position of an image, over all images; joined to those that are there already, if so
    /// asked for.
    fn find_peaks(&self, x: GpuView<'_>, parts: &[Part], join: bool, peaks: &Peaks) -> Result<()> {
        for part in parts {
            let from = x.part(self, part);
            let [max, sum] = peaks.part(self, part);
            let (image, join) = (part.image(), usize::from(join || part.images.start > 0));
            let sizes = [image, part.images.len(), join, from.first, x.batch_stride, max.first, sum.first];
            self.dispatch(&Dispatch {
                op: OP,
                kernel: Kernel::new(PEAKS, []),
                params: &words(OP, sizes)?,
                reads: &[from],
                writes: &[max, sum],
                workgroups: image.div_ceil(WORKGROUP),
            })?;
        }
        Ok(())
    }

    fn apply_peaks(&self, x: GpuView<'_>, parts: &[Part], peaks: &Peaks, y: GpuView<'_>) -> Result<()> {
        for part in parts {
            let (from, to) = (x.part(self, part), y.part(self, part));
            let [max, sum] = peaks.part(self, part);
            let (image, count) = (part.image(), part.count());
            let sizes =
                [image, count, from.first, x.batch_stride, max.first, sum.first, to.first, y.batch_stride];
            self.dispatch(&Dispatch {
                op: OP,
                kernel: Kernel::new(APPLY, []),
                params: &words(OP, sizes)?,
                reads: &[from, max, sum],
                writes: &[to],
                workgroups: count.div_ceil(WORKGROUP),
            })?;
        }
        Ok(())
    }
}

/// The maximum, and the sum of `exp(x - maximum)`, at each position of an image.
struct Peaks {
    maxima: GpuTensor,
    sums: GpuTensor,
}

impl Peaks {
    fn new(gpu: &Gpu, image: Shape4) -> Result<Self> {
        Ok(Peaks { maxima: GpuTensor::new(gpu, OP, image)?, sums: GpuTensor::new(gpu, OP, image)? })
    }

    /// Those of the positions of a part.
    fn part(&self, gpu: &Gpu, part: &Part) -> [Slice<'_>; 2] {
        let part = Part { images: 0..1, ..part.clone() };
        [&self.maxima, &self.sums].map(|peaks| peaks.view().part(gpu, &part))
    }
}

fn each_plane(shape: Shape4, f: impl Fn(usize, usize) -> Result<()>) -> Result<()> {
    (0..shape.n).try_for_each(|n| (0..shape.c).try_for_each(|c| f(n, c)))
}

/// The rows of a plane as images of one channel.
fn rows_of(v: GpuView<'_>, n: usize, c: usize) -> GpuView<'_> {
    GpuView {
        start: v.start + n * v.batch_stride + c * v.shape.plane_len(),
        shape: Shape4::new(v.shape.h, 1, 1, v.shape.w),
        batch_stride: v.shape.w,
        ..v
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cpu;
    use crate::gpu::testing::{close, noise, on_all};
    use crate::tensor::Tensor;

    fn check(x: &Tensor, axis: Axis) -> Result<()> {
        let expected = Cpu::new()?.softmax(x, axis)?;
        for y in on_all(x, x.shape(), |gpu, x, y| gpu.softmax_into(x, axis, y)) {
            let relative =
                |(&y, &e): (&f32, &f32)| y == e || y.is_nan() && e.is_nan() || (y - e).abs() < 2e-6 * e;
            for (i, pair) in y.data().iter().zip(expected.data()).enumerate() {
                assert!(relative(pair), "{axis:?} {} at {i}: {} {}", x.shape(), pair.0, pair.1);
            }
            assert!(close(&y, &expected, 1e-6));
        }
        Ok(())
    }

    #[test]
    fn every_axis_is_that_of_the_cpu() -> Result<()> {
        for shape in [
            [2, 3, 4, 5],
            [1, 1, 1, 1],
            [9, 10, 3, 5],
            [3, 300, 2, 3],
            [300, 2, 1, 1],
            [1, 2, 1, 900],
            [2, 0, 3, 3],
            [0, 2, 1, 1],
        ] {
            let mut x = noise(shape.into(), 7);
            x.data_mut().iter_mut().for_each(|v| *v *= 20.0);
            for axis in Axis::ALL {
                check(&x, axis)?;
            }
        }
        Ok(())
    }

    #[test]
    fn a_line_of_thousands() -> Result<()> {
        let x = noise(Shape4::new(2, 1500, 1, 1), 8);
        let expected = Cpu::new()?.softmax(&x, Axis::C)?;
        let y = &on_all(&x, x.shape(), |gpu, x, y| gpu.softmax_into(x, Axis::C, y))[0];
        assert!(close(y, &expected, 1e-9));
        Ok(())
    }

    #[test]
    fn limits_are_those_of_pytorch() -> Result<()> {
        const INF: f32 = f32::INFINITY;
        // Alone, and in the last of many parts.
        for line in
            [[1.0, f32::NAN, 2.0], [1.0, INF, 2.0], [-INF; 3], [-INF, 1.0, -200.0], [1.0, -INF, f32::NAN]]
        {
            for len in [3, 300] {
                let mut data = vec![-INF; len];
                data[len - 3..].copy_from_slice(&line);
                for (i, axis) in Axis::ALL.into_iter().enumerate() {
                    let mut dims = [1; 4];
                    dims[i] = len;
                    check(&Tensor::from_vec(dims.into(), data.clone())?, axis)?;
                }
            }
            // Images so large that each is a part.
            let images = Tensor::from_fn(Shape4::new(3, 1, 20, 40), |[n, ..]| line[n])?;
            check(&images, Axis::N)?;
        }
        Ok(())
    }

    /// Of a number and 0, softmax is the logistic function, whose error far from 0 is that of the exponential.
    #[test]
    fn the_exponential_is_exact_far_from_0() -> Result<()> {
        let shape = Shape4::new(1, 2, 1, 1000);
        let x = Tensor::from_fn(shape, |[_, c, _, w]| if c == 0 { w as f32 * -0.083 } else { 0.0 })?;
        for y in on_all(&x, shape, |gpu, x, y| gpu.softmax_into(x, Axis::C, y)) {
            for (&x, &y) in x.data()[..1000].iter().zip(y.data()) {
                let exact = f64::from(x).exp() / (1.0 + f64::from(x).exp());
                assert!((f64::from(y) / exact - 1.0).abs() < 4e-7, "{x}: {y} {exact}");
            }
        }
        Ok(())
    }
}
