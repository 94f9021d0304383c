//! The backend for every target: `wide::f32x8` at the flags of the build.

use wide::{f32x8, i32x8};

use super::{Isa, Simd, SimdOp};

/// The token of [`Isa::Portable`]: every machine can run what the build was compiled for.
#[derive(Debug, Clone, Copy)]
pub struct Portable;

const LANES: usize = 8;

/// Whether the target's own maximum and minimum give the second operand where one is NaN: `maxps` does, NEON does not.
const MAX_GIVES_SECOND: bool = cfg!(target_arch = "x86_64");

// SAFETY: no instruction beyond the build's own target features is used.
unsafe impl Simd for Portable {
    type F32 = f32x8;
    type Mask = f32x8;

    const LANES: usize = LANES;
    const ISA: Isa = Isa::Portable;
    // SSE2: 16 registers of 4 lanes; 6 x 1 vectors of 8 lanes take 12 of them, the weights 2, a broadcast 1.
    const TILE: (usize, usize) = (6, 1);

    #[inline(always)]
    fn vectorize<Op: SimdOp>(self, op: Op) -> Op::Output {
        #[inline(never)]
        fn compiled<Op: SimdOp>(op: Op) -> Op::Output {
            op.run(Portable)
        }
        compiled(op)
    }

    #[inline(always)]
    fn splat(self, x: f32) -> f32x8 {
        f32x8::splat(x)
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> f32x8 {
        // SAFETY: the caller lets LANES f32 be read at p; arrays of f32 need no more alignment than f32.
        f32x8::new(unsafe { p.cast::<[f32; LANES]>().read() })
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: f32x8) {
        // SAFETY: the caller lets LANES f32 be written at p.
        unsafe { p.cast::<[f32; LANES]>().write(v.to_array()) }
    }

    #[inline(always)]
    unsafe fn load_partial(self, p: *const f32, n: usize) -> f32x8 {
        let mut lanes = [0.0; LANES];
        for (i, lane) in lanes.iter_mut().enumerate().take(n) {
            // SAFETY: i < min(n, LANES), which the caller lets be read.
            *lane = unsafe { *p.add(i) };
        }
        f32x8::new(lanes)
    }

    #[inline(always)]
    unsafe fn store_partial(self, p: *mut f32, n: usize, v: f32x8) {
        for (i, lane) in v.to_array().into_iter().enumerate().take(n) {
            // SAFETY: i < min(n, LANES), which the caller lets be written.
            unsafe { *p.add(i) = lane };
        }
    }

    #[inline(always)]
    fn add(self, a: f32x8, b: f32x8) -> f32x8 {
        a + b
    }

    #[inline(always)]
    fn sub(self, a: f32x8, b: f32x8) -> f32x8 {
        a - b
    }

    #[inline(always)]
    fn mul(self, a: f32x8, b: f32x8) -> f32x8 {
        a * b
    }

    #[inline(always)]
    fn div(self, a: f32x8, b: f32x8) -> f32x8 {
        a / b
    }

    #[inline(always)]
    fn mul_add(self, a: f32x8, b: f32x8, c: f32x8) -> f32x8 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn max(self, a: f32x8, b: f32x8) -> f32x8 {
        if MAX_GIVES_SECOND { a.fast_max(b) } else { a.simd_gt(b).bitselect(a, b) }
    }

    #[inline(always)]
    fn min(self, a: f32x8, b: f32x8) -> f32x8 {
        if MAX_GIVES_SECOND { a.fast_min(b) } else { b.simd_gt(a).bitselect(a, b) }
    }

    #[inline(always)]
    fn abs(self, a: f32x8) -> f32x8 {
        a.abs()
    }

    #[inline(always)]
    fn sqrt(self, a: f32x8) -> f32x8 {
        a.sqrt()
    }

    #[inline(always)]
    fn round(self, a: f32x8) -> f32x8 {
        a.round_ties_even()
    }

    #[inline(always)]
    fn exp2_integral(self, n: f32x8) -> f32x8 {
        let exponent: i32x8 = n.fast_trunc_int() + i32x8::splat(127);
        bytemuck::cast::<i32x8, f32x8>(exponent << 23)
    }

    #[inline(always)]
    fn add_bits(self, a: f32x8, b: f32x8) -> f32x8 {
        bytemuck::cast(bytemuck::cast::<_, i32x8>(a) + bytemuck::cast::<_, i32x8>(b))
    }

    #[inline(always)]
    fn gt(self, a: f32x8, b: f32x8) -> f32x8 {
        a.simd_gt(b)
    }

    #[inline(always)]
    fn is_nan(self, a: f32x8) -> f32x8 {
        a.is_nan()
    }

    #[inline(always)]
    fn or(self, a: f32x8, b: f32x8) -> f32x8 {
        a | b
    }

    #[inline(always)]
    fn select(self, mask: f32x8, yes: f32x8, no: f32x8) -> f32x8 {
        mask.bitselect(yes, no)
    }

    #[inline(always)]
    fn deinterleave(self, a: f32x8, b: f32x8) -> (f32x8, f32x8) {
        let (a, b) = (a.to_array(), b.to_array());
        let every_other =
            |i| f32x8::new([a[i], a[i + 2], a[i + 4], a[i + 6], b[i], b[i + 2], b[i + 4], b[i + 6]]);
        (every_other(0), every_other(1))
    }

    #[inline(always)]
    fn interleave(self, a: f32x8, b: f32x8) -> (f32x8, f32x8) {
        let (a, b) = (a.to_array(), b.to_array());
        let in_turn =
            |i| f32x8::new([a[i], b[i], a[i + 1], b[i + 1], a[i + 2], b[i + 2], a[i + 3], b[i + 3]]);
        (in_turn(0), in_turn(4))
    }

    #[inline(always)]
    fn transpose(self, rows: &mut [f32x8]) {
        debug_assert_eq!(rows.len(), LANES);
        if let Ok(square) = <&mut [f32x8; LANES]>::try_from(rows) {
            *square = f32x8::transpose(*square);
        }
    }
}
