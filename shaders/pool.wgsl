// The largest element of each window or, if the constant MEAN is 1, their mean; one window an invocation. Needs
// pool_params.wgsl and pool_windows.wgsl.

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
    let top = at % p.plane / p.row * p.stride_height;
    let left = at % p.row * p.stride_width;
    let rows = covered(top, p.kernel_height, p.padding_height, p.height);
    let columns = covered(left, p.kernel_width, p.padding_width, p.width);
    let start = p.x_first + n * p.x_stride + at / p.plane * (p.height * p.width);
    var result = 0.0;
    if MEAN == 1u {
        let divisor = counted(top, p.kernel_height, p.padding_height, p.height)
            * counted(left, p.kernel_width, p.padding_width, p.width);
        result = quotient(sum(start, rows, columns), divisor);
    } else {
        result = largest(start, rows, columns);
    }
    y[p.y_first + n * p.y_stride + at] = result;
}
