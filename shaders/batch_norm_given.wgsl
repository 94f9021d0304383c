// The scales of channels with a given mean and variance, one channel an invocation.

struct Params {
    channels: u32,
    eps: f32,
    gamma_first: u32,
    beta_first: u32,
    mean_first: u32,
    variance_first: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> gamma: array<f32>;
@group(0) @binding(2) var<storage, read> beta: array<f32>;
@group(0) @binding(3) var<storage, read> mean: array<f32>;
@group(0) @binding(4) var<storage, read> variance: array<f32>;
@group(0) @binding(5) var<storage, read_write> scales: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let c = linear_index(id, workgroups);
    if c >= p.channels {
        return;
    }
    let scale = scale_of(
        mean[p.mean_first + c],
        0.0,
        variance[p.variance_first + c],
        gamma[p.gamma_first + c],
        beta[p.beta_first + c],
        p.eps,
    );
    scales[c] = vec4<f32>(scale, 0.0);
}
