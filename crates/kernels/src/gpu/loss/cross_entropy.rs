//! Cross-entropy over channels: one pixel an invocation or, where classes are many and pixels few, a workgroup. Of an image
//! larger than what a dispatch reaches, as many pixels as fit with all their channels, once these are brought together.

use super::{Gpu, UPDATES, accumulate};
use crate::backend::{SCALAR, expect_shape};
use crate::error::Result;
use crate::gpu::buffer::{Buffer, GpuTensor, GpuView, GpuViewMut, words};
use crate::gpu::parts::{Part, by_element, pieces, too_large};
use crate::gpu::recorder::{Dispatch, Slice};
use crate::gpu::reduce::{LANES, Partials, lanes};
use crate::gpu::wgsl::{Kernel, Shader, shader};
use crate::shape::{Activation, CrossEntropy, Update};
use crate::tensor::Shape4;

const OP: &str = "cross_entropy";

const SUMS: Shader =
    shader!("loss_cross_entropy", 3, 1, "loss_cross_entropy_pixel", "index", "order", "reduce", "math");
const BACKWARD: Shader = shader!(
    "loss_cross_entropy_backward",
    3,
    1,
    "loss_cross_entropy_pixel",
    "index",
    "order",
    "reduce",
    "math"
);

/// Classes from which on a workgroup shares a pixel, where pixels are few.
const MANY_CLASSES: usize = 64;

/// So many pixels keep a GPU busy with an invocation each.
const MANY_PIXELS: usize = 1 << 14;

/// The label of pixels that count nothing; as in the shaders. No class has it: the number of classes fits a u32.
const IGNORED: u32 = u32::MAX;

fn sums(lanes: u32, shared: bool) -> Kernel {
    Kernel::new(SUMS, [("LANES", lanes), ("SHARED", shared.into())])
}

fn backward(lanes: u32, shared: bool, update: Update) -> Kernel {
    let constants = [("LANES", lanes), ("SHARED", shared.into()), ("ACCUMULATE", accumulate(update))];
    Kernel::new(BACKWARD, constants)
}

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    let of = |lanes, shared| {
        let backward = UPDATES.map(|update| backward(lanes, shared, update));
        [sums(lanes, shared)].into_iter().chain(backward)
    };
    LANES
        .into_iter()
        .flat_map(move |lanes| [false, true].into_iter().flat_map(move |shared| of(lanes, shared)))
}

/// Labels and weights in memory of the GPU, and how pixels are shared out.
struct Pixels {
    shape: Shape4,
    labels: Buffer,
    /// One for each class, or one for all.
    weights: Buffer,
    weighted: bool,
    shared: bool,
    lanes: u32,
}

impl Pixels {
    fn new(gpu: &Gpu, shape: Shape4, labels: &[usize], params: CrossEntropy<'_>) -> Result<Self> {
        params.check(OP, shape, labels)?;
        let [_] = words(OP, [shape.c])?;
        let classes: Vec<u32> =
            labels.iter().map(|&label| if params.ignores(label) { IGNORED } else { label as u32 }).collect();
        let weights = params.class_weights.unwrap_or(&[1.0]);
        let shared = shape.c >= MANY_CLASSES && labels.len() < MANY_PIXELS;
        Ok(Pixels {
            shape,
            labels: gpu.upload_bytes(OP, bytemuck::cast_slice(&classes))?,
            weights: gpu.upload_bytes(OP, bytemuck::cast_slice(weights))?,
            weighted: params.class_weights.is_some(),
            shared,
            lanes: if shared { lanes(shape.c) } else { lanes(shape.plane_len()) },
        })
    }

