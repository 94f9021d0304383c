// Elementary functions, to within a few units in the last place over the whole range of f32 where `fma` is fused, whatever the driver's own do:
// straight-line code, a reduction of the argument, a polynomial, the reduction undone. They are those of the CPU, where
// reductions and polynomials are explained (`simd/math.rs`). NaN gives NaN, if the caller keeps it (`epilogue.wgsl`).

const LN_2_HIGH: f32 = 0.693359375;
const LN_2_LOW: f32 = -2.1219444e-4;
const LOG2_E: f32 = 1.44269504;

// 2^n for integral n in -126..=127.
fn exp2_integral(n: f32) -> f32 {
    return bitcast<f32>(u32(i32(n) + 127) << 23u);
}

// exp(r) - 1 for |r| <= ln(2) / 2.
fn expm1_reduced(r: f32) -> f32 {
    var tail = 0.0013898232;
    tail = fma(tail, r, 0.008366067);
    tail = fma(tail, r, 0.041666854);
    tail = fma(tail, r, 0.16666548);
    tail = fma(tail, r, 0.5);
    return fma(r * r, tail, r);
}

// n and r, where x = n ln 2 + r with integral n and |r| <= ln(2) / 2.
fn split_by_ln_2(x: f32) -> vec2<f32> {
    let n = round(x * LOG2_E);
    let r = fma(n, -LN_2_HIGH, x);
    // Drivers have been seen to subtract n * (LN_2_HIGH + LN_2_LOW) at once, which would round. They do not see through the
    // integer.
    return vec2<f32>(n, fma(f32(i32(n)), -LN_2_LOW, r));
}

// 2^n exp(r), in two steps, because 2^n alone may be no normal number.
fn exp_restored(n: f32, r: f32) -> f32 {
    let mantissa = expm1_reduced(r) + 1.0;
    let half = round(n * 0.5);
    return mantissa * exp2_integral(half) * exp2_integral(n - half);
}

// e^x.
fn exponential(x: f32) -> f32 {
    let split = split_by_ln_2(clamp(x, -105.0, 89.0));
    return exp_restored(split.x, split.y);
}

// e^x - 1, near 0 too.
fn exponential_minus_1(x: f32) -> f32 {
    let split = split_by_ln_2(clamp(x, -20.0, 89.0));
    let scale = exp2_integral(split.x - 1.0);
    let half = fma(scale, expm1_reduced(split.y), scale - 0.5);
    return half + half;
}

// 1 / (1 + e^-x).
fn logistic(x: f32) -> f32 {
    let e = exponential(-abs(x));
    return select(1.0, e, x < 0.0) / (1.0 + e);
}

// The derivative of that, where it is tiny too.
fn logistic_slope(x: f32) -> f32 {
    // Even in x.
    let e = exponential(-abs(x));
    let sum = 1.0 + e;
    return e / (sum * sum);
}

// The hyperbolic tangent, near 0 too.
fn hyperbolic_tangent(x: f32) -> f32 {
    let m = exponential_minus_1(2.0 * clamp(x, -10.0, 10.0));
    return m / (m + 2.0);
}

// e^(-weight x^2), with a power of two for a weight.
fn bell(x: f32, weight: f32) -> f32 {
    // The square of the upper 12 bits of x is exact.
    let upper = bitcast<f32>(bitcast<u32>(x) & 0xfffff000u);
    let high = upper * upper * -weight;
    let low = (x - upper) * (x + upper);
    let split = split_by_ln_2(high);
    return exp_restored(split.x, fma(low, -weight, split.y));
}

// erfc(x) e^(x^2) for 0 <= x <= 10.2.
fn erfc_over_bell(x: f32) -> f32 {
    let t = 1.0 / fma(0.296875, x, 1.0);
    var p = -0.14310396;
    p = fma(p, t, 0.5667225);
    p = fma(p, t, -0.6587554);
    p = fma(p, t, 0.69594586);
    p = fma(p, t, -0.18528807);
    p = fma(p, t, 0.24836913);
    p = fma(p, t, 0.13873415);
    p = fma(p, t, 0.17001024);
    p = fma(p, t, 0.1673656);
    return t * p;
}

// erf(x) for |x| <= 3/4.
fn erf_near_0(x: f32) -> f32 {
    let s = x * x;
    var p = -0.00067495136;
    p = fma(p, s, 0.005114346);
    p = fma(p, s, -0.026834624);
    p = fma(p, s, 0.11283377);
    p = fma(p, s, -0.3761262);
    p = fma(p, s, 0.12837917);
    return fma(x, p, x);
}

// The distribution function of the standard normal, and its density.
fn normal_distribution(x: f32) -> vec2<f32> {
    const FRAC_1_SQRT_2: f32 = 0.70710678;
    const FRAC_1_SQRT_2_PI: f32 = 0.39894228;
    let size = min(abs(x), 14.4);
    let height = bell(size, 0.5);
    let tail = height * 0.5 * erfc_over_bell(size * FRAC_1_SQRT_2);
    let far = select(tail, 1.0 - tail, x > 0.0);
    let near = fma(erf_near_0(x * FRAC_1_SQRT_2), 0.5, 0.5);
    let density = select(height * FRAC_1_SQRT_2_PI, 0.0, abs(x) > 14.4);
    return vec2<f32>(select(near, far, size > 0.9), density);
}

fn normal_cdf(x: f32) -> f32 {
    return normal_distribution(x).x;
}

// a / b, to within a unit in the last place: drivers may be off by 2.5. Needs index.wgsl.
fn quotient(a: f32, b: f32) -> f32 {
    let rough = a / b;
    let refined = rough + fma(-rough, b, a) / b;
    return select(rough, refined, is_finite(refined));
}

// The square root, to within a unit in the last place: drivers may be off by more. Needs index.wgsl.
fn square_root(x: f32) -> f32 {
    let rough = sqrt(x);
    let refined = rough + fma(-rough, rough, x) / (rough + rough);
    return select(rough, refined, is_finite(refined));
}

// ln((1 + s) / (1 - s)) for |s| <= 1/3: 2 s + s^3 q(s^2), off by at most 5.5e-9 of the result.
fn ln_of_ratio(s: f32) -> f32 {
    let z = s * s;
    var q = 0.28012666;
    q = fma(q, z, 0.28001678);
    q = fma(q, z, 0.40021533);
    q = fma(q, z, 0.6666642);
    return fma(s * z, q, s + s);
}

// ln(1 + x) for 0 <= x <= 1, near 0 too.
fn logarithm_1_plus(x: f32) -> f32 {
    return ln_of_ratio(x / (2.0 + x));
}

// ln x for positive normal numbers.
fn logarithm(x: f32) -> f32 {
    // x = 2^n m with m in sqrt(1/2)..sqrt(2), so that nothing cancels near 1.
    const SQRT_HALF: i32 = 0x3f3504f3;
    let above = bitcast<i32>(x) - SQRT_HALF;
    let n = above >> 23u;
    let m = bitcast<f32>((above & 0x7fffff) + SQRT_HALF);
    // The two parts as in split_by_ln_2, here to add the small ones first.
    return fma(f32(n), LN_2_HIGH, fma(f32(n), LN_2_LOW, ln_of_ratio((m - 1.0) / (m + 1.0))));
}

// e^(x - largest), where `largest` is NaN or infinite too: NaN for NaN and for the difference of equal infinities.
fn exponential_below(x: f32, largest: f32) -> f32 {
    let difference = x - largest;
    return select(exponential(difference), difference, is_nan(difference));
}
