//! The gradients of batch normalisation: per channel the sums of `gy`, of `gy * (x - mean)` and, for what the mean has lost to
//! its rounding, of `x - mean`: those of strips (`batch_norm_backward_sums.wgsl`), then of all, of which the gradients to gamma
//! and beta are made, and the terms of that to the input (`batch_norm_backward_total.wgsl`), which are applied to every
//! element (`batch_norm_backward.wgsl`).

use std::ops::Range;

use super::{Gpu, VEC4};
use crate::backend::expect_shape;
use crate::error::Result;
use crate::gpu::buffer::{GpuView, GpuViewMut, words};
use crate::gpu::parts::{Part, by_element};
use crate::gpu::recorder::{Dispatch, WORKGROUP};
use crate::gpu::reduce::{LANES, Partials, STRIP, Strips, halves, lanes};
use crate::gpu::wgsl::{Kernel, Shader, shader};
use crate::shape::Update;
use crate::shape::batch_norm::{check_eps, expect_per_channel, training_count};
use crate::training::{BatchNormGradients, Moments};

const OP: &str = "batch_norm_backward";

const SUMS: Shader = shader!("batch_norm_backward_sums", 3, 1, "index", "reduce");
const TOTAL: Shader = shader!("batch_norm_backward_total", 4, 3, "update", "index", "reduce", "math");
const APPLY: Shader = shader!("batch_norm_backward", 3, 1, "update", "index");

fn sums(lanes: u32) -> Kernel {
    Kernel::new(SUMS, [("LANES", lanes)])
}

fn total(lanes: u32, train: bool, update: Update) -> Kernel {
    Kernel::new(TOTAL, [("LANES", lanes), ("TRAIN", train.into()), update.constant()])
}

fn apply(train: bool, update: Update) -> Kernel {
    Kernel::new(APPLY, [("TRAIN", train.into()), update.constant()])
}

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    let ways = || [false, true].into_iter().flat_map(|train| Update::ALL.map(|update| (train, update)));
    let totals = move |lanes| ways().map(move |(train, update)| total(lanes, train, update));
    let applied = ways().map(|(train, update)| apply(train, update));
    LANES.into_iter().map(sums).chain(LANES.into_iter().flat_map(totals)).chain(applied)
}

/// Whose mean and deviation `x` was normalised by.
#[derive(Clone, Copy)]
enum By {
    /// Those of the batch, of so many elements per channel.
    Batch(usize),
    /// Given ones.
    Given { eps: f32 },
}

/// Operands and gradients, of one number of channels.
struct Operands<'a> {
    x: GpuView<'a>,
    gy: GpuView<'a>,
    gamma: GpuView<'a>,
    mean: GpuView<'a>,
    /// One over the deviation or, if it is given, the variance.
    spread: GpuView<'a>,
    to: BatchNormGradients<GpuView<'a>>,
}

impl<'a> Operands<'a> {
    fn channels(&self, range: &Range<usize>) -> Result<Self> {
        let of = |view: GpuView<'a>| view.channels(range.clone());
        let to = BatchNormGradients { x: of(self.to.x)?, gamma: of(self.to.gamma)?, beta: of(self.to.beta)? };
        Ok(Operands {
            x: of(self.x)?,
            gy: of(self.gy)?,
            gamma: of(self.gamma)?,
            mean: of(self.mean)?,
            spread: of(self.spread)?,
            to,
        })
    }
}

impl Gpu {
    pub(in crate::gpu) fn batch_norm_train_backward_into(
        &self,
        x: GpuView<'_>,
        gamma: GpuView<'_>,
        moments: Moments<GpuView<'_>>,
        gy: GpuView<'_>,
        gradients: BatchNormGradients<GpuViewMut<'_>>,
        update: Update,
    ) -> Result<()> {
        let c = x.shape.c;
        expect_per_channel("gamma", gamma.shape, c)?;
        expect_per_channel("mean of the batch", moments.mean.shape, c)?;
        expect_per_channel("inverse deviation of the batch", moments.inv_std.shape, c)?;
        // Of an empty batch the sums are 0, over whatever.
        let by = By::Batch(training_count(x.shape)?.unwrap_or(1));
        let to = written(x, gy, gradients)?;
        let operands = Operands { x, gy, gamma, mean: moments.mean, spread: moments.inv_std, to };
        self.batch_norm_gradients(&operands, by, update)
    }

