//! Batch normalisation: `y = gamma * (x - mean) / sqrt(var + eps) + beta`, per channel.
//!
//! A scale per channel, made from a given mean and variance (`batch_norm_given.wgsl`) or, in training, from those of the
//! batch, is applied to every element (`batch_norm.wgsl`). The statistics of a batch:
//!
//! 1. A workgroup reads a strip of a channel twice (the second time from a cache): its mean, then the squares around it
//!    (`batch_norm_moments.wgsl`).
//! 2. A workgroup joins the moments of the strips of a channel, in order (`batch_norm_train.wgsl`): the squares around the
//!    mean of all are those around the means of the strips, and those of these means (T. F. Chan, G. H. Golub and
//!    R. J. LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979).
//!
//! So nothing cancels, however large the mean, which is kept as a number near it and the small rest. The gradients are in
//! [`backward`].

mod backward;

use super::Gpu;
use super::activation::code;
use super::buffer::{GpuView, GpuViewMut, words};
use super::parts::{Part, by_element};
use super::recorder::{Dispatch, WORKGROUP};
use super::reduce::{LANES, Partials, STRIP, Strips, halves, lanes};
use super::wgsl::{Kernel, Shader, shader};
use crate::backend::{Affine, Tracked, expect_shape};
use crate::error::Result;
use crate::shape::Activation;
use crate::shape::batch_norm::{OP, check_eps, check_momentum, expect_per_channel, training_count};
use crate::training::Moments;

const APPLY: Shader = shader!("batch_norm", 2, 1, "index", "epilogue", "math");
const GIVEN: Shader = shader!("batch_norm_given", 4, 1, "batch_norm_scale", "index", "math");
const MOMENTS: Shader = shader!("batch_norm_moments", 1, 1, "index", "reduce", "math");
const TRAIN: Shader = shader!("batch_norm_train", 3, 2, "batch_norm_scale", "index", "reduce", "math");
const TRACK: Shader = shader!("batch_norm_track", 1, 2, "index");
const KEEP: Shader = shader!("batch_norm_keep", 1, 2, "index");

/// Words of what is known of a strip or of a channel.
const VEC4: usize = 4;

fn reducing(shader: Shader, lanes: u32) -> Kernel {
    Kernel::new(shader, [("LANES", lanes)])
}

fn apply(f: Activation) -> Kernel {
    Kernel::new(APPLY, [("ACTIVATION", code(f).0)])
}

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    let reducing = |shader| LANES.into_iter().map(move |lanes| reducing(shader, lanes));
    let others = [GIVEN, TRACK, KEEP].into_iter().map(|shader| Kernel::new(shader, []));
    others
        .chain(Activation::ALL.into_iter().map(apply))
        .chain(reducing(MOMENTS))
        .chain(reducing(TRAIN))
        .chain(backward::kernels())
}

impl Gpu {
    pub(super) fn batch_norm_into(
        &self,
        x: GpuView<'_>,
        norm: Affine<GpuView<'_>>,
        mean: GpuView<'_>,
        var: GpuView<'_>,
        y: GpuViewMut<'_>,
    ) -> Result<()> {
        let shape = x.shape();
        check_affine(&norm, shape.c)?;
        expect_per_channel("mean", mean.shape(), shape.c)?;
        expect_per_channel("variance", var.shape(), shape.c)?;
        expect_shape(OP, "output shape", shape, y.shape())?;
        if shape.n * shape.image_len() == 0 {
            return Ok(());
        }
        self.normalise(x, norm, mean, var, y.0)
    }

    fn normalise(
        &self,
        x: GpuView<'_>,
        norm: Affine<GpuView<'_>>,
        mean: GpuView<'_>,
        var: GpuView<'_>,
        y: GpuView<'_>,
    ) -> Result<()> {
        let c = x.shape.c;
        if c * VEC4 > self.reach() && c > 1 {
            return halves(c).into_iter().try_for_each(|half| {
                let of = |view| GpuView::channels(view, half.clone());
                let norm = Affine { gamma: of(norm.gamma)?, beta: of(norm.beta)?, ..norm };
                self.normalise(of(x)?, norm, of(mean)?, of(var)?, of(y)?)
            });
        }
        let scales = Partials::new(self, OP, c, VEC4)?;
        let given = [norm.gamma, norm.beta, mean, var].map(|view| view.per_channel(self));
        let [gamma, beta, mean, var] = given.map(|slice| slice.first);
        let [channels, gamma, beta, mean, var] = words(OP, [c, gamma, beta, mean, var])?;
        self.dispatch(&Dispatch {
            op: OP,
            kernel: Kernel::new(GIVEN, []),
            params: &[channels, norm.eps.to_bits(), gamma, beta, mean, var],
            reads: &given,
            writes: &[scales.slice(self)],
            workgroups: c.div_ceil(WORKGROUP),
        })?;
        self.apply_scales(x, &scales, Activation::Identity, y)
    }