    /// Cuts views into images or, where one is too large, into pixels of one.
    fn parts(&self, gpu: &Gpu, views: &[GpuView<'_>]) -> Result<Vec<Part>> {
        let (Shape4 { n, c, .. }, reach) = (self.shape, gpu.reach());
        if self.shape.image_len() <= reach {
            return Ok(by_element(gpu, views));
        }
        if c > reach {
            return Err(too_large(OP, "classes on this GPU", reach, c));
        }
        let of_image = |n| {
            let part = move |elements| Part { images: n..n + 1, channels: 0..c, elements };
            pieces(self.shape.plane_len(), reach / c).map(part)
        };
        Ok((0..n).flat_map(of_image).collect())
    }

    /// The pixels of a part, channel by channel, if it is not of whole images: of any values.
    fn apart(&self, gpu: &Gpu, part: &Part) -> Result<Option<GpuTensor>> {
        if part.elements.len() == self.shape.plane_len() {
            return Ok(None);
        }
        GpuTensor::new(gpu, OP, Shape4::new(self.shape.c, 1, 1, part.elements.len())).map(Some)
    }

    /// Those of `x`.
    fn gathered(&self, gpu: &Gpu, x: GpuView<'_>, part: &Part) -> Result<Option<GpuTensor>> {
        let mut pixels = self.apart(gpu, part)?;
        if let Some(pixels) = &mut pixels {
            let from = x.planes(part.images.start, part.elements.clone());
            gpu.activation_into(from, Activation::Identity, pixels.view_mut())?;
        }
        Ok(pixels)
    }

    fn groups(&self, part: &Part) -> usize {
        let pixels = part.of_channel();
        if self.shared { pixels } else { pixels.div_ceil(self.lanes as usize) }
    }

    /// Labels and weights of a part.
    fn slices(&self, gpu: &Gpu, part: &Part) -> [Slice<'_>; 2] {
        let first = part.images.start * self.shape.plane_len() + part.elements.start;
        let weights = if self.weighted { self.shape.c } else { 1 };
        [Slice::new(gpu, &self.labels, first, part.of_channel()), Slice::new(gpu, &self.weights, 0, weights)]
    }

    /// The last words of the parameters: whether there are weights and smoothing, and the factors, times `scale`.
    fn factors(&self, params: CrossEntropy<'_>, scale: f64) -> [u32; 5] {
        let [of_label, of_class] = params.shares(self.shape.c).map(|share| share * scale);
        let of_classes = of_class * params.weight_of_all(self.shape.c);
        let [of_label, of_class, of_classes] = match params.label_smoothing == 0.0 {
            true => [of_label, 0.0, 0.0],
            false => [of_label, of_class, of_classes],
        }
        .map(|factor| (factor as f32).to_bits());
        let smooths = params.label_smoothing != 0.0;
        [self.weighted.into(), smooths.into(), of_label, of_class, of_classes]
    }
}

/// The memory of a part of a view, or of what was brought together of it.
fn slice_of<'a>(gpu: &Gpu, view: GpuView<'a>, apart: &'a Option<GpuTensor>, part: &Part) -> Slice<'a> {
    apart.as_ref().map_or_else(|| view.part(gpu, part), |pixels| pixels.all(gpu))
}

/// The divisor; NaN if it is 0, by which nothing can be divided.
fn divisor(params: CrossEntropy<'_>, labels: &[usize]) -> f64 {
    let divisor = params.divisor(labels);
    if divisor == 0.0 { f64::NAN } else { divisor }
}

impl Gpu {
    pub(in crate::gpu) fn cross_entropy_into(
        &self,
        x: GpuView<'_>,
        labels: &[usize],
        params: CrossEntropy<'_>,
        y: GpuViewMut<'_>,
    ) -> Result<()> {
        expect_shape(OP, "output shape", SCALAR, y.shape())?;
        let pixels = Pixels::new(self, x.shape, labels, params)?;
        let parts = pixels.parts(self, &[x])?;
        let group_sums = Partials::new(self, OP, parts.iter().map(|part| pixels.groups(part)).sum(), 1)?;
        let mut first = 0;
        for part in &parts {
            let gathered = pixels.gathered(self, x, part)?;
            let (from, groups) = (slice_of(self, x, &gathered, part), pixels.groups(part));
            let [of_labels, of_classes] = pixels.slices(self, part);
            let sizes = [
                groups,
                part.of_channel(),
                part.elements.len(),
                x.shape.c,
                first,
                of_labels.first,
                from.first,
                x.batch_stride,
            ];
            self.dispatch(&Dispatch {
                op: OP,
                kernel: sums(pixels.lanes, pixels.shared),
                params: &[&words(OP, sizes)?[..], &pixels.factors(params, 1.0)].concat(),
                reads: &[from, of_labels, of_classes],
                writes: &[group_sums.slice(self)],
                workgroups: groups,
            })?;
            first += groups;
        }
        self.mean(OP, group_sums.slice(self), first, divisor(params, labels) as f32, y.0)
    }

    pub(in crate::gpu) fn cross_entropy_backward_into(
        &self,
        x: GpuView<'_>,
        labels: &[usize],
        params: CrossEntropy<'_>,
        gy: f32,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        expect_shape(OP, "gradient shape", x.shape(), gx.shape())?;
        let (pixels, gx) = (Pixels::new(self, x.shape, labels, params)?, gx.0);
        let scale = f64::from(gy) / divisor(params, labels);
        for part in &pixels.parts(self, &[x, gx])? {
            let (gathered, gradients) = (pixels.gathered(self, x, part)?, pixels.apart(self, part)?);
            let (from, to) = (slice_of(self, x, &gathered, part), slice_of(self, gx, &gradients, part));
            let groups = pixels.groups(part);
            let [of_labels, of_classes] = pixels.slices(self, part);
            let sizes = [
                groups,
                part.of_channel(),
                part.elements.len(),
                x.shape.c,
                of_labels.first,
                from.first,
                x.batch_stride,
                to.first,
                gx.batch_stride,
            ];
            // Gradients apart are written, then brought to their places.
            let direct = if gradients.is_none() { update } else { Update::Write };
            self.dispatch(&Dispatch {
                op: OP,
                kernel: backward(pixels.lanes, pixels.shared, direct),
                params: &[&words(OP, sizes)?[..], &pixels.factors(params, scale)].concat(),
                reads: &[from, of_labels, of_classes],
                writes: &[to],
                workgroups: groups,
            })?;
            if let Some(gradients) = &gradients {
                let to = gx.planes(part.images.start, part.elements.clone());
                self.add_backward_into(gradients.view(), GpuViewMut(to), update)?;
            }
        }
        Ok(())
    }
}
