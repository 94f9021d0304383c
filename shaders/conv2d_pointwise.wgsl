// Pixels of conv2d_gemm.wgsl for 1x1 convolutions with stride 1, where rows of four are aligned: one load brings all four.

@group(0) @binding(4) var<storage, read> x: array<vec4<f32>>;

fn load_x(k: u32, origin: vec4<u32>, in_row: vec4<i32>, in_column: vec4<i32>) -> vec4<f32> {
    return x[(origin.x + u32(taps[k].x)) / 4u];
}
