// The maximum and the sum of exp(x - maximum) over some images, joined to those over the images before; one position of the
// image an invocation.

struct Params {
    // Elements of an image.
    image: u32,
    images: u32,
    // Whether there are images before.
    join: u32,
    x_first: u32,
    x_stride: u32,
    max_first: u32,
    sum_first: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> maxima: array<f32>;
@group(0) @binding(3) var<storage, read_write> totals: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let i = linear_index(id, workgroups);
    if i >= p.image {
        return;
    }
    let x_at = p.x_first + i;
    var key = 0u;
    if p.join == 1u {
        key = ordered(maxima[p.max_first + i]);
    }
    for (var n = 0u; n < p.images; n++) {
        key = max(key, ordered(x[x_at + n * p.x_stride]));
    }
    let largest = from_ordered(key);
    var sum = 0.0;
    // Of minus infinity alone there is no sum yet: later images may be larger.
    if bitcast<u32>(largest) != 0xff800000u {
        if p.join == 1u {
            let before = exponential_below(maxima[p.max_first + i], largest);
            sum += totals[p.sum_first + i] * before;
        }
        for (var block = 0u; block < p.images; block += BLOCK) {
            let end = min(block + BLOCK, p.images);
            var part = 0.0;
            for (var n = block; n < end; n++) {
                part += exponential_below(x[x_at + n * p.x_stride], largest);
            }
            sum += part;
        }
    }
    maxima[p.max_first + i] = largest;
    totals[p.sum_first + i] = sum;
}
