// Each pixel of the input of an upsampling gathers the gradients of the outputs that came from it, by their weights; one
// pixel an invocation. The constant BILINEAR says whether an output came from one pixel or from four.

struct Params {
    // Elements of the input, and those of an image, a plane and a row.
    count: u32,
    image: u32,
    plane: u32,
    row: u32,
    // Extents of the output.
    height: u32,
    width: u32,
    // Where the tables of the rows and of the columns begin.
    rows_first: u32,
    columns_first: u32,
    gy_first: u32,
    gy_stride: u32,
    gx_first: u32,
    gx_stride: u32,
    // Whether what is there is added to.
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> gy: array<f32>;
// Of an axis: for each output the first input that it came from, then the weight of the next one; then for each input the
// first output that came from it, then the one behind the last.
@group(0) @binding(2) var<storage, read> tables: array<u32>;
@group(0) @binding(3) var<storage, read_write> gx: array<f32>;

// The weight of an input in an output of an axis of `outputs` and `inputs`.
fn weight_of(first: u32, output: u32, outputs: u32, input: u32, inputs: u32) -> f32 {
    if BILINEAR == 0u {
        return 1.0;
    }
    let left = tables[first + output];
    let weight = bitcast<f32>(tables[first + outputs + output]);
    let of_left = select(0.0, 1.0 - weight, left == input);
    return of_left + select(0.0, weight, min(left + 1u, inputs - 1u) == input);
}

// The outputs from .x to .y that came from an input.
fn outputs_of(first: u32, outputs: u32, input: u32, inputs: u32) -> vec2<u32> {
    let spans = first + 2u * outputs + input;
    return vec2<u32>(tables[spans], tables[spans + inputs]);
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
    let in_height = p.plane / p.row;
    let rows = outputs_of(p.rows_first, p.height, h, in_height);
    let columns = outputs_of(p.columns_first, p.width, w, p.row);
    let start = p.gy_first + n * p.gy_stride + at / p.plane * (p.height * p.width);
    var result = 0.0;
    for (var y = rows.x; y < rows.y; y++) {
        var of_row = 0.0;
        for (var x = columns.x; x < columns.y; x++) {
            of_row += gy[start + y * p.width + x] * weight_of(p.columns_first, x, p.width, w, p.row);
        }
        result += of_row * weight_of(p.rows_first, y, p.height, h, in_height);
    }
    let gx_at = p.gx_first + n * p.gx_stride + at;
    if p.accumulate == 1u {
        result = gx[gx_at] + result;
    }
    gx[gx_at] = result;
}
