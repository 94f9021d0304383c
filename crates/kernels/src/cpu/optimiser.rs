//! Optimisers, and the clipping of gradients by their norm: one pass over parameters, gradients and state, at the speed of
//! the memory.
//!
//! The factors that all elements share are computed in f64 (`shape/optimiser.rs`).

use crate::cpu::sum::{SquaresAround, Sum};
use crate::cpu::threads::{self, SharedOut};
use crate::cpu::Cpu;
use crate::error::Result;
use crate::shape::optimiser::{AdamFactors, check_clip_norm, clip_factor};
use crate::shape::{Adam, Sgd};
use crate::simd::{Simd, SimdOp};
use crate::tensor::{TensorView, TensorViewMut};

impl Cpu {
    /// [`crate::Training::sgd_step`].
    pub(super) fn sgd_step(
        &self,
        sgd: &Sgd,
        p: TensorViewMut<'_>,
        g: TensorView<'_>,
        velocity: Option<TensorViewMut<'_>>,
    ) -> Result<()> {
        let velocity = sgd.check(p.shape(), g.shape(), velocity, |v| v.shape())?;
        match velocity {
            None => for_each_part(self, p, g, [], |p, g, []| self.isa.run(SgdStep { sgd, p, g, v: None })),
            Some(v) => {
                for_each_part(self, p, g, [v], |p, g, [v]| self.isa.run(SgdStep { sgd, p, g, v: Some(v) }));
            }
        }
        Ok(())
    }

    /// [`crate::Training::adam_step`].
    pub(super) fn adam_step(
        &self,
        adam: &Adam,
        step: u64,
        p: TensorViewMut<'_>,
        g: TensorView<'_>,
        m: TensorViewMut<'_>,
        v: TensorViewMut<'_>,
    ) -> Result<()> {
        adam.check(step, p.shape(), [g.shape(), m.shape(), v.shape()])?;
        let factors = adam.factors(step);
        for_each_part(self, p, g, [m, v], |p, g, [m, v]| self.isa.run(AdamStep { factors, p, g, m, v }));
        Ok(())
    }

    /// [`crate::Training::clip_norm_into`].
    pub(super) fn clip_norm_into(
        &self,
        mut g: TensorViewMut<'_>,
        max_norm: f32,
        norm: TensorViewMut<'_>,
    ) -> Result<()> {
        check_clip_norm(max_norm, norm.shape())?;
        if let Some(joined) = g.joined() {
            return self.clip_norm_into(joined, max_norm, norm);
        }
        let (images, image) = (g.shape().n, g.shape().image_len());
        let (per_image, strands) = (image.div_ceil(threads::CHUNK), threads::strands(self, images * image));
        let view = g.as_view();
        let [squares] = threads::sum_of_items(strands, images * per_image, |item| {
            let (n, start) = (item / per_image, item % per_image * threads::CHUNK);
            let x = &view.image(n)[start..image.min(start + threads::CHUNK)];
            [self.isa.run(Sum(SquaresAround { x, center: 0.0 }))]
        });
        let total = squares.sqrt();
        norm.into_image(0)[0] = total as f32;
        let factor = clip_factor(total, max_norm);
        if factor != 1.0 {
            threads::for_each_chunk(self, g, threads::CHUNK, |_, _, g| self.isa.run(Scaled { g, factor }));
        }
        Ok(())
    }
}

/// Calls `f` with parts of the parameters, the gradient, and the `N` tensors of state, which all have one shape.
fn for_each_part<const N: usize>(
    cpu: &Cpu,
    mut p: TensorViewMut<'_>,
    g: TensorView<'_>,
    state: [TensorViewMut<'_>; N],
    f: impl Fn(&mut [f32], &[f32], [&mut [f32]; N]) + Sync,
) {
    let image = p.shape().image_len();
    let state = state.map(|mut s| (s.batch_stride(), SharedOut::new(s.as_mut_ptr())));
    let f = |p: TensorViewMut<'_>, g: TensorView<'_>| {
        threads::for_each_chunk(cpu, p, threads::CHUNK, |n, start, p| {
            let state = state.map(|(batch_stride, s)| {
                // SAFETY: the tensor has the shape of `p`, so that this part of it exists as that of `p` does (of one image
                // where all were joined); no other part overlaps it, and no other tensor, each being borrowed alone.
                unsafe { std::slice::from_raw_parts_mut(s.get().add(n * batch_stride + start), p.len()) }
            });
            f(p, &g.image(n)[start..start + p.len()], state);
        });
    };
    // One image, where nothing lies between those of any.
    let whole = state.iter().all(|(batch_stride, _)| *batch_stride == image);
    match (p.joined(), g.joined()) {
        (Some(p), Some(g)) if whole => f(p, g),
        _ => f(p, g),
    }
}

/// A step of [`Sgd`], for slices of one length.
struct SgdStep<'a> {
    sgd: &'a Sgd,
    p: &'a mut [f32],
    g: &'a [f32],
    v: Option<&'a mut [f32]>,
}

