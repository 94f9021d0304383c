// What the convolutions have in common: parameters, bindings, what an invocation computes, and how a sum is stored.

struct Params {
    // Workgroups: pixels, blocks of output channels, groups.
    pixel_blocks: u32,
    output_blocks: u32,
    groups: u32,
    // Pixels of all images, of one image, of a row.
    pixels: u32,
    plane: u32,
    width: u32,
    step_h: u32,
    step_w: u32,
    in_h: u32,
    in_w: u32,
    taps: u32,
    // Input channels of a group that weights are there for; the first that this part sums, and how many.
    depth: u32,
    channel: u32,
    channels: u32,
    // The first output channel of a group to store and the one after the last, counted from the first block; and vectors
    // of weights that are there for an input (depthwise: weights).
    first_output: u32,
    outputs: u32,
    vectors: u32,
    // Where this part begins: in groups, and in blocks of output channels.
    first_group: u32,
    first_block: u32,
    x_first: u32,
    x_stride: u32,
    x_group: u32,
    y_first: u32,
    y_stride: u32,
    y_group: u32,
    y_plane: u32,
    y_row: u32,
    y_column: u32,
    // Bit 0: begin with the bias, else with y. Bit 1: end with the activation. Bit 2: add to y, which takes both other bits.
    ends: u32,
    parameter: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
// Where a tap (or, for a GEMM, a product) reads: elements from the pixel, rows, columns.
@group(0) @binding(1) var<storage, read> taps: array<vec4<i32>>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;

// What a workgroup computes: a block of pixels and a block of outputs of a group.
struct Block {
    pixels: u32,
    outputs: u32,
    group: u32,
}

fn block_of(workgroup: vec3<u32>, workgroups: vec3<u32>) -> Block {
    let number = workgroup.y * workgroups.x + workgroup.x;
    return Block(
        number % p.pixel_blocks,
        number / p.pixel_blocks % p.output_blocks,
        number / p.pixel_blocks / p.output_blocks,
    );
}

// Where the taps of a pixel begin in the input, in rows and columns and in elements of the group, and where its first output is
// stored. Beyond the last pixel, those of the last.
struct Pixel {
    row: i32,
    column: i32,
    x_at: i32,
    y_at: u32,
}

fn pixel_of(pixel: u32, group: u32) -> Pixel {
    let last = min(pixel, p.pixels - 1u);
    let image = last / p.plane;
    let row = last % p.plane / p.width;
    let column = last % p.plane % p.width;
    let in_row = i32(row * p.step_h);
    let in_column = i32(column * p.step_w);
    let x_image = i32(p.x_first + image * p.x_stride + group * p.x_group);
    return Pixel(
        in_row,
        in_column,
        x_image + in_row * i32(p.in_w) + in_column,
        p.y_first + image * p.y_stride + group * p.y_group + row * p.y_row + column * p.y_column,
    );
}

fn store(at: u32, output: u32, sum: f32) {
    if output >= p.first_output && output < p.outputs {
        let i = at + (output - p.first_output) * p.y_plane;
        var total = sum;
        if (p.ends & 1u) == 0u {
            total += y[i];
        }
        if (p.ends & 2u) != 0u {
            total = activate(total, p.parameter);
        }
        if (p.ends & 4u) != 0u {
            total += y[i];
        }
        y[i] = total;
    }
}
