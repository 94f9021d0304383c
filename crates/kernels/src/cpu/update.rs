//! Gradients that are written, or added to what is there: each value is computed whole and then added once, so that
//! accumulating gives the bits of writing and adding.

use crate::shape::Update;
use crate::simd::{Simd, SimdOp};

impl Update {
    /// What becomes of `old`, which only [`Update::Accumulate`] looks at.
    #[inline(always)]
    pub(crate) fn of(self, old: f32, gradient: f32) -> f32 {
        match self {
            Update::Write => gradient,
            Update::Accumulate => old + gradient,
        }
    }

    /// The first `n` lanes of `gradient`, to `p`. Nothing past them is touched. `n` may exceed the lanes.
    ///
    /// # Safety
    /// `min(n, LANES)` f32 can be read and written at `p`.
    #[inline(always)]
    pub(crate) unsafe fn store_up_to<S: Simd>(self, simd: S, p: *mut f32, n: usize, gradient: S::F32) {
        // SAFETY: as the caller promises.
        unsafe {
            let new = match self {
                Update::Write => gradient,
                Update::Accumulate => simd.add(simd.load_up_to(p, n), gradient),
            };
            simd.store_up_to(p, n, new);
        }
    }

    /// `gradient` to `to`, of one length.
    #[inline(always)]
    pub(crate) fn all(self, gradient: &[f32], to: &mut [f32]) {
        match self {
            Update::Write => to.copy_from_slice(gradient),
            Update::Accumulate => to.iter_mut().zip(gradient).for_each(|(to, g)| *to += g),
        }
    }

    /// The same gradient to every element.
    #[inline(always)]
    pub(crate) fn fill(self, gradient: f32, to: &mut [f32]) {
        match self {
            Update::Write => to.fill(gradient),
            Update::Accumulate => to.iter_mut().for_each(|to| *to += gradient),
        }
    }
}

/// A gradient that is there already, to where it belongs: slices of one length.
pub(crate) struct Passed<'a> {
    pub(crate) gradient: &'a [f32],
    pub(crate) to: &'a mut [f32],
    pub(crate) update: Update,
}

impl SimdOp for Passed<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.update.all(self.gradient, self.to);
    }
}
