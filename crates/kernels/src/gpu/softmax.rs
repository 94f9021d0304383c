//! Softmax along any axis: `y = exp(x - max) / sum of exp(x - max)`, the maximum and the sum along the axis.
//!
//! 1. Many or short lines: an invocation walks along each (`softmax.wgsl`).
//! 2. Long lines: a workgroup shares each (`softmax_long.wgsl`).
//! 3. Lines through more memory than one dispatch can reach, along the images or the channels of a huge one: the maximum and
//!    the sum so far are carried from part to part (`softmax_peaks.wgsl`), then applied (`softmax_apply.wgsl`).

use super::Gpu;
use super::buffer::{GpuTensor, GpuView, GpuViewMut, words};
use super::parts::{Part, by_channel};
use super::recorder::{Dispatch, WORKGROUP};
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
const APPLY: Shader = shader!("softmax_apply", 3, 1, "index", "math");

/// Elements from which on a line is long.
const LONG_LINE: usize = 256;

/// So many lines keep a GPU busy with an invocation each, and a warp then reads neighbours where lines lie side by side.
const MANY_LINES: usize = 1 << 14;

fn long(lanes: u32) -> Kernel {
    Kernel::new(LONG, [("LANES", lanes)])
}

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    [LINES, PEAKS, APPLY].into_iter().map(|shader| Kernel::new(shader, [])).chain(LANES.into_iter().map(long))
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

/// Whether a workgroup shares each line.
pub(super) fn shares(lines: usize, len: usize, across: usize) -> bool {
    len > LONG_LINE && (across == 1 || lines < MANY_LINES)
}

impl Gpu {
    pub(super) fn softmax_into(&self, x: GpuView<'_>, axis: Axis, y: GpuViewMut<'_>) -> Result<()> {
        let shape = SoftmaxShape::new(x.shape(), axis)?.input();
        expect_shape(OP, "output shape", shape, y.shape())?;
        let (y, plane) = (y.0, shape.plane_len());
        match axis {
            Axis::N => self.softmax_along_images(x, y),
            Axis::C if shape.image_len() > self.reach() => {
                // The channels of each image as images of one channel.
                let channels = |v: GpuView<'_>, n: usize| (v.start + n * v.batch_stride, plane);
                let of_image = |v, n| {
                    let (start, batch_stride) = channels(v, n);
                    GpuView { start, batch_stride, shape: Shape4::new(shape.c, 1, shape.h, shape.w), ..v }
                };
                (0..shape.n).try_for_each(|n| self.softmax_along_images(of_image(x, n), of_image(y, n)))
            }
            Axis::C => self.softmax_of_images(x, y, shape.c, plane),
            Axis::H => self.softmax_of_images(x, y, shape.h, shape.w),
            Axis::W => self.softmax_of_images(x, y, shape.w, 1),
        }
    }

    /// Along lines within images, of `len` elements that lie `across` apart.
    fn softmax_of_images(&self, x: GpuView<'_>, y: GpuView<'_>, len: usize, across: usize) -> Result<()> {
        for part in by_channel(self, OP, &[x, y])? {
            let per_image = part.channels.len() * x.shape.plane_len() / len;
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
        let shared = shares(count, len, across);
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
        let parts = by_channel(self, OP, &[x, y])?;
        let (n, image) = (x.shape.n, x.shape.image_len());
        if let [part] = &parts[..] {
            let steps = [x.batch_stride, y.batch_stride];
            let lines = Lines { count: image, per_image: image, across: image, slab: 0, len: n, steps };
            return self.softmax_lines(x, y, part, &lines);
        }
        if parts.is_empty() {
            return Ok(());
        }
        let one_image = Shape4 { n: 1, ..x.shape };
        let (maxima, sums) = (GpuTensor::new(self, OP, one_image)?, GpuTensor::new(self, OP, one_image)?);
        for part in &parts {
            let of_image = Part { images: 0..1, ..part.clone() };
            let from = x.part(self, part);
            let (max, sum) = (maxima.view().part(self, &of_image), sums.view().part(self, &of_image));
            let image = part.channels.len() * x.shape.plane_len();
            let join = usize::from(part.images.start > 0);
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
        for part in &parts {
            let of_image = Part { images: 0..1, ..part.clone() };
            let (from, to) = (x.part(self, part), y.part(self, part));
            let (max, sum) = (maxima.view().part(self, &of_image), sums.view().part(self, &of_image));
            let image = part.channels.len() * x.shape.plane_len();
            let count = part.images.len() * image;
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
