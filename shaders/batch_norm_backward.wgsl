// gx = factor * gy or, if the constant TRAIN is 1, factor * (gy - offset - (x - mean) * slope), each channel with its own;
// one element an invocation.

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
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> gy: array<f32>;
// Mean, factor, offset and slope.
@group(0) @binding(3) var<storage, read> terms: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> gx: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let i = linear_index(id, workgroups);
    if i >= p.count {
        return;
    }
    let n = i / p.image;
    let at = i % p.image;
    let term = terms[p.channel + at / p.plane];
    var g = gy[p.gy_first + n * p.gy_stride + at];
    if TRAIN == 1u {
        g = g - term.z - (x[p.x_first + n * p.x_stride + at] - term.x) * term.w;
    }
    let to = p.gx_first + n * p.gx_stride + at;
    gx[to] = updated(gx[to], g * term.y);
}
