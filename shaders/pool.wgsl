// The largest element of each window or, if the constant MEAN is 1, their mean; one window an invocation. Needs
// pool_params.wgsl and pool_windows.wgsl.

fn largest(start: u32, rows: vec2<u32>, columns: vec2<u32>, key_before: u32) -> f32 {
    var key = key_before;
    for (var h = rows.x; h < rows.y; h++) {
        for (var w = columns.x; w < columns.y; w++) {
            key = max(key, ordered(x[start + h * p.x_pitch + w]));
        }
    }
    return from_ordered(key);
}

fn sum(start: u32, rows: vec2<u32>, columns: vec2<u32>) -> f32 {
    var all = 0.0;
    for (var h = rows.x; h < rows.y; h++) {
        var row = 0.0;
        for (var w = columns.x; w < columns.y; w++) {
            row += x[start + h * p.x_pitch + w];
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
    let begin = begin_of(at);
    let rows = seen_rows(covered(begin.x, p.kernel_height, p.padding_height, p.height));
    let columns = seen_columns(covered(begin.y, p.kernel_width, p.padding_width, p.width));
    let start = p.x_first + n * p.x_stride + at / p.plane * (p.height * p.width);
    let to = p.y_first + n * p.y_stride + at;
    var result = 0.0;
    if MEAN == 1u {
        result = sum(start, rows, columns);
        if p.joined == 1u {
            result += y[to];
        }
        if p.last == 1u {
            let divisor = counted(begin.x, p.kernel_height, p.padding_height, p.height)
                * counted(begin.y, p.kernel_width, p.padding_width, p.width);
            result = quotient(result, divisor);
        }
    } else {
        var key = 0u;
        if p.joined == 1u {
            key = ordered(y[to]);
        }
        result = largest(start, rows, columns, key);
    }
    y[to] = result;
}
