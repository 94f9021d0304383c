// gx = f'(x) * gy, one element an invocation; the constant ACTIVATION says which f, as in epilogue.wgsl.

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
    parameter: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> gy: array<f32>;
@group(0) @binding(3) var<storage, read_write> gx: array<f32>;

// f'(x) * g. Where a derivative jumps it is that of the lower side. Where that of the first is 0 nothing passes, whatever g
// is; NaN has a derivative in the first three, as in PyTorch.
fn passed(x: f32, g: f32, parameter: f32) -> f32 {
    let above = x > 0.0 && !is_nan(x);
    var all = g;
    switch ACTIVATION {
        case 1u: { return select(0.0, g, above || is_nan(x)); }
        case 2u: { return select(g * parameter, g, above); }
        case 3u: { return select(0.0, g, above && x < 6.0); }
        case 4u: { all = select(g * (exponential(x) * parameter), g, above); }
        case 5u: {
            let normal = normal_distribution(x);
            all = g * (normal.x + x * normal.y);
        }
        case 6u: { all = g * (logistic(x) + x * logistic_slope(x)); }
        case 7u: { all = g * logistic_slope(x); }
        // tanh(x) = 2 logistic(2 x) - 1
        case 8u: { all = g * (logistic_slope(2.0 * x) * 4.0); }
        default: {}
    }
    return select(all, x, is_nan(x));
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let i = linear_index(id, workgroups);
    if i >= p.count {
        return;
    }
    let n = i / p.image;
    let at = i % p.image;
    let g = gy[p.gy_first + n * p.gy_stride + at];
    let to = p.gx_first + n * p.gx_stride + at;
    gx[to] = updated(gx[to], passed(x[p.x_first + n * p.x_stride + at], g, p.parameter));
}
