//! The transforms of Winograd's convolution, in one dimension: `y = A' [(G g) * (B' d)]`.
//!
//! `A` outputs-and-taps-less-one points in, `M` outputs out, three taps. With points `p` and `N(p)` the product of the distances
//! from `p` to the other finite points (Winograd, Arithmetic Complexity of Computations, 1980; Lavin and Gray, Fast
//! Algorithms for Convolutional Neural Networks, 2016):
//!
//! - a row of `G` is `[1, p, p^2] / N(p)`, and `[0, 0, 1]` at infinity;
//! - a row of `B'` has the coefficients of the product of all `(x - q)` with `q` not `p`, and at infinity of all `(x - q)`;
//! - a column of `A'` is `[1, p, p^2 ..]`, and `[0 .. 0, 1]` at infinity.
//!
//! In two dimensions each is applied to all columns, then to all rows. Every sum here is written with as few operations as
//! the symmetry of the points allows: `p` and `-p` share their even and their odd part.

use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};

use crate::simd::Simd;

/// One dimension of a Winograd convolution with 3 taps: `M` outputs from `A = M + 2` inputs.
pub(super) trait Transform<const A: usize, const M: usize>: Copy + Send + Sync + 'static {
    /// `B' d`
    fn input<S: Simd>(simd: S, d: [S::F32; A]) -> [S::F32; A];
    /// `G g`
    fn weights<S: Simd>(simd: S, g: [S::F32; 3]) -> [S::F32; A];
    /// `A' m`
    fn output<S: Simd>(simd: S, m: [S::F32; A]) -> [S::F32; M];
}

/// F(2, 3), points 0, 1, -1, infinity: integers stay exact.
#[derive(Debug, Clone, Copy)]
pub(super) struct F2;

impl Transform<4, 2> for F2 {
    #[inline(always)]
    fn input<S: Simd>(s: S, [d0, d1, d2, d3]: [S::F32; 4]) -> [S::F32; 4] {
        [s.sub(d0, d2), s.add(d1, d2), s.sub(d2, d1), s.sub(d3, d1)]
    }

    #[inline(always)]
    fn weights<S: Simd>(s: S, [g0, g1, g2]: [S::F32; 3]) -> [S::F32; 4] {
        let half = s.splat(0.5);
        let (even, odd) = (s.mul(half, s.add(g0, g2)), s.mul(half, g1));
        [g0, s.add(even, odd), s.sub(even, odd), g2]
    }

    #[inline(always)]
    fn output<S: Simd>(s: S, [m0, m1, m2, m3]: [S::F32; 4]) -> [S::F32; 2] {
        [s.add(m0, s.add(m1, m2)), s.add(s.sub(m1, m2), m3)]
    }
}

/// F(4, 3), points 0, 1/sqrt 2, -1/sqrt 2, sqrt 2, -sqrt 2, infinity: half the error of 0, 1, -1, 2, -2, at the same cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct F4;

impl Transform<6, 4> for F4 {
    #[inline(always)]
    fn input<S: Simd>(s: S, [d0, d1, d2, d3, d4, d5]: [S::F32; 6]) -> [S::F32; 6] {
        // x (x^2 - 1/2) (x^2 - 2) = x^5 - 5/2 x^3 + x
        let (minus_2, minus_half, minus_5_halves) = (s.splat(-2.0), s.splat(-0.5), s.splat(-2.5));
        let (small, large) = (s.splat(FRAC_1_SQRT_2), s.splat(SQRT_2));
        let (minus_small, minus_large) = (s.splat(-FRAC_1_SQRT_2), s.splat(-SQRT_2));
        let (even_small, odd_small) = (s.mul_add(minus_2, d2, d4), s.mul_add(minus_2, d1, d3));
        let (even_large, odd_large) = (s.mul_add(minus_half, d2, d4), s.mul_add(minus_half, d1, d3));
        [
            s.mul_add(minus_5_halves, d2, s.add(d0, d4)),
            s.mul_add(small, odd_small, even_small),
            s.mul_add(minus_small, odd_small, even_small),
            s.mul_add(large, odd_large, even_large),
            s.mul_add(minus_large, odd_large, even_large),
            s.mul_add(minus_5_halves, d3, s.add(d1, d5)),
        ]
    }

