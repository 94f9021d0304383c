//! Cross-entropy over channels: of each pixel the negative logarithm of its label's share in the softmax, in the form
//! `ln(sum of exp(x - max)) - (x - max)`.
//!
//! Lanes are pixels of a plane; of a single pixel they are its classes.

use super::write_scalar;
use crate::cpu::softmax::{Peak, column_peaks, row_peak};
use crate::cpu::threads::{self, SharedOut};
use crate::cpu::{Cpu, expect_shape};
use crate::error::Result;
use crate::shape::{CrossEntropy, Update};
use crate::simd::{MAX_LANES, Simd, SimdOp, math};
use crate::tensor::{Tensor, TensorView, TensorViewMut};

const OP: &str = "cross_entropy";

/// Pixels of a part.
const PIXELS: usize = 1024;

impl Cpu {
    /// The mean of `ln(sum over c of exp(x[n][c][h][w])) - x[n][label][h][w]`, the negative log-likelihood of the
    /// labels under the softmax over channels; weighted, smoothed or without some labels as [`CrossEntropy`] says.
    ///
    /// `x` is `n x classes x h x w`; `labels` holds `n * h * w` classes in the order of the pixels of `n x 1 x h x w`
    /// (for a classifier, `h = w = 1`: one per sample). If all are ignored the loss is NaN.
    ///
    /// ```
    /// use tilewise_kernels::{CrossEntropy, Cpu, Shape4, Tensor};
    /// // Two samples, three classes; without a preference every label costs ln 3.
    /// let (cpu, x) = (Cpu::new()?, Tensor::zeros(Shape4::new(2, 3, 1, 1))?);
    /// let loss = cpu.cross_entropy(&x, &[0, 2], CrossEntropy::default())?;
    /// assert!((loss - 3f32.ln()).abs() < 1e-6);
    /// // Labels of 255, as segmentations mark what counts nothing.
    /// let params = CrossEntropy { ignore_index: Some(255), ..CrossEntropy::default() };
    /// assert_eq!(cpu.cross_entropy(&x, &[0, 255], params)?, loss);
    /// # Ok::<(), tilewise_kernels::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for no classes, another number of labels, a label that is no class, another number of class
    /// weights, one that is negative or not finite, or a smoothing outside 0..=1.
    pub fn cross_entropy(&self, x: &Tensor, labels: &[usize], params: CrossEntropy<'_>) -> Result<f32> {
        self.cross_entropy_of(x.view(), labels, params)
    }

    /// [`Cpu::cross_entropy`] into the single element of `y`. Allocates nothing.
    ///
    /// # Errors
    /// As there, or for another shape of `y`.
    pub fn cross_entropy_into(
        &self,
        x: TensorView<'_>,
        labels: &[usize],
        params: CrossEntropy<'_>,
        y: TensorViewMut<'_>,
    ) -> Result<()> {
        write_scalar(OP, y, || self.cross_entropy_of(x, labels, params))
    }

    fn cross_entropy_of(&self, x: TensorView<'_>, labels: &[usize], params: CrossEntropy<'_>) -> Result<f32> {
        params.check(OP, x.shape(), labels)?;
        let weights = Weights::new(x, params, 1.0);
        let parts = Parts::new(x);
        let [total] = threads::sum_of_items(parts.strands(self), parts.count(), |i| {
            let (image, pixels) = parts.part(i, labels);
            [self.isa.run(Losses { x: x.image(image), pixels, weights })]
        });
        Ok((total / params.divisor(labels)) as f32)
    }

