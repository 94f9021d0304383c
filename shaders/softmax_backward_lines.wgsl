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
    // Whether what is there is added to.
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read> gy: array<f32>;
@group(0) @binding(3) var<storage, read_write> gx: array<f32>;

// The first elements of a line in y, gy and gx.
fn starts(line: u32) -> vec3<u32> {
    let n = line / p.image;
    let at = line % p.image / p.across * p.slab + line % p.across;
    return vec3<u32>(p.y_first + n * p.y_stride, p.gy_first + n * p.gy_stride, p.gx_first + n * p.gx_stride) + at;
}

fn product(start: vec3<u32>, k: u32) -> f32 {
    return y[start.x + k * p.y_step] * gy[start.y + k * p.gy_step];
}

fn write(start: vec3<u32>, k: u32, dot: f32) {
    var result = y[start.x + k * p.y_step] * (gy[start.y + k * p.gy_step] - dot);
    let at = start.z + k * p.gx_step;
    if p.accumulate == 1u {
        result = gx[at] + result;
    }
    gx[at] = result;
}
