// Planes of another size: each pixel copies one of the input or, if the constant BILINEAR is 1, lies between four. Where
// the output's rows and columns come from is a table.

struct Params {
    // Elements of the output, and those of an image, a plane and a row.
    count: u32,
    image: u32,
    plane: u32,
    row: u32,
    // Rows and columns of the input.
    height: u32,
    width: u32,
    rows_first: u32,
    row_weights_first: u32,
    columns_first: u32,
    column_weights_first: u32,
    // Where the first row of the input is, or would be, and the elements from one to the next.
    x_first: u32,
    x_pitch: u32,
    x_stride: u32,
    y_first: u32,
    y_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
// For each row of the output the (upper) row of the input, and the weight of the one below; the same for columns.
@group(0) @binding(2) var<storage, read> rows: array<u32>;
@group(0) @binding(3) var<storage, read> row_weights: array<f32>;
@group(0) @binding(4) var<storage, read> columns: array<u32>;
@group(0) @binding(5) var<storage, read> column_weights: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;

fn mix_of(a: f32, b: f32, weight: f32) -> f32 {
    // In this form, in which PyTorch has it, an infinity of weight 0 is NaN.
    return (1.0 - weight) * a + weight * b;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let i = linear_index(id, workgroups);
    if i >= p.count {
        return;
    }
    let n = i / p.image;
    let at = i % p.image;
    let h = at % p.plane / p.row;
    let w = at % p.row;
    let above = rows[p.rows_first + h];
    let left = columns[p.columns_first + w];
    let start = p.x_first + n * p.x_stride + at / p.plane * (p.height * p.width);
    var result = x[start + above * p.x_pitch + left];
    if BILINEAR == 1u {
        let below = min(above + 1u, p.height - 1u);
        let right = min(left + 1u, p.width - 1u);
        let row_weight = row_weights[p.row_weights_first + h];
        let on_left = mix_of(result, x[start + below * p.x_pitch + left], row_weight);
        let on_right =
            mix_of(x[start + above * p.x_pitch + right], x[start + below * p.x_pitch + right], row_weight);
        result = mix_of(on_left, on_right, column_weights[p.column_weights_first + w]);
    }
    y[p.y_first + n * p.y_stride + at] = result;
}
