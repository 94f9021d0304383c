// What a batch was normalised with, kept for the gradient, one channel an invocation.

struct Params {
    channels: u32,
    mean_first: u32,
    inv_std_first: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
// As batch_norm_train.wgsl writes them.
@group(0) @binding(1) var<storage, read> statistics: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> mean: array<f32>;
@group(0) @binding(3) var<storage, read_write> inv_std: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let c = linear_index(id, workgroups);
    if c >= p.channels {
        return;
    }
    mean[p.mean_first + c] = statistics[c].x;
    inv_std[p.inv_std_first + c] = statistics[c].z;
}
