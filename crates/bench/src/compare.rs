//! Is a result right? Tolerances that follow from the arithmetic, and what to say when it is not.
//!
//! With `u = 2^-24` (half the distance from 1 to the next f32), every operation returns `(a op b)(1 + d)`, `|d| <= u`.
//! A sum whose terms each pass through at most `n` roundings is therefore off by at most `((1 + u)^n - 1) * M`, about
//! `n * u * M`, where `M` is the sum of the absolute values of the terms: in any order, with or without fused
//! multiply-add (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1). That worst case needs
//! all errors to point one way. If they are independent, `8 * sqrt(n) * u * M` is exceeded with a probability below
//! `2 n exp(-32)` (Higham and Mary, A New Approach to Probabilistic Rounding Error Analysis, 2019, theorem 2.4 with
//! lambda = 8). The tolerance is the smaller of the two, and so stays below one lost term in sums of thousands.
//!
//! Where no arithmetic is done (copies, maxima), where one correctly rounded operation is all, or where all terms
//! are integers below `2^24`, the tolerance is zero: equality. NaN and infinities must match in every case.

use std::fmt;

use tilewise_kernels::{Activation, Shape4, Tensor};

use crate::reference::{self, Answer};

/// The largest relative error of one f32 rounding: `2^-24`.
pub const UNIT: f64 = 1.0 / (1u64 << 24) as f64;

/// Integers up to this size, and so sums of them, are exact in f32.
pub const EXACT_INTEGERS: f64 = (1u64 << 24) as f64;

/// Mismatches that a comparison keeps in full.
const KEPT: usize = 4;

/// The tolerance of a sum relative to its magnitude, for terms that pass through at most `roundings` roundings.
pub fn growth(roundings: usize) -> f64 {
    let n = roundings as f64;
    UNIT * n.min(8.0 * n.sqrt())
}

/// How far off a sum of terms of this `magnitude` may be. Zero roundings are zero error; after any, a result below the
/// normal range may have been flushed to zero.
fn tolerance(roundings: usize, magnitude: f64) -> f64 {
    if roundings == 0 { 0.0 } else { growth(roundings) * magnitude + f64::from(f32::MIN_POSITIVE) }
}

/// What a result must be, and how far off it may be.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// The extents of the result.
    pub shape: Shape4,
    /// The right values, NCHW.
    pub value: Vec<f64>,
    /// Per element, the sum of the absolute values of the terms behind it.
    pub magnitude: Vec<f64>,
    /// The largest error allowed per element; 0 asks for the value rounded to f32.
    pub tolerance: Vec<f64>,
}

impl Target {
    /// The oracle's answer, with the tolerance that its roundings and magnitudes give.
    pub fn rounded(answer: Answer) -> Self {
        let Answer { shape, value, magnitude, roundings } = answer;
        let tolerance = magnitude.iter().map(|&m| tolerance(roundings, m)).collect();
        Target { shape, value, magnitude, tolerance }
    }

    /// As [`Target::rounded`], but for terms that are all integers: equality, if no sum can leave the exact range.
    pub fn integers(answer: Answer) -> Self {
        let exact = answer.magnitude.iter().all(|&m| m <= EXACT_INTEGERS);
        Self::rounded(if exact { Answer { roundings: 0, ..answer } } else { answer })
    }

    /// The target after a pointwise function, fused or not: errors grow with its steepest slope, and its own roundings
    /// join them.
    pub fn then(self, f: Activation) -> Self {
        let (slope, roundings) = (steepest_slope(f), reference::activation_roundings(f));
        let (value, tolerance) = self
            .value
            .iter()
            .zip(&self.tolerance)
            .map(|(&z, &before)| {
                let (value, magnitude) = reference::activation_at(f, z);
                (value, slope * before + tolerance(roundings, magnitude))
            })
            .unzip();
        let magnitude = self.magnitude.iter().map(|m| slope * m).collect();
        Target { value, magnitude, tolerance, shape: self.shape }
    }

    /// The same with the values of another source, for which every term was rounded `roundings` times, in the inputs or
    /// in the result. Equality stays equality.
    ///
    /// `None` if there are not as many values.
    pub fn with_values(self, values: &[f32], roundings: usize) -> Option<Self> {
        if values.len() != self.value.len() {
            return None;
        }
        let extra = roundings as f64 * UNIT;
        let widen = |(&t, m): (&f64, &f64)| if t == 0.0 { 0.0 } else { t + extra * m };
        let tolerance = self.tolerance.iter().zip(&self.magnitude).map(widen).collect();
        Some(Target { value: values.iter().map(|&v| f64::from(v)).collect(), tolerance, ..self })
    }

