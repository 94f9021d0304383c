// Lines along an axis: what softmax.wgsl and softmax_long.wgsl share.

struct Params {
    // Lines, and those of an image.
    lines: u32,
    image: u32,
    // Lines side by side, and elements of as many lines.
    across: u32,
    slab: u32,
    // Elements of a line, and how far apart they lie.
    len: u32,
    x_step: u32,
    y_step: u32,
    x_first: u32,
    x_stride: u32,
    y_first: u32,
    y_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

// The first element of a line, counted from the first of its image.
fn line_start(line: u32) -> u32 {
    return line % p.image / p.across * p.slab + line % p.across;
}

fn x_start(line: u32) -> u32 {
    return p.x_first + line / p.image * p.x_stride + line_start(line);
}

fn y_start(line: u32) -> u32 {
    return p.y_first + line / p.image * p.y_stride + line_start(line);
}
