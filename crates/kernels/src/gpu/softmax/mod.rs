//! Softmax along any axis: `y = exp(x - max) / sum of exp(x - max)`, the maximum and the sum along the axis.
//!
//! 1. Many or short lines: an invocation walks along each (`softmax.wgsl`).
//! 2. Long lines: a workgroup shares each (`softmax_long.wgsl`).
//! 3. Lines through more memory than one dispatch can reach: the maximum and the sum so far are carried from part to part
//!    (`softmax_peaks.wgsl`), then applied (`softmax_apply.wgsl`). The elements of a single row beyond that are taken as many
//!    short lines side by side, whose maxima and sums are joined (`softmax_join.wgsl`).
//!
//! The gradients are in [`backward`], by the same three ways.

mod backward;
mod lines;

use lines::{Cut, Lines, Whole, for_each_lines};

use super::Gpu;
use super::buffer::{GpuTensor, GpuView, GpuViewMut, words};
use super::parts::Part;
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

fn long(lanes: u32) -> Kernel {
    Kernel::new(LONG, [("LANES", lanes)])
}

fn join(lanes: u32) -> Kernel {
    Kernel::new(JOIN, [("LANES", lanes)])
}

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    let short = [LINES, PEAKS, APPLY].into_iter().map(|shader| Kernel::new(shader, []));
    let of_lanes = LANES.into_iter().flat_map(|lanes| [long(lanes), join(lanes)]);
    short.chain(of_lanes).chain(backward::kernels())
}

impl Gpu {
    pub(super) fn softmax_into(&self, x: GpuView<'_>, axis: Axis, y: GpuViewMut<'_>) -> Result<()> {
        let shape = SoftmaxShape::new(x.shape(), axis)?.input();
        expect_shape(OP, "output shape", shape, y.shape())?;
        for_each_lines(self, axis, [x, y.0], |lines| match lines {
            Lines::Whole([x, y], part, lines) => self.softmax_lines(x, y, &part, &lines),
            Lines::Cut(lines) => self.softmax_of_cut_lines(&lines),
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

    fn softmax_of_cut_lines(&self, lines: &Cut<'_, 2>) -> Result<()> {
        let peaks = Peaks::new(self, lines.image)?;
        for (i, ([x, _], parts)) in lines.pieces.iter().enumerate() {
            for part in parts {
                self.find_peaks(*x, part, i > 0 || part.images.start > 0, &peaks)?;
            }
        }
        if lines.one_line {
            let across = lines.image.w;
            self.dispatch(&Dispatch {
                op: OP,
                kernel: join(lanes(across)),
                params: &words(OP, [across])?,
                reads: &[],
                writes: &[peaks.maxima.all(self), peaks.sums.all(self)],
                workgroups: 1,
            })?;
        }
        for ([x, y], parts) in &lines.pieces {
            parts.iter().try_for_each(|part| self.apply_peaks(*x, part, &peaks, *y))?;
        }
        Ok(())
    }

    /// The maximum and the sum at each position of an image, over the images of a part; joined to those that are there
    /// already, if so asked for.
    fn find_peaks(&self, x: GpuView<'_>, part: &Part, join: bool, peaks: &Peaks) -> Result<()> {
        let (from, [max, sum], image) = (x.part(self, part), peaks.part(self, part), part.image());
        let sizes = [image, part.images.len(), join.into(), from.first, x.batch_stride, max.first, sum.first];
        self.dispatch(&Dispatch {
            op: OP,
            kernel: Kernel::new(PEAKS, []),
            params: &words(OP, sizes)?,
            reads: &[from],
            writes: &[max, sum],
            workgroups: image.div_ceil(WORKGROUP),
        })
    }

    fn apply_peaks(&self, x: GpuView<'_>, part: &Part, peaks: &Peaks, y: GpuView<'_>) -> Result<()> {
        let (from, to, [max, sum]) = (x.part(self, part), y.part(self, part), peaks.part(self, part));
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
        })
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