    pub(super) fn batch_norm_train_into(
        &self,
        x: GpuView<'_>,
        norm: Affine<GpuView<'_>>,
        running: Option<Tracked<GpuViewMut<'_>>>,
        y: GpuViewMut<'_>,
    ) -> Result<()> {
        self.batch_norm_of_batch(x, norm, running, None, Activation::Identity, y)
    }

    pub(super) fn batch_norm_activation_into(
        &self,
        x: GpuView<'_>,
        norm: Affine<GpuView<'_>>,
        running: Option<Tracked<GpuViewMut<'_>>>,
        moments: Moments<GpuViewMut<'_>>,
        f: Activation,
        y: GpuViewMut<'_>,
    ) -> Result<()> {
        f.validate()?;
        expect_per_channel("mean of the batch", moments.mean.shape(), x.shape.c)?;
        expect_per_channel("inverse deviation of the batch", moments.inv_std.shape(), x.shape.c)?;
        let kept = Moments { mean: moments.mean.0, inv_std: moments.inv_std.0 };
        self.batch_norm_of_batch(x, norm, running, Some(kept), f, y)
    }

    fn batch_norm_of_batch(
        &self,
        x: GpuView<'_>,
        norm: Affine<GpuView<'_>>,
        running: Option<Tracked<GpuViewMut<'_>>>,
        kept: Option<Moments<GpuView<'_>>>,
        f: Activation,
        y: GpuViewMut<'_>,
    ) -> Result<()> {
        let shape = x.shape();
        check_affine(&norm, shape.c)?;
        expect_shape(OP, "output shape", shape, y.shape())?;
        let running = running.map(|r| Tracked { mean: r.mean.0, var: r.var.0, momentum: r.momentum });
        if let Some(running) = &running {
            expect_per_channel("running mean", running.mean.shape(), shape.c)?;
            expect_per_channel("running variance", running.var.shape(), shape.c)?;
            check_momentum(running.momentum)?;
        }
        match training_count(shape)? {
            Some(count) if shape.c > 0 => {
                self.normalise_by_batch((x, y.0), count, norm, running.as_ref(), kept, f)
            }
            _ => Ok(()),
        }
    }

    fn normalise_by_batch(
        &self,
        (x, y): (GpuView<'_>, GpuView<'_>),
        count: usize,
        norm: Affine<GpuView<'_>>,
        running: Option<&Tracked<GpuView<'_>>>,
        kept: Option<Moments<GpuView<'_>>>,
        f: Activation,
    ) -> Result<()> {
        let c = x.shape.c;
        let Strips { parts, count: strips } = Strips::new(self, &[x]);
        if strips * c * VEC4 > self.reach() && c > 1 {
            return halves(c).into_iter().try_for_each(|half| {
                let of = |view| GpuView::channels(view, half.clone());
                let norm = Affine { gamma: of(norm.gamma)?, beta: of(norm.beta)?, ..norm };
                let running = match running {
                    Some(r) => Some(Tracked { mean: of(r.mean)?, var: of(r.var)?, momentum: r.momentum }),
                    None => None,
                };
                let kept = match kept {
                    Some(m) => Some(Moments { mean: of(m.mean)?, inv_std: of(m.inv_std)? }),
                    None => None,
                };
                self.normalise_by_batch((of(x)?, of(y)?), count, norm, running.as_ref(), kept, f)
            });
        }
        let moments = Partials::new(self, OP, strips * c, VEC4)?;
        for (part, first) in &parts {
            self.moments(x, part, *first, c, &moments)?;
        }
        let (scales, statistics) = (Partials::new(self, OP, c, VEC4)?, Partials::new(self, OP, c, VEC4)?);
        let (gamma, beta) = (norm.gamma.per_channel(self), norm.beta.per_channel(self));
        let [channels, strips_word, gamma_first, beta_first] =
            words(OP, [c, strips, gamma.first, beta.first])?;
        let [count, one_less] = [count, count - 1].map(|count| (count as f32).to_bits());
        self.dispatch(&Dispatch {
            op: OP,
            kernel: reducing(TRAIN, lanes(strips)),
            params: &[channels, strips_word, count, one_less, norm.eps.to_bits(), gamma_first, beta_first],
            reads: &[moments.slice(self), gamma, beta],
            writes: &[scales.slice(self), statistics.slice(self)],
            workgroups: c,
        })?;
        if let Some(running) = running {
            self.track(running, &statistics)?;
        }
        if let Some(moments) = kept {
            self.keep(moments, &statistics)?;
        }
        self.apply_scales(x, &scales, f, y)
    }

