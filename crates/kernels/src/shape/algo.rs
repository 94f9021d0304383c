//! The algorithms of convolution by name; each device has a table of its own that chooses among them.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::shape::Conv2dShape;

/// How a convolution is computed. All but Winograd's give the same sums, in orders of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Conv2dAlgo {
    /// 1x1, stride 1, no padding: a matrix product over the pixels as they lie.
    Pointwise,
    /// One input channel per group: each plane alone, lanes are pixels.
    Depthwise,
    /// Lanes are pixels of a row, weights are broadcast: few input or output channels.
    Direct,
    /// Lanes are pixels of several rows, the channels are taken a few at a time: few output channels.
    FewOutputs,
    /// A matrix product over patches that are never unfolded: lanes are output channels, pixels are broadcast from a
    /// padded copy.
    ImplicitGemm,
    /// A matrix product over patches unfolded into panels: rows of one or two pixels.
    Im2col,
    /// Winograd's F(2x2, 3x3): tiles of 2x2 outputs by 16 multiplications instead of 36. Exact on small integers. And F(2x2, 5x5):
    /// 36 instead of 100.
    WinogradF2,
    /// Winograd's algorithm for 7x7 with stride 2, phase by phase: tiles of 3x3 outputs by 121 multiplications instead of 441.
    WinogradF3,
    /// Winograd's F(4x4, 3x3): tiles of 4x4 outputs by 36 multiplications instead of 144. And F(4x4, 5x5): 64 instead of 400. With
    /// stride 2, phase by phase: of 3x3 81 instead of 144, of 4x4 100 instead of 256, of 5x5 121 instead of 400.
    WinogradF4,
    /// Winograd's F(6x6, 3x3): tiles of 6x6 outputs by 64 multiplications instead of 324.
    WinogradF6,
}

impl Conv2dAlgo {
    /// All of them, in the order of the table.
    pub const ALL: [Conv2dAlgo; 10] = [
        Conv2dAlgo::Depthwise,
        Conv2dAlgo::FewOutputs,
        Conv2dAlgo::Pointwise,
        Conv2dAlgo::Direct,
        Conv2dAlgo::Im2col,
        Conv2dAlgo::WinogradF6,
        Conv2dAlgo::WinogradF4,
        Conv2dAlgo::WinogradF3,
        Conv2dAlgo::WinogradF2,
        Conv2dAlgo::ImplicitGemm,
    ];

    /// As [`Conv2dAlgo::from_str`] reads it and reports print it.
    pub const fn name(self) -> &'static str {
        match self {
            Conv2dAlgo::Pointwise => "pointwise",
            Conv2dAlgo::Depthwise => "depthwise",
            Conv2dAlgo::Direct => "direct",
            Conv2dAlgo::FewOutputs => "few_outputs",
            Conv2dAlgo::ImplicitGemm => "implicit_gemm",
            Conv2dAlgo::Im2col => "im2col",
            Conv2dAlgo::WinogradF2 => "winograd_f2",
            Conv2dAlgo::WinogradF3 => "winograd_f3",
            Conv2dAlgo::WinogradF4 => "winograd_f4",
            Conv2dAlgo::WinogradF6 => "winograd_f6",
        }
    }

    /// Whether it can compute this convolution (at any speed).
    pub fn supports(self, shape: &Conv2dShape) -> bool {
        match self {
            Conv2dAlgo::Pointwise => is_pointwise(shape),
            Conv2dAlgo::Depthwise => shape.weights().c == 1,
            Conv2dAlgo::Direct | Conv2dAlgo::FewOutputs | Conv2dAlgo::ImplicitGemm | Conv2dAlgo::Im2col => {
                true
            }
            Conv2dAlgo::WinogradF2 => square(shape, 1, &[3, 5]),
            Conv2dAlgo::WinogradF3 => square(shape, 2, &[7]),
            Conv2dAlgo::WinogradF4 => square(shape, 1, &[3, 5]) || square(shape, 2, &[3, 4, 5]),
            Conv2dAlgo::WinogradF6 => square(shape, 1, &[3]),
        }
    }
}

/// How closely a convolution must be computed, where a faster algorithm rounds more.
///
/// All choices give NaN and infinities where PyTorch does: where Winograd's algorithm spreads one over a tile, that tile is
/// computed again directly (at the speed of a direct algorithm, and less). The GPU computes directly, whatever the choice.
///
/// It holds for the gradients as well: that to the weights of 3x3 kernels is F(3x3, 4x4) for `Default`, with sums so short that its
/// error is at most three times that of sums over pixels, and for `Fast` with longer ones, and of 5x5, up to six times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Accuracy {
    /// Direct algorithms only: sums of the products of the definition, in some order.
    Exact,
    /// Winograd's F(2x2, 3x3), F(4x4, 3x3), F(2x2, 5x5) and those for a stride of 2, too: a relative L2 error at most three times
    /// that of direct algorithms (measured about twice, 1e-6 to 2e-6; F(2x2, 3x3) is as close as they are).
    #[default]
    Default,
    /// F(6x6, 3x3) and F(4x4, 5x5), too: about ten times, and five times, that of direct algorithms (2e-6 to 1e-5).
    Fast,
}

/// Whether the kernel is a square of one of these sides, with this stride and without dilation.
fn square(shape: &Conv2dShape, stride: usize, sides: &[usize]) -> bool {
    let (p, [height, width]) = (shape.params(), shape.kernel());
    height == width && sides.contains(&height) && p.stride == [stride; 2] && p.dilation == [1, 1]
}

fn is_pointwise(shape: &Conv2dShape) -> bool {
    let p = shape.params();
    shape.kernel() == [1, 1] && p.stride == [1, 1] && p.padding == Default::default()
}

impl fmt::Display for Conv2dAlgo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Conv2dAlgo {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|algo| algo.name() == name).ok_or(Error::invalid(
            "conv2d",
            "algorithm",
            "pointwise, depthwise, direct, few_outputs, implicit_gemm, im2col, winograd_f2, winograd_f3, winograd_f4 or winograd_f6",
            "another name",
        ))
    }
}
