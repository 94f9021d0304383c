// The gradient factor * ((1 + (w - 1) t) sigmoid(x) - w t), one element an invocation.

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
    // Weights of positive targets, elements that share one, and elements of an image in front of the first.
    channels: u32,
    plane: u32,
    start: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> t: array<f32>;
@group(0) @binding(3) var<storage, read> pos_weight: array<f32>;
@group(0) @binding(4) var<storage, read_write> gx: array<f32>;

fn gradient(x: f32, t: f32, w: f32) -> f32 {
    let sigmoid = select(logistic(x), x, is_nan(x));
    return p.factor * (fma(w - 1.0, t, 1.0) * sigmoid - w * t);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let i = linear_index(id, workgroups);
    if i >= p.count {
        return;
    }
    let n = i / p.image;
    let at = i % p.image;
    let w = pos_weight[(p.start + at) / p.plane % p.channels];
    let value = gradient(x[p.x_first + n * p.x_stride + at], t[p.t_first + n * p.t_stride + at], w);
    let to = p.gx_first + n * p.gx_stride + at;
    if ACCUMULATE == 1u {
        gx[to] += value;
    } else {
        gx[to] = value;
    }
}
