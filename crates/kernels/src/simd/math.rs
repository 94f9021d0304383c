//! Elementary functions on vectors, to within a few units in the last place over the whole range of f32.
//!
//! Each is straight-line code, without a branch or a table: a reduction of the argument to a short interval, a
//! polynomial there, and the reduction undone. The errors named below hold with a fused `mul_add`; two roundings
//! (SSE2) add about half a unit each. Results below the normal range are good to a few units of the smallest
//! denormal. NaN gives NaN.
//!
//! The coefficients were fitted for these reductions: weighted least squares on 300 to 600 Chebyshev nodes in
//! f64, reweighted until the largest relative error stopped falling (C. L. Lawson's iteration, 1961), against
//! values of 40 digits; then rounded to f32, which the stated errors of the polynomials include.

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, LOG2_E};

use super::Simd;

/// The polynomial `c[0] + c[1] x + c[2] x^2 + ...`, by Horner's rule.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(simd: S, x: S::F32, c: [f32; N]) -> S::F32 {
    let mut sum = simd.splat(c[N - 1]);
    for &c in c[..N - 1].iter().rev() {
        sum = simd.mul_add(sum, x, simd.splat(c));
    }
    sum
}

/// ln 2 in two parts. The first has 9 significant bits, so that a multiple of it by an exponent is exact
/// (W. J. Cody and W. Waite, "Software Manual for the Elementary Functions", 1980).
const LN_2_HIGH: f32 = 355.0 / 512.0;
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// `n` and `r`, where `x = n ln 2 + r` with integral `n` and `|r| <= ln(2) / 2`; for `|x| < 2^14`.
#[inline(always)]
fn split_by_ln_2<S: Simd>(simd: S, x: S::F32) -> (S::F32, S::F32) {
    let n = simd.round(simd.mul(x, simd.splat(LOG2_E)));
    let r = simd.mul_add(n, simd.splat(-LN_2_HIGH), x);
    (n, simd.mul_add(n, simd.splat(-LN_2_LOW), r))
}

/// `exp(r) - 1` for `|r| <= ln(2) / 2`: `r + r^2 / 2 + r^3 q(r)`. The polynomial is off by at most 1.4e-8 of the
/// result.
#[inline(always)]
fn expm1_reduced<S: Simd>(simd: S, r: S::F32) -> S::F32 {
    let tail = [0.5, 0.166_665_48, 0.041_666_854, 0.008_366_067, 0.001_389_823_2];
    simd.mul_add(simd.mul(r, r), polynomial(simd, r, tail), r)
}

/// `2^n exp(r)` for integral `n` in -252..=254. In two steps, because `2^n` alone may be no normal number.
#[inline(always)]
fn exp_restored<S: Simd>(simd: S, n: S::F32, r: S::F32) -> S::F32 {
    let mantissa = simd.add(expm1_reduced(simd, r), simd.splat(1.0));
    let half = simd.round(simd.mul(n, simd.splat(0.5)));
    let first = simd.mul(mantissa, simd.exp2_integral(half));
    simd.mul(first, simd.exp2_integral(simd.sub(n, half)))
}

/// `x` moved into `low..=high`; NaN stays.
#[inline(always)]
pub(crate) fn clamp<S: Simd>(simd: S, x: S::F32, low: f32, high: f32) -> S::F32 {
    // `x` comes second: of a pair with a NaN, `max` and `min` give the second.
    simd.min(simd.splat(high), simd.max(simd.splat(low), x))
}

/// `e^x`, within 1 unit in the last place; infinity from 88.73 on, 0 below -103.98.
#[inline(always)]
pub fn exp<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    // Beyond these the result is infinity or 0 and the exponent leaves the range of `exp_restored`.
    let (n, r) = split_by_ln_2(simd, clamp(simd, x, -105.0, 89.0));
    exp_restored(simd, n, r)
}

/// `e^x - 1`, within 2 units in the last place, near 0 too; infinity from 88.73 on. The sign of a zero is lost.
#[inline(always)]
pub fn expm1<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    // -1 is reached before -20.
    let (n, r) = split_by_ln_2(simd, clamp(simd, x, -20.0, 89.0));
    // 2^n (q + 1) - 1 = 2 (s q + (s - 1/2)) with s = 2^(n-1): even the largest exponent, 128, has a normal s.
    let scale = simd.exp2_integral(simd.sub(n, simd.splat(1.0)));
    let half = simd.mul_add(scale, expm1_reduced(simd, r), simd.sub(scale, simd.splat(0.5)));
    simd.add(half, half)
}

/// `1 / (1 + e^-x)`, within 3 units in the last place.
#[inline(always)]
pub fn sigmoid<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    // e^-|x| cannot overflow: for negative x the fraction is expanded by e^x, which keeps all of a tiny result.
    let one = simd.splat(1.0);
    let e = exp(simd, simd.sub(simd.splat(0.0), simd.abs(x)));
    let numerator = simd.select(simd.gt(simd.splat(0.0), x), e, one);
    simd.div(numerator, simd.add(one, e))
}

