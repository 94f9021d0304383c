//! Upsampling (any resizing by nearest or bilinear interpolation): the validated shape.

use crate::error::{Dims, Error, Result};
use crate::shape::at_least_one;
use crate::tensor::Shape4;

const OP: &str = "upsample";

/// How a pixel between pixels gets its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpsampleMode {
    /// Output `i` copies input `floor(i * (in / out))`, at most `in - 1`, quotient and product each rounded to f32 as
    /// PyTorch rounds them. (At a few sizes that is the pixel before the one of exact arithmetic, 2 to 82 the first of
    /// them; at factors up to 40 never.)
    Nearest,
    /// Output `i` lies at input `max((i + 1/2) * in / out - 1/2, 0)` or, with the corners aligned, at
    /// `i * (in - 1) / (out - 1)` (0 for a single output), between two neighbours in each direction.
    Bilinear {
        /// Whether the centres of the corner pixels, rather than their outer edges, coincide.
        align_corners: bool,
    },
}

/// An upsampling whose sizes are known to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UpsampleShape {
    input: Shape4,
    output: Shape4,
    mode: UpsampleMode,
}

impl UpsampleShape {
    /// To planes of `size` = `[height, width]`, larger or smaller.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an extent of zero (an empty batch is allowed), [`Error::Overflow`].
    pub fn new(input: Shape4, size: [usize; 2], mode: UpsampleMode) -> Result<Self> {
        at_least_one(
            OP,
            &[
                ("input channels", input.c),
                ("input height", input.h),
                ("input width", input.w),
                ("output height", size[0]),
                ("output width", size[1]),
            ],
        )?;
        let output = Shape4 { h: size[0], w: size[1], ..input };
        input.checked_len(OP, "input")?;
        output.checked_len(OP, "output")?;
        Ok(UpsampleShape { input, output, mode })
    }

    /// To planes `factor` times as high and as wide.
    ///
    /// # Errors
    /// As [`UpsampleShape::new`].
    pub fn by_factor(input: Shape4, factor: usize, mode: UpsampleMode) -> Result<Self> {
        at_least_one(OP, &[("factor", factor)])?;
        let scaled = |extent: usize| {
            let overflow = Error::Overflow { op: OP, arg: "output", dims: Dims::new(&[extent, factor]) };
            extent.checked_mul(factor).ok_or(overflow)
        };
        Self::new(input, [scaled(input.h)?, scaled(input.w)?], mode)
    }

    /// The shape of `x`.
    pub fn input(&self) -> Shape4 {
        self.input
    }

    /// The shape of `y`.
    pub fn output(&self) -> Shape4 {
        self.output
    }

    /// The interpolation.
    pub fn mode(&self) -> UpsampleMode {
        self.mode
    }
}

/// The pixel that output `o` copies, rounded as [`UpsampleMode::Nearest`] says: the quotient and the product in f32.
#[inline(always)]
pub(crate) fn nearest(o: usize, input: usize, output: usize) -> usize {
    let step = input as f32 / output as f32;
    ((o as f32 * step) as usize).min(input - 1)
}

/// Two neighbours and the weight of the second; that of the first is what is left to 1.
#[derive(Clone, Copy)]
pub(crate) struct Between {
    pub(crate) left: usize,
    pub(crate) right: usize,
    pub(crate) weight: f32,
}

impl Between {
    /// Where output `o` of `output` lies among `input` pixels.
    #[inline(always)]
    pub(crate) fn new(o: usize, input: usize, output: usize, align_corners: bool) -> Self {
        let (o, last) = (o as f64, input - 1);
        let at = if !align_corners {
            ((o + 0.5) * input as f64 / output as f64 - 0.5).max(0.0)
        } else if output > 1 {
            o * last as f64 / (output - 1) as f64
        } else {
            0.0
        };
        let left = (at as usize).min(last);
        Between { left, right: (left + 1).min(last), weight: (at - left as f64) as f32 }
    }

    #[inline(always)]
    pub(crate) fn mix(self, a: f32, b: f32) -> f32 {
        // In this form, in which PyTorch has it, an infinity of weight 0 is NaN.
        (1.0 - self.weight) * a + self.weight * b
    }
}
