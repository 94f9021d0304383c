// The gradient to a bias from the sums of the strips of its channel; one channel a workgroup.

struct Params {
    channels: u32,
    // Strips of a channel.
    strips: u32,
    gb_first: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
// As bias_backward.wgsl writes them, those of all channels side by side.
@group(0) @binding(1) var<storage, read> strip_sums: array<f32>;
@group(0) @binding(2) var<storage, read_write> gb: array<f32>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(local_invocation_index) lane: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
) {
    let c = group_index(group, workgroups);
    if c >= p.channels {
        return;
    }
    var sum = 0.0;
    for (var s = lane; s < p.strips; s += LANES) {
        sum += strip_sums[s * p.channels + c];
    }
    sum = sum_of_group(lane, sum);
    if lane == 0u {
        let to = p.gb_first + c;
        gb[to] = updated(gb[to], sum);
    }
}
