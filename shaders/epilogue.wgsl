// The activation at the end of an operator; the constant ACTIVATION says which. Needs math.wgsl and index.wgsl.

fn activate(x: f32, parameter: f32) -> f32 {
    if ACTIVATION == 0u {
        return x;
    }
    var y = x;
    switch ACTIVATION {
        case 1u: { y = select(x, 0.0, x < 0.0); }
        case 2u: { y = select(x * parameter, x, x > 0.0); }
        case 3u: { y = clamp(x, 0.0, 6.0); }
        case 4u: { y = select(exponential_minus_1(x) * parameter, x, x > 0.0); }
        case 5u: { y = x * normal_cdf(x); }
        case 6u: { y = x * logistic(x); }
        case 7u: { y = logistic(x); }
        case 8u: { y = hyperbolic_tangent(x); }
        default: {}
    }
    return select(y, x, is_nan(x));
}
