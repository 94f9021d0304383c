// Sums of squares over strips of a gradient, one strip a workgroup.

struct Params {
    strips: u32,
    // Elements of an image, of all, and of a strip.
    image: u32,
    count: u32,
    strip: u32,
    // Sums in front of the first.
    sums_first: u32,
    g_first: u32,
    g_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> gradients: array<f32>;
@group(0) @binding(2) var<storage, read_write> strip_sums: array<f32>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(local_invocation_index) lane: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
) {
    let strip = group_index(group, workgroups);
    if strip >= p.strips {
        return;
    }
    let start = strip * p.strip;
    let end = min(start + p.strip, p.count);
    var sum = 0.0;
    for (var i = start + lane; i < end; i += LANES) {
        let g = gradients[p.g_first + i / p.image * p.g_stride + i % p.image];
        sum += g * g;
    }
    sum = sum_of_group(lane, sum);
    if lane == 0u {
        strip_sums[p.sums_first + strip] = sum;
    }
}
