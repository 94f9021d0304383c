// What pool.wgsl and pool_argmax.wgsl are given.

struct Params {
    // Windows, and those of an image, a plane and a row.
    count: u32,
    image: u32,
    plane: u32,
    row: u32,
    // Row and column of the first.
    first_row: u32,
    first_column: u32,
    // Rows and columns of the input.
    height: u32,
    width: u32,
    kernel_height: u32,
    kernel_width: u32,
    stride_height: u32,
    stride_width: u32,
    padding_height: u32,
    padding_width: u32,
    // Whether the padding counts in the divisor.
    padding_counts: u32,
    // Whether there is a part of each result already, and whether it is complete after this.
    joined: u32,
    last: u32,
    // The rows and columns of the input that are looked at.
    top: u32,
    bottom: u32,
    left: u32,
    right: u32,
    // Where the first row of the input is, or would be, and the elements from one to the next.
    x_first: u32,
    x_pitch: u32,
    x_stride: u32,
    y_first: u32,
    y_stride: u32,
    // Of an argmax.
    positions_first: u32,
    positions_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

// Those of a window's rows and columns that are looked at.
fn seen_rows(rows: vec2<u32>) -> vec2<u32> {
    return vec2<u32>(max(rows.x, p.top), min(rows.y, p.bottom));
}

fn seen_columns(columns: vec2<u32>) -> vec2<u32> {
    return vec2<u32>(max(columns.x, p.left), min(columns.y, p.right));
}

// Row and column of the padded input where a window of a plane begins.
fn begin_of(at: u32) -> vec2<u32> {
    return vec2<u32>(
        (p.first_row + at % p.plane / p.row) * p.stride_height,
        (p.first_column + at % p.row) * p.stride_width,
    );
}
