// The gradients to gamma and beta, and what makes that to x of gy and x: gx = factor * gy + slope * (x - mean) + offset. One
// channel a workgroup. The constant TRAIN says whether mean and variance are those of the batch, and so move with x.

struct Params {
    channels: u32,
    // Strips of a channel.
    strips: u32,
    // Elements of a channel.
    count: f32,
    eps: f32,
    gamma_first: u32,
    mean_first: u32,
    // The inverse deviation or, where the statistics are given, the variance.
    spread_first: u32,
    ggamma_first: u32,
    gbeta_first: u32,
    // Whether what is there is added to.
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
// As batch_norm_backward_sums.wgsl writes them, those of all channels side by side.
@group(0) @binding(1) var<storage, read> strips: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> gamma: array<f32>;
@group(0) @binding(3) var<storage, read> mean: array<f32>;
@group(0) @binding(4) var<storage, read> spread: array<f32>;
// Mean, factor, slope, offset.
@group(0) @binding(5) var<storage, read_write> scales: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> ggamma: array<f32>;
@group(0) @binding(7) var<storage, read_write> gbeta: array<f32>;

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
    var sums = vec3<f32>(0.0, 0.0, 0.0);
    for (var s = lane; s < p.strips; s += LANES) {
        sums += strips[s * p.channels + c].xyz;
    }
    let gradients = sum_of_group(lane, sums.x);
    let products = sum_of_group(lane, sums.y);
    let distances = sum_of_group(lane, sums.z);
    if lane == 0u {
        let center = mean[p.mean_first + c];
        var inverse = spread[p.spread_first + c];
        // How far the mean lies from the number that stands for it.
        var lacking = 0.0;
        if TRAIN == 1u {
            lacking = quotient(distances, p.count);
        } else {
            inverse = quotient(1.0, square_root(inverse + p.eps));
        }
        var to_gamma = (products - lacking * gradients) * inverse;
        let factor = gamma[p.gamma_first + c] * inverse;
        let slope = -factor * inverse * quotient(to_gamma, p.count);
        let offset = -factor * quotient(gradients, p.count) - slope * lacking;
        scales[c] = vec4<f32>(center, factor, slope, offset);
        var to_beta = gradients;
        if p.accumulate == 1u {
            to_gamma = ggamma[p.ggamma_first + c] + to_gamma;
            to_beta = gbeta[p.gbeta_first + c] + to_beta;
        }
        ggamma[p.ggamma_first + c] = to_gamma;
        gbeta[p.gbeta_first + c] = to_beta;
    }
}
