// The gradient factor * (x - t) or, if the constant ABSOLUTE is 1, factor with the sign of x - t; one element an invocation.

struct Params {
    // Elements of an image, and of all.
    image: u32,
    count: u32,
    x_first: u32,
    x_stride: u32,
    t_first: u32,
    t_stride: u32,
    gx_first: u32,
    gx_stride: u32,
    factor: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> t: array<f32>;
@group(0) @binding(3) var<storage, read_write> gx: array<f32>;

fn gradient(a: f32, b: f32) -> f32 {
    let d = a - b;
    if ABSOLUTE == 1u {
        // In the bits, because a driver may take NaN for impossible.
        let magnitude = bitcast<u32>(d) & 0x7fffffffu;
        let nothing = magnitude == 0u || magnitude > 0x7f800000u;
        return select(select(p.factor, -p.factor, d < 0.0), 0.0, nothing);
    }
    return p.factor * d;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let i = linear_index(id, workgroups);
    if i >= p.count {
        return;
    }
    let n = i / p.image;
    let at = i % p.image;
    let value = gradient(x[p.x_first + n * p.x_stride + at], t[p.t_first + n * p.t_stride + at]);
    let to = p.gx_first + n * p.gx_stride + at;
    if ACCUMULATE == 1u {
        gx[to] += value;
    } else {
        gx[to] = value;
    }
}
