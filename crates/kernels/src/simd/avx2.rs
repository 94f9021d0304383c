//! The backend for AVX2 with FMA: 16 registers of 8 lanes.

use core::arch::x86_64::*;

use super::{Isa, Simd, SimdOp};

/// The token of [`Isa::Avx2`].
#[derive(Debug, Clone, Copy)]
pub struct Avx2 {
    _only_by_detection: (),
}

const LANES: usize = 8;

/// Eight set words, then eight clear ones: eight words from position `8 - n` are a mask of `n` lanes.
static MASKS: [i32; 2 * LANES] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

impl Avx2 {
    /// The token, if this machine has AVX2 and FMA.
    #[inline]
    pub fn new() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"))
            .then_some(Avx2 { _only_by_detection: () })
    }

    #[inline(always)]
    fn mask(self, n: usize) -> __m256i {
        // SAFETY: 8 - min(n, 8) + 8 <= 16, the length of MASKS; the token proves AVX2.
        unsafe { _mm256_loadu_si256(MASKS.as_ptr().add(LANES - n.min(LANES)).cast()) }
    }
}

// SAFETY: `new` is the only maker and checks for AVX2 and FMA, the only features used below. That is also the
// reason for every block below that names only the token.
unsafe impl Simd for Avx2 {
    type F32 = __m256;
    type Mask = __m256;

    const LANES: usize = LANES;
    const ISA: Isa = Isa::Avx2;
    // 16 registers: 12 accumulators, 2 vectors of weights, 1 broadcast.
    const TILE: (usize, usize) = (6, 2);

    #[inline(always)]
    fn vectorize<Op: SimdOp>(self, op: Op) -> Op::Output {
        #[target_feature(enable = "avx2,fma")]
        fn compiled<Op: SimdOp>(simd: Avx2, op: Op) -> Op::Output {
            op.run(simd)
        }
        // rustc drops `inline(never)` from a function with target features, so a function without them stands between
        // (it becomes a jump): see [`Simd::vectorize`] for why this must stay a call.
        #[inline(never)]
        fn outlined<Op: SimdOp>(simd: Avx2, op: Op) -> Op::Output {
            // SAFETY: the token proves the features.
            unsafe { compiled(simd, op) }
        }
        outlined(self, op)
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        // SAFETY: the token proves the features.
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m256 {
        // SAFETY: the caller lets LANES f32 be read at p.
        unsafe { _mm256_loadu_ps(p) }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m256) {
        // SAFETY: the caller lets LANES f32 be written at p.
        unsafe { _mm256_storeu_ps(p, v) }
    }

    #[inline(always)]
    unsafe fn load_partial(self, p: *const f32, n: usize) -> __m256 {
        // SAFETY: only lanes below n are read.
        unsafe { _mm256_maskload_ps(p, self.mask(n)) }
    }

    #[inline(always)]
    unsafe fn store_partial(self, p: *mut f32, n: usize, v: __m256) {
        // In pieces: a masked store costs tens of cycles on AMD's cores.
        // SAFETY: the pieces end at lane n, all within what the caller lets be written.
        unsafe {
            if n >= LANES {
                return _mm256_storeu_ps(p, v);
            }
            let mut rest = _mm256_castps256_ps128(v);
            let mut p = p;
            if n & 4 != 0 {
                _mm_storeu_ps(p, rest);
                p = p.add(4);
                rest = _mm256_extractf128_ps::<1>(v);
            }
            if n & 2 != 0 {
                _mm_storel_epi64(p.cast(), _mm_castps_si128(rest));
                p = p.add(2);
                rest = _mm_movehl_ps(rest, rest);
            }
            if n & 1 != 0 {
                _mm_store_ss(p, rest);
            }
        }
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token proves the features.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token proves the features.
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token proves the features.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token proves the features.
        unsafe { _mm256_div_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: the token proves the features.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token proves the features.
        unsafe { _mm256_max_ps(a, b) }
    }

    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token proves the features.
        unsafe { _mm256_min_ps(a, b) }
    }

    #[inline(always)]
    fn abs(self, a: __m256) -> __m256 {
        // SAFETY: the token proves the features.
        unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), a) }
    }

    #[inline(always)]
    fn sqrt(self, a: __m256) -> __m256 {
        // SAFETY: the token proves the features.
        unsafe { _mm256_sqrt_ps(a) }
    }

    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        // SAFETY: the token proves the features.
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }

    #[inline(always)]
    fn exp2_integral(self, n: __m256) -> __m256 {
        // SAFETY: the token proves the features.
        unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
        }
    }

    #[inline(always)]
    fn add_bits(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token proves the features.
        unsafe { _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b))) }
    }

    #[inline(always)]
    fn gt(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token proves the features.
        unsafe { _mm256_cmp_ps::<_CMP_GT_OQ>(a, b) }
    }

    #[inline(always)]
    fn is_nan(self, a: __m256) -> __m256 {
        // SAFETY: the token proves the features.
        unsafe { _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a) }
    }

    #[inline(always)]
    fn or(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token proves the features.
        unsafe { _mm256_or_ps(a, b) }
    }

    #[inline(always)]
    fn select(self, mask: __m256, yes: __m256, no: __m256) -> __m256 {
        // SAFETY: the token proves the features.
        unsafe { _mm256_blendv_ps(no, yes, mask) }
    }

    #[inline(always)]
    fn deinterleave(self, a: __m256, b: __m256) -> (__m256, __m256) {
        // Within each half: two lanes of a, two of b. Then the pairs in order.
        // SAFETY: the token proves the features.
        unsafe {
            let even = _mm256_castps_pd(_mm256_shuffle_ps::<0b10_00_10_00>(a, b));
            let odd = _mm256_castps_pd(_mm256_shuffle_ps::<0b11_01_11_01>(a, b));
            (
                _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(even)),
                _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(odd)),
            )
        }
    }

    #[inline(always)]
    fn interleave(self, a: __m256, b: __m256) -> (__m256, __m256) {
        // Within each half, then the halves in order.
        // SAFETY: the token proves the features.
        unsafe {
            let (first, second) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            (_mm256_permute2f128_ps::<0x20>(first, second), _mm256_permute2f128_ps::<0x31>(first, second))
        }
    }

    #[inline(always)]
    fn transpose(self, rows: &mut [__m256]) {
        debug_assert_eq!(rows.len(), LANES);
        let Ok(r) = <&mut [__m256; LANES]>::try_from(rows) else { return };
        // Pairs of rows, then pairs of pairs, then the two 128-bit halves.
        // SAFETY: the token proves the features.
        unsafe {
            let mut t = *r;
            for i in (0..LANES).step_by(2) {
                t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
                t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
            }
            let mut q = t;
            for i in (0..LANES).step_by(4) {
                q[i] = _mm256_shuffle_ps::<0b01_00_01_00>(t[i], t[i + 2]);
                q[i + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(t[i], t[i + 2]);
                q[i + 2] = _mm256_shuffle_ps::<0b01_00_01_00>(t[i + 1], t[i + 3]);
                q[i + 3] = _mm256_shuffle_ps::<0b11_10_11_10>(t[i + 1], t[i + 3]);
            }
            for i in 0..4 {
                r[i] = _mm256_permute2f128_ps::<0x20>(q[i], q[i + 4]);
                r[i + 4] = _mm256_permute2f128_ps::<0x31>(q[i], q[i + 4]);
            }
        }
    }
}
