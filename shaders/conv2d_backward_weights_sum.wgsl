// Adds up the sums of all parts of the pixels, in their order.

struct Params {
    count: u32,
    row: u32,
    parts: u32,
    from_first: u32,
    from_stride: u32,
    from_part: u32,
    to_first: u32,
    to_stride: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> sums: array<f32>;
@group(0) @binding(2) var<storage, read_write> gradient: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let i = linear_index(id, workgroups);
    if i >= p.count {
        return;
    }
    var at = p.from_first + i / p.row * p.from_stride + i % p.row;
    var sum = 0.0;
    for (var part = 0u; part < p.parts; part++) {
        sum += sums[at];
        at += p.from_part;
    }
    let to = p.to_first + i / p.row * p.to_stride + i % p.row;
    if p.accumulate != 0u {
        sum += gradient[to];
    }
    gradient[to] = sum;
}
