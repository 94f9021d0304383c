//! Colours, told apart by people who see few of them, too.

/// Red, green and blue.
pub(super) type Colour = [u8; 3];

pub(super) const PAPER: Colour = [255, 255, 255];
pub(super) const INK: Colour = [33, 37, 41];
pub(super) const MUTED: Colour = [108, 117, 125];
pub(super) const LINES: Colour = [226, 229, 233];

/// What was found, what was said to be there and is not, what was missed: bluish green, vermilion and blue of M. Okabe and
/// K. Ito, "Color Universal Design", 2008.
pub(super) const FOUND: Colour = [0, 158, 115];
pub(super) const FALSE: Colour = [213, 94, 0];
pub(super) const MISSED: Colour = [0, 114, 178];

/// One for each curve, in turn.
pub(super) const SERIES: [Colour; 6] =
    [[45, 108, 168], [213, 94, 0], [0, 158, 115], [138, 103, 162], [186, 126, 44], [94, 112, 130]];

/// The stops of [`heat`], at equal distances: black, violet, red, orange, pale yellow. Lightness only grows.
const HEAT: [[f32; 3]; 6] = [
    [0.0, 0.0, 4.0],
    [66.0, 10.0, 104.0],
    [147.0, 38.0, 103.0],
    [221.0, 81.0, 58.0],
    [252.0, 165.0, 10.0],
    [252.0, 255.0, 164.0],
];

/// 0 is black, 1 pale yellow; what lies outside has the colour of the nearer end, NaN that of 0.
pub(super) fn heat(value: f32) -> Colour {
    let at = unit(value) * (HEAT.len() - 1) as f32;
    let below = (at as usize).min(HEAT.len() - 2);
    let (low, high) = (HEAT[below], HEAT[below + 1]);
    // `as` saturates.
    [0, 1, 2].map(|c| (low[c] + (at - below as f32) * (high[c] - low[c])).round() as u8)
}

/// From white to a colour, 0 to 1.
pub(super) fn tint(colour: Colour, strength: f64) -> Colour {
    mix(PAPER, colour, strength as f32)
}

/// From one colour to another, 0 to 1.
pub(super) fn mix(from: Colour, to: Colour, t: f32) -> Colour {
    let t = unit(t);
    [0, 1, 2].map(|c| (f32::from(from[c]) + t * (f32::from(to[c]) - f32::from(from[c]))).round() as u8)
}

/// The nearest number within 0..=1; 0 for NaN.
fn unit(value: f32) -> f32 {
    if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heat_grows_lighter() {
        let lightness = |i: u8| {
            let [r, g, b] = heat(f32::from(i) / 255.0).map(f32::from);
            0.2126 * r + 0.7152 * g + 0.0722 * b
        };
        assert!((1..=255).all(|i| lightness(i) >= lightness(i - 1)));
        assert_eq!((heat(-1.0), heat(2.0), heat(f32::NAN)), ([0, 0, 4], [252, 255, 164], [0, 0, 4]));
        assert_eq!((tint(INK, 0.0), tint(INK, 1.0), tint(INK, f64::NAN)), (PAPER, INK, PAPER));
    }
}