    /// For a result that is the sum of other terms than the oracle's: their magnitudes, and the roundings that each passes
    /// through. Where they are not finite the tolerance stays.
    pub fn by_way_of(mut self, magnitude: &[f64], roundings: usize) -> Self {
        for (t, &m) in self.tolerance.iter_mut().zip(magnitude).filter(|(_, m)| m.is_finite()) {
            *t = t.max(tolerance(roundings, m));
        }
        self
    }

    /// Compares a result with this target.
    pub fn compare(&self, got: &Tensor) -> Comparison {
        let mut c = Comparison { got: got.shape(), want: self.shape, ..Comparison::default() };
        if got.shape() != self.shape {
            c.worst = f64::INFINITY;
            return c;
        }
        let largest = self.value.iter().filter(|v| v.is_finite()).fold(0.0, |m: f64, v| m.max(v.abs()));
        let relative = |v: f64| if largest == 0.0 { v } else { v / largest };
        c.elements = self.value.len();
        for (i, (&got, (&want, &tolerance))) in
            got.data().iter().zip(self.value.iter().zip(&self.tolerance)).enumerate()
        {
            let error = error(got, want, tolerance);
            let multiple = if error == 0.0 { 0.0 } else { error / tolerance };
            c.worst = c.worst.max(multiple);
            if error.is_finite() {
                c.relative = c.relative.max(relative(error));
            }
            if tolerance.is_finite() {
                c.tolerance = c.tolerance.max(relative(tolerance));
            }
            // Where the terms are not finite neither is the tolerance: then only the same NaN or infinity will do.
            let right = error == 0.0 || (tolerance.is_finite() && error <= tolerance);
            if !right {
                c.wrong += 1;
                if c.first.len() < KEPT {
                    c.first.push(Wrong { at: position(self.shape, i), got, want, tolerance });
                }
            }
        }
        if c.wrong > 0 && c.worst.is_nan() {
            c.worst = f64::INFINITY;
        }
        c
    }
}

/// How far `got` is from `want`: 0 where NaN meets NaN, an infinity its like, or (where the tolerance is 0) an f32 the
/// value rounded to f32.
fn error(got: f32, want: f64, tolerance: f64) -> f64 {
    let rounded = want as f32;
    if (got.is_nan() && want.is_nan()) || got == rounded {
        return if tolerance == 0.0 || !want.is_finite() { 0.0 } else { (f64::from(got) - want).abs() };
    }
    if got.is_nan() || want.is_nan() || want.is_infinite() {
        return f64::INFINITY;
    }
    (f64::from(got) - want).abs()
}

/// The largest absolute derivative of the function, rounded up.
fn steepest_slope(f: Activation) -> f64 {
    match f {
        Activation::LeakyRelu { slope } => f64::from(slope).abs().max(1.0),
        Activation::Elu { alpha } => f64::from(alpha).abs().max(1.0),
        // At x = sqrt 2: Phi(sqrt 2) + sqrt 2 * phi(sqrt 2) = 1.129.
        Activation::Gelu => 1.13,
        // At x = 2.4: 1.0998.
        Activation::Silu => 1.1,
        Activation::Sigmoid => 0.25,
        _ => 1.0,
    }
}

/// `[n, c, h, w]` of element `i`.
fn position(s: Shape4, i: usize) -> [usize; 4] {
    let (i, w) = (i / s.w, i % s.w);
    let (i, h) = (i / s.h, i % s.h);
    [i / s.c, i % s.c, h, w]
}

/// How a result compares with its target.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Which of several results it is; empty if there is one only.
    pub name: String,
    /// The extents that came.
    pub got: Shape4,
    /// The extents that should have come.
    pub want: Shape4,
    /// How many elements were compared: none if the extents differ.
    pub elements: usize,
    /// How many are off by more than their tolerance.
    pub wrong: usize,
    /// The first few of those.
    pub first: Vec<Wrong>,
    /// The largest error as a multiple of its tolerance: at most 1 where all is well.
    pub worst: f64,
    /// The largest finite error, relative to the largest value.
    pub relative: f64,
    /// The largest tolerance, relative to the largest value.
    pub tolerance: f64,
}

/// One element that is wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wrong {
    /// Its `[n, c, h, w]`.
    pub at: [usize; 4],
    /// What came.
    pub got: f32,
    /// What should have come.
    pub want: f64,
    /// How far off it could have been.
    pub tolerance: f64,
}

impl Default for Comparison {
    fn default() -> Self {
        let none = Shape4::new(0, 0, 0, 0);
        Comparison {
            name: String::new(),
            got: none,
            want: none,
            elements: 0,
            wrong: 0,
            first: Vec::new(),
            worst: 0.0,
            relative: 0.0,
            tolerance: 0.0,
        }
    }
}

