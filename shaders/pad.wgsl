// Planes moved within a frame of a value (padding), or a part of them (cropping), one output an invocation; each is the
// gradient of the other, and as such added if the constant ACCUMULATE is 1. Numbers are moved as bits, so that whole ones may
// be moved, too.

struct Params {
    // Elements of the output, and those of an image, a plane and a row.
    count: u32,
    image: u32,
    plane: u32,
    row: u32,
    height: u32,
    width: u32,
    // Row and column of the input that the first output copies. Above the input and to the left of it they wrap round to
    // numbers beyond it.
    top: u32,
    left: u32,
    x_first: u32,
    x_stride: u32,
    y_first: u32,
    y_stride: u32,
    // The bits of it.
    value: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let i = linear_index(id, workgroups);
    if i >= p.count {
        return;
    }
    let n = i / p.image;
    let at = i % p.image;
    let row = p.top + at % p.plane / p.row;
    let column = p.left + at % p.row;
    var value = p.value;
    if row < p.height && column < p.width {
        value = x[p.x_first + n * p.x_stride + at / p.plane * (p.height * p.width) + row * p.width + column];
    }
    let to = p.y_first + n * p.y_stride + at;
    if ACCUMULATE == 1u {
        y[to] = bitcast<u32>(bitcast<f32>(y[to]) + bitcast<f32>(value));
    } else {
        y[to] = value;
    }
}
