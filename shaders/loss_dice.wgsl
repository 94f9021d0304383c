// sum(s t), sum s and sum t with s = sigmoid(x), over strips of planes; one strip a workgroup.

struct Params {
    strips: u32,
    // Strips whose sums are in front of the first.
    first: u32,
    // Strips of a plane, planes of an image, elements of a plane and of a strip.
    per_plane: u32,
    channels: u32,
    plane: u32,
    strip: u32,
    x_first: u32,
    x_stride: u32,
    t_first: u32,
    t_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> t: array<f32>;
@group(0) @binding(3) var<storage, read_write> strip_sums: array<f32>;

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
    let plane = strip / p.per_plane;
    let start = strip % p.per_plane * p.strip;
    let end = min(start + p.strip, p.plane);
    let n = plane / p.channels;
    let first = plane % p.channels * p.plane;
    let x_first = p.x_first + n * p.x_stride + first;
    let t_first = p.t_first + n * p.t_stride + first;
    var both = 0.0;
    var ours = 0.0;
    var theirs = 0.0;
    for (var i = start + lane; i < end; i += LANES) {
        let logit = x[x_first + i];
        let s = select(logistic(logit), logit, is_nan(logit));
        let target_value = t[t_first + i];
        both += s * target_value;
        ours += s;
        theirs += target_value;
    }
    both = sum_of_group(lane, both);
    ours = sum_of_group(lane, ours);
    theirs = sum_of_group(lane, theirs);
    if lane == 0u {
        let to = 3u * (p.first + strip);
        strip_sums[to] = both;
        strip_sums[to + 1u] = ours;
        strip_sums[to + 2u] = theirs;
    }
}