    #[expect(clippy::too_many_arguments, reason = "each is an operand of the operator or a gradient")]
    pub(in crate::gpu) fn batch_norm_backward_into(
        &self,
        x: GpuView<'_>,
        gamma: GpuView<'_>,
        eps: f32,
        mean: GpuView<'_>,
        var: GpuView<'_>,
        gy: GpuView<'_>,
        gradients: BatchNormGradients<GpuViewMut<'_>>,
        update: Update,
    ) -> Result<()> {
        let c = x.shape.c;
        check_eps(eps)?;
        expect_per_channel("gamma", gamma.shape, c)?;
        expect_per_channel("mean", mean.shape, c)?;
        expect_per_channel("variance", var.shape, c)?;
        let to = written(x, gy, gradients)?;
        let operands = Operands { x, gy, gamma, mean, spread: var, to };
        self.batch_norm_gradients(&operands, By::Given { eps }, update)
    }

    fn batch_norm_gradients(&self, operands: &Operands<'_>, by: By, update: Update) -> Result<()> {
        let Operands { x, gy, gamma, mean, spread, to } = operands;
        let c = x.shape.c;
        let Strips { parts, count } = Strips::new(self, &[*x, *gy]);
        if count.max(1) * c * VEC4 > self.reach() && c > 1 {
            return halves(c)
                .iter()
                .try_for_each(|half| self.batch_norm_gradients(&operands.channels(half)?, by, update));
        }
        let sums = Partials::new(self, OP, count * c, VEC4)?;
        for (part, first) in &parts {
            self.batch_norm_backward_sums(operands, part, *first, &sums)?;
        }
        let (train, divisor, eps) = match by {
            By::Batch(elements) => (true, elements as f32, 0.0),
            By::Given { eps } => (false, 1.0, eps),
        };
        let terms = Partials::new(self, OP, c, VEC4)?;
        let [gamma, mean, spread] = [gamma, mean, spread].map(|view| view.per_channel(self));
        let [gamma_gradient, beta_gradient] = [&to.gamma, &to.beta].map(|view| view.per_channel(self));
        let [channels, strips] = words(OP, [c, count])?;
        let firsts =
            words(OP, [gamma, mean, spread, gamma_gradient, beta_gradient].map(|slice| slice.first))?;
        self.dispatch(&Dispatch {
            op: OP,
            kernel: total(lanes(count), train, update),
            params: &[&[channels, strips, divisor.to_bits(), eps.to_bits()], &firsts[..]].concat(),
            reads: &[sums.slice(self), gamma, mean, spread],
            writes: &[terms.slice(self), gamma_gradient, beta_gradient],
            workgroups: c,
        })?;
        self.batch_norm_to_input(operands, &terms, apply(train, update))
    }

    /// The sums of the strips of a part, of which the first becomes entry `first`.
    fn batch_norm_backward_sums(
        &self,
        Operands { x, gy, mean, .. }: &Operands<'_>,
        part: &Part,
        first: usize,
        to: &Partials,
    ) -> Result<()> {
        let (channels, elements) = (part.channels.len(), part.of_channel());
        let (from_x, from_gy) = (x.part(self, part), gy.part(self, part));
        let mean = mean.channels(part.channels.clone())?.per_channel(self);
        let count = elements.div_ceil(STRIP) * channels;
        let sizes = [
            count,
            channels,
            x.shape.c,
            part.elements.len(),
            elements,
            STRIP,
            first,
            mean.first,
            from_x.first,
            x.batch_stride,
            from_gy.first,
            gy.batch_stride,
        ];
        self.dispatch(&Dispatch {
            op: OP,
            kernel: sums(lanes(elements)),
            params: &words(OP, sizes)?,
            reads: &[from_x, from_gy, mean],
            writes: &[to.slice(self)],
            workgroups: count,
        })
    }

    fn batch_norm_to_input(
        &self,
        Operands { x, gy, to, .. }: &Operands<'_>,
        terms: &Partials,
        kernel: Kernel,
    ) -> Result<()> {
        let views = [*x, *gy, to.x];
        for part in by_element(self, &views) {
            let [from_x, from_gy, to_x] = views.map(|view| view.part(self, &part));
            let count = part.count();
            let sizes = [
                count,
                part.image(),
                part.elements.len(),
                part.channels.start,
                from_x.first,
                x.batch_stride,
                from_gy.first,
                gy.batch_stride,
                to_x.first,
                to.x.batch_stride,
            ];
            self.dispatch(&Dispatch {
                op: OP,
                kernel,
                params: &words(OP, sizes)?,
                reads: &[from_x, from_gy, terms.slice(self)],
                writes: &[to_x],
                workgroups: count.div_ceil(WORKGROUP),
            })?;
        }
        Ok(())
    }
}

