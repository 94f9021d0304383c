// A step of gradient descent with momentum, one parameter an invocation.

struct Params {
    // Elements of an image, and of all.
    image: u32,
    count: u32,
    g_first: u32,
    g_stride: u32,
    p_first: u32,
    p_stride: u32,
    v_first: u32,
    v_stride: u32,
    lr: f32,
    weight_decay: f32,
    momentum: f32,
    nesterov: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> gradients: array<f32>;
@group(0) @binding(2) var<storage, read_write> parameters: array<f32>;
@group(0) @binding(3) var<storage, read_write> velocities: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let i = linear_index(id, workgroups);
    if i >= p.count {
        return;
    }
    let n = i / p.image;
    let at = i % p.image;
    let to = p.p_first + n * p.p_stride + at;
    let velocity_to = p.v_first + n * p.v_stride + at;
    let old = parameters[to];
    var g = gradients[p.g_first + n * p.g_stride + at];
    if p.weight_decay > 0.0 {
        g = fma(p.weight_decay, old, g);
    }
    let velocity = fma(p.momentum, velocities[velocity_to], g);
    velocities[velocity_to] = velocity;
    let ahead = fma(p.momentum, velocity, g);
    parameters[to] = fma(-p.lr, select(velocity, ahead, p.nesterov == 1u), old);
}
