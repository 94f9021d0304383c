// The gradient of the mean of each plane, to each of its elements: one element an invocation.

struct Params {
    // Elements, and those of an image and a plane; the last as a divisor, too.
    count: u32,
    image: u32,
    plane: u32,
    divisor: f32,
    gy_first: u32,
    gy_stride: u32,
    gx_first: u32,
    gx_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> gy: array<f32>;
@group(0) @binding(2) var<storage, read_write> gx: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let i = linear_index(id, workgroups);
    if i >= p.count {
        return;
    }
    let n = i / p.image;
    let at = i % p.image;
    let to = p.gx_first + n * p.gx_stride + at;
    gx[to] = updated(gx[to], quotient(gy[p.gy_first + n * p.gy_stride + at / p.plane], p.divisor));
}
