// A step of gradient descent without momentum, one parameter an invocation.

struct Params {
    // Elements of an image, and of all.
    image: u32,
    count: u32,
    g_first: u32,
    g_stride: u32,
    p_first: u32,
    p_stride: u32,
    lr: f32,
    weight_decay: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> gradients: array<f32>;
@group(0) @binding(2) var<storage, read_write> parameters: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let i = linear_index(id, workgroups);
    if i >= p.count {
        return;
    }
    let n = i / p.image;
    let at = i % p.image;
    let to = p.p_first + n * p.p_stride + at;
    let old = parameters[to];
    var g = gradients[p.g_first + n * p.g_stride + at];
    if p.weight_decay > 0.0 {
        g = fma(p.weight_decay, old, g);
    }
    parameters[to] = fma(-p.lr, g, old);
}
