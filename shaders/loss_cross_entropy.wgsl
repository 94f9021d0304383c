// Sums of ln(sum over classes of exp(x)) - x[label] over the pixels of a workgroup: one pixel an invocation or, if the
// constant SHARED is 1, one pixel alone, whose classes the lanes share.

struct Params {
    // Workgroups, pixels, and pixels of an image.
    groups: u32,
    count: u32,
    plane: u32,
    classes: u32,
    // Sums in front of the first.
    sums_first: u32,
    labels_first: u32,
    x_first: u32,
    x_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> labels: array<u32>;
@group(0) @binding(3) var<storage, read_write> group_sums: array<f32>;

fn logit(pixel: u32, class_index: u32) -> f32 {
    return x[p.x_first + pixel / p.plane * p.x_stride + class_index * p.plane + pixel % p.plane];
}

// The largest logit of the classes from `first` on, every `step`.
fn largest_key(pixel: u32, first: u32, step: u32) -> u32 {
    var key = 0u;
    for (var c = first; c < p.classes; c += step) {
        key = max(key, ordered(logit(pixel, c)));
    }
    return key;
}

fn sum_below(pixel: u32, first: u32, step: u32, largest: f32) -> f32 {
    var sum = 0.0;
    for (var block = first; block < p.classes; block += BLOCK * step) {
        let end = min(block + BLOCK * step, p.classes);
        var part = 0.0;
        for (var c = block; c < end; c += step) {
            part += exponential_below(logit(pixel, c), largest);
        }
        sum += part;
    }
    return sum;
}

fn loss(pixel: u32, largest: f32, sum: f32) -> f32 {
    return (largest - logit(pixel, labels[p.labels_first + pixel])) + select(logarithm(sum), sum, is_nan(sum));
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(local_invocation_index) lane: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
) {
    let i = group_index(group, workgroups);
    if i >= p.groups {
        return;
    }
    var sum = 0.0;
    if SHARED == 1u {
        let largest = from_ordered(largest_of_group(lane, largest_key(i, lane, LANES)));
        let below = sum_of_group(lane, sum_below(i, lane, LANES, largest));
        sum = loss(i, largest, below);
    } else {
        let pixel = i * LANES + lane;
        if pixel < p.count {
            let largest = from_ordered(largest_key(pixel, 0u, 1u));
            sum = loss(pixel, largest, sum_below(pixel, 0u, 1u, largest));
        }
        sum = sum_of_group(lane, sum);
    }
    if lane == 0u {
        group_sums[p.sums_first + i] = sum;
    }
}
