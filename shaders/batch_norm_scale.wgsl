// How a channel is normalised: y = (x - center) * factor + offset. Needs math.wgsl.

// The mean is `center + rest`.
fn scale_of(center: f32, rest: f32, variance: f32, gamma: f32, beta: f32, eps: f32) -> vec3<f32> {
    let factor = quotient(gamma, square_root(variance + eps));
    // Nothing times an infinite factor is nothing.
    let offset = select(beta, beta - rest * factor, rest != 0.0 && is_finite(rest));
    return vec3<f32>(center, factor, offset);
}