    /// The gradient of [`Cpu::cross_entropy`] at `x`, times `gy`: that of a pixel that is ignored is 0. Allocates nothing.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] as there, or for another shape of `gx`.
    pub fn cross_entropy_backward_into(
        &self,
        x: TensorView<'_>,
        labels: &[usize],
        params: CrossEntropy<'_>,
        gy: f32,
        mut gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        params.check(OP, x.shape(), labels)?;
        expect_shape(OP, "gradient shape", x.shape(), gx.shape())?;
        let weights = Weights::new(x, params, f64::from(gy) / params.divisor(labels));
        let parts = Parts::new(x);
        let (batch_stride, out) = (gx.batch_stride(), SharedOut::new(gx.as_mut_ptr()));
        threads::for_each_item(parts.strands(self), parts.count(), |_, i| {
            let (image, pixels) = parts.part(i, labels);
            // SAFETY: the view holds this image (it has the shape of `x`).
            let gx = unsafe { out.get().add(image * batch_stride) };
            self.isa.run(Gradients { x: x.image(image), pixels, weights, gx, update });
        });
        Ok(())
    }
}

/// Images, cut into parts of some pixels.
struct Parts {
    images: usize,
    plane: usize,
    per_image: usize,
    work: usize,
}

/// Some pixels of an image.
#[derive(Clone, Copy)]
struct Pixels<'a> {
    /// Pixels of the image.
    plane: usize,
    first: usize,
    /// A class or the ignored label for each.
    labels: &'a [usize],
}

impl Parts {
    fn new(x: TensorView<'_>) -> Self {
        let (shape, plane) = (x.shape(), x.shape().plane_len());
        let work = shape.n * shape.image_len();
        Parts { images: shape.n, plane, per_image: plane.div_ceil(PIXELS), work }
    }

    fn count(&self) -> usize {
        self.images * self.per_image
    }

    fn strands(&self, cpu: &Cpu) -> usize {
        threads::strands(cpu, self.work)
    }

    /// The image of part `i`, and the pixels.
    fn part<'a>(&self, i: usize, labels: &'a [usize]) -> (usize, Pixels<'a>) {
        let (image, first) = (i / self.per_image, i % self.per_image * PIXELS);
        let labels = &labels[image * self.plane..][first..self.plane.min(first + PIXELS)];
        (image, Pixels { plane: self.plane, first, labels })
    }
}

/// What labels and classes count.
#[derive(Clone, Copy)]
struct Weights<'a> {
    params: CrossEntropy<'a>,
    /// The factor of `-ln p` of a label, before its weight.
    label: f64,
    /// That of every class.
    class: f64,
    /// That of every class, times the sum of all weights.
    classes: f64,
}

impl<'a> Weights<'a> {
    /// Every factor times `scale`.
    fn new(x: TensorView<'_>, params: CrossEntropy<'a>, scale: f64) -> Self {
        let [label, class] = params.shares(x.shape().c).map(|share| share * scale);
        // Where nothing is spread nothing is: not NaN, of an infinite scale.
        let class = if params.label_smoothing == 0.0 { 0.0 } else { class };
        Weights { params, label, class, classes: class * params.weight_of_all(x.shape().c) }
    }

    /// The factor of a label, and that of all classes together; none if it is ignored.
    fn of_label(&self, label: usize) -> Option<[f64; 2]> {
        (!self.params.ignores(label))
            .then(|| [self.label * f64::from(self.params.weight(label)), self.classes])
    }

    /// The factor of a class.
    fn of_class(&self, class: usize) -> f64 {
        self.class * f64::from(self.params.weight(class))
    }

    /// The factors of classes from `c` on.
    ///
    /// # Safety
    /// There are at least `c + min(n, LANES)` classes.
    #[inline(always)]
    unsafe fn of_classes<S: Simd>(&self, simd: S, c: usize, n: usize) -> S::F32 {
        let class = simd.splat(self.class as f32);
        match self.params.class_weights {
            None => class,
            // SAFETY: there is a weight for each class.
            Some(weights) => simd.mul(class, unsafe { simd.load_up_to(weights.as_ptr().add(c), n) }),
        }
    }

    /// Whether anything is spread over all classes.
    fn smooths(&self) -> bool {
        self.params.label_smoothing != 0.0
    }
}

