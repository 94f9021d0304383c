// The sum of each strip of a channel; one strip a workgroup. A strip is a run of elements of one channel, counted through the
// planes of all images.

struct Params {
    // Strips of all channels together.
    count: u32,
    channels: u32,
    // Sums between those of two strips of one channel.
    pitch: u32,
    plane: u32,
    // Elements of a channel, and of a strip.
    elements: u32,
    strip: u32,
    // Sums in front of the first.
    sums_first: u32,
    gy_first: u32,
    gy_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> gy: array<f32>;
@group(0) @binding(2) var<storage, read_write> strip_sums: array<f32>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(local_invocation_index) lane: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
) {
    let i = group_index(group, workgroups);
    if i >= p.count {
        return;
    }
    let c = i % p.channels;
    let start = i / p.channels * p.strip;
    let end = min(start + p.strip, p.elements);
    var sum = 0.0;
    for (var k = start + lane; k < end; k += LANES) {
        sum += gy[p.gy_first + k / p.plane * p.gy_stride + c * p.plane + k % p.plane];
    }
    sum = sum_of_group(lane, sum);
    if lane == 0u {
        strip_sums[p.sums_first + i / p.channels * p.pitch + c] = sum;
    }
}
