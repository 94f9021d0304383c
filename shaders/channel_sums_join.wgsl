// The sums of channels, from those of their strips (channel_sums.wgsl), one channel a workgroup.

struct Params {
    channels: u32,
    // Strips of a channel.
    strips: u32,
    y_first: u32,
    // Whether what is there is added to.
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> strips: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

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
        sum += strips[s * p.channels + c];
    }
    var result = sum_of_group(lane, sum);
    if lane == 0u {
        let at = p.y_first + c;
        if p.accumulate == 1u {
            result = y[at] + result;
        }
        y[at] = result;
    }
}
