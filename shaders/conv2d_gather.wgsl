// Pixels of conv2d_gemm.wgsl for any convolution: each of the four is looked up, if it is inside the input.

@group(0) @binding(4) var<storage, read> x: array<f32>;

fn load_x(k: u32, origin: vec4<u32>, in_row: vec4<i32>, in_column: vec4<i32>) -> vec4<f32> {
    let tap = taps[k];
    let inside = (vec4<u32>(in_row + tap.y) < vec4<u32>(p.in_h)) & (vec4<u32>(in_column + tap.z) < vec4<u32>(p.in_w));
    let at = select(vec4<u32>(0u), vec4<u32>(vec4<i32>(origin) + tap.x), inside);
    return select(vec4<f32>(0.0), vec4<f32>(x[at.x], x[at.y], x[at.z], x[at.w]), inside);
}
