// The gradients to gamma and beta from the sums of the strips of their channel, and what that to the input is made of; one
// channel a workgroup. If the constant TRAIN is 1, the mean and the deviation are those of the batch, and move with it.

struct Params {
    channels: u32,
    // Strips of a channel.
    strips: u32,
    // Elements of a channel.
    count: f32,
    eps: f32,
    gamma_first: u32,
    mean_first: u32,
    spread_first: u32,
    gamma_gradient_first: u32,
    beta_gradient_first: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
// As batch_norm_backward_sums.wgsl writes them, those of all channels side by side.
@group(0) @binding(1) var<storage, read> strip_sums: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> gamma: array<f32>;
@group(0) @binding(3) var<storage, read> mean: array<f32>;
// One over the deviation or, if it is given, the variance.
@group(0) @binding(4) var<storage, read> spread: array<f32>;
// As batch_norm_backward.wgsl wants them.
@group(0) @binding(5) var<storage, read_write> terms: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> gamma_gradient: array<f32>;
@group(0) @binding(7) var<storage, read_write> beta_gradient: array<f32>;

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
    var of_lane = vec3<f32>(0.0);
    for (var s = lane; s < p.strips; s += LANES) {
        of_lane += strip_sums[s * p.channels + c].xyz;
    }
    let g = sum_of_group(lane, of_lane.x);
    let products = sum_of_group(lane, of_lane.y);
    let distances = sum_of_group(lane, of_lane.z);
    if lane == 0u {
        var inv_std = spread[p.spread_first + c];
        var offset = 0.0;
        var slope = 0.0;
        var of_gamma = 0.0;
        if TRAIN == 1u {
            // The rounded mean is not quite that of x: this far off, which moves both sums. (No distance from infinity is
            // one, and nothing times an infinite slope is nothing.)
            let off = select(0.0, quotient(distances, p.count), is_finite(g) && is_finite(distances));
            of_gamma = select(products, products - off * g, off != 0.0) * inv_std;
            slope = quotient(inv_std * of_gamma, p.count);
            let mean_gradient = quotient(g, p.count);
            offset = select(mean_gradient, mean_gradient - off * slope, off != 0.0);
        } else {
            inv_std = quotient(1.0, square_root(inv_std + p.eps));
            of_gamma = products * inv_std;
        }
        // Of an empty batch there are no moments, nor anything to multiply with them.
        of_gamma = select(of_gamma, 0.0, p.strips == 0u);
        terms[c] = vec4<f32>(mean[p.mean_first + c], gamma[p.gamma_first + c] * inv_std, offset, slope);
        let gamma_at = p.gamma_gradient_first + c;
        let beta_at = p.beta_gradient_first + c;
        gamma_gradient[gamma_at] = updated(gamma_gradient[gamma_at], of_gamma);
        beta_gradient[beta_at] = updated(beta_gradient[beta_at], g);
    }
}
