// A gradient that is written or, if the constant ACCUMULATE is 1, added to what is there: rounded, then added once, so that
// accumulating gives the bits of writing and adding. Needs index.wgsl.

fn updated(old: f32, gradient: f32) -> f32 {
    // A driver that sees a product may add to it before it is rounded. It does not see through the integer, in which a NaN
    // is quiet already.
    let bits = bitcast<u32>(gradient);
    let rounded = bitcast<f32>(select(bits, bits | 0x400000u, is_nan(gradient)));
    return select(gradient, old + rounded, ACCUMULATE == 1u);
}
