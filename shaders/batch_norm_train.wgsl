// The scales of channels by their own mean and variance, from the moments of their strips; one channel a workgroup.

struct Params {
    channels: u32,
    // Strips of a channel.
    strips: u32,
    // Elements of a channel, and one less.
    count: f32,
    one_less: f32,
    eps: f32,
    gamma_first: u32,
    beta_first: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
// As batch_norm_moments.wgsl writes them, those of all channels side by side.
@group(0) @binding(1) var<storage, read> moments: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> gamma: array<f32>;
@group(0) @binding(3) var<storage, read> beta: array<f32>;
// Center, factor and offset.
@group(0) @binding(4) var<storage, read_write> scales: array<vec4<f32>>;
// The mean, the unbiased variance, and one over the deviation with which x is normalised.
@group(0) @binding(5) var<storage, read_write> statistics: array<vec4<f32>>;

// How far the mean of a strip lies from `origin`.
fn distance_of(moment: vec4<f32>, origin: f32) -> f32 {
    return (moment.x - origin) + moment.y;
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(local_invocation_index) lane: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
) {
    let c = group_index(group, workgroups);
    if c >= p.channels {
        return;
    }
    // All means are taken from that of the first strip, and so is the scale: if it lies far from the mean of all, the variance
    // is accordingly large.
    let origin = moments[c].x;
    var distances = 0.0;
    var means = 0.0;
    for (var s = lane; s < p.strips; s += LANES) {
        let moment = moments[s * p.channels + c];
        distances += distance_of(moment, origin) * moment.w;
        means += moment.x * (moment.w / p.count);
    }
    let distance = quotient(sum_of_group(lane, distances), p.count);
    let plain = sum_of_group(lane, means);
    // The squares around the means of the strips, and those of the means around the mean of all.
    var squares = 0.0;
    for (var s = lane; s < p.strips; s += LANES) {
        let moment = moments[s * p.channels + c];
        let apart = distance_of(moment, origin) - distance;
        squares += moment.z + apart * apart * moment.w;
    }
    let around = sum_of_group(lane, squares);
    if lane == 0u {
        let variance = quotient(around, p.count);
        let scale = scale_of(origin, distance, variance, gamma[p.gamma_first + c], beta[p.beta_first + c], p.eps);
        scales[c] = vec4<f32>(scale, 0.0);
        // Nothing is at a distance from infinity that a number could say.
        let mean = select(plain, origin + distance, is_finite(plain));
        let inv_std = quotient(1.0, square_root(variance + p.eps));
        statistics[c] = vec4<f32>(mean, quotient(around, p.one_less), inv_std, 0.0);
    }
}
