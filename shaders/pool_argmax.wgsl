// The largest element of each window and where it is in its plane, one window an invocation. Needs pool_params.wgsl and
// pool_windows.wgsl.

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
    // Below every number, so that the first one of all is taken.
    var largest = 0u;
    var position = 0u;
    for (var h = rows.x; h < rows.y; h++) {
        for (var w = columns.x; w < columns.y; w++) {
            let value = x[start + h * p.width + w];
            // The two zeros are equal, of which the first is taken; of NaN, the last.
            let key = select(ordered(value), ordered(0.0), (bitcast<u32>(value) & 0x7fffffffu) == 0u);
            if key > largest || is_nan(value) {
                largest = key;
                position = h * p.width + w;
            }
        }
    }
    y[p.y_first + n * p.y_stride + at] = x[start + position];
    positions[p.positions_first + n * p.positions_stride + at] = position;
}
