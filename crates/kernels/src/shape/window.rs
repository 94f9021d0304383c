//! The sizes of feature maps: one formula per kind of window, per dimension, in checked arithmetic.
//!
//! Each returns `None` where the window does not fit (the map would be empty) or a size overflows: no extent, padding
//! included, may exceed [`MAX_EXTENT`].
//! They are tested by counting the positions of the window one by one.

/// The largest extent of a padded plane: positions and their differences fit an `isize` with room to spare.
pub const MAX_EXTENT: usize = isize::MAX as usize / 4;

fn bounded(extent: usize) -> Option<usize> {
    (extent <= MAX_EXTENT).then_some(extent)
}

/// The extent of a dilated kernel: `dilation * (kernel - 1) + 1`. `None` for a kernel of 0 taps.
pub fn dilated(kernel: usize, dilation: usize) -> Option<usize> {
    kernel.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)
}

/// The extent with its padding: `input + before + after`.
pub fn padded(input: usize, before: usize, after: usize) -> Option<usize> {
    bounded(input.checked_add(before)?.checked_add(after)?)
}

/// Convolution: `floor((input + before + after - dilated(kernel)) / stride) + 1`.
///
/// (Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016, relationship 6, with dilation.)
pub fn conv(
    input: usize,
    kernel: usize,
    stride: usize,
    before: usize,
    after: usize,
    dilation: usize,
) -> Option<usize> {
    let padded = padded(input, before, after)?;
    let room = padded.checked_sub(dilated(kernel, dilation)?)?;
    room.checked_div(stride)?.checked_add(1)
}

/// Transposed convolution: `(input - 1) * stride - before - after + dilated(kernel) + output_padding`.
///
/// `output_padding` chooses among the inputs sizes of the convolution that this one transposes: it adds to the
/// bottom and the right only.
pub fn conv_transpose(
    input: usize,
    kernel: usize,
    stride: usize,
    before: usize,
    after: usize,
    dilation: usize,
    output_padding: usize,
) -> Option<usize> {
    let full = input.checked_sub(1)?.checked_mul(stride)?.checked_add(dilated(kernel, dilation)?)?;
    let full = bounded(full.checked_add(output_padding)?)?;
    let out = full.checked_sub(before)?.checked_sub(after)?;
    (out > 0).then_some(out)
}

/// Pooling: as [`conv`] without dilation; with `ceil_mode` the division rounds up, and a last window that would
/// start beyond the input and its leading padding is dropped (PyTorch's rule).
pub fn pool(input: usize, kernel: usize, stride: usize, padding: usize, ceil_mode: bool) -> Option<usize> {
    if kernel == 0 || stride == 0 {
        return None;
    }
    let round_up = if ceil_mode { bounded(stride)? - 1 } else { 0 };
    let padded = bounded(padding.checked_mul(2)?.checked_add(input)?.checked_add(round_up)?)?;
    let windows = padded.checked_sub(kernel)? / stride + 1;
    let starts_outside = ceil_mode && (windows - 1).checked_mul(stride)? >= input + padding;
    let windows = if starts_outside { windows - 1 } else { windows };
    (windows > 0).then_some(windows)
}

/// "Same" padding, `(before, after)`, for an output of `ceil(input / stride)`: the odd one goes after
/// (TensorFlow's rule; at stride 1 it is PyTorch's `padding="same"`).
pub fn same_padding(input: usize, kernel: usize, stride: usize, dilation: usize) -> Option<(usize, usize)> {
    let out = if stride == 0 { return None } else { input.div_ceil(stride) };
    let covered = out.checked_sub(1)?.checked_mul(stride)?.checked_add(dilated(kernel, dilation)?)?;
    let total = covered.saturating_sub(input);
    Some((total / 2, total - total / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slides a window over positions `0..len` and counts where it fits.
    fn count(len: usize, window: usize, stride: usize) -> usize {
        (0..len).step_by(stride).filter(|start| start + window <= len).count()
    }

    #[test]
    fn conv_equals_counting() {
        for input in 0..12 {
            for kernel in 1..6 {
                for stride in 1..5 {
                    for before in 0..4 {
                        for after in 0..4 {
                            for dilation in 1..4 {
                                // The taps of a kernel, listed; its extent is the distance of the outer two.
                                let last_tap = (0..kernel).map(|k| k * dilation).max().unwrap();
                                let n = count(before + input + after, last_tap + 1, stride);
                                let got = conv(input, kernel, stride, before, after, dilation);
                                assert_eq!(
                                    got,
                                    (n > 0).then_some(n),
                                    "{input} {kernel} {stride} {before} {after} {dilation}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn conv_transpose_equals_marking() {
        for input in 1..9 {
            for kernel in 1..5 {
                for stride in 1..4 {
                    for before in 0..4 {
                        for after in 0..4 {
                            for dilation in 1..4 {
                                for extra in 0..3 {
                                    // Every position that some (input, tap) pair reaches, before the crop.
                                    let last = (0..input)
                                        .flat_map(|i| (0..kernel).map(move |k| i * stride + k * dilation))
                                        .max()
                                        .unwrap();
                                    let kept = (0..=last + extra)
                                        .filter(|&o| o >= before && o + after <= last + extra)
                                        .count();
                                    let got =
                                        conv_transpose(input, kernel, stride, before, after, dilation, extra);
                                    assert_eq!(got, (kept > 0).then_some(kept));
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn pool_equals_counting() {
        for input in 1..14 {
            for kernel in 1..6 {
                for stride in 1..6 {
                    for padding in 0..=kernel / 2 {
                        let fits = count(input + 2 * padding, kernel, stride);
                        assert_eq!(pool(input, kernel, stride, padding, false), (fits > 0).then_some(fits));
                        // Rounded up: one more window where the last one leaves elements uncovered by its end,
                        // reaching at most stride - 1 past the padding, and starting inside the input.
                        let len = input + 2 * padding + stride - 1;
                        let starts = (0..len)
                            .step_by(stride)
                            .filter(|s| s + kernel <= len && *s < input + padding)
                            .count();
                        assert_eq!(
                            pool(input, kernel, stride, padding, true),
                            (starts > 0).then_some(starts)
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn same_padding_keeps_the_size_at_stride_1() {
        for input in 1..20 {
            for kernel in 1..8 {
                for stride in 1..4 {
                    for dilation in 1..4 {
                        let (before, after) = same_padding(input, kernel, stride, dilation).unwrap();
                        let out = conv(input, kernel, stride, before, after, dilation).unwrap();
                        assert_eq!(out, input.div_ceil(stride), "{input} {kernel} {stride} {dilation}");
                        assert!(after == before || after == before + 1);
                    }
                }
            }
        }
    }

    #[test]
    fn extremes_are_none_not_a_panic() {
        let m = usize::MAX;
        assert_eq!(conv(m, 3, 1, 1, 1, 1), None);
        assert_eq!(conv(5, m, 1, 0, 0, m), None);
        assert_eq!(conv(5, 3, 0, 0, 0, 1), None);
        assert_eq!(conv(5, 0, 1, 0, 0, 1), None);
        assert_eq!(conv_transpose(m, 3, 2, 0, 0, 1, 0), None);
        assert_eq!(conv_transpose(0, 3, 2, 0, 0, 1, 0), None);
        assert_eq!(pool(m, 2, 2, m, true), None);
        assert_eq!(pool(4, 0, 1, 0, false), None);
        assert_eq!(same_padding(5, 3, 0, 1), None);
        assert_eq!(same_padding(5, m, 1, m), None);
    }
}
