// The gradient of the cross-entropy: of each class p * (factor of the label + that of all classes), less the factor of the class
// and, of the label's own class, that of the label. One pixel an invocation or, if the constant SHARED is 1, a workgroup.

struct Params {
    // Workgroups, pixels, and pixels of an image.
    groups: u32,
    count: u32,
    plane: u32,
    classes: u32,
    labels_first: u32,
    x_first: u32,
    x_stride: u32,
    gx_first: u32,
    gx_stride: u32,
    // Whether there is a weight for each class, or one for all.
    weighted: u32,
    // Whether something is spread over all classes.
    smooths: u32,
    // The factors of the label and of a class, before their weights, and that of all classes together.
    of_label: f32,
    of_class: f32,
    of_classes: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> labels: array<u32>;
@group(0) @binding(3) var<storage, read> class_weights: array<f32>;
@group(0) @binding(4) var<storage, read_write> gx: array<f32>;

// Writes or adds the gradients to the classes of a pixel from `first` on, every `step`.
fn put(pixel: u32, first: u32, step: u32, largest: f32, sum: f32) {
    let label = labels[p.labels_first + pixel];
    let counts = label != IGNORED;
    var of_label = 0.0;
    var total = 0.0;
    if counts {
        of_label = p.of_label * weight(label);
        total = of_label + p.of_classes;
    }
    let scale = select(quotient(total, sum), sum, is_nan(sum));
    for (var c = first; c < p.classes; c += step) {
        var less = 0.0;
        if counts && p.smooths == 1u {
            less = p.of_class * weight(c);
        }
        if c == label {
            less += of_label;
        }
        let value = fma(exponential_below(logit(pixel, c), largest), scale, -less);
        let to = p.gx_first + place(pixel, c, p.gx_stride);
        if ACCUMULATE == 1u {
            gx[to] += value;
        } else {
            gx[to] = value;
        }
    }
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
    if SHARED == 1u {
        let largest = from_ordered(largest_of_group(lane, largest_key(i, lane, LANES)));
        put(i, lane, LANES, largest, sum_of_group(lane, sum_below(i, lane, LANES, largest)));
    } else {
        let pixel = i * LANES + lane;
        if pixel < p.count {
            let largest = from_ordered(largest_key(pixel, 0u, 1u));
            put(pixel, 0u, 1u, largest, sum_below(pixel, 0u, 1u, largest));
        }
    }
}
