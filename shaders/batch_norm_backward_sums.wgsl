// The sums of gy, of gy * (x - mean) and of x - mean, over each strip of a channel; one strip a workgroup. A strip is a run
// of elements of one channel, counted through the planes of all images.

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
    // That of the first channel.
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
@group(0) @binding(4) var<storage, read_write> strip_sums: array<vec4<f32>>;

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
    var g_sum = 0.0;
    var products = 0.0;
    var distances = 0.0;
    for (var k = start + lane; k < end; k += LANES) {
        let n = k / p.plane;
        let at = c * p.plane + k % p.plane;
        let g = gy[p.gy_first + n * p.gy_stride + at];
        let distance = x[p.x_first + n * p.x_stride + at] - center;
        g_sum += g;
        products += g * distance;
        distances += distance;
    }
    g_sum = sum_of_group(lane, g_sum);
    products = sum_of_group(lane, products);
    distances = sum_of_group(lane, distances);
    if lane == 0u {
        strip_sums[p.sums_first + i / p.channels * p.pitch + c] = vec4<f32>(g_sum, products, distances, 0.0);
    }
}
