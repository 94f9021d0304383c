// What pool.wgsl and pool_argmax.wgsl are given.

struct Params {
    // Windows, and those of an image, a plane and a row.
    count: u32,
    image: u32,
    plane: u32,
    row: u32,
    height: u32,
    width: u32,
    kernel_height: u32,
    kernel_width: u32,
    stride_height: u32,
    stride_width: u32,
    padding_height: u32,
    padding_width: u32,
    // Whether the padding counts in the divisor.
    padding_counts: u32,
    x_first: u32,
    x_stride: u32,
    y_first: u32,
    y_stride: u32,
    // Of an argmax.
    positions_first: u32,
    positions_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
