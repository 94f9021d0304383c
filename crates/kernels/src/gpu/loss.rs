//! Losses, reduced to the mean: cross-entropy over channels, binary cross-entropy with logits, mean squared error.
//!
//! Workgroups add up pixels (`loss_cross_entropy.wgsl`) or strips of elements (`loss_pairs.wgsl`), one more their sums
//! (`loss_mean.wgsl`), all in a fixed order.

use super::Gpu;
use super::buffer::{GpuTensor, GpuView, GpuViewMut, words};
use super::parts::{Part, by_element, elementwise, pieces, too_large};
use super::recorder::{Dispatch, Slice};
use super::reduce::{LANES, Partials, STRIP, divisor, lanes};
use super::wgsl::{Kernel, Shader, shader};
use crate::backend::{SCALAR, expect_shape};
use crate::error::Result;
use crate::shape::Activation;
use crate::shape::loss::check_labels;
use crate::tensor::Shape4;

const PIXELS: Shader = shader!("loss_cross_entropy", 2, 1, "index", "order", "reduce", "math");
const PAIRS: Shader = shader!("loss_pairs", 2, 1, "index", "reduce", "math");
const MEAN: Shader = shader!("loss_mean", 1, 1, "index", "reduce", "math");

/// Classes from which on a workgroup shares a pixel, where pixels are few.
const MANY_CLASSES: usize = 64;

/// So many pixels keep a GPU busy with an invocation each.
const MANY_PIXELS: usize = 1 << 14;

fn pixels(lanes: u32, shared: bool) -> Kernel {
    Kernel::new(PIXELS, [("LANES", lanes), ("SHARED", shared.into())])
}

fn pairs(lanes: u32, logits: bool) -> Kernel {
    Kernel::new(PAIRS, [("LANES", lanes), ("LOGITS", logits.into())])
}

fn mean(lanes: u32) -> Kernel {
    Kernel::new(MEAN, [("LANES", lanes)])
}

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    let of_lanes = |lanes| {
        let either = move |kernel: fn(u32, bool) -> Kernel| [false, true].map(|flag| kernel(lanes, flag));
        [either(pixels), either(pairs)].into_iter().flatten().chain([mean(lanes)])
    };
    LANES.into_iter().flat_map(of_lanes)
}

impl Gpu {
    pub(super) fn cross_entropy_into(
        &self,
        x: GpuView<'_>,
        labels: &[usize],
        y: GpuViewMut<'_>,
    ) -> Result<()> {
        let op = "cross_entropy";
        expect_shape(op, "output shape", SCALAR, y.shape())?;
        let (shape, plane) = (x.shape(), x.shape().plane_len());
        check_labels(op, shape, labels)?;
        let [_] = words(op, [shape.c])?;
        let classes: Vec<u32> = labels.iter().map(|&label| label as u32).collect();
        let labels = self.upload_bytes(op, bytemuck::cast_slice(&classes))?;
        let shared = shape.c >= MANY_CLASSES && classes.len() < MANY_PIXELS;
        let lanes = if shared { lanes(shape.c) } else { lanes(plane) };
        let parts = self.parts_of_all_classes(op, x)?;
        let pixels_of = |part: &Part| part.images.len() * part.elements.len();
        let groups_of = |part: &Part| {
            if shared { pixels_of(part) } else { pixels_of(part).div_ceil(lanes as usize) }
        };
        let sums = Partials::new(self, op, parts.iter().map(groups_of).sum(), 1)?;
        let mut first = 0;
        for part in &parts {
            let together = shape.image_len() <= self.reach();
            let gathered = if together { None } else { Some(self.gathered(op, x, part)?) };
            let slice = match &gathered {
                None => x.part(self, part),
                Some(pixels) => pixels.all(self),
            };
            let count = pixels_of(part);
            let labels = Slice::new(self, &labels, part.images.start * plane + part.elements.start, count);
            let groups = groups_of(part);
            let pixels_of_image = part.elements.len();
            let sizes =
                [groups, count, pixels_of_image, shape.c, first, labels.first, slice.first, x.batch_stride];
            self.dispatch(&Dispatch {
                op,
                kernel: pixels(lanes, shared),
                params: &words(op, sizes)?,
                reads: &[slice, labels],
                writes: &[sums.slice(self)],
                workgroups: groups,
            })?;
            first += groups;
        }
        self.mean(op, &sums, first, classes.len(), y.0)
    }

