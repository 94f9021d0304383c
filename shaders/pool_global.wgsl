// The mean of each plane, one plane a workgroup.

struct Params {
    planes: u32,
    channels: u32,
    // Elements of a plane; the same as a divisor, which is NaN for none.
    plane: u32,
    divisor: f32,
    x_first: u32,
    x_stride: u32,
    y_first: u32,
    y_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(local_invocation_index) lane: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
) {
    let i = group_index(group, workgroups);
    if i >= p.planes {
        return;
    }
    let n = i / p.channels;
    let c = i % p.channels;
    let start = p.x_first + n * p.x_stride + c * p.plane;
    var sum = 0.0;
    for (var block = lane; block < p.plane; block += BLOCK * LANES) {
        let end = min(block + BLOCK * LANES, p.plane);
        var part = 0.0;
        for (var k = block; k < end; k += LANES) {
            part += x[start + k];
        }
        sum += part;
    }
    sum = sum_of_group(lane, sum);
    if lane == 0u {
        y[p.y_first + n * p.y_stride + c] = quotient(sum, p.divisor);
    }
}
