// From the sums of its strips the loss of a plane, 1 - both / either, and what its gradient needs; one plane a workgroup.

struct Params {
    planes: u32,
    // Strips of a plane.
    per_plane: u32,
    smooth_value: f32,
    // The gradient to the loss of a plane.
    share: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> strip_sums: array<f32>;
@group(0) @binding(2) var<storage, read_write> losses: array<f32>;
// a and b for each plane: the gradient to a probability is b - a t.
@group(0) @binding(3) var<storage, read_write> slopes: array<f32>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(local_invocation_index) lane: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
) {
    let plane = group_index(group, workgroups);
    if plane >= p.planes {
        return;
    }
    var products = 0.0;
    var ours = 0.0;
    var theirs = 0.0;
    for (var i = lane; i < p.per_plane; i += LANES) {
        let strip = 3u * (plane * p.per_plane + i);
        products += strip_sums[strip];
        ours += strip_sums[strip + 1u];
        theirs += strip_sums[strip + 2u];
    }
    products = sum_of_group(lane, products);
    ours = sum_of_group(lane, ours);
    theirs = sum_of_group(lane, theirs);
    if lane == 0u {
        let both = 2.0 * products + p.smooth_value;
        let either = ours + theirs + p.smooth_value;
        let ratio = quotient(both, either);
        losses[plane] = 1.0 - ratio;
        slopes[2u * plane] = quotient(2.0 * p.share, either);
        slopes[2u * plane + 1u] = quotient(p.share * ratio, either);
    }
}
