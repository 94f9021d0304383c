//! The transforms of Winograd's convolution, in one dimension: `y = A' [(G g) * (B' d)]`.
//!
//! `R` taps, `A` inputs, `M = A - R + 1` outputs, `A` points: infinity, pairs `p` and `-p`, and zero if `A` is even. With `N(p)` the
//! product of the distances from `p` to the other finite points (Winograd, Arithmetic Complexity of Computations, 1980; Lavin
//! and Gray, Fast Algorithms for Convolutional Neural Networks, 2016):
//!
//! - a row of `G` is `[1, p, p^2 ..] / N(p)`, and `[0 .. 0, 1]` at infinity;
//! - a row of `B'` has the coefficients of the product of all `(x - q)` with `q` not `p`, and at infinity of all `(x - q)`;
//! - a column of `A'` is `[1, p, p^2 ..]`, and `[0 .. 0, 1]` at infinity.
//!
//! So `B'` depends on the points alone, and serves every number of taps. `p` and `-p` share their even and their odd part: with
//! `c(x^2)` the product of the other pairs' `(x^2 - q^2)`, and `z` 1 if zero is a point, else 0, the rows of `B'` are those of
//! `c(x^2) x^z (x + p)` and `c(x^2) x^z (x - p)`.
//!
//! In two dimensions each is applied to all columns, then to all rows.

use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

use crate::simd::Simd;

/// The most pairs of points, and the most taps and outputs.
const PAIRS: usize = 3;
const POWERS: usize = 6;

/// `A` points.
pub(super) trait Points<const A: usize>: Copy + Send + Sync + 'static {
    /// The positive point of each pair.
    const OF_PAIRS: &'static [f64];
    /// For each pair: the product of the others' `(x^2 - q^2)`, in ascending powers of `x^2`.
    const OTHERS: [[f32; PAIRS + 1]; PAIRS] = others(Self::OF_PAIRS);
    /// The product of all.
    const ALL: [f32; PAIRS + 1] = rounded(product(Self::OF_PAIRS, PAIRS));
    /// For each pair: `p^k`, and `p^k / N(p)`.
    const RAISED: [[f32; POWERS]; PAIRS] = raised(Self::OF_PAIRS, A, false);
    const DIVIDED: [[f32; POWERS]; PAIRS] = raised(Self::OF_PAIRS, A, true);
    /// `1 / N(0)`
    const AT_ZERO: f32 = (1.0 / product(Self::OF_PAIRS, PAIRS)[0]) as f32;
    /// Points before the pairs: zero.
    const ZERO: usize = 1 - A % 2;
}

/// 0, 1, -1: integers stay exact.
#[derive(Debug, Clone, Copy)]
pub(super) struct Points4;

impl Points<4> for Points4 {
    const OF_PAIRS: &'static [f64] = &[1.0];
}

/// 1/2, -1/2, 3/2, -3/2: half the error of 0, 1, -1, 2.
#[derive(Debug, Clone, Copy)]
pub(super) struct Points5;

impl Points<5> for Points5 {
    const OF_PAIRS: &'static [f64] = &[0.5, 1.5];
}

/// 0, 1/sqrt 2, -1/sqrt 2, sqrt 2, -sqrt 2: half the error of 0, 1, -1, 2, -2, at the same cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Points6;

impl Points<6> for Points6 {
    const OF_PAIRS: &'static [f64] = &[FRAC_1_SQRT_2, SQRT_2];
}

/// 0, 1, -1, 2, -2, 1/2, -1/2.
#[derive(Debug, Clone, Copy)]
pub(super) struct Points8;

impl Points<8> for Points8 {
    const OF_PAIRS: &'static [f64] = &[1.0, 2.0, 0.5];
}

