// Which inputs a window covers.

// The rows or columns of the input from .x to .y that a window covers, which begins at `begin` of the padded input.
fn covered(begin: u32, kernel: u32, padding: u32, input: u32) -> vec2<u32> {
    return vec2<u32>(max(begin, padding) - padding, min(max(begin + kernel, padding) - padding, input));
}

// How many of them count in the divisor of a mean: with the padding, or without.
fn counted(covered: vec2<u32>, begin: u32, kernel: u32, padding: u32, input: u32, padding_counts: u32) -> f32 {
    let padded = min(kernel, input + 2u * padding - begin);
    return f32(select(covered.y - covered.x, padded, padding_counts == 1u));
}

// The windows from .x to .y, of `windows`, that cover a row or column of the input.
fn covering(at: u32, kernel: u32, stride: u32, padding: u32, windows: u32) -> vec2<u32> {
    // Window o begins at o * stride of the padded input, where the row or column is at + padding.
    let last = (at + padding) / stride;
    let before = max(at + padding + 1u, kernel) - kernel;
    return vec2<u32>((before + stride - 1u) / stride, min(last + 1u, windows));
}
