// Moves the running statistics towards those of the batch, one channel an invocation.

struct Params {
    channels: u32,
    // The weight of the batch, and of what was before.
    momentum: f32,
    rest: f32,
    mean_first: u32,
    variance_first: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
// As batch_norm_train.wgsl writes them.
@group(0) @binding(1) var<storage, read> statistics: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> mean: array<f32>;
@group(0) @binding(3) var<storage, read_write> variance: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let c = linear_index(id, workgroups);
    if c >= p.channels {
        return;
    }
    let i = p.mean_first + c;
    let k = p.variance_first + c;
    mean[i] = p.rest * mean[i] + p.momentum * statistics[c].x;
    variance[k] = p.rest * variance[k] + p.momentum * statistics[c].y;
}