const fn product(pairs: &[f64], left_out: usize) -> [f64; PAIRS + 1] {
    let mut c = [0.0; PAIRS + 1];
    c[0] = 1.0;
    let mut i = 0;
    while i < pairs.len() {
        if i != left_out {
            let mut k = PAIRS;
            while k > 0 {
                c[k] = c[k - 1] - pairs[i] * pairs[i] * c[k];
                k -= 1;
            }
            c[0] *= -pairs[i] * pairs[i];
        }
        i += 1;
    }
    c
}

const fn rounded<const N: usize>(values: [f64; N]) -> [f32; N] {
    let mut result = [0.0; N];
    let mut i = 0;
    while i < N {
        result[i] = values[i] as f32;
        i += 1;
    }
    result
}

const fn others(pairs: &[f64]) -> [[f32; PAIRS + 1]; PAIRS] {
    let mut result = [[0.0; PAIRS + 1]; PAIRS];
    let mut i = 0;
    while i < pairs.len() {
        result[i] = rounded(product(pairs, i));
        i += 1;
    }
    result
}

const fn raised(pairs: &[f64], points: usize, divided: bool) -> [[f32; POWERS]; PAIRS] {
    let mut result = [[0.0; POWERS]; PAIRS];
    let mut i = 0;
    while i < pairs.len() {
        let p = pairs[i];
        let mut power = 1.0;
        if divided {
            // The distances from p to -p, to the other pairs, and to zero.
            power /= 2.0 * p * if points.is_multiple_of(2) { p } else { 1.0 };
            let mut j = 0;
            while j < pairs.len() {
                if j != i {
                    power /= p * p - pairs[j] * pairs[j];
                }
                j += 1;
            }
        }
        let mut k = 0;
        while k < POWERS {
            result[i][k] = power as f32;
            power *= p;
            k += 1;
        }
        i += 1;
    }
    result
}

/// Every second value from `first` on, as many as there are coefficients, times these; the last of them is 1.
#[inline(always)]
fn monic<S: Simd>(s: S, c: &[f32], values: &[S::F32], first: usize) -> S::F32 {
    let last = c.len() - 1;
    let mut sum = values[first + 2 * last];
    for k in (0..last).rev() {
        sum = s.mul_add(s.splat(c[k]), values[first + 2 * k], sum);
    }
    sum
}

/// `B' d`
#[inline(always)]
fn input_1d<S: Simd, P: Points<A>, const A: usize>(s: S, d: [S::F32; A]) -> [S::F32; A] {
    let pairs = P::OF_PAIRS.len();
    let mut points = d;
    if P::ZERO == 1 {
        points[0] = monic(s, &P::ALL[..=pairs], &d, 0);
    }
    for (i, &p) in P::OF_PAIRS.iter().enumerate() {
        let others = &P::OTHERS[i][..pairs];
        let (even, odd) = (monic(s, others, &d, P::ZERO + 1), monic(s, others, &d, P::ZERO));
        points[P::ZERO + 2 * i] = s.mul_add(s.splat(p as f32), odd, even);
        points[P::ZERO + 2 * i + 1] = s.mul_add(s.splat(-p as f32), odd, even);
    }
    points[A - 1] = monic(s, &P::ALL[..=pairs], &d, P::ZERO);
    points
}

/// `G g`
#[inline(always)]
fn weights_1d<S: Simd, P: Points<A>, const A: usize, const R: usize>(s: S, g: [S::F32; R]) -> [S::F32; A] {
    let mut points = [g[R - 1]; A];
    if P::ZERO == 1 {
        points[0] = s.mul(s.splat(P::AT_ZERO), g[0]);
    }
    for (i, c) in P::DIVIDED.iter().enumerate().take(P::OF_PAIRS.len()) {
        // The even and the odd powers.
        let mut sums = [s.mul(s.splat(c[0]), g[0]), s.mul(s.splat(c[1]), g[1])];
        for k in 2..R {
            sums[k % 2] = s.mul_add(s.splat(c[k]), g[k], sums[k % 2]);
        }
        let [even, odd] = sums;
        points[P::ZERO + 2 * i] = s.add(even, odd);
        // Without zero, the number of distances is odd: N(-p) = -N(p).
        points[P::ZERO + 2 * i + 1] = if P::ZERO == 1 { s.sub(even, odd) } else { s.sub(odd, even) };
    }
    points
}