/// The cross-entropies of some pixels, added up.
struct Losses<'a> {
    /// The image: `classes` planes.
    x: &'a [f32],
    pixels: Pixels<'a>,
    weights: Weights<'a>,
}

impl SimdOp for Losses<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f64 {
        let Losses { x, pixels: Pixels { plane, first, labels }, weights } = self;
        // `spread` is the sum over classes of their factor times max - x.
        let of_pixel = |label: usize, logit: &dyn Fn(usize) -> f32, max: f32, sum: f32, spread: f32| {
            let Some([of_label, of_classes]) = weights.of_label(label) else { return 0.0 };
            let log = f64::from(sum).ln();
            let loss = of_label * (f64::from(max) - f64::from(logit(label)) + log);
            if weights.smooths() { loss + (of_classes * log + f64::from(spread)) } else { loss }
        };
        if let ([label], 1) = (labels, plane) {
            let peak = row_peak(simd, x);
            let mut spread = simd.splat(0.0);
            if weights.smooths() {
                for (c, x) in (0..).step_by(S::LANES).zip(x.chunks(S::LANES)) {
                    // SAFETY: classes c..c + x.len().
                    let (logits, of_classes) = unsafe {
                        (simd.load_up_to(x.as_ptr(), x.len()), weights.of_classes(simd, c, x.len()))
                    };
                    let terms = simd.mul(of_classes, simd.sub(simd.splat(peak.max), logits));
                    let terms = if x.len() < S::LANES { first_lanes(simd, terms, x.len()) } else { terms };
                    spread = simd.add(spread, terms);
                }
            }
            return of_pixel(*label, &|c| x[c], peak.max, peak.sum, simd.reduce_add(spread));
        }
        let classes = x.len() / plane;
        let mut total = 0.0;
        for (first, labels) in (first..).step_by(S::LANES).zip(labels.chunks(S::LANES)) {
            let n = labels.len();
            let at = x[first..].as_ptr();
            // SAFETY: the plane of each of the classes holds pixels first..first + n.
            let peaks = unsafe { column_peaks(simd, at, plane, classes, n) };
            let mut spread = simd.splat(0.0);
            if weights.smooths() {
                for c in 0..classes {
                    // SAFETY: as above.
                    let below = simd.sub(peaks.max, unsafe { simd.load_up_to(at.add(c * plane), n) });
                    spread = simd.mul_add(simd.splat(weights.of_class(c) as f32), below, spread);
                }
            }
            let [max, sum, spread] = [peaks.max, peaks.sum, spread].map(|v| simd.to_lanes(v));
            for (i, &label) in labels.iter().enumerate() {
                total += of_pixel(label, &|c| x[c * plane + first + i], max[i], sum[i], spread[i]);
            }
        }
        total
    }
}

/// The first `n` lanes, the others 0.
#[inline(always)]
fn first_lanes<S: Simd>(simd: S, v: S::F32, n: usize) -> S::F32 {
    let lanes = simd.to_lanes(v);
    // SAFETY: there are as many lanes as MAX_LANES, at least n.
    unsafe { simd.load_partial(lanes.as_ptr(), n.min(lanes.len())) }
}

/// For each class of some pixels `p * (factor of the label + that of all classes)`, less the factor of the class and, of the
/// label's own class, that of the label.
///
/// Whoever makes one sees to it that an image of the extents of `x` lies at `gx`, of which nobody else touches these pixels.
struct Gradients<'a> {
    x: &'a [f32],
    pixels: Pixels<'a>,
    weights: Weights<'a>,
    gx: *mut f32,
    update: Update,
}

