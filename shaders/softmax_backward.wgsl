// gx = y * (gy - sum of y * gy) along lines, one line an invocation. Needs softmax_backward_lines.wgsl.

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let line = linear_index(id, workgroups);
    if line >= p.lines {
        return;
    }
    let start = starts(line);
    var dot = 0.0;
    for (var block = 0u; block < p.len; block += BLOCK) {
        let end = min(block + BLOCK, p.len);
        var part = 0.0;
        for (var k = block; k < end; k++) {
            let place = places(start, k);
            part += y[place.x] * gy[place.y];
        }
        dot += part;
    }
    for (var k = 0u; k < p.len; k++) {
        put(start, k, dot);
    }
}
