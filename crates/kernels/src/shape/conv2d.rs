//! Convolution: parameters and the validated shape.

use crate::error::{Dims, Error, Expected, Result};
use crate::shape::{Accuracy, Padding, at_least_one, window};
use crate::tensor::{Shape4, checked_product};

const OP: &str = "conv2d";

/// Stride, padding, dilation and groups of a convolution, and how closely it must be computed; the default is stride 1, no
/// padding, dilation 1, one group, [`Accuracy::Default`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Conv2dParams {
    /// Input rows and columns from one output to the next: `[height, width]`.
    pub stride: [usize; 2],
    /// Zeros around the input.
    pub padding: Padding,
    /// Input rows and columns from one tap of the kernel to the next: `[height, width]`.
    pub dilation: [usize; 2],
    /// The channels are split into this many groups, each convolved alone; as many as channels is depthwise.
    pub groups: usize,
    /// How closely the result, and the gradient to the input, must be computed.
    pub accuracy: Accuracy,
}

impl Default for Conv2dParams {
    fn default() -> Self {
        Conv2dParams {
            stride: [1, 1],
            padding: Padding::default(),
            dilation: [1, 1],
            groups: 1,
            accuracy: Accuracy::Default,
        }
    }
}

impl Conv2dParams {
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

    /// How closely the result, and the gradient to the input, must be computed.
    pub const fn accuracy(mut self, accuracy: Accuracy) -> Self {
        self.accuracy = accuracy;
        self
    }

    /// The padding that makes the output `ceil(input / stride)` in both directions, for this input and kernel;
    /// stride and dilation must be set before.
    ///
    /// # Errors
    /// [`Error::Invalid`] if an extent, a stride or a dilation is zero.
    ///
    /// ```
    /// use tilewise_kernels::{Conv2dParams, Conv2dShape, Shape4};
    /// let x = Shape4::new(1, 3, 224, 225);
    /// let params = Conv2dParams::default().stride(2).same_padding(x, [3, 3])?;
    /// assert_eq!((params.padding.left, params.padding.right), (1, 1));
    /// assert_eq!((params.padding.top, params.padding.bottom), (0, 1));
    /// assert_eq!(Conv2dShape::new(x, 8, [3, 3], params)?.output(), Shape4::new(1, 8, 112, 113));
    /// # Ok::<(), tilewise_kernels::Error>(())
    /// ```
    pub fn same_padding(mut self, input: Shape4, kernel: [usize; 2]) -> Result<Self> {
        validate_window(OP, input, kernel, self.stride, self.dilation)?;
        let pair = |i: usize, extent: usize| {
            window::same_padding(extent, kernel[i], self.stride[i], self.dilation[i]).ok_or(Error::Overflow {
                op: OP,
                arg: "same padding",
                dims: Dims::new(&[kernel[i], self.dilation[i]]),
            })
        };
        let ((top, bottom), (left, right)) = (pair(0, input.h)?, pair(1, input.w)?);
        self.padding = Padding { top, bottom, left, right };
        Ok(self)
    }
}

/// What every windowed operator needs: no extent is zero, and no step is beyond any plane.
pub(super) fn validate_window(
    op: &'static str,
    input: Shape4,
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
) -> Result<()> {
    let steps = [
        ("stride height", stride[0]),
        ("stride width", stride[1]),
        ("dilation height", dilation[0]),
        ("dilation width", dilation[1]),
    ];
    let extents = [
        ("input channels", input.c),
        ("input height", input.h),
        ("input width", input.w),
        ("kernel height", kernel[0]),
        ("kernel width", kernel[1]),
    ];
    at_least_one(op, &extents)?;
    at_least_one(op, &steps)?;
    match steps.iter().find(|(_, step)| *step > window::MAX_EXTENT) {
        Some((arg, step)) => Err(Error::invalid(op, arg, Expected::AtMost(window::MAX_EXTENT), *step)),
        None => Ok(()),
    }
}

