// Of each strip of a channel the sums of gy, of gy * (x - mean) and of x - mean; one strip a workgroup, strips as in
// batch_norm_moments.wgsl.

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
    mean_first: u32,
    x_first: u32,
    x_stride: u32,
    gy_first: u32,
    gy_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> gy: array<f32>;
@group(0) @binding(3) var<storage, read> mean: array<f32>;
@group(0) @binding(4) var<storage, read_write> strips: array<vec4<f32>>;

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
    let center = mean[p.mean_first + c];
    var gradients = 0.0;
    var products = 0.0;
    var distances = 0.0;
    for (var k = start + lane; k < end; k += LANES) {
        let n = k / p.plane;
        let at = c * p.plane + k % p.plane;
        let distance = x[p.x_first + n * p.x_stride + at] - center;
        let gradient = gy[p.gy_first + n * p.gy_stride + at];
        gradients += gradient;
        products += gradient * distance;
        distances += distance;
    }
    let all = vec4<f32>(
        sum_of_group(lane, gradients),
        sum_of_group(lane, products),
        sum_of_group(lane, distances),
        0.0,
    );
    if lane == 0u {
        strips[p.sums_first + i / p.channels * p.pitch + c] = all;
    }
}
