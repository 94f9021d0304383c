// The windows that reach an element: what pool_backward_largest.wgsl and pool_backward_mean.wgsl share.

struct Params {
    // Elements of the input, and those of an image, a plane and a row.
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
    // Windows of a column and of a row.
    windows_height: u32,
    windows_width: u32,
    kernel_height: u32,
    kernel_width: u32,
    stride_height: u32,
    stride_width: u32,
    padding_height: u32,
    padding_width: u32,
    // Where the first row of windows is, or would be, and the elements from one to the next.
    gy_first: u32,
    gy_pitch: u32,
    gy_stride: u32,
    gx_first: u32,
    gx_stride: u32,
    // Of the largest elements where they are.
    positions_first: u32,
    positions_stride: u32,
    // Of the means whether the padding counts in the divisor.
    padding_counts: u32,
    // The rows and columns of windows that are looked at.
    top: u32,
    bottom: u32,
    left: u32,
    right: u32,
}

@group(0) @binding(0) var<uniform> p: Params;

// The rows or columns of windows from .x to .y that cover row or column `at` of the input.
fn reaching(at: u32, kernel: u32, stride: u32, padding: u32, windows: u32) -> vec2<u32> {
    let padded = at + padding;
    let first = select(0u, (padded - kernel) / stride + 1u, padded >= kernel);
    return vec2<u32>(first, min(padded / stride + 1u, windows));
}

fn rows_reaching(at: u32) -> vec2<u32> {
    let rows = reaching(at, p.kernel_height, p.stride_height, p.padding_height, p.windows_height);
    return vec2<u32>(max(rows.x, p.top), min(rows.y, p.bottom));
}

fn columns_reaching(at: u32) -> vec2<u32> {
    let columns = reaching(at, p.kernel_width, p.stride_width, p.padding_width, p.windows_width);
    return vec2<u32>(max(columns.x, p.left), min(columns.y, p.right));
}

// Row and column of an element of a plane.
fn place_of(at: u32) -> vec2<u32> {
    return vec2<u32>(p.first_row + at % p.plane / p.row, p.first_column + at % p.row);
}
