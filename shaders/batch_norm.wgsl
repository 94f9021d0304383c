// y = f((x - center) * factor + offset), each channel with its own; one element an invocation. (Not x * factor + offset',
// which cancels where the mean is large.)

struct Params {
    // Elements, and those of an image and a plane.
    count: u32,
    image: u32,
    plane: u32,
    // Channels in front of the first.
    channel: u32,
    x_first: u32,
    x_stride: u32,
    y_first: u32,
    y_stride: u32,
    // Of the activation.
    parameter: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
// Center, factor and offset.
@group(0) @binding(2) var<storage, read> scales: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let i = linear_index(id, workgroups);
    if i >= p.count {
        return;
    }
    let n = i / p.image;
    let at = i % p.image;
    let scale = scales[p.channel + at / p.plane];
    let normal = (x[p.x_first + n * p.x_stride + at] - scale.x) * scale.y + scale.z;
    y[p.y_first + n * p.y_stride + at] = activate(normal, p.parameter);
}
