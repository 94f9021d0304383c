// The mean of each strip of a channel, and the sum of the squares around it; one strip a workgroup. A strip is a run of
// elements of one channel, counted through the planes of all images.

struct Params {
    // Strips of all channels together.
    count: u32,
    channels: u32,
    // Moments between those of two strips of one channel.
    pitch: u32,
    plane: u32,
    // Elements of a channel, and of a strip.
    elements: u32,
    strip: u32,
    // Moments in front of the first.
    moments_first: u32,
    x_first: u32,
    x_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
// The mean in two parts, the sum of the squares, the number of elements.
@group(0) @binding(2) var<storage, read_write> moments: array<vec4<f32>>;

// Element k of channel c.
fn element(c: u32, k: u32) -> f32 {
    return x[p.x_first + k / p.plane * p.x_stride + c * p.plane + k % p.plane];
}

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
    let count = f32(end - start);
    var sum = 0.0;
    for (var k = start + lane; k < end; k += LANES) {
        sum += element(c, k);
    }
    let center = quotient(sum_of_group(lane, sum), count);
    var distances = 0.0;
    var squares = 0.0;
    for (var k = start + lane; k < end; k += LANES) {
        let distance = element(c, k) - center;
        distances += distance;
        squares += distance * distance;
    }
    // What the rounding of the mean has lost; that much less are the squares around the mean itself.
    let lacking = sum_of_group(lane, distances);
    let around = sum_of_group(lane, squares) - lacking * lacking / count;
    if lane == 0u {
        moments[p.moments_first + i / p.channels * p.pitch + c] =
            vec4<f32>(center, lacking / count, select(around, 0.0, around < 0.0), count);
    }
}
