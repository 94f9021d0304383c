// What comes to each pixel from those that copied it or, if the constant BILINEAR is 1, lie between it and its neighbours, by
// their weights; one pixel an invocation. Where the output's rows and columns came from is a table.

struct Params {
    // Elements of the input, and those of an image, a plane and a row.
    count: u32,
    image: u32,
    plane: u32,
    row: u32,
    // Rows and columns of the output.
    out_height: u32,
    out_width: u32,
    // The first row and column of the input, which has so many.
    first_row: u32,
    first_column: u32,
    height: u32,
    width: u32,
    // The rows and columns of the output that are looked at, whose weights are there.
    top: u32,
    bottom: u32,
    left: u32,
    right: u32,
    rows_first: u32,
    row_weights_first: u32,
    columns_first: u32,
    column_weights_first: u32,
    // Where the first row of the output is, or would be, and the elements from one to the next.
    gy_first: u32,
    gy_pitch: u32,
    gy_stride: u32,
    gx_first: u32,
    gx_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> gy: array<f32>;
// For each row of the input, and for the one behind the last, the first row of the output that has it above (or as its
// source), and for each of the output the weight of the one below; the same for columns.
@group(0) @binding(2) var<storage, read> rows: array<u32>;
@group(0) @binding(3) var<storage, read> row_weights: array<f32>;
@group(0) @binding(4) var<storage, read> columns: array<u32>;
@group(0) @binding(5) var<storage, read> column_weights: array<f32>;
@group(0) @binding(6) var<storage, read_write> gx: array<f32>;

// The part of an output that comes from an input on its near side (from above, from the left), or on the other; the last
// input is on both sides of the outputs behind it.
fn share(near: bool, last: bool, weight: f32) -> f32 {
    return select(weight, select(1.0 - weight, 1.0, last), near);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let i = linear_index(id, workgroups);
    if i >= p.count {
        return;
    }
    let n = i / p.image;
    let at = i % p.image;
    let h = p.first_row + at % p.plane / p.row;
    let w = p.first_column + at % p.row;
    // The tables begin with the one in front of the first, if there is one.
    let in_rows = p.rows_first + at % p.plane / p.row + min(p.first_row, 1u);
    let in_columns = p.columns_first + at % p.row + min(p.first_column, 1u);
    let below = rows[in_rows];
    let right = columns[in_columns];
    var top = below;
    var left = right;
    if BILINEAR == 1u {
        top = rows[in_rows - min(h, 1u)];
        left = columns[in_columns - min(w, 1u)];
    }
    top = max(top, p.top);
    left = max(left, p.left);
    let bottom = min(rows[in_rows + 1u], p.bottom);
    let end = min(columns[in_columns + 1u], p.right);
    let start = p.gy_first + n * p.gy_stride + at / p.plane * (p.out_height * p.out_width);
    var sum = 0.0;
    for (var k = top; k < bottom; k++) {
        var of_row = 0.0;
        for (var l = left; l < end; l++) {
            var g = gy[start + k * p.gy_pitch + l];
            if BILINEAR == 1u {
                g = g * share(l >= right, w + 1u == p.width, column_weights[p.column_weights_first + l - p.left]);
            }
            of_row += g;
        }
        if BILINEAR == 1u {
            of_row = of_row * share(k >= below, h + 1u == p.height, row_weights[p.row_weights_first + k - p.top]);
        }
        sum += of_row;
    }
    let to = p.gx_first + n * p.gx_stride + at;
    gx[to] = updated(gx[to], sum);
}
