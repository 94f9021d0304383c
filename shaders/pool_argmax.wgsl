// The largest element of each window and where in its plane it lies, one window an invocation: the first of equal ones; of
// several NaN the last.

struct Params {
    // Windows, and those of an image, a plane and a row.
    count: u32,
    image: u32,
    plane: u32,
    row: u32,
    height: u32,
    width: u32,
    kernel_height: u32,
    kernel_width: u32,
    stride_height: u32,
    stride_width: u32,
    padding_height: u32,
    padding_width: u32,
    x_first: u32,
    x_stride: u32,
    y_first: u32,
    y_stride: u32,
    at_first: u32,
    at_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> positions: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let i = linear_index(id, workgroups);
    if i >= p.count {
        return;
    }
    let n = i / p.image;
    let at = i % p.image;
    let rows = covered(at % p.plane / p.row * p.stride_height, p.kernel_height, p.padding_height, p.height);
    let columns = covered(at % p.row * p.stride_width, p.kernel_width, p.padding_width, p.width);
    let start = p.x_first + n * p.x_stride + at / p.plane * (p.height * p.width);
    var best = 0u;
    var position = rows.x * p.width + columns.x;
    for (var h = rows.x; h < rows.y; h++) {
        for (var w = columns.x; w < columns.y; w++) {
            let value = x[start + h * p.width + w];
            // Zeros are equal, whatever their sign.
            let key = ordered(select(value, 0.0, value == 0.0));
            if key > best || key == 0xffffffffu {
                best = key;
                position = h * p.width + w;
            }
        }
    }
    y[p.y_first + n * p.y_stride + at] = x[start + position];
    positions[p.at_first + n * p.at_stride + at] = position;
}
