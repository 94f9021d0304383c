//! The backend for AVX-512 (F, VL, DQ, BW: every chip since Skylake-X): 32 registers of 16 lanes.

use core::arch::x86_64::*;

use super::{Isa, Simd, SimdOp};

/// The token of [`Isa::Avx512`].
#[derive(Debug, Clone, Copy)]
pub struct Avx512 {
    _only_by_detection: (),
}

const LANES: usize = 16;

impl Avx512 {
    /// The token, if this machine has AVX-512 F, VL, DQ and BW (and AVX2 and FMA).
    #[inline]
    pub fn new() -> Option<Self> {
        (is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma"))
        .then_some(Avx512 { _only_by_detection: () })
    }

    #[inline(always)]
    fn mask(self, n: usize) -> __mmask16 {
        ((1u32 << n.min(LANES)) - 1) as __mmask16
    }
}

// SAFETY: `new` is the only maker and checks for the features that `vectorize` enables, the only ones used below.
// That is also the reason for every block below that names only the token.
unsafe impl Simd for Avx512 {
    type F32 = __m512;
    type Mask = __mmask16;

    const LANES: usize = LANES;
    const ISA: Isa = Isa::Avx512;
    // 32 registers: 28 accumulators, 2 vectors of weights; broadcasts are memory operands.
    const TILE: (usize, usize) = (14, 2);

    #[inline(always)]
    fn vectorize<Op: SimdOp>(self, op: Op) -> Op::Output {
        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
        fn compiled<Op: SimdOp>(simd: Avx512, op: Op) -> Op::Output {
            op.run(simd)
        }
        // rustc drops `inline(never)` from a function with target features, so a function without them stands between
        // (it becomes a jump): see [`Simd::vectorize`] for why this must stay a call.
        #[inline(never)]
        fn outlined<Op: SimdOp>(simd: Avx512, op: Op) -> Op::Output {
            // SAFETY: the token proves the features.
            unsafe { compiled(simd, op) }
        }
        outlined(self, op)
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: the token proves the features.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        // SAFETY: the caller lets LANES f32 be read at p.
        unsafe { _mm512_loadu_ps(p) }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m512) {
        // SAFETY: the caller lets LANES f32 be written at p.
        unsafe { _mm512_storeu_ps(p, v) }
    }

    #[inline(always)]
    unsafe fn load_partial(self, p: *const f32, n: usize) -> __m512 {
        // SAFETY: only lanes below n are read.
        unsafe { _mm512_maskz_loadu_ps(self.mask(n), p) }
    }

    #[inline(always)]
    unsafe fn store_partial(self, p: *mut f32, n: usize, v: __m512) {
        // SAFETY: only lanes below n are written.
        unsafe { _mm512_mask_storeu_ps(p, self.mask(n), v) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token proves the features.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token proves the features.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token proves the features.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token proves the features.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the token proves the features.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token proves the features.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token proves the features.
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        // SAFETY: the token proves the features.
        unsafe { _mm512_abs_ps(a) }
    }

    #[inline(always)]
    fn sqrt(self, a: __m512) -> __m512 {
        // SAFETY: the token proves the features.
        unsafe { _mm512_sqrt_ps(a) }
    }

    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        // SAFETY: the token proves the features.
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }

    #[inline(always)]
    fn exp2_integral(self, n: __m512) -> __m512 {
        // SAFETY: the token proves the features.
        unsafe {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        }
    }

    #[inline(always)]
    fn add_bits(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token proves the features.
        unsafe { _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b))) }
    }

    #[inline(always)]
    fn gt(self, a: __m512, b: __m512) -> __mmask16 {
        // SAFETY: the token proves the features.
        unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b) }
    }

    #[inline(always)]
    fn is_nan(self, a: __m512) -> __mmask16 {
        // SAFETY: the token proves the features.
        unsafe { _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a) }
    }

    #[inline(always)]
    fn or(self, a: __mmask16, b: __mmask16) -> __mmask16 {
        a | b
    }

    #[inline(always)]
    fn select(self, mask: __mmask16, yes: __m512, no: __m512) -> __m512 {
        // SAFETY: the token proves the features.
        unsafe { _mm512_mask_blend_ps(mask, no, yes) }
    }

    #[inline(always)]
    fn deinterleave(self, a: __m512, b: __m512) -> (__m512, __m512) {
        // SAFETY: the token proves the features.
        unsafe {
            let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let odd = _mm512_or_si512(even, _mm512_set1_epi32(1));
            (_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b))
        }
    }

    #[inline(always)]
    fn interleave(self, a: __m512, b: __m512) -> (__m512, __m512) {
        // SAFETY: the token proves the features.
        unsafe {
            let first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
            (_mm512_permutex2var_ps(a, first, b), _mm512_permutex2var_ps(a, second, b))
        }
    }

    #[inline(always)]
    fn transpose(self, rows: &mut [__m512]) {
        debug_assert_eq!(rows.len(), LANES);
        let Ok(r) = <&mut [__m512; LANES]>::try_from(rows) else { return };
        // Pairs of rows, then pairs of pairs, then the four 128-bit quarters in two steps.
        // SAFETY: the token proves the features.
        unsafe {
            let mut t = *r;
            for i in (0..LANES).step_by(2) {
                t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
                t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
            }
            let mut q = t;
            for i in (0..LANES).step_by(4) {
                q[i] = _mm512_shuffle_ps::<0b01_00_01_00>(t[i], t[i + 2]);
                q[i + 1] = _mm512_shuffle_ps::<0b11_10_11_10>(t[i], t[i + 2]);
                q[i + 2] = _mm512_shuffle_ps::<0b01_00_01_00>(t[i + 1], t[i + 3]);
                q[i + 3] = _mm512_shuffle_ps::<0b11_10_11_10>(t[i + 1], t[i + 3]);
            }
            for i in 0..4 {
                let low = _mm512_shuffle_f32x4::<0x88>(q[i], q[i + 4]);
                let high = _mm512_shuffle_f32x4::<0xdd>(q[i], q[i + 4]);
                let low8 = _mm512_shuffle_f32x4::<0x88>(q[i + 8], q[i + 12]);
                let high8 = _mm512_shuffle_f32x4::<0xdd>(q[i + 8], q[i + 12]);
                r[i] = _mm512_shuffle_f32x4::<0x88>(low, low8);
                r[i + 8] = _mm512_shuffle_f32x4::<0xdd>(low, low8);
                r[i + 4] = _mm512_shuffle_f32x4::<0x88>(high, high8);
                r[i + 12] = _mm512_shuffle_f32x4::<0xdd>(high, high8);
            }
        }
    }
}