impl SimdOp for Gradients<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Gradients { x, pixels: Pixels { plane, first, labels }, weights, gx, update } = self;
        let classes = x.len() / plane;
        if let (&[_], 1) = (labels, plane) {
            let peak = row_peak(simd, x);
            let peaks = Peak { max: simd.splat(peak.max), sum: simd.splat(peak.sum) };
            let pixels = Lanes::new(simd, peaks, labels, weights);
            let scale = simd.splat(simd.to_lanes(pixels.scale)[0]);
            let counted = simd.to_lanes(pixels.counted)[0] > 0.0;
            // SAFETY: classes c..c + n of the one pixel, in `x` and in `gx`.
            let write = || unsafe {
                for c in (0..classes).step_by(S::LANES) {
                    let n = S::LANES.min(classes - c);
                    let mut value = pixels.share(simd, simd.load_up_to(x.as_ptr().add(c), n), scale);
                    if weights.smooths() && counted {
                        value = simd.sub(value, weights.of_classes(simd, c, n));
                    }
                    update.store_up_to(simd, gx.add(c), n, value);
                }
            };
            // SAFETY: the classes of the one pixel lie side by side, in `x` and in `gx`.
            unsafe { pixels.with_labels(simd, x.as_ptr(), 1, gx, update, write) };
            return;
        }
        for (first, labels) in (first..).step_by(S::LANES).zip(labels.chunks(S::LANES)) {
            let n = labels.len();
            // SAFETY: the plane of each of the classes holds pixels first..first + n, in `x` and in `gx`.
            unsafe {
                let (x, gx) = (x[first..].as_ptr(), gx.add(first));
                let pixels = Lanes::new(simd, column_peaks(simd, x, plane, classes, n), labels, weights);
                let counted = simd.gt(pixels.counted, simd.splat(0.0));
                let write = || {
                    for c in 0..classes {
                        let logits = simd.load_up_to(x.add(c * plane), n);
                        let mut value = pixels.share(simd, logits, pixels.scale);
                        if weights.smooths() {
                            let less = simd.sub(value, simd.splat(weights.of_class(c) as f32));
                            value = simd.select(counted, less, value);
                        }
                        update.store_up_to(simd, gx.add(c * plane), n, value);
                    }
                };
                pixels.with_labels(simd, x, plane, gx, update, write);
            }
        }
    }
}

/// Up to LANES pixels, one a lane.
struct Lanes<'a, S: Simd> {
    labels: &'a [usize],
    weights: Weights<'a>,
    max: S::F32,
    /// The factor of all that is in the softmax, over the sum of the exponentials: 0 of a pixel that is ignored.
    scale: S::F32,
    /// 1, or 0 of a pixel that is ignored.
    counted: S::F32,
}

impl<'a, S: Simd> Lanes<'a, S> {
    #[inline(always)]
    fn new(simd: S, peaks: Peak<S::F32>, labels: &'a [usize], weights: Weights<'a>) -> Self {
        let (mut scale, mut counted) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
        for (i, (label, sum)) in labels.iter().zip(simd.to_lanes(peaks.sum)).enumerate() {
            let factors = weights.of_label(*label);
            counted[i] = f32::from(factors.is_some());
            // An ignored pixel, too, has NaN for a gradient if its softmax has.
            scale[i] = (factors.map_or(0.0, |[label, classes]| label + classes) / f64::from(sum)) as f32;
        }
        // SAFETY: MAX_LANES is at least LANES.
        let [scale, counted] = [scale, counted].map(|lanes| unsafe { simd.load(lanes.as_ptr()) });
        Lanes { labels, weights, max: peaks.max, scale, counted }
    }

    /// What the softmax has of the gradient.
    #[inline(always)]
    fn share(&self, simd: S, logits: S::F32, scale: S::F32) -> S::F32 {
        simd.mul(math::exp(simd, simd.sub(logits, self.max)), scale)
    }