    #[inline(always)]
    fn weights<S: Simd>(s: S, [g0, g1, g2]: [S::F32; 3]) -> [S::F32; 6] {
        // N is -3/2 at the small points, 6 at the large ones.
        let (small, large) = (s.splat(-2.0 / 3.0), s.splat(1.0 / 6.0));
        let even_small = s.mul(small, s.mul_add(s.splat(0.5), g2, g0));
        let odd_small = s.mul(s.splat(-2.0 / 3.0 * FRAC_1_SQRT_2), g1);
        let even_large = s.mul(large, s.mul_add(s.splat(2.0), g2, g0));
        let odd_large = s.mul(s.splat(SQRT_2 / 6.0), g1);
        [
            g0,
            s.add(even_small, odd_small),
            s.sub(even_small, odd_small),
            s.add(even_large, odd_large),
            s.sub(even_large, odd_large),
            g2,
        ]
    }

    #[inline(always)]
    fn output<S: Simd>(s: S, [m0, m1, m2, m3, m4, m5]: [S::F32; 6]) -> [S::F32; 4] {
        let (even_small, odd_small) = (s.add(m1, m2), s.sub(m1, m2));
        let (even_large, odd_large) = (s.add(m3, m4), s.sub(m3, m4));
        let (small, large) = (s.splat(FRAC_1_SQRT_2), s.splat(SQRT_2));
        let (cube_small, cube_large) = (s.splat(FRAC_1_SQRT_2 / 2.0), s.splat(2.0 * SQRT_2));
        [
            s.add(m0, s.add(even_small, even_large)),
            s.mul_add(small, odd_small, s.mul(large, odd_large)),
            s.mul_add(s.splat(0.5), even_small, s.add(even_large, even_large)),
            s.mul_add(cube_small, odd_small, s.mul_add(cube_large, odd_large, m5)),
        ]
    }
}

/// F(6, 3), points 0, 1, -1, 2, -2, 1/2, -1/2, infinity.
#[derive(Debug, Clone, Copy)]
pub(super) struct F6;

impl Transform<8, 6> for F6 {
    #[inline(always)]
    fn input<S: Simd>(s: S, d: [S::F32; 8]) -> [S::F32; 8] {
        let [d0, d1, d2, d3, d4, d5, d6, d7] = d;
        // x (x^2 - 1) (x^2 - 4) (x^2 - 1/4) = x^7 - 21/4 x^5 + 21/4 x^3 - x
        let (c, minus_c) = (s.splat(5.25), s.splat(-5.25));
        let (even_1, odd_1) = without(s, d, 4.25, 1.0);
        let (even_2, odd_2) = without(s, d, 1.25, 0.25);
        let (even_half, odd_half) = without(s, d, 5.0, 4.0);
        [
            s.mul_add(c, d2, s.mul_add(minus_c, d4, s.sub(d6, d0))),
            s.add(even_1, odd_1),
            s.sub(even_1, odd_1),
            s.mul_add(s.splat(2.0), odd_2, even_2),
            s.mul_add(s.splat(-2.0), odd_2, even_2),
            s.mul_add(s.splat(0.5), odd_half, even_half),
            s.mul_add(s.splat(-0.5), odd_half, even_half),
            s.mul_add(c, d3, s.mul_add(minus_c, d5, s.sub(d7, d1))),
        ]
    }

    #[inline(always)]
    fn weights<S: Simd>(s: S, g: [S::F32; 3]) -> [S::F32; 8] {
        // N is -1 at 0, -9/2 at 1, 90 at 2, 45/32 at 1/2.
        let (plus_1, minus_1) = pair(s, g, 1.0, -4.5);
        let (plus_2, minus_2) = pair(s, g, 2.0, 90.0);
        let (plus_half, minus_half) = pair(s, g, 0.5, 45.0 / 32.0);
        [s.mul(s.splat(-1.0), g[0]), plus_1, minus_1, plus_2, minus_2, plus_half, minus_half, g[2]]
    }

    #[inline(always)]
    fn output<S: Simd>(s: S, [m0, m1, m2, m3, m4, m5, m6, m7]: [S::F32; 8]) -> [S::F32; 6] {
        let (even_1, odd_1) = (s.add(m1, m2), s.sub(m1, m2));
        let (even_2, odd_2) = (s.add(m3, m4), s.sub(m3, m4));
        let (even_half, odd_half) = (s.add(m5, m6), s.sub(m5, m6));
        let (even, odd) = ([even_1, even_2, even_half], [odd_1, odd_2, odd_half]);
        [
            s.add(s.add(m0, even_1), s.add(even_2, even_half)),
            sum(s, odd, 1),
            sum(s, even, 2),
            sum(s, odd, 3),
            sum(s, even, 4),
            s.add(sum(s, odd, 5), m7),
        ]
    }
}

