// Convolution + bias + ReLU as one would write it first: one output an invocation, nothing shared.

struct Params {
    c: u32,
    h: u32,
    w: u32,
    k: u32,
    r: u32,
    s: u32,
    out_h: u32,
    out_w: u32,
    stride: u32,
    pad_top: u32,
    pad_left: u32,
    count: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let at = id.y * groups.x * 64u + id.x;
    if at >= p.count {
        return;
    }
    let j = at % p.out_w;
    let i = at / p.out_w % p.out_h;
    let o = at / (p.out_w * p.out_h) % p.k;
    let n = at / (p.out_w * p.out_h * p.k);
    var sum = bias[o];
    for (var c = 0u; c < p.c; c++) {
        for (var dr = 0u; dr < p.r; dr++) {
            for (var ds = 0u; ds < p.s; ds++) {
                let row = i32(i * p.stride + dr) - i32(p.pad_top);
                let column = i32(j * p.stride + ds) - i32(p.pad_left);
                if row >= 0 && row < i32(p.h) && column >= 0 && column < i32(p.w) {
                    let value = x[((n * p.c + c) * p.h + u32(row)) * p.w + u32(column)];
                    sum = fma(value, weights[((o * p.c + c) * p.r + dr) * p.s + ds], sum);
                }
            }
        }
    }
    y[at] = max(sum, 0.0);
}