    /// Cuts what needs all channels of a pixel, and nothing else: into images or, where one is too large, into as many pixels
    /// as fit with all their channels, once these are brought together.
    fn parts_of_all_classes(&self, op: &'static str, x: GpuView<'_>) -> Result<Vec<Part>> {
        let Shape4 { n, c, .. } = x.shape;
        if x.shape.image_len() <= self.reach() {
            return Ok(by_element(self, &[x]));
        }
        let pixels = self.reach() / c;
        if pixels == 0 {
            return Err(too_large(op, "classes on this GPU", self.reach(), c));
        }
        let of_image = |n| {
            let part = move |elements| Part { images: n..n + 1, channels: 0..c, elements };
            pieces(x.shape.plane_len(), pixels).map(part)
        };
        Ok((0..n).flat_map(of_image).collect())
    }

    /// A copy of some pixels of an image, channel by channel.
    fn gathered(&self, op: &'static str, x: GpuView<'_>, part: &Part) -> Result<GpuTensor> {
        let mut pixels =
            GpuTensor::new(self, op, Shape4::new(part.channels.len(), 1, 1, part.elements.len()))?;
        let from = x.planes(part.images.start, part.elements.clone());
        self.activation_into(from, Activation::Identity, pixels.view_mut())?;
        Ok(pixels)
    }

    pub(super) fn bce_with_logits_into(
        &self,
        x: GpuView<'_>,
        target: GpuView<'_>,
        y: GpuViewMut<'_>,
    ) -> Result<()> {
        self.mean_of_pairs("bce_with_logits", true, x, target, y)
    }

    pub(super) fn mse_into(&self, x: GpuView<'_>, target: GpuView<'_>, y: GpuViewMut<'_>) -> Result<()> {
        self.mean_of_pairs("mse", false, x, target, y)
    }

    fn mean_of_pairs(
        &self,
        op: &'static str,
        logits: bool,
        x: GpuView<'_>,
        target: GpuView<'_>,
        y: GpuViewMut<'_>,
    ) -> Result<()> {
        expect_shape(op, "output shape", SCALAR, y.shape())?;
        expect_shape(op, "target shape", x.shape(), target.shape())?;
        let len = x.shape.n * x.shape.image_len();
        let [x, target] = elementwise([x, target]);
        let parts = by_element(self, &[x, target]);
        let strips_of = |part: &Part| part.count().div_ceil(STRIP);
        let sums = Partials::new(self, op, parts.iter().map(strips_of).sum(), 1)?;
        let mut first = 0;
        for part in &parts {
            let (a, b) = (x.part(self, part), target.part(self, part));
            let (count, strips) = (part.count(), strips_of(part));
            let sizes = [
                strips,
                part.image(),
                count,
                STRIP,
                first,
                a.first,
                x.batch_stride,
                b.first,
                target.batch_stride,
            ];
            self.dispatch(&Dispatch {
                op,
                kernel: pairs(lanes(count), logits),
                params: &words(op, sizes)?,
                reads: &[a, b],
                writes: &[sums.slice(self)],
                workgroups: strips,
            })?;
            first += strips;
        }
        self.mean(op, &sums, first, len, y.0)
    }

