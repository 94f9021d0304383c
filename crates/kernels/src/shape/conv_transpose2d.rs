//! Transposed convolution: parameters and the validated shape.

use crate::error::{Dims, Error, Expected, Result};
use crate::shape::conv2d::{Conv2dShape, validate_groups, validate_window};
use crate::shape::{Padding, at_least_one, window};
use crate::tensor::Shape4;

const OP: &str = "conv_transpose2d";

/// Stride, padding, output padding, dilation and groups of a transposed convolution; the default is stride 1, no
/// padding, dilation 1, one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConvTranspose2dParams {
    /// Output rows and columns from one input to the next: `[height, width]`.
    pub stride: [usize; 2],
    /// Rows and columns cut from the output, per side.
    pub padding: Padding,
    /// Rows and columns added at the bottom and the right; less than the stride or the dilation.
    pub output_padding: [usize; 2],
    /// Output rows and columns from one tap of the kernel to the next: `[height, width]`.
    pub dilation: [usize; 2],
    /// The channels are split into this many groups, each convolved alone.
    pub groups: usize,
}

impl Default for ConvTranspose2dParams {
    fn default() -> Self {
        ConvTranspose2dParams {
            stride: [1, 1],
            padding: Padding::default(),
            output_padding: [0, 0],
            dilation: [1, 1],
            groups: 1,
        }
    }
}

impl ConvTranspose2dParams {
    /// The same stride for rows and columns.
    pub const fn stride(mut self, stride: usize) -> Self {
        self.stride = [stride, stride];
        self
    }

    /// The same padding on all four sides.
    pub const fn padding(mut self, padding: usize) -> Self {
        self.padding = Padding::symmetric(padding, padding);
        self
    }

    /// The same output padding for rows and columns.
    pub const fn output_padding(mut self, output_padding: usize) -> Self {
        self.output_padding = [output_padding, output_padding];
        self
    }

    /// The same dilation for rows and columns.
    pub const fn dilation(mut self, dilation: usize) -> Self {
        self.dilation = [dilation, dilation];
        self
    }

    /// The number of groups.
    pub const fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }
}

/// A transposed convolution whose sizes are known to fit.
///
/// Every input element adds its multiple of the kernel to the output: `y[n][o][i*sh + p*dh - top][j*sw + q*dw -
/// left] += x[n][c][i][j] * w[c][o][p][q]`, plus `bias[o]`; what falls outside the output is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConvTranspose2dShape {
    input: Shape4,
    weights: Shape4,
    output: Shape4,
    params: ConvTranspose2dParams,
}

impl ConvTranspose2dShape {
    /// Validates everything: extents of at least one (an empty batch is allowed), groups that divide both channel
    /// counts, an output that is not empty, an output padding below the stride or the dilation, sizes that do not
    /// overflow.
    ///
    /// # Errors
    /// [`Error::Invalid`] or [`Error::Overflow`].
    pub fn new(
        input: Shape4,
        out_channels: usize,
        kernel: [usize; 2],
        params: ConvTranspose2dParams,
    ) -> Result<Self> {
        let ConvTranspose2dParams { stride, padding: p, output_padding, dilation, groups } = params;
        validate_window(OP, input, kernel, stride, dilation)?;
        at_least_one(OP, &[("output channels", out_channels), ("groups", groups)])?;
        validate_groups(OP, input.c, out_channels, groups)?;
        for (i, arg) in ["output padding height", "output padding width"].into_iter().enumerate() {
            let limit = stride[i].max(dilation[i]) - 1;
            if output_padding[i] > limit {
                return Err(Error::invalid(OP, arg, Expected::AtMost(limit), output_padding[i]));
            }
        }
        let extent = |i: usize, arg, input: usize, before: usize, after: usize| {
            window::conv_transpose(input, kernel[i], stride[i], before, after, dilation[i], output_padding[i])
                .ok_or_else(|| {
                    let uncut = window::conv_transpose(
                        input,
                        kernel[i],
                        stride[i],
                        0,
                        0,
                        dilation[i],
                        output_padding[i],
                    );
                    match (uncut, before.checked_add(after)) {
                        (Some(uncut), Some(cut)) => Error::invalid(OP, arg, Expected::AtMost(uncut - 1), cut),
                        _ => Error::Overflow {
                            op: OP,
                            arg,
                            dims: Dims::new(&[input, stride[i], kernel[i], dilation[i]]),
                        },
                    }
                })
        };
        let h = extent(0, "padding height", input.h, p.top, p.bottom)?;
        let w = extent(1, "padding width", input.w, p.left, p.right)?;
        let output = Shape4::new(input.n, out_channels, h, w);
        let weights = Shape4::new(input.c, out_channels / groups, kernel[0], kernel[1]);
        input.checked_len(OP, "input")?;
        weights.checked_len(OP, "weights")?;
        output.checked_len(OP, "output")?;
        Ok(ConvTranspose2dShape { input, weights, output, params })
    }

    /// The transposed convolution that takes the gradient to the output of a convolution to that of its input, with the same
    /// weights: what the stride left over at the end of the input is its output padding.
    pub(crate) fn of_gradient(shape: &Conv2dShape) -> Result<Self> {
        let (p, x) = (shape.params(), shape.input());
        let left_over = |axis: usize, input: usize, before: usize, after: usize| {
            let kernel = p.dilation[axis] * (shape.kernel()[axis] - 1) + 1;
            (input + before + after - kernel) % p.stride[axis]
        };
        let params = ConvTranspose2dParams {
            stride: p.stride,
            padding: p.padding,
            output_padding: [
                left_over(0, x.h, p.padding.top, p.padding.bottom),
                left_over(1, x.w, p.padding.left, p.padding.right),
            ],
            dilation: p.dilation,
            groups: p.groups,
        };
        let transposed = Self::new(shape.output(), x.c, shape.kernel(), params)?;
        debug_assert_eq!((transposed.output, transposed.weights), (x, shape.weights()));
        Ok(transposed)
    }

    /// The shape of `x`: `[n, in channels, h, w]`.
    pub fn input(&self) -> Shape4 {
        self.input
    }

    /// The shape of the weights: `[in channels, out channels / groups, kernel h, kernel w]`.
    pub fn weights(&self) -> Shape4 {
        self.weights
    }

    /// The shape of `y`: `[n, out channels, h, w]`.
    pub fn output(&self) -> Shape4 {
        self.output
    }

    /// Stride, padding, output padding, dilation, groups.
    pub fn params(&self) -> ConvTranspose2dParams {
        self.params
    }

    /// Kernel height and width.
    pub fn kernel(&self) -> [usize; 2] {
        [self.weights.h, self.weights.w]
    }

    /// Multiply-accumulates: each input element times each weight of its channel.
    pub fn macs(&self) -> f64 {
        self.input.dims().iter().map(|&d| d as f64).product::<f64>() * self.weights.image_len() as f64
    }
}