    /// The moments of the strips of a part, of which the first becomes entry `first`; strips of one channel lie `c` entries
    /// apart.
    fn moments(&self, x: GpuView<'_>, part: &Part, first: usize, c: usize, moments: &Partials) -> Result<()> {
        let (plane, elements) = (part.elements.len(), part.of_channel());
        let slice = x.part(self, part);
        let count = elements.div_ceil(STRIP) * part.channels.len();
        let sizes =
            [count, part.channels.len(), c, plane, elements, STRIP, first, slice.first, x.batch_stride];
        self.dispatch(&Dispatch {
            op: OP,
            kernel: reducing(MOMENTS, lanes(elements)),
            params: &words(OP, sizes)?,
            reads: &[slice],
            writes: &[moments.slice(self)],
            workgroups: count,
        })
    }

    fn track(&self, running: &Tracked<GpuView<'_>>, statistics: &Partials) -> Result<()> {
        let (mean, var, c) =
            (running.mean.per_channel(self), running.var.per_channel(self), running.mean.shape.c);
        let [channels, mean_first, var_first] = words(OP, [c, mean.first, var.first])?;
        let [momentum, rest] =
            [running.momentum, (1.0 - f64::from(running.momentum)) as f32].map(f32::to_bits);
        self.dispatch(&Dispatch {
            op: OP,
            kernel: Kernel::new(TRACK, []),
            params: &[channels, momentum, rest, mean_first, var_first],
            reads: &[statistics.slice(self)],
            writes: &[mean, var],
            workgroups: c.div_ceil(WORKGROUP),
        })
    }

    fn keep(&self, moments: Moments<GpuView<'_>>, statistics: &Partials) -> Result<()> {
        let (mean, inv_std, c) =
            (moments.mean.per_channel(self), moments.inv_std.per_channel(self), moments.mean.shape.c);
        self.dispatch(&Dispatch {
            op: OP,
            kernel: Kernel::new(KEEP, []),
            params: &words(OP, [c, mean.first, inv_std.first])?,
            reads: &[statistics.slice(self)],
            writes: &[mean, inv_std],
            workgroups: c.div_ceil(WORKGROUP),
        })
    }

    fn apply_scales(&self, x: GpuView<'_>, scales: &Partials, f: Activation, y: GpuView<'_>) -> Result<()> {
        let (_, parameter) = code(f);
        for part in by_element(self, &[x, y]) {
            let (from, to) = (x.part(self, &part), y.part(self, &part));
            let count = part.count();
            let sizes = [
                count,
                part.image(),
                part.elements.len(),
                part.channels.start,
                from.first,
                x.batch_stride,
                to.first,
                y.batch_stride,
            ];
            self.dispatch(&Dispatch {
                op: OP,
                kernel: apply(f),
                params: &[&words(OP, sizes)?[..], &[parameter.to_bits()]].concat(),
                reads: &[from, scales.slice(self)],
                writes: &[to],
                workgroups: count.div_ceil(WORKGROUP),
            })?;
        }
        Ok(())
    }
}

