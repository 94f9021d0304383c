// The largest element of each window and where it is in its plane, one window an invocation. Needs pool_params.wgsl and
// pool_windows.wgsl.

@group(0) @binding(3) var<storage, read_write> positions: array<u32>;

// The two zeros are equal, of which the first is taken; of NaN, the last.
fn key_of(value: f32) -> u32 {
    return select(ordered(value), ordered(0.0), (bitcast<u32>(value) & 0x7fffffffu) == 0u);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let i = linear_index(id, workgroups);
    if i >= p.count {
        return;
    }
    let n = i / p.image;
    let at = i % p.image;
    let begin = begin_of(at);
    let rows = seen_rows(covered(begin.x, p.kernel_height, p.padding_height, p.height));
    let columns = seen_columns(covered(begin.y, p.kernel_width, p.padding_width, p.width));
    let start = p.x_first + n * p.x_stride + at / p.plane * (p.height * p.width);
    let to = p.y_first + n * p.y_stride + at;
    let position_to = p.positions_first + n * p.positions_stride + at;
    // Below every number, so that the first one of all is taken.
    var key = 0u;
    var largest = 0.0;
    var position = 0u;
    if p.joined == 1u {
        largest = y[to];
        key = key_of(largest);
        position = positions[position_to];
    }
    for (var h = rows.x; h < rows.y; h++) {
        for (var w = columns.x; w < columns.y; w++) {
            let value = x[start + h * p.x_pitch + w];
            if key_of(value) > key || is_nan(value) {
                key = key_of(value);
                largest = value;
                position = h * p.width + w;
            }
        }
    }
    y[to] = largest;
    positions[position_to] = position;
}
