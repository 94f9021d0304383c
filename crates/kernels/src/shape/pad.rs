//! Padding and cropping: amounts per side, and the validated shapes.

use crate::error::{Dims, Error, Expected, Result};
use crate::tensor::Shape4;

/// Rows and columns of zeros around an image (or cut from it), per side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the left.
    pub left: usize,
    /// Columns to the right.
    pub right: usize,
}

impl Padding {
    /// `h` rows above and below, `w` columns left and right.
    pub const fn symmetric(h: usize, w: usize) -> Self {
        Padding { top: h, bottom: h, left: w, right: w }
    }
}

impl From<usize> for Padding {
    fn from(p: usize) -> Self {
        Padding::symmetric(p, p)
    }
}

/// A padding whose sizes are known to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PadShape {
    input: Shape4,
    output: Shape4,
    padding: Padding,
}

impl PadShape {
    /// Adds rows and columns around each plane.
    ///
    /// # Errors
    /// [`Error::Overflow`].
    pub fn new(input: Shape4, padding: Padding) -> Result<Self> {
        let Padding { top, bottom, left, right } = padding;
        let grown = |extent: usize, before: usize, after: usize| {
            let overflow =
                Error::Overflow { op: "pad", arg: "output", dims: Dims::new(&[extent, before, after]) };
            extent.checked_add(before).and_then(|v| v.checked_add(after)).ok_or(overflow)
        };
        let output = Shape4 { h: grown(input.h, top, bottom)?, w: grown(input.w, left, right)?, ..input };
        input.checked_len("pad", "input")?;
        output.checked_len("pad", "output")?;
        Ok(PadShape { input, output, padding })
    }

    /// The shape of `x`.
    pub fn input(&self) -> Shape4 {
        self.input
    }

    /// The shape of `y`.
    pub fn output(&self) -> Shape4 {
        self.output
    }

    /// What is added.
    pub fn padding(&self) -> Padding {
        self.padding
    }
}

/// A crop whose sizes are known to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CropShape {
    input: Shape4,
    output: Shape4,
    margins: Padding,
}

impl CropShape {
    /// Removes rows and columns from the sides of each plane.
    ///
    /// # Errors
    /// [`Error::Invalid`] if more is removed than there is, [`Error::Overflow`].
    pub fn new(input: Shape4, margins: Padding) -> Result<Self> {
        let Padding { top, bottom, left, right } = margins;
        let shrunk = |arg, extent: usize, before: usize, after: usize| {
            let cut = before.saturating_add(after);
            extent.checked_sub(cut).ok_or(Error::invalid("crop", arg, Expected::AtMost(extent), cut))
        };
        let output = Shape4 {
            h: shrunk("rows removed", input.h, top, bottom)?,
            w: shrunk("columns removed", input.w, left, right)?,
            ..input
        };
        input.checked_len("crop", "input")?;
        Ok(CropShape { input, output, margins })
    }

    /// The shape of `x`.
    pub fn input(&self) -> Shape4 {
        self.input
    }

    /// The shape of `y`.
    pub fn output(&self) -> Shape4 {
        self.output
    }

    /// What is removed.
    pub fn margins(&self) -> Padding {
        self.margins
    }
}
