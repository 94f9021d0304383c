// The mean and the inverse deviation of the batch, for the gradient; one channel an invocation.

struct Params {
    channels: u32,
    // The biased variance as a multiple of the unbiased one.
    bias: f32,
    eps: f32,
    mean_first: u32,
    inverse_first: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
// As batch_norm_train.wgsl writes them.
@group(0) @binding(1) var<storage, read> statistics: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> mean: array<f32>;
@group(0) @binding(3) var<storage, read_write> inverse: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let c = linear_index(id, workgroups);
    if c >= p.channels {
        return;
    }
    let of_batch = statistics[c];
    mean[p.mean_first + c] = of_batch.x;
    inverse[p.inverse_first + c] = quotient(1.0, square_root(of_batch.y * p.bias + p.eps));
}
