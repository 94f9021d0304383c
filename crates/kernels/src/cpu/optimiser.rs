//! Optimisers, and the clipping of gradients by their norm: one pass over parameters, gradients and state, at the speed of
//! the memory.
//!
//! The factors that all elements share are computed in f64 (`shape/optimiser.rs`).

use crate::cpu::Cpu;
use crate::cpu::sum::{SquaresAround, Sum};
use crate::cpu::threads::{self, PART, SharedOut};
use crate::error::Result;
use crate::shape::optimiser::{AdamFactors, check_clip_norm, clip_factor};
use crate::shape::{Adam, Sgd};
use crate::simd::{Simd, SimdOp};
use crate::tensor::{TensorView, TensorViewMut};

impl Cpu {
    /// A step of [`Sgd`]: changes the parameters `p` and, where there is momentum, the velocity (zeros before the first
    /// step). All have one shape, whatever it is. Allocates nothing.
    ///
    /// ```
    /// use tilewise_kernels::{Cpu, Sgd, Shape4, Tensor};
    /// let shape = Shape4::new(1, 1, 1, 2);
    /// let mut p = Tensor::from_vec(shape, vec![1.0, 2.0])?;
    /// let g = Tensor::from_vec(shape, vec![4.0, -4.0])?;
    /// let sgd = Sgd { lr: 0.25, ..Sgd::default() };
    /// Cpu::new()?.sgd_step(&sgd, p.view_mut(), g.view(), None)?;
    /// assert_eq!(p.data(), [0.0, 3.0]);
    /// # Ok::<(), tilewise_kernels::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for hyper-parameters that make no step ([`Sgd::validate`]), shapes that differ, or momentum
    /// without a velocity.
    pub fn sgd_step(
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

    /// Step number `step` (from 1) of [`Adam`]: changes the parameters `p`, the mean `m` of the gradients and that of their
    /// squares, `v` (zeros before the first step). All have one shape, whatever it is. Allocates nothing.
    ///
    /// ```
    /// use tilewise_kernels::{Adam, Cpu, Shape4, Tensor};
    /// let shape = Shape4::new(1, 1, 1, 2);
    /// let mut p = Tensor::from_vec(shape, vec![1.0, 2.0])?;
    /// let (mut m, mut v) = (Tensor::zeros(shape)?, Tensor::zeros(shape)?);
    /// let g = Tensor::from_vec(shape, vec![400.0, -0.004])?;
    /// let adam = Adam { lr: 0.25, ..Adam::default() };
    /// Cpu::new()?.adam_step(&adam, 1, p.view_mut(), g.view(), m.view_mut(), v.view_mut())?;
    /// // The first step is as long as the learning rate, whatever the gradient.
    /// assert!((p.data()[0] - 0.75).abs() < 1e-5 && (p.data()[1] - 2.25).abs() < 1e-5);
    /// # Ok::<(), tilewise_kernels::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for hyper-parameters that make no step ([`Adam::validate`]), shapes that differ, or step 0.
    pub fn adam_step(
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

    /// Scales `g` so that its L2 norm is at most `max_norm`, and writes the norm that it had to the single element of `norm`:
    /// `g *= min(1, max_norm / (norm + 1e-6))`, as `torch.nn.utils.clip_grad_norm_`. Allocates nothing.
    ///
    /// ```
    /// use tilewise_kernels::{Cpu, Shape4, Tensor};
    /// let mut g = Tensor::from_vec(Shape4::new(1, 1, 1, 2), vec![3.0, 4.0])?;
    /// let mut norm = Tensor::zeros(Shape4::new(1, 1, 1, 1))?;
    /// Cpu::new()?.clip_norm_into(g.view_mut(), 1.0, norm.view_mut())?;
    /// assert_eq!(norm.data(), [5.0]);
    /// assert!((g.data()[0] - 0.6).abs() < 1e-6);
    /// # Ok::<(), tilewise_kernels::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for another shape of `norm`, or a `max_norm` that is negative or NaN.
    pub fn clip_norm_into(
        &self,
        mut g: TensorViewMut<'_>,
        max_norm: f32,
        norm: TensorViewMut<'_>,
    ) -> Result<()> {
        check_clip_norm(max_norm, norm.shape())?;
        let (view, len) = (g.as_view(), g.shape().n * g.shape().image_len());
        let sum = |x: &[f32]| [self.isa.run(Sum(SquaresAround { x, center: 0.0 }))];
        let [squares] = threads::sum_of_items(threads::strands(self, len), len.div_ceil(PART), |part| {
            let first = part * PART;
            let range = first..len.min(first + PART);
            if let Some(x) = view.contiguous(range.clone()) {
                return sum(x);
            }
            let mut x = [0.0; PART];
            let x = &mut x[..range.len()];
            view.copy_to(first, x);
            sum(x)
        });
        let total = squares.sqrt();
        norm.into_image(0)[0] = total as f32;
        let factor = clip_factor(total, max_norm);
        if factor != 1.0 {
            let scale = |g: &mut [f32]| self.isa.run(Scaled { g, factor });
            match g.joined() {
                Some(g) => threads::for_each_chunk(self, g, threads::CHUNK, |_, _, g| scale(g)),
                None => threads::for_each_chunk(self, g, threads::CHUNK, |_, _, g| scale(g)),
            }
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
