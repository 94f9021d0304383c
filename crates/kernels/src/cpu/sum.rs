//! Long sums in a fixed order: f32 lanes over a block of some thousand terms, f64 from block to block.
//!
//! Fast as the memory, and the error does not grow with the length: a lane adds at most 64 terms.

use crate::simd::{Simd, SimdOp};

/// What is added up, by position.
pub(crate) trait Summand: Copy {
    /// The number of terms.
    fn len(self) -> usize;

    /// The terms from `i` on.
    ///
    /// # Safety
    /// `i + LANES <= len()`.
    unsafe fn lanes<S: Simd>(self, simd: S, i: usize) -> S::F32;

    /// The term at `i`.
    fn term(self, i: usize) -> f64;
}

/// The sum of `x`.
#[derive(Clone, Copy)]
pub(crate) struct Values<'a>(pub(crate) &'a [f32]);

impl Summand for Values<'_> {
    #[inline(always)]
    fn len(self) -> usize {
        self.0.len()
    }

    #[inline(always)]
    unsafe fn lanes<S: Simd>(self, simd: S, i: usize) -> S::F32 {
        // SAFETY: the caller keeps i + LANES within the slice.
        unsafe { simd.load(self.0.as_ptr().add(i)) }
    }

    #[inline(always)]
    fn term(self, i: usize) -> f64 {
        f64::from(self.0[i])
    }
}

/// The sum of `x - center`.
#[derive(Clone, Copy)]
pub(crate) struct Deviations<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) center: f32,
}

impl Summand for Deviations<'_> {
    #[inline(always)]
    fn len(self) -> usize {
        self.x.len()
    }

    #[inline(always)]
    unsafe fn lanes<S: Simd>(self, simd: S, i: usize) -> S::F32 {
        // SAFETY: the caller keeps i + LANES within the slice.
        let x = unsafe { simd.load(self.x.as_ptr().add(i)) };
        simd.sub(x, simd.splat(self.center))
    }

    #[inline(always)]
    fn term(self, i: usize) -> f64 {
        f64::from(self.x[i]) - f64::from(self.center)
    }
}

/// The sum of `(x - center)^2`.
#[derive(Clone, Copy)]
pub(crate) struct SquaresAround<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) center: f32,
}

impl Summand for SquaresAround<'_> {
    #[inline(always)]
    fn len(self) -> usize {
        self.x.len()
    }

    #[inline(always)]
    unsafe fn lanes<S: Simd>(self, simd: S, i: usize) -> S::F32 {
        // SAFETY: the caller keeps i + LANES within the slice.
        let x = unsafe { simd.load(self.x.as_ptr().add(i)) };
        let d = simd.sub(x, simd.splat(self.center));
        simd.mul(d, d)
    }

    #[inline(always)]
    fn term(self, i: usize) -> f64 {
        (f64::from(self.x[i]) - f64::from(self.center)).powi(2)
    }
}

/// The sum, as an operation of its own.
pub(crate) struct Sum<T>(pub(crate) T);

impl<T: Summand> SimdOp for Sum<T> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f64 {
        sum(simd, self.0)
    }
}

/// Chains of additions side by side, which hide the latency of one: 4 cycles at one vector a cycle.
const CHAINS: usize = 4;
/// Additions of one chain before it goes to f64.
const STEPS: usize = 64;

/// The sum of all terms.
#[inline(always)]
pub(crate) fn sum<S: Simd, T: Summand>(simd: S, terms: T) -> f64 {
    let len = terms.len();
    let vectors = len / S::LANES;
    let mut total = 0.0;
    let mut first = 0;
    while first < vectors {
        let (start, end) = (first, vectors.min(first + CHAINS * STEPS));
        let mut chains = [simd.splat(0.0); CHAINS];
        while first + CHAINS <= end {
            for (k, chain) in chains.iter_mut().enumerate() {
                // SAFETY: first + k < vectors, and `vectors` vectors lie within the terms.
                *chain = simd.add(*chain, unsafe { terms.lanes(simd, (first + k) * S::LANES) });
            }
            first += CHAINS;
        }
        while first < end {
            // SAFETY: first < vectors, as above.
            chains[0] = simd.add(chains[0], unsafe { terms.lanes(simd, first * S::LANES) });
            first += 1;
        }
        let pairs = simd.add(simd.add(chains[0], chains[1]), simd.add(chains[2], chains[3]));
        let block = simd.reduce_add(pairs);
        total += if block.is_finite() {
            f64::from(block)
        } else {
            // The square of a number beyond 10^19 has no place in f32.
            (start * S::LANES..end * S::LANES).map(|i| terms.term(i)).sum()
        };
    }
    (vectors * S::LANES..len).fold(total, |total, i| total + terms.term(i))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Isa;

    #[test]
    fn every_length_and_a_long_one() {
        for isa in Isa::available() {
            for len in (0..200).chain([4096, 100_003]) {
                // Integers below 2^24 in every partial sum: exact.
                let x: Vec<f32> = (0..len).map(|i| (i % 7) as f32).collect();
                let exact: u32 = (0..len).map(|i| i as u32 % 7).sum();
                assert_eq!(isa.run(Sum(Values(&x))), f64::from(exact), "{isa} {len}");
            }
            let x = vec![0.1; 10_000_000];
            let exact = 1e7 * f64::from(0.1f32);
            assert!((isa.run(Sum(Values(&x))) / exact - 1.0).abs() < 1e-6, "{isa}");
        }
    }

    #[test]
    fn large_terms_overflow_nothing_and_infinity_stays() {
        for isa in Isa::available() {
            let mut x = vec![1.0; 3000];
            x[5] = f32::MAX;
            x[6] = f32::MAX;
            assert_eq!(isa.run(Sum(Values(&x))), 2.0 * f64::from(f32::MAX) + 2998.0, "{isa}");
            let squares = isa.run(Sum(SquaresAround { x: &x, center: 1.0 }));
            assert!((squares / (2.0 * f64::from(f32::MAX).powi(2)) - 1.0).abs() < 1e-6, "{isa}");
            x[7] = f32::NEG_INFINITY;
            assert_eq!(isa.run(Sum(Values(&x))), f64::NEG_INFINITY, "{isa}");
            x[2999] = f32::INFINITY;
            assert!(isa.run(Sum(Values(&x))).is_nan(), "{isa}");
        }
    }
}
