//! The pointwise functions, in f64.

use std::f64::consts::{PI, SQRT_2};

use super::{Answer, at};
use tilewise_kernels::{Activation, Shape4};

/// Roundings granted to a function made of exponentials: six units in the last place of at most two roundings each.
const ELEMENTARY: usize = 12;

/// Each element through `f`.
pub fn activation(input: Shape4, f: Activation, x: &[f32]) -> Answer {
    Answer::sums(input, activation_roundings(f), |to| activation_at(f, at(x, input, to)))
}

/// Roundings that an f32 implementation of `f` may spend on its magnitude.
pub fn activation_roundings(f: Activation) -> usize {
    match f {
        Activation::Identity | Activation::Relu | Activation::Relu6 => 0,
        Activation::LeakyRelu { .. } => 1,
        _ => ELEMENTARY,
    }
}

/// `f(x)` and its magnitude, which is its absolute value: a function must be good relative to itself, near zero and in
/// its tails too.
pub fn activation_at(f: Activation, x: f64) -> (f64, f64) {
    let value = match f {
        Activation::Identity => x,
        // Comparisons, not `max`, which would drop a NaN.
        Activation::Relu => {
            if x < 0.0 {
                0.0
            } else {
                x
            }
        }
        // A NaN passes through `clamp`.
        Activation::Relu6 => x.clamp(0.0, 6.0),
        Activation::LeakyRelu { slope } => {
            if x > 0.0 {
                x
            } else {
                x * f64::from(slope)
            }
        }
        Activation::Elu { alpha } => {
            if x > 0.0 {
                x
            } else {
                x.exp_m1() * f64::from(alpha)
            }
        }
        Activation::Gelu => x * (erfc(-x / SQRT_2) / 2.0),
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::Tanh => x.tanh(),
        // A function that the oracle does not know yet: no result may pass for right.
        _ => f64::NAN,
    };
    (value, value.abs())
}

/// `gx = gy * f'(x)`.
pub fn activation_backward(input: Shape4, f: Activation, x: &[f32], gy: &[f32]) -> Answer {
    let roundings = match f {
        // A copy or a zero, or one product.
        Activation::Identity | Activation::Relu | Activation::Relu6 => 0,
        Activation::LeakyRelu { .. } => 1,
        // Two elementary functions, then the product.
        _ => 2 * ELEMENTARY + 1,
    };
    Answer::sums(input, roundings, |to| {
        let (g, (slope, magnitude)) = (at(gy, input, to), derivative_at(f, at(x, input, to)));
        // Where nothing passes, nothing does: an infinite gradient, too, ends at a flat piece of these two.
        match f {
            Activation::Relu | Activation::Relu6 if slope == 0.0 => (0.0, 0.0),
            _ => (g * slope, g.abs() * magnitude),
        }
    })
}

/// `f'(x)` and the sum of the absolute values of its terms. At kinks and NaN as PyTorch has it: the slope of ReLU is 0
/// at 0 and 1 at NaN, that of ReLU6 0 at both ends and at NaN, that of leaky ReLU and ELU at 0 and below what it is on
/// the left (for leaky ReLU at NaN, too).
pub fn derivative_at(f: Activation, x: f64) -> (f64, f64) {
    let term = |slope: f64| (slope, slope.abs());
    match f {
        Activation::Identity => term(1.0),
        Activation::Relu => term(if x <= 0.0 { 0.0 } else { 1.0 }),
        Activation::Relu6 => term(if x > 0.0 && x < 6.0 { 1.0 } else { 0.0 }),
        Activation::LeakyRelu { slope } => term(if x > 0.0 { 1.0 } else { f64::from(slope) }),
        Activation::Elu { alpha } => term(if x > 0.0 { 1.0 } else { x.exp() * f64::from(alpha) }),
        // The distribution function of the standard normal, and x times its density.
        Activation::Gelu => {
            let (below, density) = (erfc(-x / SQRT_2) / 2.0, (-x * x / 2.0).exp() / (2.0 * PI).sqrt());
            (below + x * density, below + (x * density).abs())
        }
        Activation::Silu => {
            let (sigmoid, rest) = (1.0 / (1.0 + (-x).exp()), 1.0 / (1.0 + x.exp()));
            let product = x * sigmoid * rest;
            (sigmoid + product, sigmoid + product.abs())
        }
        // These two may be had from a kept result: y - y^2 and 1 - y^2.
        Activation::Sigmoid => {
            let (y, rest) = (1.0 / (1.0 + (-x).exp()), 1.0 / (1.0 + x.exp()));
            (y * rest, y + y * y)
        }
        Activation::Tanh => {
            let y = x.tanh();
            ((1.0 - y) * (1.0 + y), 1.0 + y * y)
        }
        // A function that the oracle does not know yet: no result may pass for right.
        _ => (f64::NAN, f64::NAN),
    }
}

