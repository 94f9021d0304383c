// The gradient s (1 - s) (b - a t) with s = sigmoid(x) and the a and b of its plane; one element an invocation.

struct Params {
    // Elements of a plane, of an image, and of all.
    plane: u32,
    image: u32,
    count: u32,
    x_first: u32,
    x_stride: u32,
    t_first: u32,
    t_stride: u32,
    gx_first: u32,
    gx_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> t: array<f32>;
@group(0) @binding(3) var<storage, read> slopes: array<f32>;
@group(0) @binding(4) var<storage, read_write> gx: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let i = linear_index(id, workgroups);
    if i >= p.count {
        return;
    }
    let n = i / p.image;
    let at = i % p.image;
    let slope = 2u * (i / p.plane);
    let to_probability = fma(-slopes[slope], t[p.t_first + n * p.t_stride + at], slopes[slope + 1u]);
    // s (1 - s) = e / (1 + e)^2 for either sign of x, and nothing cancels.
    let e = exponential(-abs(x[p.x_first + n * p.x_stride + at]));
    let value = e / ((1.0 + e) * (1.0 + e)) * to_probability;
    let to = p.gx_first + n * p.gx_stride + at;
    if ACCUMULATE == 1u {
        gx[to] += value;
    } else {
        gx[to] = value;
    }
}
