//! Max and average pooling: parameters and the validated shape.

use crate::error::{Dims, Error, Expected, Result};
use crate::shape::conv2d::validate_window;
use crate::shape::window;
use crate::tensor::Shape4;

/// Max pooling over `kernel`, every `stride`. Padding never wins (it counts as minus infinity); a NaN in a window
/// comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MaxPool2dParams {
    /// Rows and columns of the window.
    pub kernel: [usize; 2],
    /// Rows and columns from one window to the next.
    pub stride: [usize; 2],
    /// Rows above and below, columns left and right; at most half the window.
    pub padding: [usize; 2],
    /// Round the number of windows up: the last one may hang over the edge.
    pub ceil_mode: bool,
}

impl MaxPool2dParams {
    /// A square window, with a stride of the same size and no padding.
    pub const fn new(kernel: usize) -> Self {
        MaxPool2dParams {
            kernel: [kernel, kernel],
            stride: [kernel, kernel],
            padding: [0, 0],
            ceil_mode: false,
        }
    }

    /// The same stride for rows and columns.
    pub const fn stride(mut self, stride: usize) -> Self {
        self.stride = [stride, stride];
        self
    }

    /// The same padding on all four sides.
    pub const fn padding(mut self, padding: usize) -> Self {
        self.padding = [padding, padding];
        self
    }

    /// Whether to round the number of windows up.
    pub const fn ceil_mode(mut self, ceil_mode: bool) -> Self {
        self.ceil_mode = ceil_mode;
        self
    }
}

/// Average pooling over `kernel`, every `stride`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AvgPool2dParams {
    /// Rows and columns of the window.
    pub kernel: [usize; 2],
    /// Rows and columns from one window to the next.
    pub stride: [usize; 2],
    /// Rows above and below, columns left and right; at most half the window.
    pub padding: [usize; 2],
    /// Round the number of windows up: the last one may hang over the edge.
    pub ceil_mode: bool,
    /// Whether the zeros of the padding count in the divisor (what hangs over beyond them never does).
    pub count_include_pad: bool,
}

impl AvgPool2dParams {
    /// A square window, with a stride of the same size and no padding; padding counts, as PyTorch has it.
    pub const fn new(kernel: usize) -> Self {
        AvgPool2dParams {
            kernel: [kernel, kernel],
            stride: [kernel, kernel],
            padding: [0, 0],
            ceil_mode: false,
            count_include_pad: true,
        }
    }

    /// The same stride for rows and columns.
    pub const fn stride(mut self, stride: usize) -> Self {
        self.stride = [stride, stride];
        self
    }

    /// The same padding on all four sides.
    pub const fn padding(mut self, padding: usize) -> Self {
        self.padding = [padding, padding];
        self
    }

    /// Whether to round the number of windows up.
    pub const fn ceil_mode(mut self, ceil_mode: bool) -> Self {
        self.ceil_mode = ceil_mode;
        self
    }

    /// Whether the padding counts in the divisor.
    pub const fn count_include_pad(mut self, count: bool) -> Self {
        self.count_include_pad = count;
        self
    }
}

/// A pooling whose sizes are known to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PoolShape {
    input: Shape4,
    output: Shape4,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
}

impl PoolShape {
    /// Validates a max pooling.
    ///
    /// # Errors
    /// [`Error::Invalid`] or [`Error::Overflow`].
    pub fn max(input: Shape4, p: MaxPool2dParams) -> Result<Self> {
        Self::new("max_pool2d", input, p.kernel, p.stride, p.padding, p.ceil_mode)
    }

    /// Validates an average pooling.
    ///
    /// # Errors
    /// [`Error::Invalid`] or [`Error::Overflow`].
    pub fn avg(input: Shape4, p: AvgPool2dParams) -> Result<Self> {
        Self::new("avg_pool2d", input, p.kernel, p.stride, p.padding, p.ceil_mode)
    }

    fn new(
        op: &'static str,
        input: Shape4,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        ceil_mode: bool,
    ) -> Result<Self> {
        validate_window(op, input, kernel, stride, [1, 1])?;
        for (i, arg) in ["padding height", "padding width"].into_iter().enumerate() {
            // More would leave windows without a single element of the input.
            if padding[i] > kernel[i] / 2 {
                return Err(Error::invalid(op, arg, Expected::AtMost(kernel[i] / 2), padding[i]));
            }
        }
        let extent = |i: usize, arg, input: usize| {
            window::pool(input, kernel[i], stride[i], padding[i], ceil_mode).ok_or_else(|| {
                match padding[i].checked_mul(2).and_then(|v| v.checked_add(input)) {
                    Some(padded) if padded < kernel[i] => {
                        Error::invalid(op, arg, Expected::AtLeast(kernel[i]), padded)
                    }
                    _ => Error::Overflow { op, arg, dims: Dims::new(&[input, kernel[i], stride[i]]) },
                }
            })
        };
        let h = extent(0, "padded input height", input.h)?;
        let w = extent(1, "padded input width", input.w)?;
        let output = Shape4::new(input.n, input.c, h, w);
        input.checked_len(op, "input")?;
        output.checked_len(op, "output")?;
        Ok(PoolShape { input, output, kernel, stride, padding })
    }

    /// Refuses planes of the input whose positions do not fit the 32 bits that a GPU counts in.
    #[cfg(feature = "gpu")]
    pub(crate) fn check_positions(&self, op: &'static str) -> Result<()> {
        match u32::try_from(self.input.plane_len()) {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::invalid(op, "input plane", "at most 2^32 - 1 elements", self.input)),
        }
    }

    /// The shape of `x`.
    pub fn input(&self) -> Shape4 {
        self.input
    }

    /// The shape of `y`.
    pub fn output(&self) -> Shape4 {
        self.output
    }

    /// Rows and columns of the window.
    pub fn kernel(&self) -> [usize; 2] {
        self.kernel
    }

    /// Rows and columns from one window to the next.
    pub fn stride(&self) -> [usize; 2] {
        self.stride
    }

    /// Rows above and below, columns left and right.
    pub fn padding(&self) -> [usize; 2] {
        self.padding
    }
}