/// The gradients, if they and `gy` are of the shapes that belong to `x`.
fn written<'a>(
    x: GpuView<'_>,
    gy: GpuView<'_>,
    gradients: BatchNormGradients<GpuViewMut<'a>>,
) -> Result<BatchNormGradients<GpuView<'a>>> {
    let to = BatchNormGradients { x: gradients.x.0, gamma: gradients.gamma.0, beta: gradients.beta.0 };
    expect_shape(OP, "output gradient shape", x.shape, gy.shape)?;
    expect_shape(OP, "input gradient shape", x.shape, to.x.shape)?;
    expect_per_channel("gradient of gamma", to.gamma.shape, x.shape.c)?;
    expect_per_channel("gradient of beta", to.beta.shape, x.shape.c)?;
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Affine;
    use crate::gpu::testing::{Gapped, close, devices, noise, same};
    use crate::tensor::{Shape4, Tensor};
    use crate::training::Training;
    use crate::{BatchNorm, Cpu};

    const SHAPES: [[usize; 4]; 7] = [
        [2, 3, 4, 5],
        [9, 1, 1, 1],
        [1, 7, 1, 2],
        [40, 30, 1, 1],
        [3, 300, 1, 2],
        [5, 3, 20, 31],
        [0, 2, 3, 3],
    ];
    const EPS: f32 = 1e-3;

    fn scaled(shape: Shape4, seed: u32, factor: f32, offset: f32) -> Tensor {
        let mut x = noise(shape, seed);
        x.data_mut().iter_mut().for_each(|v| *v = *v * factor + offset);
        x
    }

    /// The gradients to x, gamma and beta, written over what is in `to`, or added.
    fn gradients(
        gpu: &Gpu,
        mut to: [Gapped; 3],
        update: Update,
        run: impl Fn(BatchNormGradients<GpuViewMut<'_>>, Update) -> Result<()>,
    ) -> [Tensor; 3] {
        let [x, gamma, beta] = to.each_mut().map(Gapped::view_mut);
        run(BatchNormGradients { x, gamma, beta }, update).unwrap();
        to.map(|g| g.download(gpu))
    }

    /// Written twice, and added to something; `expected` are those of the CPU.
    fn check(
        gpu: &Gpu,
        skip: usize,
        expected: &[Tensor; 3],
        run: impl Fn(BatchNormGradients<GpuViewMut<'_>>, Update) -> Result<()>,
    ) {
        let blank = || expected.each_ref().map(|t| Gapped::blank(gpu, t.shape(), skip));
        let written = gradients(gpu, blank(), Update::Write, &run);
        let again = gradients(gpu, blank(), Update::Write, &run);
        let before = expected.each_ref().map(|t| noise(t.shape(), 55));
        let old = before.each_ref().map(|t| Gapped::new(gpu, t, skip));
        let sums = gradients(gpu, old, Update::Accumulate, &run);
        for i in 0..3 {
            let (got, want) = (&written[i], &expected[i]);
            assert!(close(got, want, 2e-5), "{i} {}: {got:?} {want:?}", expected[0].shape());
            assert!(same(&again[i], got.data()));
            let sum: Vec<f32> = before[i].data().iter().zip(got.data()).map(|(b, g)| b + g).collect();
            assert!(same(&sums[i], &sum), "{i}");
        }
    }

    fn of_cpu(
        shape: Shape4,
        run: impl FnOnce(BatchNormGradients<crate::TensorViewMut<'_>>) -> Result<()>,
    ) -> Result<[Tensor; 3]> {
        let vector = Shape4::new(1, shape.c, 1, 1);
        let mut to = [Tensor::zeros(shape)?, Tensor::zeros(vector)?, Tensor::zeros(vector)?];
        let [x, gamma, beta] = to.each_mut().map(Tensor::view_mut);
        run(BatchNormGradients { x, gamma, beta })?;
        Ok(to)
    }

    #[test]
    fn gradients_are_those_of_the_cpu() -> Result<()> {
        let cpu = Cpu::new()?;
        for shape in SHAPES.map(Shape4::from) {
            for offset in [0.0, 1e3] {
                let (x, gy) = (scaled(shape, 1, 3.0, offset), noise(shape, 2));
                let vector = |seed, offset| scaled(Shape4::new(1, shape.c, 1, 1), seed, 0.5, offset);
                let (gamma, beta, given_mean, var) =
                    (vector(3, 0.1), vector(4, 0.0), vector(5, offset), vector(6, 1.0));
                let [mut mean, mut inv_std] = [0, 1].map(|_| vector(7, 0.0));
                let norm = BatchNorm { gamma: gamma.data(), beta: beta.data(), eps: EPS };
                let kept = Moments { mean: mean.data_mut(), inv_std: inv_std.data_mut() };
                let mut y = Tensor::zeros(shape)?;
                cpu.batch_norm_moments_into(x.view(), norm, None, kept, y.view_mut())?;
                let moments = Moments { mean: mean.data(), inv_std: inv_std.data() };
                let trained = of_cpu(shape, |to| {
                    let write = Update::Write;
                    cpu.batch_norm_train_backward_into(x.view(), gamma.data(), moments, gy.view(), to, write)
                })?;
                let (center, spread) = (given_mean.data(), var.data());
                let given = of_cpu(shape, |to| {
                    let (x, gy, write) = (x.view(), gy.view(), Update::Write);
                    cpu.batch_norm_backward_into(x, gamma.data(), EPS, center, spread, gy, to, write)
                })?;
                for gpu in devices() {
                    for skip in [0, 5] {
                        let of = |t| Gapped::new(gpu, t, skip);
                        let (x, gy, gamma, beta) = (of(&x), of(&gy), of(&gamma), of(&beta));
                        let (given_mean, var) = (of(&given_mean), of(&var));
                        let mut mean_of_batch = Gapped::blank(gpu, mean.shape(), skip);
                        let mut inv_std_of_batch = Gapped::blank(gpu, mean.shape(), skip);
                        let norm = Affine { gamma: gamma.view(), beta: beta.view(), eps: EPS };
                        let kept =
                            Moments { mean: mean_of_batch.view_mut(), inv_std: inv_std_of_batch.view_mut() };
                        let mut normal = Gapped::blank(gpu, shape, skip);
                        gpu.batch_norm_moments_into(x.view(), norm, None, kept, normal.view_mut())?;
                        if shape.n > 0 {
                            assert!(close(&normal.download(gpu), &y, 2e-6));
                            assert!(close(&mean_of_batch.download(gpu), &mean, 4e-7), "{shape} {offset}");
                            assert!(close(&inv_std_of_batch.download(gpu), &inv_std, 1e-6), "{shape}");
                        }
                        check(gpu, skip, &trained, |to, update| {
                            let (mean, inv_std) = (mean_of_batch.view(), inv_std_of_batch.view());
                            let (x, gamma, gy) = (x.view(), gamma.view(), gy.view());
                            let moments = Moments { mean, inv_std };
                            gpu.batch_norm_train_backward_into(x, gamma, moments, gy, to, update)
                        });
                        check(gpu, skip, &given, |to, update| {
                            let (mean, var) = (given_mean.view(), var.view());
                            let (x, gamma, gy) = (x.view(), gamma.view(), gy.view());
                            gpu.batch_norm_backward_into(x, gamma, EPS, mean, var, gy, to, update)
                        });
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_refused() -> Result<()> {
        let Some(gpu) = devices().first() else { return Ok(()) };
        let (one, shape, vector) =
            (Shape4::new(1, 2, 1, 1), Shape4::new(2, 2, 3, 3), Shape4::new(1, 2, 1, 1));
        let blank = |shape| Gapped::blank(gpu, shape, 0);
        let run = |x: Shape4, gamma: Shape4, eps: Option<f32>| {
            let (x, gamma, spread, center) = (blank(x), blank(gamma), blank(vector), blank(vector));
            let (gy, mut gx, mut to_gamma, mut to_beta) =
                (blank(shape), blank(shape), blank(vector), blank(vector));
            let to =
                BatchNormGradients { x: gx.view_mut(), gamma: to_gamma.view_mut(), beta: to_beta.view_mut() };
            let (x, gamma, gy, write) = (x.view(), gamma.view(), gy.view(), Update::Write);
            let (mean, spread) = (center.view(), spread.view());
            match eps {
                Some(eps) => gpu.batch_norm_backward_into(x, gamma, eps, mean, spread, gy, to, write),
                None => {
                    let moments = Moments { mean, inv_std: spread };
                    gpu.batch_norm_train_backward_into(x, gamma, moments, gy, to, write)
                }
            }
        };
        run(shape, vector, None)?;
        run(shape, vector, Some(0.0))?;
        for (x, gamma, eps) in
            [(one, vector, None), (shape, shape, None), (one, vector, Some(0.0)), (shape, vector, Some(-1.0))]
        {
            assert!(matches!(run(x, gamma, eps), Err(crate::Error::Invalid { .. })), "{x} {gamma} {eps:?}");
        }
        Ok(())
    }
}
