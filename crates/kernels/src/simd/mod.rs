//! One vocabulary for f32 vectors, three sets of instructions.
//!
//! An algorithm is written once, generic over [`Simd`], inside a [`SimdOp`]; [`Isa::run`] compiles it for the
//! instruction set chosen at run time. A backend is a token: a value of type [`Avx2`] or [`Avx512`] exists only
//! where detection has found the instructions, so holding one is the proof that its operations may run.
//!
//! Three rules keep the speed (each was measured to cost up to a hundredfold when broken):
//! 1. Everything below a `SimdOp::run` is `#[inline(always)]`, so that it is compiled with the features of the
//!    function that [`Simd::vectorize`] wraps around it.
//! 2. A closure handed to a thread loses those features: thread outside, `Isa::run` inside.
//! 3. No operators of `wide` in kernels: it chooses its instructions when it is compiled, at default flags SSE2.
//!
//! This module knows nothing of tensors.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod math;
mod portable;

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
pub use portable::Portable;

use crate::error::{Error, Result};

/// A set of instructions that the kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Isa {
    /// `wide` at the flags of the build: SSE2 on x86-64, NEON on aarch64, simd128 on wasm32. 8 lanes.
    Portable,
    /// AVX2 and FMA. 8 lanes.
    Avx2,
    /// AVX-512 F, VL, DQ and BW. 16 lanes.
    Avx512,
}

impl Isa {
    /// All of them, slowest first.
    pub const ALL: [Isa; 3] = [Isa::Portable, Isa::Avx2, Isa::Avx512];

    /// As `TILEWISE_ISA` and the command line spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }

