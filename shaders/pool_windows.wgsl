// What a window covers.

// The rows or columns of the input from .x to .y that a window covers, which begins at `begin` of the padded input.
fn covered(begin: u32, kernel: u32, padding: u32, input: u32) -> vec2<u32> {
    return vec2<u32>(max(begin, padding) - padding, min(max(begin + kernel, padding) - padding, input));
}

// How many of them count in the divisor.
fn counted(begin: u32, kernel: u32, padding: u32, input: u32) -> f32 {
    let within = covered(begin, kernel, padding, input);
    let padded = min(kernel, input + 2u * padding - begin);
    return f32(select(within.y - within.x, padded, p.padding_counts == 1u));
}
