// What the convolutions have in common: parameters, bindings, and how a sum is stored.

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
