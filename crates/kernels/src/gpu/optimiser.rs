//! Optimisers, and the clipping of gradients by their norm, which is not read back.

use super::Gpu;
use super::buffer::{GpuView, GpuViewMut, words};
use super::parts::{Part, by_element, elementwise};
use super::recorder::{Dispatch, WORKGROUP};
use super::reduce::{LANES, Partials, STRIP, lanes};
use super::wgsl::{Kernel, Shader, shader};
use crate::error::Result;
use crate::shape::optimiser::{AdamFactors, CLIP_EPS, check_clip_norm};
use crate::shape::{Adam, Sgd};

const SGD: Shader = shader!("optimiser_sgd", 1, 1, "index");
const MOMENTUM: Shader = shader!("optimiser_momentum", 1, 2, "index");
const ADAM: Shader = shader!("optimiser_adam", 1, 3, "index", "math");
const NORM: Shader = shader!("optimiser_norm", 1, 1, "index", "reduce");
const NORM_TOTAL: Shader = shader!("optimiser_norm_total", 1, 2, "index", "reduce", "math");
const CLIP: Shader = shader!("optimiser_clip", 1, 1, "index");

fn plain(shader: Shader) -> Kernel {
    Kernel::new(shader, [])
}

fn reducing(shader: Shader, lanes: u32) -> Kernel {
    Kernel::new(shader, [("LANES", lanes)])
}

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    let norms = LANES.into_iter().flat_map(|lanes| [NORM, NORM_TOTAL].map(|shader| reducing(shader, lanes)));
    [SGD, MOMENTUM, ADAM, CLIP].into_iter().map(plain).chain(norms)
}

impl Gpu {
    pub(super) fn sgd_step(
        &self,
        sgd: &Sgd,
        p: GpuViewMut<'_>,
        g: GpuView<'_>,
        velocity: Option<GpuViewMut<'_>>,
    ) -> Result<()> {
        let velocity = sgd.check(p.shape(), g.shape(), velocity, |v| v.shape())?;
        let Sgd { lr, momentum, weight_decay, nesterov } = *sgd;
        let [lr, momentum, weight_decay] = [lr, momentum, weight_decay].map(f32::to_bits);
        match velocity {
            None => self.for_each_element("sgd", plain(SGD), [g, p.0], &[lr, weight_decay]),
            Some(v) => {
                let factors = [lr, weight_decay, momentum, nesterov.into()];
                self.for_each_element("sgd", plain(MOMENTUM), [g, p.0, v.0], &factors)
            }
        }
    }

    pub(super) fn adam_step(
        &self,
        adam: &Adam,
        step: u64,
        p: GpuViewMut<'_>,
        g: GpuView<'_>,
        m: GpuViewMut<'_>,
        v: GpuViewMut<'_>,
    ) -> Result<()> {
        adam.check(step, p.shape(), [g.shape(), m.shape(), v.shape()])?;
        let AdamFactors { beta1, rest1, beta2, rest2, step, root, eps, decay, shrink } = adam.factors(step);
        let factors = [beta1, rest1, beta2, rest2, step, root, eps, decay, shrink].map(f32::to_bits);
        self.for_each_element("adam", plain(ADAM), [g, p.0, m.0, v.0], &factors)
    }

    pub(super) fn clip_norm_into(
        &self,
        g: GpuViewMut<'_>,
        max_norm: f32,
        norm: GpuViewMut<'_>,
    ) -> Result<()> {
        const OP: &str = "clip_norm";
        check_clip_norm(max_norm, norm.shape())?;
        let [g] = elementwise([g.0]);
        let parts = by_element(self, &[g]);
        let strips_of = |part: &Part| part.count().div_ceil(STRIP);
        let sums = Partials::new(self, OP, parts.iter().map(strips_of).sum(), 1)?;
        let mut first = 0;
        for part in &parts {
            let (from, strips) = (g.part(self, part), strips_of(part));
            let sizes = [strips, part.image(), part.count(), STRIP, first, from.first, g.batch_stride];
            self.dispatch(&Dispatch {
                op: OP,
                kernel: reducing(NORM, lanes(part.count())),
                params: &words(OP, sizes)?,
                reads: &[from],
                writes: &[sums.slice(self)],
                workgroups: strips,
            })?;
            first += strips;
        }
        let factor = Partials::new(self, OP, 1, 1)?;
        let to = norm.0.per_channel(self);
        let [strips, norm_first] = words(OP, [first, to.first])?;
        self.dispatch(&Dispatch {
            op: OP,
            kernel: reducing(NORM_TOTAL, lanes(first)),
            params: &[strips, norm_first, max_norm.to_bits(), CLIP_EPS.to_bits()],
            reads: &[sums.slice(self)],
            writes: &[to, factor.slice(self)],
            workgroups: 1,
        })?;
        for part in &parts {
            let (to, count) = (g.part(self, part), part.count());
            self.dispatch(&Dispatch {
                op: OP,
                kernel: plain(CLIP),
                params: &words(OP, [part.image(), count, to.first, g.batch_stride])?,
                reads: &[factor.slice(self)],
                writes: &[to],
                workgroups: count.div_ceil(WORKGROUP),
            })?;
        }
        Ok(())
    }
}
