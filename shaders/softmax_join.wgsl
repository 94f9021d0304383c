// The maximum and the sum of exp(x - maximum) of all lines, for each of them in place of its own; one workgroup.

struct Params {
    lines: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
// As softmax_peaks.wgsl writes them.
@group(0) @binding(1) var<storage, read_write> maxima: array<f32>;
@group(0) @binding(2) var<storage, read_write> totals: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(local_invocation_index) lane: u32) {
    var key = 0u;
    for (var i = lane; i < p.lines; i += LANES) {
        key = max(key, ordered(maxima[i]));
    }
    let largest = from_ordered(largest_of_group(lane, key));
    var part = 0.0;
    for (var i = lane; i < p.lines; i += LANES) {
        part += totals[i] * exponential_below(maxima[i], largest);
    }
    let sum = sum_of_group(lane, part);
    for (var i = lane; i < p.lines; i += LANES) {
        maxima[i] = largest;
        totals[i] = sum;
    }
}
