// Sums, over strips of elements, of (x - t)^2 or, if the constant ABSOLUTE is 1, of |x - t|; one strip a workgroup.

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
    let start = strip * p.strip;
    let end = min(start + p.strip, p.count);
    var sum = 0.0;
    for (var i = start + lane; i < end; i += LANES) {
        let n = i / p.image;
        let at = i % p.image;
        let d = x[p.x_first + n * p.x_stride + at] - t[p.t_first + n * p.t_stride + at];
        if ABSOLUTE == 1u {
            sum += abs(d);
        } else {
            sum += d * d;
        }
    }
    sum = sum_of_group(lane, sum);
    if lane == 0u {
        strip_sums[p.sums_first + strip] = sum;
    }
}