/// `ln(1 + x)` for `0 <= x <= 1`, within 3 units in the last place, near 0 too.
#[inline(always)]
pub fn ln_1p<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    // ln((1 + s) / (1 - s)) = 2 s + s^3 q(s^2) with s = x / (2 + x) <= 1/3; the polynomial is off by at most 5.5e-9 of
    // the result.
    let s = simd.div(x, simd.add(simd.splat(2.0), x));
    let z = simd.mul(s, s);
    let tail = polynomial(simd, z, [0.666_664_2, 0.400_215_33, 0.280_016_78, 0.280_126_66]);
    simd.mul_add(simd.mul(s, z), tail, simd.add(s, s))
}

/// The derivative of [`sigmoid`], `e^-x / (1 + e^-x)^2`, within 4 units in the last place, where it is tiny too.
#[inline(always)]
pub fn sigmoid_slope<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    // Even in x. Not y (1 - y), which loses its digits where y is near 1.
    let e = exp(simd, simd.sub(simd.splat(0.0), simd.abs(x)));
    let sum = simd.add(simd.splat(1.0), e);
    simd.div(e, simd.mul(sum, sum))
}

/// The hyperbolic tangent, within 4 units in the last place, near 0 too. The sign of a zero is lost.
#[inline(always)]
pub fn tanh<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    // (e^2x - 1) / (e^2x + 1). From |x| = 9.02 on it rounds to 1.
    let x = clamp(simd, x, -10.0, 10.0);
    let m = expm1(simd, simd.add(x, x));
    simd.div(m, simd.add(m, simd.splat(2.0)))
}

/// `e^(-weight x^2)` for `0 <= x` and `weight x^2 <= 105`, with a power of two for a weight. 1 unit in the last place.
#[inline(always)]
fn bell<S: Simd>(simd: S, x: S::F32, weight: f32) -> S::F32 {
    // x^2 = high + low: high, the square of the upper 12 bits of x, is exact (the split is T. J. Dekker's, 1971).
    // Rounding x^2 by half a unit would cost up to x^2 units in the result.
    let shifted = simd.mul(x, simd.splat(4097.0));
    let upper = simd.sub(shifted, simd.sub(shifted, x));
    let high = simd.mul(simd.mul(upper, upper), simd.splat(-weight));
    let low = simd.mul(simd.sub(x, upper), simd.add(x, upper));
    let (n, r) = split_by_ln_2(simd, high);
    exp_restored(simd, n, simd.mul_add(low, simd.splat(-weight), r))
}

/// `erfc(x) e^(x^2)` for `0 <= x <= 10.2`: `t P(t)` with `t = 1 / (1 + p x)`, the form of C. Hastings
/// ("Approximations for Digital Computers", 1955) with an own `p` and a longer polynomial, off by at most 3e-8 of
/// the result.
#[inline(always)]
fn erfc_over_bell<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let one = simd.splat(1.0);
    let t = simd.div(one, simd.mul_add(simd.splat(19.0 / 64.0), x, one));
    let p = [
        0.167_365_6,
        0.170_010_24,
        0.138_734_15,
        0.248_369_13,
        -0.185_288_07,
        0.695_945_86,
        -0.658_755_4,
        0.566_722_5,
        -0.143_103_96,
    ];
    simd.mul(t, polynomial(simd, t, p))
}

/// `erf(x)` for `|x| <= 3/4`: `x + x P(x^2)`, off by at most 1.4e-9 of the result. Splitting off the whole 1 keeps
/// the rounding of the first coefficient, 2 / sqrt(pi) - 1, out of the last place.
#[inline(always)]
fn erf_near_0<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let p = [0.128_379_17, -0.376_126_2, 0.112_833_77, -0.026_834_624, 0.005_114_346, -0.000_674_951_36];
    simd.mul_add(x, polynomial(simd, simd.mul(x, x), p), x)
}

/// The error function: `2 / sqrt(pi)` times the integral of `e^(-t^2)` over `0..x`. Within 3 units in the last
/// place, near 0 too.
#[inline(always)]
pub fn erf<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let size = simd.min(simd.splat(10.2), simd.abs(x));
    // Far out erfc is small, and its error with it.
    let erfc = simd.mul(bell(simd, size, 1.0), erfc_over_bell(simd, size));
    let far = simd.sub(simd.splat(1.0), erfc);
    let far = simd.select(simd.gt(x, simd.splat(0.0)), far, simd.sub(simd.splat(0.0), far));
    simd.select(simd.gt(size, simd.splat(0.75)), far, erf_near_0(simd, x))
}