    /// Whether this machine has it.
    pub fn is_available(self) -> bool {
        match self {
            Isa::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Avx2::new().is_some(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Avx512::new().is_some(),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// Those that this machine has, slowest first.
    pub fn available() -> impl Iterator<Item = Isa> {
        Self::ALL.into_iter().filter(|isa| isa.is_available())
    }

    /// The one that `TILEWISE_ISA` names, or else the fastest that this machine has. Decided once per process.
    ///
    /// # Errors
    /// [`Error::IsaUnknown`] or [`Error::IsaMissing`] if the variable names what is not there.
    pub fn selected() -> Result<Isa> {
        static SELECTED: OnceLock<Result<Isa>> = OnceLock::new();
        let selected = SELECTED.get_or_init(|| match std::env::var_os("TILEWISE_ISA") {
            Some(name) => name.to_str().unwrap_or("").parse::<Isa>()?.require(),
            None => Ok(Self::available().last().unwrap_or(Isa::Portable)),
        });
        selected.clone()
    }

    /// Itself, if this machine has it.
    ///
    /// # Errors
    /// [`Error::IsaMissing`].
    pub fn require(self) -> Result<Isa> {
        if self.is_available() { Ok(self) } else { Err(Error::IsaMissing { isa: self }) }
    }

    /// Lanes of one vector.
    pub const fn lanes(self) -> usize {
        match self {
            Isa::Portable | Isa::Avx2 => 8,
            Isa::Avx512 => 16,
        }
    }

    /// [`Simd::TILE`] of its backend.
    pub const fn tile(self) -> (usize, usize) {
        match self {
            Isa::Portable => Portable::TILE,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Avx2::TILE,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Avx512::TILE,
            #[cfg(not(target_arch = "x86_64"))]
            _ => Portable::TILE,
        }
    }

    /// Runs `op` with this instruction set, or, on a machine without it, with [`Portable`]: the result differs in
    /// rounding at most.
    pub fn run<Op: SimdOp>(self, op: Op) -> Op::Output {
        #[cfg(target_arch = "x86_64")]
        match self {
            Isa::Portable => {}
            Isa::Avx2 => {
                if let Some(simd) = Avx2::new() {
                    return simd.vectorize(op);
                }
            }
            Isa::Avx512 => {
                if let Some(simd) = Avx512::new() {
                    return simd.vectorize(op);
                }
            }
        }
        Portable.vectorize(op)
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isa {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|isa| isa.name() == name).ok_or(Error::IsaUnknown)
    }
}

/// A computation to be compiled once per instruction set.
///
/// Implementations mark `run` and all they call `#[inline(always)]`; only pointers and integers should cross the
/// boundary.
pub trait SimdOp {
    /// What the computation gives back.
    type Output;
    /// The computation.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Operations on vectors of [`Simd::LANES`] f32.
///
/// Comparisons with NaN are false. `mul_add` is fused where the instruction set fuses; [`Portable`] on SSE2 rounds
/// twice.
///
/// # Safety
/// A value of an implementing type is proof that its instructions may run on this machine: it must not be possible
/// to make one otherwise. There are at most [`MAX_LANES`] lanes.
pub unsafe trait Simd: Copy + Send + Sync + 'static {
    /// A vector of [`Simd::LANES`] f32.
    type F32: Copy;
    /// One truth value per lane.
    type Mask: Copy;

    /// Lanes of a vector.
    const LANES: usize;
    /// The instruction set behind this token.
    const ISA: Isa;
    /// The largest register tile of a matrix product that leaves no accumulator in memory: rows x vectors.
    const TILE: (usize, usize);

    /// Runs `op` in a function compiled with this instruction set.
    ///
    /// Always a call: a register tile inlined into a larger function shares its registers, and accumulators spilled to
    /// the stack cost two thirds of the speed (34% of peak against 99%, AVX2). So put whole loops in it.
    fn vectorize<Op: SimdOp>(self, op: Op) -> Op::Output;

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::F32;

    /// The vector at `p`, of any alignment.
    ///
    /// # Safety
    /// `LANES` f32 can be read at `p`.
    unsafe fn load(self, p: *const f32) -> Self::F32;

    /// Asks for the cache line at `p`, which need not exist.
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint, which reads nothing; SSE belongs to every x86-64.
        unsafe {
            use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(p.cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = p;
    }

    /// Asks for the cache line at `p`, which need not exist, to be no farther than L2.
    #[inline(always)]
    fn prefetch_to_l2(self, p: *const f32) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        unsafe {
            use core::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T1>(p.cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = p;
    }

    /// Writes the vector to `p`, of any alignment.
    ///
    /// # Safety
    /// `LANES` f32 can be written at `p`.
    unsafe fn store(self, p: *mut f32, v: Self::F32);

    /// The first `n` lanes from `p`, the others 0. Nothing past them is read. `n` may exceed the lanes.
    ///
    /// # Safety
    /// `min(n, LANES)` f32 can be read at `p`.
    unsafe fn load_partial(self, p: *const f32, n: usize) -> Self::F32;

    /// Writes the first `n` lanes to `p`. Nothing past them is touched. `n` may exceed the lanes.
    ///
    /// # Safety
    /// `min(n, LANES)` f32 can be written at `p`.
    unsafe fn store_partial(self, p: *mut f32, n: usize, v: Self::F32);

    /// [`Simd::load_partial`] with a branch: the faster one where most vectors are whole.
    ///
    /// # Safety
    /// `min(n, LANES)` f32 can be read at `p`.
    #[inline(always)]
    unsafe fn load_up_to(self, p: *const f32, n: usize) -> Self::F32 {
        // SAFETY: as the caller promises.
        unsafe { if n >= Self::LANES { self.load(p) } else { self.load_partial(p, n) } }
    }

    /// [`Simd::store_partial`] with a branch, as [`Simd::load_up_to`]. (On some machines a masked store costs 20
    /// cycles.)
    ///
    /// # Safety
    /// `min(n, LANES)` f32 can be written at `p`.
    #[inline(always)]
    unsafe fn store_up_to(self, p: *mut f32, n: usize, v: Self::F32) {
        // SAFETY: as the caller promises.
        unsafe { if n >= Self::LANES { self.store(p, v) } else { self.store_partial(p, n, v) } }
    }

    /// `a + b`
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a - b`
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b`
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a / b`
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b + c`
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// The larger; `b` where either is NaN.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// The smaller; `b` where either is NaN.
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// The sign bit cleared.
    fn abs(self, a: Self::F32) -> Self::F32;
    /// The square root, rounded once; NaN below 0.
    fn sqrt(self, a: Self::F32) -> Self::F32;
    /// The nearest integer, ties to even.
    fn round(self, a: Self::F32) -> Self::F32;
    /// `2^n` for integral `n` in -126..=127; anything for other lanes.
    fn exp2_integral(self, n: Self::F32) -> Self::F32;

    /// The bits of the lanes added as whole numbers, modulo 2^32: positions, which only move with the vectors.
    fn add_bits(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// `a > b`
    fn gt(self, a: Self::F32, b: Self::F32) -> Self::Mask;
    /// Whether `a` is NaN.
    fn is_nan(self, a: Self::F32) -> Self::Mask;
    /// Where either mask is true.
    fn or(self, a: Self::Mask, b: Self::Mask) -> Self::Mask;
    /// `yes` where the mask is true, else `no`; the bits of either, untouched.
    fn select(self, mask: Self::Mask, yes: Self::F32, no: Self::F32) -> Self::F32;

    /// The even-numbered lanes of `a` and then of `b`; the odd-numbered likewise. (Lanes count from 0.)
    fn deinterleave(self, a: Self::F32, b: Self::F32) -> (Self::F32, Self::F32);

    /// The inverse of [`Simd::deinterleave`]: lanes of `a` and of `b` in turn.
    fn interleave(self, a: Self::F32, b: Self::F32) -> (Self::F32, Self::F32);

    /// The sum of all lanes, in a fixed order.
    #[inline(always)]
    fn reduce_add(self, v: Self::F32) -> f32 {
        let lanes = self.to_lanes(v);
        // Halves onto halves: the order of a shuffle tree.
        let mut sums = lanes;
        let mut len = Self::LANES;
        while len > 1 {
            len /= 2;
            for i in 0..len {
                sums[i] += sums[i + len];
            }
        }
        sums[0]
    }

    /// The largest lane; NaN if any lane is.
    #[inline(always)]
    fn reduce_max(self, v: Self::F32) -> f32 {
        let lanes = self.to_lanes(v);
        lanes[..Self::LANES].iter().fold(f32::NEG_INFINITY, |m, &x| if x > m || x.is_nan() { x } else { m })
    }

    /// The lanes, in order; those past `LANES` are 0.
    #[inline(always)]
    fn to_lanes(self, v: Self::F32) -> [f32; MAX_LANES] {
        const { assert!(Self::LANES <= MAX_LANES) };
        let mut lanes = [0.0; MAX_LANES];
        // SAFETY: LANES <= MAX_LANES.
        unsafe { self.store(lanes.as_mut_ptr(), v) };
        lanes
    }

    /// The first vector becomes the first lanes of all, and so on: a transposition of `LANES` x `LANES`, in place.
    ///
    /// # Panics
    /// In debug builds, unless there are `LANES` rows.
    fn transpose(self, rows: &mut [Self::F32]);
}

/// The lanes of the widest backend.
pub const MAX_LANES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// Interleaves two vectors, and takes the result apart again.
    struct InTurn([f32; 2 * MAX_LANES]);

    impl SimdOp for InTurn {
        type Output = ([f32; MAX_LANES], [f32; MAX_LANES]);

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) -> Self::Output {
            // SAFETY: 2 * LANES elements lie in the array.
            let (a, b) = unsafe { (simd.load(self.0.as_ptr()), simd.load(self.0.as_ptr().add(S::LANES))) };
            let (first, second) = simd.interleave(a, b);
            let (again_a, again_b) = simd.deinterleave(first, second);
            assert_eq!(simd.to_lanes(again_a), simd.to_lanes(a));
            assert_eq!(simd.to_lanes(again_b), simd.to_lanes(b));
            (simd.to_lanes(first), simd.to_lanes(second))
        }
    }

    #[test]
    fn interleaved_lanes_come_in_turn_and_go_apart() {
        for isa in Isa::available() {
            let lanes = isa.lanes();
            let (first, second) = isa.run(InTurn(std::array::from_fn(|i| i as f32)));
            let got: Vec<f32> = first[..lanes].iter().chain(&second[..lanes]).copied().collect();
            let expected: Vec<f32> = (0..lanes).flat_map(|i| [i as f32, (i + lanes) as f32]).collect();
            assert_eq!(got, expected, "{isa}");
        }
    }
}