impl Comparison {
    /// The same under a name.
    pub fn named(self, name: &str) -> Self {
        Comparison { name: name.to_owned(), ..self }
    }

    /// Whether extents and all elements are right.
    pub fn passed(&self) -> bool {
        self.got == self.want && self.wrong == 0
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.name.is_empty() {
            write!(f, "{}: ", self.name)?;
        }
        if self.got != self.want {
            return write!(f, "the shape is {}, not {}", self.got, self.want);
        }
        write!(
            f,
            "{} of {} elements wrong, worst error {:.3} x tolerance",
            self.wrong, self.elements, self.worst
        )?;
        for Wrong { at: [n, c, h, w], got, want, tolerance } in &self.first {
            write!(f, "; [{n}, {c}, {h}, {w}] is {got:e}, not {want:e}")?;
            if *tolerance > 0.0 {
                write!(f, " +- {tolerance:.2e}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(got: &[f32], value: &[f64], tolerance: f64) -> Comparison {
        let shape = Shape4::new(1, 1, 1, value.len());
        let (value, tolerance) = (value.to_vec(), vec![tolerance; value.len()]);
        let target = Target { shape, magnitude: value.clone(), value, tolerance };
        target.compare(&Tensor::from_vec(Shape4::new(1, 1, 1, got.len()), got.to_vec()).unwrap())
    }

    #[test]
    fn nan_and_infinities_must_match() {
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        for tolerance in [0.0, 1.0] {
            assert!(compare(&[f32::NAN, f32::INFINITY], &[nan, inf], tolerance).passed());
            for (got, want) in
                [(f32::NAN, 0.0), (0.0, nan), (f32::INFINITY, -inf), (f32::MAX, inf), (f32::INFINITY, 0.0)]
            {
                let c = compare(&[got], &[want], tolerance);
                assert!(!c.passed() && c.worst == f64::INFINITY, "{got} for {want}: {c}");
            }
        }
        // Overflow is the right result of a value beyond f32.
        assert!(compare(&[f32::INFINITY], &[1e39], 0.0).passed());
        assert!(compare(&[0.5], &[0.0], nan).wrong == 1 && compare(&[0.5], &[0.0], inf).wrong == 1);
        assert!(compare(&[f32::NAN], &[nan], nan).passed());
    }

    #[test]
    fn a_mismatch_names_the_place_and_the_worst() {
        let c = compare(&[1.0, 2.5, 3.0, 5.0], &[1.0, 2.0, 3.0, 4.0], 0.25);
        assert_eq!((c.wrong, c.worst, c.relative, c.tolerance), (2, 4.0, 0.25, 0.0625));
        assert_eq!(c.first[0].at, [0, 0, 0, 1]);
        assert_eq!(
            c.to_string(),
            "2 of 4 elements wrong, worst error 4.000 x tolerance; \
             [0, 0, 0, 1] is 2.5e0, not 2e0 +- 2.50e-1; [0, 0, 0, 3] is 5e0, not 4e0 +- 2.50e-1"
        );
        let c = compare(&[1.0], &[1.0, 2.0], 9.0);
        assert!(!c.passed());
        assert_eq!(c.named("gx").to_string(), "gx: the shape is 1x1x1x1, not 1x1x1x2");
    }

    #[test]
    fn zero_tolerance_is_equality_after_rounding() {
        assert!(compare(&[0.1], &[0.1], 0.0).wrong == 0);
        assert!(compare(&[0.1f32.next_up()], &[0.1], 0.0).wrong == 1);
        assert!(compare(&[-0.0], &[0.0], 0.0).passed());
    }

    #[test]
    fn tolerances_are_tight_enough_to_see_a_lost_term() {
        // All terms of size 1: losing one of n is an error of 1, against growth(n) * n.
        for n in [1usize, 64, 1000, 4608] {
            assert!(growth(n) * (n as f64) < 0.2, "{n}");
        }
        assert_eq!(growth(9), 9.0 * UNIT);
        assert_eq!(growth(6400), 640.0 * UNIT);
    }

    #[test]
    fn slopes_are_the_steepest() {
        for f in Activation::ALL {
            for i in -1000..1000 {
                let x = f64::from(i) / 100.0;
                let (a, b) = (reference::activation_at(f, x).0, reference::activation_at(f, x + 1e-6).0);
                assert!((b - a).abs() <= steepest_slope(f) * 1.000_001e-6, "{} at {x}", f.name());
            }
        }
    }
}
