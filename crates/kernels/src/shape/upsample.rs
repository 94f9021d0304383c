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
