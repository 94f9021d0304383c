// What the cross-entropy and its gradient share: logits of a pixel, their largest, the sum of exponentials, and weights. Needs
// `p`, `x` and `class_weights` of the shader, order.wgsl and math.wgsl.

// The label of pixels that count nothing.
const IGNORED: u32 = 0xffffffffu;

fn place(pixel: u32, class_index: u32, stride: u32) -> u32 {
    return pixel / p.plane * stride + class_index * p.plane + pixel % p.plane;
}

fn logit(pixel: u32, class_index: u32) -> f32 {
    return x[p.x_first + place(pixel, class_index, p.x_stride)];
}

fn weight(class_index: u32) -> f32 {
    return class_weights[select(0u, class_index, p.weighted == 1u)];
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
