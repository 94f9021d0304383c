// The sum of the dots of all lines, for each of them in place of its own; one workgroup.

struct Params {
    lines: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
// As softmax_backward_dots.wgsl writes them.
@group(0) @binding(1) var<storage, read_write> dots: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(local_invocation_index) lane: u32) {
    var part = 0.0;
    for (var i = lane; i < p.lines; i += LANES) {
        part += dots[i];
    }
    let sum = sum_of_group(lane, part);
    for (var i = lane; i < p.lines; i += LANES) {
        dots[i] = sum;
    }
}
