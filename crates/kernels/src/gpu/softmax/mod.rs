//! Softmax along any axis: `y = exp(x - max) / sum of exp(x - max)`, the maximum and the sum along the axis.
//!
//! 1. Many or short lines: an invocation walks along each (`softmax.wgsl`).
//! 2. Long lines: a workgroup shares each (`softmax_long.wgsl`).
//! 3. Lines through more memory than one dispatch can reach, along the images or the channels of a huge one: the maximum and
//!    the sum so far are carried from part to part (`softmax_peaks.wgsl`), then applied (`softmax_apply.wgsl`).
//!
//! The gradients are in [`backward`], by the same three ways.

mod backward;
mod lines;

use lines::{Lines, Whole, for_each_lines};

use super::Gpu;
use super::buffer::{GpuTensor, GpuView, GpuViewMut, words};
use super::parts::Part;
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

fn long(lanes: u32) -> Kernel {
    Kernel::new(LONG, [("LANES", lanes)])
}

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    let short = [LINES, PEAKS, APPLY].into_iter().map(|shader| Kernel::new(shader, []));
    short.chain(LANES.into_iter().map(long)).chain(backward::kernels())
}

impl Gpu {
    pub(super) fn softmax_into(&self, x: GpuView<'_>, axis: Axis, y: GpuViewMut<'_>) -> Result<()> {
        let shape = SoftmaxShape::new(x.shape(), axis)?.input();
        expect_shape(OP, "output shape", shape, y.shape())?;
        for_each_lines(self, OP, axis, [x, y.0], |lines, [x, y]| match lines {
            Lines::Whole(part, lines) => self.softmax_lines(x, y, &part, &lines),
            Lines::Cut(parts) => self.softmax_of_parts(x, y, &parts),
        })
    }

    fn softmax_lines(&self, x: GpuView<'_>, y: GpuView<'_>, part: &Part, lines: &Whole) -> Result<()> {
        let (from, to) = (x.part(self, part), y.part(self, part));
        let [x_step, y_step] = [x, y].map(|view| lines.step(&view));
        let own = [x_step, y_step, from.first, x.batch_stride, to.first, y.batch_stride];
        self.dispatch(&Dispatch {
            op: OP,
            kernel: if lines.shared() { long(lanes(lines.len)) } else { Kernel::new(LINES, []) },
            params: &[&lines.words(OP)?[..], &words(OP, own)?].concat(),
            reads: &[from],
            writes: &[to],
            workgroups: lines.workgroups(),
        })
    }

    /// Along the images of the batch, of which each part has some.
    fn softmax_of_parts(&self, x: GpuView<'_>, y: GpuView<'_>, parts: &[Part]) -> Result<()> {
        let one_image = Shape4 { n: 1, ..x.shape };
        let (maxima, sums) = (GpuTensor::new(self, OP, one_image)?, GpuTensor::new(self, OP, one_image)?);
        for part in parts {
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
        for part in parts {
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