    /// The sum of the first `parts` of `sums`, divided by `count`.
    fn mean(
        &self,
        op: &'static str,
        sums: &Partials,
        parts: usize,
        count: usize,
        y: GpuView<'_>,
    ) -> Result<()> {
        let to = y.part(self, &Part { images: 0..1, channels: 0..1, elements: 0..1 });
        let [parts_word, y_first] = words(op, [parts, to.first])?;
        self.dispatch(&Dispatch {
            op,
            kernel: mean(lanes(parts)),
            params: &[parts_word, divisor(count).to_bits(), y_first],
            reads: &[sums.slice(self)],
            writes: &[to],
            workgroups: 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cpu;
    use crate::gpu::testing::{Gapped, devices, noise, on_all};
    use crate::tensor::Tensor;

    const INF: f32 = f32::INFINITY;
    const NAN: f32 = f32::NAN;

    fn near(a: f32, b: f32) -> bool {
        a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 6e-7 * b.abs()
    }

    fn scaled(shape: Shape4, seed: u32, factor: f32) -> Tensor {
        let mut x = noise(shape, seed);
        x.data_mut().iter_mut().for_each(|v| *v *= factor);
        x
    }

    #[test]
    fn losses_are_those_of_the_cpu() -> Result<()> {
        let cpu = Cpu::new()?;
        for shape in [
            [2, 3, 4, 5],
            [1, 1, 1, 1],
            [9, 100, 1, 1],
            [3, 70, 1, 2],
            [2, 5, 19, 9],
            [40, 1, 30, 31],
            [0, 2, 3, 3],
        ] {
            let shape = Shape4::from(shape);
            let (x, target) = (scaled(shape, 1, 8.0), noise(shape, 2));
            let labels: Vec<usize> = (0..shape.n * shape.h * shape.w).map(|i| i * 7 % shape.c).collect();
            let (cross, bce, mse) =
                (cpu.cross_entropy(&x, &labels)?, cpu.bce_with_logits(&x, &target)?, cpu.mse(&x, &target)?);
            for y in on_all(&x, SCALAR, |gpu, x, y| gpu.cross_entropy_into(x, &labels, y)) {
                // One class alone leaves rounding errors.
                assert!(
                    near(y.data()[0], cross) || (y.data()[0] - cross).abs() < 3e-7,
                    "{shape} {y:?} {cross}"
                );
            }
            for y in on_all(&x, SCALAR, |gpu, x, y| {
                gpu.bce_with_logits_into(x, Gapped::new(gpu, &target, 7).view(), y)
            }) {
                assert!(near(y.data()[0], bce), "{shape} {y:?} {bce}");
            }
            for y in on_all(&x, SCALAR, |gpu, x, y| gpu.mse_into(x, Gapped::new(gpu, &target, 7).view(), y)) {
                assert!(near(y.data()[0], mse), "{shape} {y:?} {mse}");
            }
        }
        Ok(())
    }

    #[test]
    fn limits_are_those_of_pytorch() -> Result<()> {
        let gpu = &devices()[0];
        let tensor = |v: &[f32]| Tensor::from_vec(Shape4::new(1, v.len(), 1, 1), v.to_vec());
        for (x, label, expected) in [
            ([-INF, 1.0], 0, INF),
            ([INF, 1.0], 0, NAN),
            ([NAN, 1.0], 0, NAN),
            ([-INF, -INF], 0, NAN),
            ([1.0, -INF], 0, 0.0),
            ([1e4, -1e4], 1, 2e4),
        ] {
            // Alone, and among classes enough for a workgroup.
            for more in [0, 100] {
                let logits = [&x[..], &vec![-INF; more]].concat();
                let (x, mut y) = (Gapped::new(gpu, &tensor(&logits)?, 0), Gapped::blank(gpu, SCALAR, 0));
                gpu.cross_entropy_into(x.view(), &[label], y.view_mut())?;
                assert!(near(y.download(gpu).data()[0], expected), "{logits:?}");
            }
        }
        for (x, target, expected) in [
            (INF, 1.0, NAN),
            (INF, 0.0, INF),
            (-INF, 0.0, NAN),
            (-INF, 1.0, NAN),
            (NAN, 1.0, NAN),
            (1.0, NAN, NAN),
            (200.0, 0.0, 200.0),
            (40.0, 1.0, 4.248_354e-18),
            (-5.0, 0.01, 0.056_715_35),
        ] {
            let [x, target] = [x, target].map(|v| Gapped::new(gpu, &tensor(&[v]).unwrap(), 0));
            let mut y = Gapped::blank(gpu, SCALAR, 0);
            gpu.bce_with_logits_into(x.view(), target.view(), y.view_mut())?;
            let got = y.download(gpu).data()[0];
            assert!(near(got, expected), "{got} {expected}");
        }
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_refused() -> Result<()> {
        let gpu = &devices()[0];
        let x = Gapped::new(gpu, &noise(Shape4::new(2, 3, 1, 1), 1), 0);
        let mut y = Gapped::blank(gpu, SCALAR, 0);
        assert!(gpu.cross_entropy_into(x.view(), &[0, 3], y.view_mut()).is_err());
        assert!(gpu.cross_entropy_into(x.view(), &[0], y.view_mut()).is_err());
        assert!(gpu.mse_into(x.view(), y.view(), Gapped::blank(gpu, SCALAR, 0).view_mut()).is_err());
        let mut large = Gapped::blank(gpu, Shape4::new(1, 1, 1, 2), 0);
        assert!(gpu.mse_into(x.view(), x.view(), large.view_mut()).is_err());
        Ok(())
    }
}