/// A convolution whose sizes are known to fit: made once, then trusted by every kernel.
///
/// `y[n][o][i][j] = bias[o] + sum over c, p, q of x[n][c][i*sh + p*dh - top][j*sw + q*dw - left] * w[o][c][p][q]`,
/// with `c` over the channels of `o`'s group and zeros outside the input (a cross-correlation, as in every
/// network library).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Conv2dShape {
    input: Shape4,
    weights: Shape4,
    output: Shape4,
    params: Conv2dParams,
}

impl Conv2dShape {
    /// Validates everything: extents of at least one (an empty batch is allowed), groups that divide both channel
    /// counts, a window that fits into the padded input, sizes that do not overflow.
    ///
    /// # Errors
    /// [`Error::Invalid`] or [`Error::Overflow`].
    pub fn new(input: Shape4, out_channels: usize, kernel: [usize; 2], params: Conv2dParams) -> Result<Self> {
        let Conv2dParams { stride, padding: p, dilation, groups, .. } = params;
        validate_window(OP, input, kernel, stride, dilation)?;
        at_least_one(OP, &[("output channels", out_channels), ("groups", groups)])?;
        validate_groups(OP, input.c, out_channels, groups)?;
        let extent = |i: usize, arg, input: usize, before: usize, after: usize| {
            window::conv(input, kernel[i], stride[i], before, after, dilation[i]).ok_or_else(|| {
                match (window::dilated(kernel[i], dilation[i]), window::padded(input, before, after)) {
                    (Some(taps), Some(padded)) => Error::invalid(OP, arg, Expected::AtLeast(taps), padded),
                    _ => Error::Overflow {
                        op: OP,
                        arg,
                        dims: Dims::new(&[input, before, after, kernel[i], dilation[i]]),
                    },
                }
            })
        };
        let h = extent(0, "padded input height", input.h, p.top, p.bottom)?;
        let w = extent(1, "padded input width", input.w, p.left, p.right)?;
        let output = Shape4::new(input.n, out_channels, h, w);
        let weights = Shape4::new(out_channels, input.c / groups, kernel[0], kernel[1]);
        input.checked_len(OP, "input")?;
        weights.checked_len(OP, "weights")?;
        output.checked_len(OP, "output")?;
        Ok(Conv2dShape { input, weights, output, params })
    }

    /// The shape of `x`: `[n, in channels, h, w]`.
    pub fn input(&self) -> Shape4 {
        self.input
    }

    /// The shape of the weights: `[out channels, in channels / groups, kernel h, kernel w]`.
    pub fn weights(&self) -> Shape4 {
        self.weights
    }

    /// The shape of `y`: `[n, out channels, h, w]`.
    pub fn output(&self) -> Shape4 {
        self.output
    }

    /// Stride, padding, dilation, groups.
    pub fn params(&self) -> Conv2dParams {
        self.params
    }

    /// Kernel height and width.
    pub fn kernel(&self) -> [usize; 2] {
        [self.weights.h, self.weights.w]
    }

    /// Products summed into one output: `in channels / groups * kernel h * kernel w`.
    pub fn depth(&self) -> usize {
        self.weights.image_len()
    }

    /// Multiply-accumulates of the plain convolution; twice that are its FLOPs. `f64`, as it may exceed `u64`.
    pub fn macs(&self) -> f64 {
        self.output.dims().iter().map(|&d| d as f64).product::<f64>() * self.depth() as f64
    }
}

/// Groups must divide both channel counts.
pub(super) fn validate_groups(op: &'static str, input: usize, output: usize, groups: usize) -> Result<()> {
    for (arg, channels) in
        [("groups (of the input channels)", input), ("groups (of the output channels)", output)]
    {
        if !channels.is_multiple_of(groups) {
            return Err(Error::invalid(op, arg, Expected::DivisorOf(channels), groups));
        }
    }
    checked_product(op, "channels", &[input, output])?;
    Ok(())
}
