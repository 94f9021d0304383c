// softmax.wgsl, one line a workgroup. Needs softmax_lines.wgsl.

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
    let x_at = x_start(line);
    let y_at = y_start(line);
    var key = 0u;
    for (var k = lane; k < p.len; k += LANES) {
        key = max(key, ordered(x[x_at + k * p.x_step]));
    }
    let largest = from_ordered(largest_of_group(lane, key));
    var sum = 0.0;
    for (var block = lane; block < p.len; block += BLOCK * LANES) {
        let end = min(block + BLOCK * LANES, p.len);
        var part = 0.0;
        for (var k = block; k < end; k += LANES) {
            part += exponential_below(x[x_at + k * p.x_step], largest);
        }
        sum += part;
    }
    let scale = 1.0 / sum_of_group(lane, sum);
    for (var k = lane; k < p.len; k += LANES) {
        y[y_at + k * p.y_step] = exponential_below(x[x_at + k * p.x_step], largest) * scale;
    }
}
