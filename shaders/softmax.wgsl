// y = exp(x - max) / sum of exp(x - max) along lines, one line an invocation. Needs softmax_lines.wgsl.

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let line = linear_index(id, workgroups);
    if line >= p.lines {
        return;
    }
    let x_at = x_start(line);
    let y_at = y_start(line);
    var key = 0u;
    for (var k = 0u; k < p.len; k++) {
        key = max(key, ordered(x[x_at + k * p.x_step]));
    }
    let largest = from_ordered(key);
    var sum = 0.0;
    for (var block = 0u; block < p.len; block += BLOCK) {
        let end = min(block + BLOCK, p.len);
        var part = 0.0;
        for (var k = block; k < end; k++) {
            part += exponential_below(x[x_at + k * p.x_step], largest);
        }
        sum += part;
    }
    let scale = 1.0 / sum;
    for (var k = 0u; k < p.len; k++) {
        y[y_at + k * p.y_step] = exponential_below(x[x_at + k * p.x_step], largest) * scale;
    }
}
