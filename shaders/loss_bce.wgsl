// Sums, over strips of elements, of the binary cross-entropy between t and the sigmoid of x; one strip a workgroup.

struct Params {
    strips: u32,
    // Elements of an image, of all, and of a strip.
    image: u32,
    count: u32,
    strip: u32,
    // Sums in front of the first.
    sums_first: u32,
    x_first: u32,
    x_stride: u32,
    t_first: u32,
    t_stride: u32,
    // Weights of positive targets, elements that share one, and elements of an image in front of the first.
    channels: u32,
    plane: u32,
    start: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> t: array<f32>;
@group(0) @binding(3) var<storage, read> pos_weight: array<f32>;
@group(0) @binding(4) var<storage, read_write> strip_sums: array<f32>;

// (1 - t) x + (1 + (w - 1) t) (max(-x, 0) + ln(1 + exp(-|x|)))
fn cross_entropy(x: f32, t: f32, w: f32) -> f32 {
    let of_log = fma(w - 1.0, t, 1.0);
    // For negative x the linear terms are -w t x: as a difference they would cancel. Infinities want it in full.
    let full = (1.0 - t) * x + of_log * select(0.0, -x, x < 0.0);
    let linear = select(full, -(w * t) * x, x < 0.0 && is_finite(x));
    return linear + of_log * logarithm_1_plus(exponential(-abs(x)));
}

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
        let n = i / p.image;
        let at = i % p.image;
        let w = pos_weight[(p.start + at) / p.plane % p.channels];
        sum += cross_entropy(x[p.x_first + n * p.x_stride + at], t[p.t_first + n * p.t_stride + at], w);
    }
    sum = sum_of_group(lane, sum);
    if lane == 0u {
        strip_sums[p.sums_first + strip] = sum;
    }
}
