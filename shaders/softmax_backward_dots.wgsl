// The sum of y * gy over some images, joined to that over the images before; one position of the image an invocation.

struct Params {
    // Elements of an image.
    image: u32,
    images: u32,
    // Whether there are images before.
    join: u32,
    y_first: u32,
    y_stride: u32,
    gy_first: u32,
    gy_stride: u32,
    dots_first: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read> gy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dots: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let i = linear_index(id, workgroups);
    if i >= p.image {
        return;
    }
    var dot = 0.0;
    for (var block = 0u; block < p.images; block += BLOCK) {
        let end = min(block + BLOCK, p.images);
        var part = 0.0;
        for (var n = block; n < end; n++) {
            part += y[p.y_first + n * p.y_stride + i] * gy[p.gy_first + n * p.gy_stride + i];
        }
        dot += part;
    }
    if p.join == 1u {
        dot += dots[p.dots_first + i];
    }
    dots[p.dots_first + i] = dot;
}
