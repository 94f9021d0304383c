// y += x, one element an invocation.

struct Params {
    // Elements of an image, and of all.
    image: u32,
    count: u32,
    x_first: u32,
    x_stride: u32,
    y_first: u32,
    y_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let i = linear_index(id, workgroups);
    if i >= p.count {
        return;
    }
    let n = i / p.image;
    let at = i % p.image;
    let y_at = p.y_first + n * p.y_stride + at;
    y[y_at] = y[y_at] + x[p.x_first + n * p.x_stride + at];
}
