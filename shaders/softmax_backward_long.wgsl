// softmax_backward.wgsl, one line a workgroup. Needs softmax_backward_lines.wgsl.

@compute @workgroup_size(LANES)
fn main(
    @builtin(local_invocation_index) lane: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
) {
    let line = group_index(group, workgroups);
    if line >= p.lines {
        return;
    }
    let start = starts(line);
    var dot = 0.0;
    for (var block = lane; block < p.len; block += BLOCK * LANES) {
        let end = min(block + BLOCK * LANES, p.len);
        var part = 0.0;
        for (var k = block; k < end; k += LANES) {
            let place = places(start, k);
            part += y[place.x] * gy[place.y];
        }
        dot += part;
    }
    dot = sum_of_group(lane, dot);
    for (var k = lane; k < p.len; k += LANES) {
        put(start, k, dot);
    }
}
