// The mean from the sums of parts; one workgroup.

struct Params {
    // Parts, and what their sum is divided by: NaN for nothing.
    parts: u32,
    divisor: f32,
    y_first: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> parts: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(local_invocation_index) lane: u32) {
    var sum = 0.0;
    for (var i = lane; i < p.parts; i += LANES) {
        sum += parts[i];
    }
    sum = sum_of_group(lane, sum);
    if lane == 0u {
        y[p.y_first] = quotient(sum, p.divisor);
    }
}