/// `A' m`
#[inline(always)]
fn output_1d<S: Simd, P: Points<A>, const A: usize, const M: usize>(s: S, m: [S::F32; A]) -> [S::F32; M] {
    let mut y = [s.splat(0.0); M];
    for i in 0..P::OF_PAIRS.len() {
        let (plus, minus) = (m[P::ZERO + 2 * i], m[P::ZERO + 2 * i + 1]);
        // The even and the odd powers.
        let parts = [s.add(plus, minus), s.sub(plus, minus)];
        for (k, y) in y.iter_mut().enumerate() {
            let (power, part) = (s.splat(P::RAISED[i][k]), parts[k % 2]);
            *y = match (i, k) {
                (0, 0) if P::ZERO == 1 => s.add(m[0], part),
                (0, _) if k == M - 1 => s.mul_add(power, part, m[A - 1]),
                (0, _) => s.mul(power, part),
                _ => s.mul_add(power, part, *y),
            };
        }
    }
    y
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
/// `to + (i * A + j) * point`. Where `finite` says so, of rows or of columns, without the last input and without infinity,
/// the only point that it reaches.
///
/// # Safety
/// Vectors can be read and written there.
#[inline(always)]
pub(super) unsafe fn input_2d<S: Simd, P: Points<A>, const A: usize>(
    simd: S,
    from: *const f32,
    [row, column]: [usize; 2],
    finite: [bool; 2],
    to: *mut f32,
    point: usize,
) {
    let [rows, columns] = finite.map(|finite| A - usize::from(finite));
    // Column by column.
    let mut half = [[simd.splat(0.0); A]; A];
    for (j, results) in half.iter_mut().enumerate().take(columns) {
        let mut d = [simd.splat(0.0); A];
        for (i, d) in d.iter_mut().enumerate().take(rows) {
            // SAFETY: the caller's promise.
            *d = unsafe { simd.load(from.add(i * row + j * column)) };
        }
        *results = input_1d::<S, P, A>(simd, d);
    }
    for i in 0..rows {
        let points = input_1d::<S, P, A>(simd, row_of(simd, &half, i));
        for (j, &value) in points.iter().enumerate().take(columns) {
            // SAFETY: the caller's promise.
            unsafe { simd.store(to.add((i * A + j) * point), value) };
        }
    }
}

/// `G g G'`, as [`input_2d`], of `taps` rows and columns; the others are zero.
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn weights_2d<S: Simd, P: Points<A>, const A: usize, const R: usize>(
    simd: S,
    from: *const f32,
    [row, column]: [usize; 2],
    taps: [usize; 2],
    to: *mut f32,
    point: usize,
) {
    // Column by column.
    let mut half = [[simd.splat(0.0); A]; R];
    for (j, results) in half.iter_mut().enumerate().take(taps[1]) {
        let mut g = [simd.splat(0.0); R];
        for (i, g) in g.iter_mut().enumerate().take(taps[0]) {
            // SAFETY: the caller's promise.
            *g = unsafe { simd.load(from.add(i * row + j * column)) };
        }
        *results = weights_1d::<S, P, A, R>(simd, g);
    }
    for i in 0..A {
        let points = weights_1d::<S, P, A, R>(simd, row_of(simd, &half, i));
        for (j, &value) in points.iter().enumerate() {
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
pub(super) unsafe fn output_2d<S: Simd, P: Points<A>, const A: usize, const M: usize>(
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
        *results = output_1d::<S, P, A, M>(simd, m);
    }
    let mut y = [[simd.splat(0.0); M]; M];
    for (i, row) in y.iter_mut().enumerate() {
        *row = output_1d::<S, P, A, M>(simd, row_of(simd, &half, i));
    }
    y
}
