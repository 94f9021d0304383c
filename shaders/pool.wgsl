// The largest element of each window or, if the constant MEAN is 1, their mean; one window an invocation.

struct Params {
    // Windows, and those of an image, a plane and a row.
    count: u32,
    image: u32,
    plane: u32,
    row: u32,
    // Where they begin.
    first_row: u32,
    first_column: u32,
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
    x_first: u32,
    x_stride: u32,
    y_first: u32,
    y_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

// The rows or columns of the input from .x to .y that a window covers, which begins at `begin` of the padded input.
fn covered(begin: u32, kernel: u32, padding: u32, input: u32) -> vec2<u32> {
    return vec2<u32>(max(begin, padding) - padding, min(max(begin + kernel, padding) - padding, input));
}

// How many of them count in the divisor.
fn counted(covered: vec2<u32>, begin: u32, kernel: u32, padding: u32, input: u32) -> f32 {
    let padded = min(kernel, input + 2u * padding - begin);
    return f32(select(covered.y - covered.x, padded, p.padding_counts == 1u));
}

fn largest(start: u32, rows: vec2<u32>, columns: vec2<u32>) -> f32 {
    var key = 0u;
    for (var h = rows.x; h < rows.y; h++) {
        for (var w = columns.x; w < columns.y; w++) {
            key = max(key, ordered(x[start + h * p.width + w]));
        }
    }
    return from_ordered(key);
}

fn sum(start: u32, rows: vec2<u32>, columns: vec2<u32>) -> f32 {
    var all = 0.0;
    for (var h = rows.x; h < rows.y; h++) {
        var row = 0.0;
        for (var w = columns.x; w < columns.y; w++) {
            row += x[start + h * p.width + w];
        }
        all += row;
    }
    return all;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let i = linear_index(id, workgroups);
    if i >= p.count {
        return;
    }
    let n = i / p.image;
    let at = i % p.image;
    let top = (p.first_row + at % p.plane / p.row) * p.stride_height;
    let left = (p.first_column + at % p.row) * p.stride_width;
    let rows = covered(top, p.kernel_height, p.padding_height, p.height);
    let columns = covered(left, p.kernel_width, p.padding_width, p.width);
    let start = p.x_first + n * p.x_stride + at / p.plane * (p.height * p.width);
    var result = 0.0;
    if MEAN == 1u {
        let divisor = counted(rows, top, p.kernel_height, p.padding_height, p.height)
            * counted(columns, left, p.kernel_width, p.padding_width, p.width);
        result = quotient(sum(start, rows, columns), divisor);
    } else {
        result = largest(start, rows, columns);
    }
    y[p.y_first + n * p.y_stride + at] = result;
}
