// gx = y * (gy - dot) for some images, with the sums of y * gy that softmax_backward_dots.wgsl has found.

struct Params {
    // Elements of an image, and of all.
    image: u32,
    count: u32,
    y_first: u32,
    y_stride: u32,
    gy_first: u32,
    gy_stride: u32,
    dots_first: u32,
    gx_first: u32,
    gx_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read> gy: array<f32>;
@group(0) @binding(3) var<storage, read> dots: array<f32>;
@group(0) @binding(4) var<storage, read_write> gx: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let i = linear_index(id, workgroups);
    if i >= p.count {
        return;
    }
    let n = i / p.image;
    let at = i % p.image;
    let above = gy[p.gy_first + n * p.gy_stride + at] - dots[p.dots_first + at];
    let to = p.gx_first + n * p.gx_stride + at;
    gx[to] = updated(gx[to], y[p.y_first + n * p.y_stride + at] * above);
}
