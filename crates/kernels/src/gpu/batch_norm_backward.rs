//! The gradients of batch normalisation, in training and with given statistics, and that of a bias: sums over channels, strip by
//! strip as in `batch_norm.rs`, then one pass over all elements.

use super::Gpu;
use super::activation::flag;
use super::batch_norm::halves;
use super::buffer::{GpuView, GpuViewMut, words};
use super::parts::{Part, by_channel};
use super::recorder::{Dispatch, WORKGROUP};
use super::reduce::{LANES, Partials, STRIP, lanes};
use super::wgsl::{Kernel, Shader, shader};
use crate::backend::expect_shape;
use crate::error::Result;
use crate::shape::Update;
use crate::shape::batch_norm::{check_eps, expect_per_channel};
use crate::tensor::Shape4;
use crate::training::{BatchNormGradients, Moments};

const OP: &str = "batch_norm_backward";
const BIAS: &str = "bias_backward";

const SUMS: Shader = shader!("batch_norm_backward_sums", 3, 1, "index", "reduce");
const JOIN: Shader = shader!("batch_norm_backward_join", 4, 3, "index", "reduce", "math");
const APPLY: Shader = shader!("batch_norm_backward", 3, 1, "index");
const CHANNELS: Shader = shader!("channel_sums", 1, 1, "index", "reduce");
const CHANNELS_JOIN: Shader = shader!("channel_sums_join", 1, 1, "index", "reduce");

/// Words of the sums of a strip, and of the scales of a channel.
const VEC4: usize = 4;

fn reducing(shader: Shader, lanes: u32) -> Kernel {
    Kernel::new(shader, [("LANES", lanes)])
}

fn join(lanes: u32, train: bool) -> Kernel {
    Kernel::new(JOIN, [("LANES", lanes), ("TRAIN", train.into())])
}

fn apply(train: bool) -> Kernel {
    Kernel::new(APPLY, [("TRAIN", train.into())])
}

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    let either = [false, true];
    let sums = [SUMS, CHANNELS, CHANNELS_JOIN];
    let sums = sums.into_iter().flat_map(|shader| LANES.map(|lanes| reducing(shader, lanes)));
    let joins = LANES.into_iter().flat_map(move |lanes| either.map(|train| join(lanes, train)));
    sums.chain(joins).chain(either.into_iter().map(apply))
}

/// The operands of a channel's gradients.
#[derive(Clone, Copy)]
struct Operands<'a> {
    x: GpuView<'a>,
    gamma: GpuView<'a>,
    mean: GpuView<'a>,
    spread: Spread<'a>,
    gy: GpuView<'a>,
    gx: GpuView<'a>,
    ggamma: GpuView<'a>,
    gbeta: GpuView<'a>,
}