/// The input at the even and at the odd powers of the product of all `(x - q)` but those of 0 and of one pair:
/// `x^4 - a x^2 + b`.
#[inline(always)]
fn without<S: Simd>(s: S, d: [S::F32; 8], a: f32, b: f32) -> (S::F32, S::F32) {
    let (a, b) = (s.splat(-a), s.splat(b));
    (s.mul_add(b, d[2], s.mul_add(a, d[4], d[6])), s.mul_add(b, d[1], s.mul_add(a, d[3], d[5])))
}

/// The kernel at a point and at the point's negative.
#[inline(always)]
fn pair<S: Simd>(s: S, [g0, g1, g2]: [S::F32; 3], point: f32, n: f32) -> (S::F32, S::F32) {
    let even = s.mul(s.splat(1.0 / n), s.mul_add(s.splat(point * point), g2, g0));
    let odd = s.mul(s.splat(point / n), g1);
    (s.add(even, odd), s.sub(even, odd))
}

/// What belongs to the points 1, 2 and 1/2, times a power of them.
#[inline(always)]
fn sum<S: Simd>(s: S, [one, two, half]: [S::F32; 3], power: i32) -> S::F32 {
    let (of_2, of_half) = (s.splat(2f32.powi(power)), s.splat(0.5f32.powi(power)));
    s.mul_add(of_2, two, s.mul_add(of_half, half, one))
}

// In two dimensions. By pointers, not by closures: a closure that is not inlined loses the caller's instructions.

/// One row of columns.
#[inline(always)]
fn row_of<S: Simd, const N: usize, const C: usize>(
    simd: S,
    columns: &[[S::F32; N]; C],
    i: usize,
) -> [S::F32; C] {
    let mut row = [simd.splat(0.0); C];
    for (value, column) in row.iter_mut().zip(columns) {
        *value = column[i];
    }
    row
}

/// `B' d B`, one vector wide: element (i, j) of `d` lies at `from + i * row + j * column`, point (i, j) goes to
/// `to + (i * A + j) * point`.
///
/// # Safety
/// Vectors can be read and written there.
#[inline(always)]
pub(super) unsafe fn input_2d<S: Simd, T: Transform<A, M>, const A: usize, const M: usize>(
    simd: S,
    from: *const f32,
    row: usize,
    column: usize,
    to: *mut f32,
    point: usize,
) {
    // Column by column.
    let mut half = [[simd.splat(0.0); A]; A];
    for (j, results) in half.iter_mut().enumerate() {
        let mut d = [simd.splat(0.0); A];
        for (i, d) in d.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *d = unsafe { simd.load(from.add(i * row + j * column)) };
        }
        *results = T::input(simd, d);
    }
    for i in 0..A {
        for (j, &value) in T::input(simd, row_of(simd, &half, i)).iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { simd.store(to.add((i * A + j) * point), value) };
        }
    }
}

/// `G g G'`, as [`input_2d`].
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn weights_2d<S: Simd, T: Transform<A, M>, const A: usize, const M: usize>(
    simd: S,
    from: *const f32,
    row: usize,
    column: usize,
    to: *mut f32,
    point: usize,
) {
    // Column by column.
    let mut half = [[simd.splat(0.0); A]; 3];
    for (j, results) in half.iter_mut().enumerate() {
        let mut g = [simd.splat(0.0); 3];
        for (i, g) in g.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *g = unsafe { simd.load(from.add(i * row + j * column)) };
        }
        *results = T::weights(simd, g);
    }
    for i in 0..A {
        for (j, &value) in T::weights(simd, row_of(simd, &half, i)).iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { simd.store(to.add((i * A + j) * point), value) };
        }
    }
}

/// `A' m A`, one vector wide: point (i, j) of `m` lies at `from + (i * A + j) * point`.
///
/// # Safety
/// Vectors can be read there.
#[inline(always)]
pub(super) unsafe fn output_2d<S: Simd, T: Transform<A, M>, const A: usize, const M: usize>(
    simd: S,
    from: *const f32,
    point: usize,
) -> [[S::F32; M]; M] {
    // Column by column.
    let mut half = [[simd.splat(0.0); M]; A];
    for (j, results) in half.iter_mut().enumerate() {
        let mut m = [simd.splat(0.0); A];
        for (i, m) in m.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *m = unsafe { simd.load(from.add((i * A + j) * point)) };
        }
        *results = T::output(simd, m);
    }
    let mut y = [[simd.splat(0.0); M]; M];
    for (i, row) in y.iter_mut().enumerate() {
        *row = T::output(simd, row_of(simd, &half, i));
    }
    y
}