/// The distribution function of the standard normal, `(1 + erf(x / sqrt 2)) / 2`. Within 5 units in the last
/// place, where it is tiny too; 0 below -14.22.
#[inline(always)]
pub fn normal_cdf<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    normal(simd, x).0
}

/// [`normal_cdf`], and the density `e^(-x^2 / 2) / sqrt(2 pi)`: within 2 units in the last place; 0 beyond 14.4.
#[inline(always)]
pub fn normal<S: Simd>(simd: S, x: S::F32) -> (S::F32, S::F32) {
    let (zero, half) = (simd.splat(0.0), simd.splat(0.5));
    let size = simd.min(simd.splat(14.4), simd.abs(x));
    let bell = bell(simd, size, 0.5);
    let density = simd.mul(bell, simd.splat(FRAC_1_SQRT_2 * FRAC_2_SQRT_PI / 2.0));
    let density = simd.select(simd.gt(simd.abs(x), simd.splat(14.4)), zero, density);
    let size_over_sqrt_2 = simd.mul(size, simd.splat(FRAC_1_SQRT_2));
    let tail = simd.mul(simd.mul(bell, half), erfc_over_bell(simd, size_over_sqrt_2));
    let far = simd.select(simd.gt(x, zero), simd.sub(simd.splat(1.0), tail), tail);
    let near = simd.mul_add(erf_near_0(simd, simd.mul(x, simd.splat(FRAC_1_SQRT_2))), half, half);
    // Below -0.9 this sum would lose more than the tail, whose many roundings are the worst error here.
    (simd.select(simd.gt(size, simd.splat(0.9)), far, near), density)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Isa, SimdOp};

    #[derive(Debug, Clone, Copy)]
    enum Function {
        Exp,
        Expm1,
        Sigmoid,
        SigmoidSlope,
        Tanh,
        Erf,
        NormalCdf,
        NormalDensity,
    }
    use Function::*;

    impl Function {
        fn exact(self, x: f64) -> f64 {
            match self {
                Exp => x.exp(),
                Expm1 => x.exp_m1(),
                Sigmoid if x < 0.0 => x.exp() / (1.0 + x.exp()),
                Sigmoid => 1.0 / (1.0 + (-x).exp()),
                SigmoidSlope => (-x.abs()).exp() / (1.0 + (-x.abs()).exp()).powi(2),
                Tanh => x.tanh(),
                Erf => erf_f64(x),
                NormalCdf => erfc_f64(-x * std::f64::consts::FRAC_1_SQRT_2) / 2.0,
                NormalDensity => (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt(),
            }
        }
    }

    /// Maclaurin's series near 0, where its terms do not cancel much; the complement further out.
    fn erf_f64(x: f64) -> f64 {
        if x.abs() > 1.5 {
            return if x > 0.0 { 1.0 - erfc_f64(x) } else { erfc_f64(-x) - 1.0 };
        }
        let (mut power, mut sum) = (x, x);
        for k in 1..50 {
            power *= -x * x / f64::from(k);
            sum += power / f64::from(2 * k + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    /// Laplace's continued fraction, `e^(-x^2) / sqrt(pi) / (x + 1/2 / (x + 2/2 / (x + 3/2 / ...)))`, from 1.5 on.
    fn erfc_f64(x: f64) -> f64 {
        if x < 1.5 {
            return 1.0 - erf_f64(x);
        }
        let fraction = (1..150).rev().fold(x, |tail, k| x + 0.5 * f64::from(k) / tail);
        (-x * x).exp() * std::f64::consts::FRAC_2_SQRT_PI / 2.0 / fraction
    }

    struct Map<'a>(Function, &'a mut [f32]);

    impl SimdOp for Map<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            for part in self.1.chunks_mut(S::LANES) {
                // SAFETY: `part` holds at most LANES elements and only its own are touched.
                unsafe {
                    let x = simd.load_partial(part.as_ptr(), part.len());
                    let y = match self.0 {
                        Exp => exp(simd, x),
                        Expm1 => expm1(simd, x),
                        Sigmoid => sigmoid(simd, x),
                        SigmoidSlope => sigmoid_slope(simd, x),
                        Tanh => tanh(simd, x),
                        Erf => erf(simd, x),
                        NormalCdf => normal_cdf(simd, x),
                        NormalDensity => normal(simd, x).1,
                    };
                    simd.store_partial(part.as_mut_ptr(), part.len(), y);
                }
            }
        }
    }

    fn computed(isa: Isa, function: Function, x: &[f32]) -> Vec<f32> {
        let mut y = x.to_vec();
        isa.run(Map(function, &mut y));
        y
    }

    /// The distance from the f64 result, in units in the last place of the f32 nearest to it.
    fn error_in_units(got: f32, exact: f64) -> f64 {
        let nearest = exact as f32;
        if got == nearest || got.is_nan() && exact.is_nan() {
            return 0.0;
        }
        let size = nearest.abs().min(f32::MAX);
        let unit = f64::from(size.next_up().min(f32::MAX)) - f64::from(size.next_down());
        (f64::from(got) - exact).abs() / (unit / 2.0).max(f64::from(f32::from_bits(1)))
    }

    /// Every sign and exponent of f32, 1024 mantissas each (the stride is a prime, so that the low bits vary), and
    /// densely where the functions bend.
    fn sweep() -> Vec<f32> {
        let all = (0..=u32::MAX).step_by(8191).map(f32::from_bits).filter(|x| !x.is_nan());
        all.chain((-110_000..110_000).map(|i| i as f32 * 1e-3 + 1e-5)).collect()
    }

    #[test]
    fn the_oracle_knows_published_values() {
        // Abramowitz and Stegun, "Handbook of Mathematical Functions", tables 7.1 and 7.3.
        assert!((erf_f64(1.0) - 0.842_700_792_949_715).abs() < 1e-15);
        assert!((erfc_f64(1.5) / 0.033_894_853_524_689_27 - 1.0).abs() < 1e-13);
        assert!((erfc_f64(5.0) / 1.537_459_794_428_035e-12 - 1.0).abs() < 1e-13);
        assert!((erfc_f64(-2.0) + 0.004_677_734_981_047_266 - 2.0).abs() < 1e-15);
    }

    #[test]
    fn errors_stay_within_the_promised_units() {
        let x = sweep();
        for (function, fused, twice_rounded) in [
            (Exp, 1.1, 1.6),
            (Expm1, 1.6, 2.1),
            (Sigmoid, 2.5, 3.0),
            (SigmoidSlope, 4.0, 4.5),
            (Tanh, 3.0, 3.5),
            (Erf, 2.5, 3.0),
            (NormalCdf, 5.0, 6.0),
            (NormalDensity, 2.0, 2.5),
        ] {
            let exact: Vec<f64> = x.iter().map(|&x| function.exact(f64::from(x))).collect();
            for isa in Isa::available() {
                let allowed = if isa == Isa::Portable { twice_rounded } else { fused };
                let y = computed(isa, function, &x);
                let mut worst = (0.0, 0.0);
                for ((&x, &y), &exact) in x.iter().zip(&y).zip(&exact) {
                    let error = error_in_units(y, exact);
                    if error > worst.0 || error.is_nan() {
                        worst = (error, x);
                    }
                }
                assert!(worst.0 <= allowed, "{function:?} {isa}: {:.2} units at {}", worst.0, worst.1);
            }
        }
    }

    #[test]
    fn the_logarithm_stays_within_three_units() {
        struct Ln1p<'a>(&'a mut [f32]);
        impl SimdOp for Ln1p<'_> {
            type Output = ();
            #[inline(always)]
            fn run<S: Simd>(self, simd: S) {
                for part in self.0.chunks_mut(S::LANES) {
                    // SAFETY: `part` holds at most LANES elements and only its own are touched.
                    unsafe {
                        let x = simd.load_partial(part.as_ptr(), part.len());
                        simd.store_partial(part.as_mut_ptr(), part.len(), ln_1p(simd, x));
                    }
                }
            }
        }
        let x: Vec<f32> = sweep().into_iter().filter(|x| (0.0..=1.0).contains(x)).collect();
        for isa in Isa::available() {
            let mut y = x.clone();
            isa.run(Ln1p(&mut y));
            for (&x, y) in x.iter().zip(y) {
                let error = error_in_units(y, f64::from(x).ln_1p());
                assert!(error <= 3.0, "{isa}: {error:.2} units at {x}");
            }
        }
    }

    #[test]
    fn limits_and_nan() {
        let x = [f32::NEG_INFINITY, f32::INFINITY, f32::NAN, 0.0];
        for (function, expected) in [
            (Exp, [0.0, f32::INFINITY, f32::NAN, 1.0]),
            (Expm1, [-1.0, f32::INFINITY, f32::NAN, 0.0]),
            (Sigmoid, [0.0, 1.0, f32::NAN, 0.5]),
            (SigmoidSlope, [0.0, 0.0, f32::NAN, 0.25]),
            (Tanh, [-1.0, 1.0, f32::NAN, 0.0]),
            (Erf, [-1.0, 1.0, f32::NAN, 0.0]),
            (NormalCdf, [0.0, 1.0, f32::NAN, 0.5]),
            (NormalDensity, [0.0, 0.0, f32::NAN, 0.398_942_3]),
        ] {
            for isa in Isa::available() {
                let y = computed(isa, function, &x);
                let same = y.iter().zip(expected).all(|(&y, e)| y == e || y.is_nan() && e.is_nan());
                assert!(same, "{function:?} {isa}: {y:?}");
            }
        }
    }
}
