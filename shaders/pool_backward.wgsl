// Each input of a pooling gathers the gradients of the windows that cover it, one input an invocation: of those whose maximum
// it was or, if the constant MEAN is 1, its share of every one.

struct Params {
    // Inputs, and those of an image, a plane and a row.
    count: u32,
    image: u32,
    plane: u32,
    row: u32,
    // Extents of the output.
    out_height: u32,
    out_width: u32,
    kernel_height: u32,
    kernel_width: u32,
    stride_height: u32,
    stride_width: u32,
    padding_height: u32,
    padding_width: u32,
    // Whether the padding counts in the divisor.
    padding_counts: u32,
    gy_first: u32,
    gy_stride: u32,
    at_first: u32,
    at_stride: u32,
    gx_first: u32,
    gx_stride: u32,
    // Whether what is there is added to.
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> gy: array<f32>;
// Where in its plane each maximum was; of means, whatever.
@group(0) @binding(2) var<storage, read> positions: array<u32>;
@group(0) @binding(3) var<storage, read_write> gx: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let i = linear_index(id, workgroups);
    if i >= p.count {
        return;
    }
    let n = i / p.image;
    let at = i % p.image;
    let position = at % p.plane;
    let height = p.plane / p.row;
    let rows = covering(position / p.row, p.kernel_height, p.stride_height, p.padding_height, p.out_height);
    let columns = covering(position % p.row, p.kernel_width, p.stride_width, p.padding_width, p.out_width);
    let outputs = at / p.plane * (p.out_height * p.out_width);
    let gy_start = p.gy_first + n * p.gy_stride + outputs;
    let at_start = p.at_first + n * p.at_stride + outputs;
    var result = 0.0;
    for (var h = rows.x; h < rows.y; h++) {
        let top = h * p.stride_height;
        let covered_rows = covered(top, p.kernel_height, p.padding_height, height);
        let rows_counted = counted(covered_rows, top, p.kernel_height, p.padding_height, height, p.padding_counts);
        for (var w = columns.x; w < columns.y; w++) {
            let output = h * p.out_width + w;
            let gradient = gy[gy_start + output];
            if MEAN == 1u {
                let left = w * p.stride_width;
                let covered_columns = covered(left, p.kernel_width, p.padding_width, p.row);
                let columns_counted =
                    counted(covered_columns, left, p.kernel_width, p.padding_width, p.row, p.padding_counts);
                result += quotient(gradient, rows_counted * columns_counted);
            } else if positions[at_start + output] == position {
                result += gradient;
            }
        }
    }
    let gx_at = p.gx_first + n * p.gx_stride + at;
    if p.accumulate == 1u {
        result = gx[gx_at] + result;
    }
    gx[gx_at] = result;
}
