// The norm of a gradient from the sums of squares of its strips, and the factor that clips it; one workgroup.

struct Params {
    strips: u32,
    norm_first: u32,
    max_norm: f32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> strip_sums: array<f32>;
@group(0) @binding(2) var<storage, read_write> norm_out: array<f32>;
@group(0) @binding(3) var<storage, read_write> factor_out: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(local_invocation_index) lane: u32) {
    var sum = 0.0;
    for (var i = lane; i < p.strips; i += LANES) {
        sum += strip_sums[i];
    }
    sum = sum_of_group(lane, sum);
    if lane == 0u {
        let norm = square_root(sum);
        norm_out[p.norm_first] = norm;
        // NaN stays.
        let factor = quotient(p.max_norm, norm + p.eps);
        factor_out[0] = select(factor, 1.0, factor > 1.0 && !is_nan(factor));
    }
}