impl SimdOp for SgdStep<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let SgdStep { sgd, p, g, v } = self;
        let [back, momentum, decay] = [-sgd.lr, sgd.momentum, sgd.weight_decay].map(|v| simd.splat(v));
        let decayed = |p, g| if sgd.weight_decay == 0.0 { g } else { simd.mul_add(decay, p, g) };
        let Some(v) = v else {
            for (p, g) in p.chunks_mut(S::LANES).zip(g.chunks(S::LANES)) {
                // SAFETY: both chunks hold p.len() elements.
                unsafe {
                    let old = simd.load_up_to(p.as_ptr(), p.len());
                    let g = decayed(old, simd.load_up_to(g.as_ptr(), p.len()));
                    simd.store_up_to(p.as_mut_ptr(), p.len(), simd.mul_add(back, g, old));
                }
            }
            return;
        };
        for ((p, g), v) in p.chunks_mut(S::LANES).zip(g.chunks(S::LANES)).zip(v.chunks_mut(S::LANES)) {
            // SAFETY: the three chunks hold p.len() elements.
            unsafe {
                let n = p.len();
                let old = simd.load_up_to(p.as_ptr(), n);
                let g = decayed(old, simd.load_up_to(g.as_ptr(), n));
                let velocity = simd.mul_add(momentum, simd.load_up_to(v.as_ptr(), n), g);
                let step = if sgd.nesterov { simd.mul_add(momentum, velocity, g) } else { velocity };
                simd.store_up_to(v.as_mut_ptr(), n, velocity);
                simd.store_up_to(p.as_mut_ptr(), n, simd.mul_add(back, step, old));
            }
        }
    }
}

/// A step of [`Adam`], for slices of one length.
struct AdamStep<'a> {
    factors: AdamFactors,
    p: &'a mut [f32],
    g: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
}

impl SimdOp for AdamStep<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let AdamStep { factors: f, p, g, m, v } = self;
        let [beta1, rest1, beta2, rest2] = [f.beta1, f.rest1, f.beta2, f.rest2].map(|v| simd.splat(v));
        let [root, eps, back] = [f.root, f.eps, -f.step].map(|v| simd.splat(v));
        let [decay, shrink] = [f.decay, -f.shrink].map(|v| simd.splat(v));
        let state = m.chunks_mut(S::LANES).zip(v.chunks_mut(S::LANES));
        for ((p, g), (m, v)) in p.chunks_mut(S::LANES).zip(g.chunks(S::LANES)).zip(state) {
            // SAFETY: the four chunks hold p.len() elements.
            unsafe {
                let n = p.len();
                let mut new = simd.load_up_to(p.as_ptr(), n);
                let mut g = simd.load_up_to(g.as_ptr(), n);
                if f.decay != 0.0 {
                    g = simd.mul_add(decay, new, g);
                }
                if f.shrink != 0.0 {
                    new = simd.mul_add(shrink, new, new);
                }
                let mean = simd.mul_add(beta1, simd.load_up_to(m.as_ptr(), n), simd.mul(rest1, g));
                let squares = simd.mul(rest2, simd.mul(g, g));
                let squares = simd.mul_add(beta2, simd.load_up_to(v.as_ptr(), n), squares);
                let divisor = simd.mul_add(simd.sqrt(squares), root, eps);
                new = simd.mul_add(back, simd.div(mean, divisor), new);
                simd.store_up_to(m.as_mut_ptr(), n, mean);
                simd.store_up_to(v.as_mut_ptr(), n, squares);
                simd.store_up_to(p.as_mut_ptr(), n, new);
            }
        }
    }
}

/// `g *= factor`. The compiler makes vectors of the loop; the instructions are those of `run`.
struct Scaled<'a> {
    g: &'a mut [f32],
    factor: f32,
}

impl SimdOp for Scaled<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.g.iter_mut().for_each(|g| *g *= self.factor);
    }
}
