// Lines along an axis: what softmax_backward.wgsl and softmax_backward_long.wgsl share.

struct Params {
    // Lines, and those of an image.
    lines: u32,
    image: u32,
    // Lines side by side, and elements of as many lines.
    across: u32,
    slab: u32,
    // Elements of a line, and how far apart they lie.
    len: u32,
    y_step: u32,
    gy_step: u32,
    gx_step: u32,
    y_first: u32,
    y_stride: u32,
    gy_first: u32,
    gy_stride: u32,
    gx_first: u32,
    gx_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read> gy: array<f32>;
@group(0) @binding(3) var<storage, read_write> gx: array<f32>;

// The first elements of a line: in y, gy and gx.
fn starts(line: u32) -> vec3<u32> {
    let n = line / p.image;
    let start = line % p.image / p.across * p.slab + line % p.across;
    return vec3<u32>(p.y_first, p.gy_first, p.gx_first) + n * vec3<u32>(p.y_stride, p.gy_stride, p.gx_stride) + start;
}

// Elements k of a line: in y, gy and gx.
fn places(starts: vec3<u32>, k: u32) -> vec3<u32> {
    return starts + k * vec3<u32>(p.y_step, p.gy_step, p.gx_step);
}

// y * (gy - the sum of y * gy over the line), at element k.
fn put(starts: vec3<u32>, k: u32, dot: f32) {
    let place = places(starts, k);
    gx[place.z] = updated(gx[place.z], y[place.x] * (gy[place.y] - dot));
}
