// A gradient times a factor, one element an invocation.

struct Params {
    // Elements of an image, and of all.
    image: u32,
    count: u32,
    g_first: u32,
    g_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> factor: array<f32>;
@group(0) @binding(2) var<storage, read_write> gradients: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let i = linear_index(id, workgroups);
    if i >= p.count {
        return;
    }
    gradients[p.g_first + i / p.image * p.g_stride + i % p.image] *= factor[0];
}