    /// Runs `write`, which does not know of labels, and then writes or adds the gradients to the logits of the labels.
    ///
    /// # Safety
    /// The logits of class `c` of these pixels lie at `x.add(c * stride)`, their gradients likewise, and `write` touches
    /// nothing else.
    #[inline(always)]
    unsafe fn with_labels(
        &self,
        simd: S,
        x: *const f32,
        stride: usize,
        gx: *mut f32,
        update: Update,
        write: impl FnOnce(),
    ) {
        let (mut logits, mut less, mut old) = ([0.0; MAX_LANES], [0.0; MAX_LANES], [0.0; MAX_LANES]);
        let places =
            || self.labels.iter().enumerate().filter(|(_, label)| !self.weights.params.ignores(**label));
        for (i, &label) in places() {
            let [of_label, _] = self.weights.of_label(label).unwrap_or_default();
            less[i] = (of_label + self.weights.of_class(label)) as f32;
            // SAFETY: the label is a class, and i one of the pixels.
            unsafe {
                logits[i] = *x.add(label * stride + i);
                if update == Update::Accumulate {
                    old[i] = *gx.add(label * stride + i);
                }
            }
        }
        // SAFETY: MAX_LANES is at least LANES.
        let [logits, less] = [logits, less].map(|lanes| unsafe { simd.load(lanes.as_ptr()) });
        let values = simd.to_lanes(simd.sub(self.share(simd, logits, self.scale), less));
        write();
        for (i, &label) in places() {
            // SAFETY: as above.
            unsafe {
                *gx.add(label * stride + i) = match update {
                    Update::Write => values[i],
                    Update::Accumulate => old[i] + values[i],
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Isa;
    use crate::tensor::Shape4;

    const INF: f32 = f32::INFINITY;
    const NAN: f32 = f32::NAN;

    fn same(a: f32, b: f32) -> bool {
        a == b || a.is_nan() && b.is_nan()
    }

    #[test]
    fn limits_are_those_of_pytorch() -> Result<()> {
        let params = CrossEntropy::default();
        for isa in Isa::available() {
            let cpu = Cpu::with_isa(isa)?;
            for (x, expected) in [
                ([-INF, 1.0], INF),
                ([INF, 1.0], NAN),
                ([NAN, 1.0], NAN),
                ([1.0, -INF], 0.0),
                ([1e4, -1e4], 0.0),
                ([-1e4, 1e4], 2e4),
            ] {
                // The one pixel alone, and as one of two.
                let alone = Tensor::from_vec(Shape4::new(1, 2, 1, 1), x.to_vec())?;
                assert!(same(cpu.cross_entropy(&alone, &[0], params)?, expected), "{isa} {x:?}");
                let twice = Tensor::from_vec(Shape4::new(1, 2, 1, 2), vec![x[0], x[0], x[1], x[1]])?;
                assert!(same(cpu.cross_entropy(&twice, &[0, 0], params)?, expected), "{isa} {x:?}");
            }
            let none = Tensor::zeros(Shape4::new(0, 2, 1, 1))?;
            assert!(cpu.cross_entropy(&none, &[], params)?.is_nan());
        }
        Ok(())
    }

    #[test]
    fn where_nothing_counts_the_loss_is_nan_and_its_gradient_zero() -> Result<()> {
        for isa in Isa::available() {
            let cpu = Cpu::with_isa(isa)?;
            for label_smoothing in [0.0, 0.1] {
                let x = Tensor::from_fn(Shape4::new(2, 3, 1, 5), |[n, c, _, w]| (n + 2 * c + w) as f32)?;
                let labels = [7; 10];
                let params =
                    CrossEntropy { label_smoothing, ignore_index: Some(7), ..CrossEntropy::default() };
                assert!(cpu.cross_entropy(&x, &labels, params)?.is_nan());
                let mut gx = Tensor::zeros(x.shape())?;
                gx.data_mut().fill(NAN);
                let write = Update::Write;
                cpu.cross_entropy_backward_into(x.view(), &labels, params, 1.0, gx.view_mut(), write)?;
                assert!(gx.data().iter().all(|&g| g == 0.0), "{isa} {label_smoothing} {gx:?}");
            }
        }
        Ok(())
    }
}
