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

/// Several sums over the same positions, in one pass.
pub(crate) trait Summands<const N: usize>: Copy {
    /// The number of terms.
    fn len(self) -> usize;

    /// The terms of each sum from `i` on.
    ///
    /// # Safety
    /// `i + LANES <= len()`.
    unsafe fn lanes<S: Simd>(self, simd: S, i: usize) -> [S::F32; N];

    /// The term of each sum at `i`.
    fn terms(self, i: usize) -> [f64; N];
}

impl<T: Summand> Summands<1> for T {
    #[inline(always)]
    fn len(self) -> usize {
        Summand::len(self)
    }

    #[inline(always)]
    unsafe fn lanes<S: Simd>(self, simd: S, i: usize) -> [S::F32; 1] {
        // SAFETY: as the caller promises.
        [unsafe { Summand::lanes(self, simd, i) }]
    }

    #[inline(always)]
    fn terms(self, i: usize) -> [f64; 1] {
        [self.term(i)]
    }
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

/// The sums of `g`, of `g * (x - center)` and of `x - center`, for slices of one length.
#[derive(Clone, Copy)]
pub(crate) struct GradientMoments<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) center: f32,
    pub(crate) g: &'a [f32],
}

impl Summands<3> for GradientMoments<'_> {
    #[inline(always)]
    fn len(self) -> usize {
        self.x.len().min(self.g.len())
    }

    #[inline(always)]
    unsafe fn lanes<S: Simd>(self, simd: S, i: usize) -> [S::F32; 3] {
        // SAFETY: the caller keeps i + LANES within both slices.
        let (x, g) = unsafe { (simd.load(self.x.as_ptr().add(i)), simd.load(self.g.as_ptr().add(i))) };
        let d = simd.sub(x, simd.splat(self.center));
        [g, simd.mul(g, d), d]
    }

    #[inline(always)]
    fn terms(self, i: usize) -> [f64; 3] {
        let (d, g) = (f64::from(self.x[i]) - f64::from(self.center), f64::from(self.g[i]));
        [g, g * d, d]
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

/// Several sums, as an operation of its own.
pub(crate) struct Sums<T>(pub(crate) T);

impl<T: Summands<3>> SimdOp for Sums<T> {
    type Output = [f64; 3];

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> [f64; 3] {
        sums(simd, self.0)
    }
}

/// Chains of additions side by side, which hide the latency of one: 4 cycles at one vector a cycle.
const CHAINS: usize = 4;
/// Additions of one chain before it goes to f64.
const STEPS: usize = 64;

/// The sum of all terms.
#[inline(always)]
pub(crate) fn sum<S: Simd, T: Summand>(simd: S, terms: T) -> f64 {
    let [sum] = sums(simd, terms);
    sum
}

/// The sums of all terms.
#[inline(always)]
pub(crate) fn sums<S: Simd, T: Summands<N>, const N: usize>(simd: S, terms: T) -> [f64; N] {
    let len = terms.len();
    let vectors = len / S::LANES;
    let mut total = [0.0; N];
    let mut first = 0;
    while first < vectors {
        let (start, end) = (first, vectors.min(first + CHAINS * STEPS));
        let mut chains = [[simd.splat(0.0); CHAINS]; N];
        while first + CHAINS <= end {
            for k in 0..CHAINS {
                // SAFETY: first + k < vectors, and `vectors` vectors lie within the terms.
                let lanes = unsafe { terms.lanes(simd, (first + k) * S::LANES) };
                for (chains, lanes) in chains.iter_mut().zip(lanes) {
                    chains[k] = simd.add(chains[k], lanes);
                }
            }
            first += CHAINS;
        }
        while first < end {
            // SAFETY: first < vectors, as above.
            let lanes = unsafe { terms.lanes(simd, first * S::LANES) };
            for (chains, lanes) in chains.iter_mut().zip(lanes) {
                chains[0] = simd.add(chains[0], lanes);
            }
            first += 1;
        }
        for (s, chains) in chains.into_iter().enumerate() {
            let pairs = simd.add(simd.add(chains[0], chains[1]), simd.add(chains[2], chains[3]));
            let block = simd.reduce_add(pairs);
            total[s] += if block.is_finite() {
                f64::from(block)
            } else {
                // The square of a number beyond 10^19 has no place in f32.
                (start * S::LANES..end * S::LANES).map(|i| terms.terms(i)[s]).sum()
            };
        }
    }
    for i in vectors * S::LANES..len {
        for (total, term) in total.iter_mut().zip(terms.terms(i)) {
            *total += term;
        }
    }
    total
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