/// How far the values of a channel lie from their mean.
#[derive(Clone, Copy)]
enum Spread<'a> {
    /// The inverse deviation of the batch, which moves with it.
    OfBatch(GpuView<'a>),
    /// A variance, and what is added to it.
    Given(GpuView<'a>, f32),
}

impl<'a> Operands<'a> {
    fn checked(self) -> Result<Self> {
        let shape = self.x.shape;
        expect_shape(OP, "output gradient shape", shape, self.gy.shape)?;
        expect_shape(OP, "input gradient shape", shape, self.gx.shape)?;
        let (arg, spread) = match self.spread {
            Spread::OfBatch(inv_std) => ("inverse deviation of the batch", inv_std),
            Spread::Given(var, _) => ("variance", var),
        };
        let vectors = [
            ("gamma", self.gamma),
            ("mean", self.mean),
            (arg, spread),
            ("gradient of gamma", self.ggamma),
            ("gradient of beta", self.gbeta),
        ];
        vectors.iter().try_for_each(|(arg, view)| expect_per_channel(arg, view.shape, shape.c))?;
        Ok(self)
    }

    /// Those of some channels.
    fn channels(self, range: &std::ops::Range<usize>) -> Result<Self> {
        let of = |view: GpuView<'a>| view.channels(range.clone());
        Ok(Operands {
            x: of(self.x)?,
            gamma: of(self.gamma)?,
            mean: of(self.mean)?,
            spread: match self.spread {
                Spread::OfBatch(inv_std) => Spread::OfBatch(of(inv_std)?),
                Spread::Given(var, eps) => Spread::Given(of(var)?, eps),
            },
            gy: of(self.gy)?,
            gx: of(self.gx)?,
            ggamma: of(self.ggamma)?,
            gbeta: of(self.gbeta)?,
        })
    }
}

impl Gpu {
    pub(super) fn batch_norm_train_backward_into(
        &self,
        x: GpuView<'_>,
        gamma: GpuView<'_>,
        moments: Moments<GpuView<'_>>,
        gy: GpuView<'_>,
        gradients: BatchNormGradients<GpuViewMut<'_>>,
        update: Update,
    ) -> Result<()> {
        let BatchNormGradients { x: gx, gamma: ggamma, beta: gbeta } = gradients;
        let (gx, ggamma, gbeta) = (gx.0, ggamma.0, gbeta.0);
        let spread = Spread::OfBatch(moments.inv_std);
        let operands = Operands { x, gamma, mean: moments.mean, spread, gy, gx, ggamma, gbeta };
        self.batch_norm_gradients(operands.checked()?, update)
    }

    #[expect(clippy::too_many_arguments, reason = "each is an operand of the operator or a gradient")]
    pub(super) fn batch_norm_backward_into(
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
        check_eps(eps)?;
        let BatchNormGradients { x: gx, gamma: ggamma, beta: gbeta } = gradients;
        let (gx, ggamma, gbeta) = (gx.0, ggamma.0, gbeta.0);
        let operands = Operands { x, gamma, mean, spread: Spread::Given(var, eps), gy, gx, ggamma, gbeta };
        self.batch_norm_gradients(operands.checked()?, update)
    }

    fn batch_norm_gradients(&self, operands: Operands<'_>, update: Update) -> Result<()> {
        let Operands { x, gamma, mean, spread, gy, gx, ggamma, gbeta } = operands;
        let (c, plane) = (x.shape.c, x.shape.plane_len());
        if c == 0 {
            return Ok(());
        }
        let parts = by_channel(self, OP, &[x, gy])?;
        let strips = strips_in_all(&parts, plane, c);
        if strips.max(1) * c * VEC4 > self.reach() && c > 1 {
            let mut halves = halves(c).into_iter();
            return halves.try_for_each(|half| self.batch_norm_gradients(operands.channels(&half)?, update));
        }
        let sums = Partials::new(self, OP, strips * c, VEC4)?;
        let means = self.per_channel(mean);
        for_each_strips(&parts, plane, c, |part, first| {
            let elements = part.images.len() * plane;
            let (from, gradient) = (x.part(self, part), gy.part(self, part));
            let count = elements.div_ceil(STRIP) * part.channels.len();
            let sizes = [
                count,
                part.channels.len(),
                c,
                plane,
                elements,
                STRIP,
                first,
                means.first + part.channels.start,
                from.first,
                x.batch_stride,
                gradient.first,
                gy.batch_stride,
            ];
            self.dispatch(&Dispatch {
                op: OP,
                kernel: reducing(SUMS, lanes(elements)),
                params: &words(OP, sizes)?,
                reads: &[from, gradient, means],
                writes: &[sums.slice(self)],
                workgroups: count,
            })
        })?;
        let (train, spread, eps) = match spread {
            Spread::OfBatch(inv_std) => (true, inv_std, 0.0),
            Spread::Given(var, eps) => (false, var, eps),
        };
        let scales = Partials::new(self, OP, c, VEC4)?;
        let reads = [gamma, mean, spread].map(|view| self.per_channel(view));
        let writes = [ggamma, gbeta].map(|view| self.per_channel(view));
        let [channels, strips_word] = words(OP, [c, strips])?;
        let firsts = words(OP, [reads[0].first, reads[1].first, reads[2].first])?;
        let firsts_written = words(OP, [writes[0].first, writes[1].first])?;
        let count = ((x.shape.n * plane) as f32).to_bits();
        self.dispatch(&Dispatch {
            op: OP,
            kernel: join(lanes(strips), train),
            params: &[
                &[channels, strips_word, count, eps.to_bits()][..],
                &firsts,
                &firsts_written,
                &[flag(update)],
            ]
            .concat(),
            reads: &[sums.slice(self), reads[0], reads[1], reads[2]],
            writes: &[scales.slice(self), writes[0], writes[1]],
            workgroups: c,
        })?;
        for part in by_channel(self, OP, &[x, gy, gx])? {
            let [from, gradient, to] = [x, gy, gx].map(|view| view.part(self, &part));
            let image = part.channels.len() * plane;
            let count = part.images.len() * image;
            let sizes = [count, image, plane, part.channels.start, from.first, x.batch_stride];
            let others = [gradient.first, gy.batch_stride, to.first, gx.batch_stride];
            self.dispatch(&Dispatch {
                op: OP,
                kernel: apply(train),
                params: &[&words(OP, sizes)?[..], &words(OP, others)?, &[flag(update)]].concat(),
                reads: &[from, gradient, scales.slice(self)],
                writes: &[to],
                workgroups: count.div_ceil(WORKGROUP),
            })?;
        }
        Ok(())
    }

    pub(super) fn bias_backward_into(
        &self,
        gy: GpuView<'_>,
        gb: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        expect_shape(BIAS, "bias gradient shape", Shape4::new(1, gy.shape.c, 1, 1), gb.shape())?;
        self.channel_sums(gy, gb.0, update)
    }

    fn channel_sums(&self, x: GpuView<'_>, y: GpuView<'_>, update: Update) -> Result<()> {
        let (c, plane) = (x.shape.c, x.shape.plane_len());
        if c == 0 {
            return Ok(());
        }
        let parts = by_channel(self, BIAS, &[x])?;
        let strips = strips_in_all(&parts, plane, c);
        if strips.max(1) * c > self.reach() && c > 1 {
            let mut halves = halves(c).into_iter();
            return halves.try_for_each(|half| {
                self.channel_sums(x.channels(half.clone())?, y.channels(half)?, update)
            });
        }
        let sums = Partials::new(self, BIAS, strips * c, 1)?;
        for_each_strips(&parts, plane, c, |part, first| {
            let elements = part.images.len() * plane;
            let from = x.part(self, part);
            let count = elements.div_ceil(STRIP) * part.channels.len();
            let sizes =
                [count, part.channels.len(), c, plane, elements, STRIP, first, from.first, x.batch_stride];
            self.dispatch(&Dispatch {
                op: BIAS,
                kernel: reducing(CHANNELS, lanes(elements)),
                params: &words(BIAS, sizes)?,
                reads: &[from],
                writes: &[sums.slice(self)],
                workgroups: count,
            })
        })?;
        let to = self.per_channel(y);
        let [channels, strips_word, first] = words(BIAS, [c, strips, to.first])?;
        self.dispatch(&Dispatch {
            op: BIAS,
            kernel: reducing(CHANNELS_JOIN, lanes(strips)),
            params: &[channels, strips_word, first, flag(update)],
            reads: &[sums.slice(self)],
            writes: &[to],
            workgroups: c,
        })
    }
}

/// Strips of a channel in one part.
fn strips_of(part: &Part, plane: usize) -> usize {
    (part.images.len() * plane).div_ceil(STRIP)
}

/// Strips of a channel in all parts. Where a part has not all channels, those of the others come from the next ones.
fn strips_in_all(parts: &[Part], plane: usize, c: usize) -> usize {
    parts.iter().filter(|part| part.channels.end == c).map(|part| strips_of(part, plane)).sum()
}

/// Calls `f(part, first)` for each part, `first` being where the entry of its first strip and channel is: strips of one channel
/// lie `c` entries apart.
fn for_each_strips(
    parts: &[Part],
    plane: usize,
    c: usize,
    mut f: impl FnMut(&Part, usize) -> Result<()>,
) -> Result<()> {
    let mut strip = 0;
    for part in parts {
        f(part, strip * c + part.channels.start)?;
        if part.channels.end == c {
            strip += strips_of(part, plane);
        }
    }
    Ok(())
}
