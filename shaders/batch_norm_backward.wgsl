// gx = factor * gy + slope * (x - mean) + offset, each channel with its own; without the latter two where, as the constant
// TRAIN says, the statistics are given. One element an invocation.

struct Params {
    // Elements, and those of an image and a plane.
    count: u32,
    image: u32,
    plane: u32,
    // Channels in front of the first.
    channel: u32,
    x_first: u32,
    x_stride: u32,
    gy_first: u32,
    gy_stride: u32,
    gx_first: u32,
    gx_stride: u32,
    // Whether what is there is added to.
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> gy: array<f32>;
// Mean, factor, slope, offset.
@group(0) @binding(3) var<storage, read> scales: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> gx: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let i = linear_index(id, workgroups);
    if i >= p.count {
        return;
    }
    let n = i / p.image;
    let at = i % p.image;
    let scale = scales[p.channel + at / p.plane];
    var result = gy[p.gy_first + n * p.gy_stride + at] * scale.y;
    if TRAIN == 1u {
        let distance = x[p.x_first + n * p.x_stride + at] - scale.x;
        result = result + (distance * scale.z + scale.w);
    }
    let gx_at = p.gx_first + n * p.gx_stride + at;
    if p.accumulate == 1u {
        result = gx[gx_at] + result;
    }
    gx[gx_at] = result;
}
