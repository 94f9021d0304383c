// y = a + b, one element an invocation.

struct Params {
    // Elements of an image, and of all.
    image: u32,
    count: u32,
    a_first: u32,
    a_stride: u32,
    b_first: u32,
    b_stride: u32,
    y_first: u32,
    y_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let i = linear_index(id, workgroups);
    if i >= p.count {
        return;
    }
    let n = i / p.image;
    let at = i % p.image;
    y[p.y_first + n * p.y_stride + at] = a[p.a_first + n * p.a_stride + at] + b[p.b_first + n * p.b_stride + at];
}