/// `1 - erf(x)` to about 1e-13 of itself.
///
/// From 2 on the continued fraction `exp(-x^2) / sqrt(pi) / (x + (1/2)/(x + (2/2)/(x + (3/2)/(x + ...))))`, which
/// keeps its relative accuracy out to the end of the f64 range; between -2 and 2 the series `erf(x) = 2 x
/// exp(-x^2) / sqrt(pi) * sum of (2 x^2)^n / (1*3*5*...*(2n+1))`, whose terms are all positive; below, the mirror image.
/// (Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.14 and 7.1.6.)
pub fn erfc(x: f64) -> f64 {
    if x < -2.0 {
        return 2.0 - erfc(-x);
    }
    let bell = (-x * x).exp() / PI.sqrt();
    if x < 2.0 {
        let (mut term, mut sum, mut n) = (1.0, 1.0, 0.0);
        while term > sum * f64::EPSILON / 4.0 {
            n += 1.0;
            term *= 2.0 * x * x / (2.0 * n + 1.0);
            sum += term;
        }
        1.0 - 2.0 * x * bell * sum
    } else if x < 30.0 {
        let denominator = (1..=100).rev().fold(x, |d, n| x + f64::from(n) / 2.0 / d);
        bell / denominator
    } else {
        // Below the smallest f64. NaN ends here too, and stays NaN.
        bell * 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erfc_of_the_tables() {
        // Abramowitz and Stegun, tables 7.1 and 7.3, and DLMF 7.23 for the large ones.
        for (x, want) in [
            (0.0, 1.0),
            (0.5, 0.479_500_122_186_953_5),
            (1.0, 0.157_299_207_050_285_13),
            (1.999_999, 0.004_677_755_648_073_953),
            (2.0, 0.004_677_734_981_047_266),
            (3.0, 2.209_049_699_858_544e-5),
            (5.0, 1.537_459_794_428_035e-12),
            (10.0, 2.088_487_583_762_545e-45),
            (-0.5, 1.520_499_877_813_046_5),
            (-3.0, 1.999_977_909_503_001_5),
        ] {
            let got = erfc(x);
            assert!((got - want).abs() <= 3e-13 * want, "erfc({x}) = {got:e}, expected {want:e}");
        }
        assert!(erfc(f64::NAN).is_nan());
        assert_eq!((erfc(f64::INFINITY), erfc(f64::NEG_INFINITY)), (0.0, 2.0));
    }

    #[test]
    fn series_and_fraction_agree_where_they_meet() {
        let (below, above) = (erfc(2.0 - 1e-12), erfc(2.0 + 1e-12));
        // The slope there is -2/sqrt(pi) exp(-4) = -0.0207.
        assert!((below - above - 2e-12 * 0.020_667).abs() < 2e-15, "{below:e} {above:e}");
    }

    #[test]
    fn nan_stays_nan_in_every_function() {
        for f in Activation::ALL {
            assert!(activation_at(f, f64::NAN).0.is_nan(), "{}", f.name());
        }
    }

    #[test]
    fn gelu_keeps_its_small_tail() {
        // -5 * erfc(5 / sqrt 2) / 2, which `1 + erf` would have lost.
        let (value, _) = activation_at(Activation::Gelu, -5.0);
        assert!((value / -1.433_257_859_395_969_4e-6 - 1.0).abs() < 1e-12, "{value:e}");
    }

    #[test]
    fn slopes_at_kinks_infinities_and_nan_are_those_of_pytorch() {
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        let points = [-inf, -0.0, 0.0, 6.0, inf, nan];
        for (f, want) in [
            (Activation::Relu, [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]),
            (Activation::LeakyRelu { slope: 0.25 }, [0.25, 0.25, 0.25, 1.0, 1.0, 0.25]),
            (Activation::Relu6, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
            (Activation::Elu { alpha: 0.5 }, [0.0, 0.5, 0.5, 1.0, 1.0, nan]),
            (Activation::Gelu, [nan, 0.5, 0.5, 1.000_000_035_468_86, nan, nan]),
            (Activation::Silu, [nan, 0.5, 0.5, 1.012_326_432_591_515, nan, nan]),
            (Activation::Sigmoid, [0.0, 0.25, 0.25, 0.002_466_509_291_359_931, 0.0, nan]),
            (Activation::Tanh, [0.0, 1.0, 1.0, 2.457_654_740_530_297_4e-5, 0.0, nan]),
        ] {
            for (x, want) in points.into_iter().zip(want) {
                let (got, _) = derivative_at(f, x);
                let right = got == want || (got.is_nan() && want.is_nan()) || (got - want).abs() < 1e-12;
                assert!(right, "{} at {x}: {got}, not {want}", f.name());
            }
        }
    }
}