fn check_affine(norm: &Affine<GpuView<'_>>, channels: usize) -> Result<()> {
    expect_per_channel("gamma", norm.gamma.shape(), channels)?;
    expect_per_channel("beta", norm.beta.shape(), channels)?;
    check_eps(norm.eps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::testing::{Gapped, close, devices, noise, on_all};
    use crate::tensor::{Shape4, Tensor};
    use crate::{BatchNorm, Cpu, RunningStats};

    const SHAPES: [[usize; 4]; 8] = [
        [2, 3, 4, 5],
        [9, 1, 1, 1],
        [1, 7, 1, 2],
        [40, 30, 1, 1],
        [3, 300, 1, 2],
        [5, 3, 20, 31],
        [2, 1, 90, 11],
        [0, 2, 3, 3],
    ];

    fn scaled(shape: Shape4, seed: u32, factor: f32, offset: f32) -> Tensor {
        let mut x = noise(shape, seed);
        x.data_mut().iter_mut().for_each(|v| *v = *v * factor + offset);
        x
    }

    fn statistics(c: usize) -> [Tensor; 4] {
        let shape = Shape4::new(1, c, 1, 1);
        [(1.0, 0.0), (1.0, 0.0), (1.0, 0.5), (0.5, 1.0)]
            .map(|(factor, offset)| scaled(shape, 9, factor, offset))
    }

    #[test]
    fn given_statistics_as_on_the_cpu() -> Result<()> {
        for shape in SHAPES.map(Shape4::from) {
            let x = scaled(shape, 1, 3.0, 0.5);
            let [gamma, beta, mean, var] = statistics(shape.c);
            let norm = BatchNorm { gamma: gamma.data(), beta: beta.data(), eps: 1e-5 };
            let expected = Cpu::new()?.batch_norm(&x, norm, mean.data(), var.data())?;
            let all = on_all(&x, shape, |gpu, x, y| {
                let [gamma, beta, mean, var] = [&gamma, &beta, &mean, &var].map(|t| Gapped::new(gpu, t, 3));
                let norm = Affine { gamma: gamma.view(), beta: beta.view(), eps: 1e-5 };
                gpu.batch_norm_into(x, norm, mean.view(), var.view(), y)
            });
            for y in all {
                assert!(close(&y, &expected, 6e-7), "{shape}: {y:?} {expected:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn statistics_of_the_batch_as_on_the_cpu() -> Result<()> {
        for shape in SHAPES.map(Shape4::from) {
            for (factor, offset, tolerance) in [(1.0, 0.0, 2e-6), (1.0, 1e4, 2e-6), (1e-3, 1e-4, 2e-6)] {
                let x = scaled(shape, 2, factor, offset);
                let [gamma, beta, mean, var] = statistics(shape.c);
                let (mut new_mean, mut new_var) = (mean.clone(), var.clone());
                let norm = BatchNorm { gamma: gamma.data(), beta: beta.data(), eps: 1e-9 };
                let running =
                    RunningStats { mean: new_mean.data_mut(), var: new_var.data_mut(), momentum: 0.3 };
                let expected = Cpu::new()?.batch_norm_train(&x, norm, Some(running))?;
                for gpu in devices() {
                    for skip in [0, 5] {
                        let of = |t| Gapped::new(gpu, t, skip);
                        let (x, mut y) = (of(&x), Gapped::blank(gpu, shape, skip));
                        let (gamma, beta, mut mean, mut var) = (of(&gamma), of(&beta), of(&mean), of(&var));
                        let norm = Affine { gamma: gamma.view(), beta: beta.view(), eps: 1e-9 };
                        let running = Tracked { mean: mean.view_mut(), var: var.view_mut(), momentum: 0.3 };
                        gpu.batch_norm_train_into(x.view(), norm, Some(running), y.view_mut())?;
                        let first = y.download(gpu);
                        assert!(
                            close(&first, &expected, tolerance),
                            "{shape} {offset}: {first:?} {expected:?}"
                        );
                        assert!(close(&mean.download(gpu), &new_mean, 4e-7), "{shape} {offset}");
                        assert!(close(&var.download(gpu), &new_var, 1e-6), "{shape} {offset}");
                        gpu.batch_norm_train_into(x.view(), norm, None, y.view_mut())?;
                        assert_eq!(first.data(), y.download(gpu).data(), "the same bits");
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn images_that_differ_much_and_infinities() -> Result<()> {
        let shape = Shape4::new(6, 3, 19, 30);
        let mut x = Tensor::from_fn(shape, |[n, c, h, w]| {
            (if n == 0 { 0.0 } else { 1e4 }) + ((c + h * 7 + w * 5) % 11) as f32
        })?;
        x.data_mut()[19 * 30 + 4] = f32::INFINITY;
        x.data_mut()[2 * 19 * 30 + 4] = f32::NAN;
        let [gamma, beta, mean, var] = statistics(3);
        let (mut new_mean, mut new_var) = (mean.clone(), var.clone());
        let running = RunningStats { mean: new_mean.data_mut(), var: new_var.data_mut(), momentum: 0.5 };
        let norm = BatchNorm { gamma: gamma.data(), beta: beta.data(), eps: 0.0 };
        let expected = Cpu::new()?.batch_norm_train(&x, norm, Some(running))?;
        for gpu in devices() {
            let of = |t| Gapped::new(gpu, t, 0);
            let (gamma, beta, mut mean, mut var) = (of(&gamma), of(&beta), of(&mean), of(&var));
            let norm = Affine { gamma: gamma.view(), beta: beta.view(), eps: 0.0 };
            let running = Tracked { mean: mean.view_mut(), var: var.view_mut(), momentum: 0.5 };
            let (x, mut y) = (of(&x), Gapped::blank(gpu, shape, 0));
            gpu.batch_norm_train_into(x.view(), norm, Some(running), y.view_mut())?;
            assert!(close(&y.download(gpu), &expected, 2e-6));
            assert!(close(&mean.download(gpu), &new_mean, 1e-6) && close(&var.download(gpu), &new_var, 1e-6));
        }
        Ok(())
    }

    #[test]
    fn one_value_has_no_variance() -> Result<()> {
        let gpu = &devices()[0];
        let one = Shape4::new(1, 1, 1, 1);
        let (x, mut y) = (Gapped::new(gpu, &noise(one, 1), 0), Gapped::blank(gpu, one, 0));
        let norm = |eps| Affine { gamma: x.view(), beta: x.view(), eps };
        assert!(gpu.batch_norm_train_into(x.view(), norm(0.0), None, y.view_mut()).is_err());
        assert!(gpu.batch_norm_into(x.view(), norm(-1.0), x.view(), x.view(), y.view_mut()).is_err());
        Ok(())
    }
}
