//! Losses of pairs of elements, and the two simplest: the mean squared and the mean absolute error.

use super::{Gpu, UPDATES, accumulate};
use crate::backend::{SCALAR, expect_shape};
use crate::error::Result;
use crate::gpu::buffer::{Buffer, GpuView, GpuViewMut, words};
use crate::gpu::parts::{Part, by_element, elementwise};
use crate::gpu::recorder::{Dispatch, Slice, WORKGROUP};
use crate::gpu::reduce::{LANES, Partials, STRIP, divisor, lanes};
use crate::gpu::wgsl::{Kernel, Shader, shader};
use crate::shape::Update;

const SUMS: Shader = shader!("loss_pairs", 2, 1, "index", "reduce");
const BACKWARD: Shader = shader!("loss_pairs_backward", 2, 1, "index");

fn sums(lanes: u32, absolute: bool) -> Kernel {
    Kernel::new(SUMS, [("LANES", lanes), ("ABSOLUTE", absolute.into())])
}

fn backward(absolute: bool, update: Update) -> Kernel {
    Kernel::new(BACKWARD, [("ABSOLUTE", absolute.into()), ("ACCUMULATE", accumulate(update))])
}

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    let of = |absolute| {
        let sums = LANES.map(|lanes| sums(lanes, absolute));
        sums.into_iter().chain(UPDATES.map(|update| backward(absolute, update)))
    };
    [false, true].into_iter().flat_map(of)
}

/// Weights in memory of the GPU, one per channel of planes of so many elements.
pub(super) struct Weights {
    pub buffer: Buffer,
    pub channels: usize,
    pub plane: usize,
}

impl Weights {
    fn slice(&self, gpu: &Gpu) -> Slice<'_> {
        Slice::new(gpu, &self.buffer, 0, self.channels)
    }
}

impl Gpu {
    pub(in crate::gpu) fn mse_into(
        &self,
        x: GpuView<'_>,
        target: GpuView<'_>,
        y: GpuViewMut<'_>,
    ) -> Result<()> {
        self.mean_of_pairs("mse", |lanes| sums(lanes, false), x, target, None, y)
    }

    pub(in crate::gpu) fn l1_into(
        &self,
        x: GpuView<'_>,
        target: GpuView<'_>,
        y: GpuViewMut<'_>,
    ) -> Result<()> {
        self.mean_of_pairs("l1", |lanes| sums(lanes, true), x, target, None, y)
    }

    pub(in crate::gpu) fn mse_backward_into(
        &self,
        x: GpuView<'_>,
        target: GpuView<'_>,
        gy: f32,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        let factor = 2.0 * share(gy, x);
        self.map_pairs("mse", backward(false, update), x, target, None, factor as f32, gx)
    }

    pub(in crate::gpu) fn l1_backward_into(
        &self,
        x: GpuView<'_>,
        target: GpuView<'_>,
        gy: f32,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.map_pairs("l1", backward(true, update), x, target, None, share(gy, x) as f32, gx)
    }

    /// The mean of what a kernel of so many lanes adds up.
    pub(super) fn mean_of_pairs(
        &self,
        op: &'static str,
        kernel: impl Fn(u32) -> Kernel,
        x: GpuView<'_>,
        target: GpuView<'_>,
        weights: Option<&Weights>,
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
            let (params, reads) = self.weighted(op, words(op, sizes)?.to_vec(), [a, b], weights, part)?;
            self.dispatch(&Dispatch {
                op,
                kernel: kernel(lanes(count)),
                params: &params,
                reads: &reads,
                writes: &[sums.slice(self)],
                workgroups: strips,
            })?;
            first += strips;
        }
        self.mean(op, sums.slice(self), first, divisor(len), y.0)
    }

    /// The gradient that a kernel gives for each element, times the factor.
    #[expect(clippy::too_many_arguments, reason = "each is an operand of the operator or says how")]
    pub(super) fn map_pairs(
        &self,
        op: &'static str,
        kernel: Kernel,
        x: GpuView<'_>,
        target: GpuView<'_>,
        weights: Option<&Weights>,
        factor: f32,
        gx: GpuViewMut<'_>,
    ) -> Result<()> {
        expect_shape(op, "target shape", x.shape(), target.shape())?;
        expect_shape(op, "gradient shape", x.shape(), gx.shape())?;
        let views = elementwise([x, target, gx.0]);
        for part in by_element(self, &views) {
            let [a, b, to] = views.map(|view| view.part(self, &part));
            let [a_stride, b_stride, to_stride] = views.map(|view| view.batch_stride);
            let count = part.count();
            let sizes = [part.image(), count, a.first, a_stride, b.first, b_stride, to.first, to_stride];
            let mut params = words(op, sizes)?.to_vec();
            params.push(factor.to_bits());
            let (params, reads) = self.weighted(op, params, [a, b], weights, &part)?;
            self.dispatch(&Dispatch {
                op,
                kernel,
                params: &params,
                reads: &reads,
                writes: &[to],
                workgroups: count.div_ceil(WORKGROUP),
            })?;
        }
        Ok(())
    }

    /// Parameters and buffers of a kernel of pairs, with those of its weights, if it has any.
    fn weighted<'a>(
        &self,
        op: &'static str,
        mut params: Vec<u32>,
        pair: [Slice<'a>; 2],
        weights: Option<&'a Weights>,
        part: &Part,
    ) -> Result<(Vec<u32>, Vec<Slice<'a>>)> {
        let mut reads = pair.to_vec();
        if let Some(weights) = weights {
            params.extend(words(op, [weights.channels, weights.plane, part.channels.start])?);
            reads.push(weights.slice(self));
        }
        Ok((params, reads))
    }
}

/// The gradient to each element's own loss, where the loss is the mean over all of `x`.
pub(super) fn share(gy: f32, x: GpuView<'_>) -> f64 {
    f64::from(gy) / (x.shape.n * x.shape.image_len()) as f64
}
