// gx = f'(x) * gy, one element an invocation; the constant ACTIVATION says which f.

struct Params {
    // Elements of an image, and of all.
    image: u32,
    count: u32,
    x_first: u32,
    x_stride: u32,
    gy_first: u32,
    gy_stride: u32,
    gx_first: u32,
    gx_stride: u32,
    // Whether what is there is added to.
    accumulate: u32,
    parameter: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> gy: array<f32>;
@group(0) @binding(3) var<storage, read_write> gx: array<f32>;

// x such that nothing is lost in the tails, 1 / (1 + e^-x) * 1 / (1 + e^x).
fn logistic_slope(x: f32) -> f32 {
    let e = exponential(-abs(x));
    let whole = 1.0 + e;
    return e / whole / whole;
}

// 0 where the slope is, whatever `x` is: nothing times infinity is NaN elsewhere, as in PyTorch.
fn passed(x: f32, gradient: f32, parameter: f32) -> f32 {
    const FRAC_1_SQRT_2PI: f32 = 0.3989422804;
    var result = gradient;
    switch ACTIVATION {
        case 1u: { result = select(0.0, gradient, x > 0.0 || is_nan(x)); }
        case 2u: { result = select(gradient * parameter, gradient, x > 0.0 && !is_nan(x)); }
        case 3u: { result = select(0.0, gradient, x > 0.0 && x < 6.0 && !is_nan(x)); }
        case 4u: { result = select(gradient * (exponential(x) * parameter), gradient, x > 0.0); }
        case 5u: { result = gradient * (normal_cdf(x) + x * (FRAC_1_SQRT_2PI * bell(min(abs(x), 14.4), 0.5))); }
        case 6u: { result = gradient * (logistic(x) + x * logistic_slope(x)); }
        case 7u: { result = gradient * logistic_slope(x); }
        case 8u: { result = gradient * (4.0 * logistic_slope(x + x)); }
        default: {}
    }
    if ACTIVATION >= 4u && is_nan(x) {
        result = x;
    }
    // Of either infinity, GELU and SiLU have no slope.
    if (ACTIVATION == 5u || ACTIVATION == 6u) && !is_finite(x) {
        result = bitcast<f32>(bitcast<u32>(x) | 0x7fc00000u);
    }
    return result;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let i = linear_index(id, workgroups);
    if i >= p.count {
        return;
    }
    let n = i / p.image;
    let at = i % p.image;
    let gradient = gy[p.gy_first + n * p.gy_stride + at];
    var result = passed(x[p.x_first + n * p.x_stride + at], gradient, p.parameter);
    let gx_at = p.gx_first + n * p.gx_stride + at;
    if p.accumulate == 1u {
        result = gx[gx_at] + result;
    }
    gx[gx_at] = result;
}
