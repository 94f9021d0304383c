// A plane moved within a frame of a value (padding), or a part of it (cropping), one output an invocation; each is the
// gradient of the other, and as such added where update.wgsl says so.

struct Params {
    count: u32,
    channels: u32,
    out_h: u32,
    out_w: u32,
    in_h: u32,
    in_w: u32,
    // Rows and columns that the plane moves down and to the right, or up and to the left.
    forward_h: u32,
    forward_w: u32,
    back_h: u32,
    back_w: u32,
    x_first: u32,
    x_stride: u32,
    y_first: u32,
    y_stride: u32,
    value: f32,
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
    let plane = p.out_h * p.out_w;
    let n = i / (p.channels * plane);
    let at = i % (p.channels * plane);
    // Above and to the left of the plane these wrap to numbers beyond it.
    let row = at % plane / p.out_w + p.back_h - p.forward_h;
    let column = at % p.out_w + p.back_w - p.forward_w;
    var value = p.value;
    if row < p.in_h && column < p.in_w {
        value = x[p.x_first + n * p.x_stride + at / plane * (p.in_h * p.in_w) + row * p.in_w + column];
    }
    let to = p.y_first + n * p.y_stride + at;
    y[to] = updated(y[to], value);
}
