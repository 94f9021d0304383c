// Sums of cross-entropies over the pixels of a workgroup: one pixel an invocation or, if the constant SHARED is 1, one pixel
// alone, whose classes the lanes share.

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
    // Whether there is a weight for each class, or one for all.
    weighted: u32,
    // Whether something is spread over all classes.
    smooths: u32,
    // The factors of -ln p: of the label and of a class, before their weights, and that of all classes together.
    of_label: f32,
    of_class: f32,
    of_classes: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> labels: array<u32>;
@group(0) @binding(3) var<storage, read> class_weights: array<f32>;
@group(0) @binding(4) var<storage, read_write> group_sums: array<f32>;

// The sum over classes of their factors times the distance to the largest logit.
fn spread(pixel: u32, first: u32, step: u32, largest: f32) -> f32 {
    var sum = 0.0;
    if p.smooths == 1u {
        for (var c = first; c < p.classes; c += step) {
            sum += p.of_class * weight(c) * (largest - logit(pixel, c));
        }
    }
    return sum;
}

fn loss(pixel: u32, largest: f32, sum: f32, spread: f32) -> f32 {
    let label = labels[p.labels_first + pixel];
    if label == IGNORED {
        return 0.0;
    }
    let log = select(logarithm(sum), sum, is_nan(sum));
    let of_label = p.of_label * weight(label) * ((largest - logit(pixel, label)) + log);
    if p.smooths == 1u {
        return of_label + (p.of_classes * log + spread);
    }
    return of_label;
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
        sum = loss(i, largest, below, sum_of_group(lane, spread(i, lane, LANES, largest)));
    } else {
        let pixel = i * LANES + lane;
        if pixel < p.count {
            let largest = from_ordered(largest_key(pixel, 0u, 1u));
            sum = loss(pixel, largest, sum_below(pixel, 0u, 1u, largest), spread(pixel, 0u, 1u, largest));
        }
        sum = sum_of_group(lane, sum);
    }
    if lane == 0u {
        group_sums[p.sums_first + i] = sum;
    }
}
