//! Which algorithm for which shape: a table, read from the top.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::shape::Conv2dShape;
use crate::simd::Isa;

/// How a convolution is computed. All give the same sums, in orders of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Conv2dAlgo {
    /// 1x1, stride 1, no padding: a matrix product over the pixels as they lie.
    Pointwise,
    /// One input channel per group: each plane alone, lanes are pixels.
    Depthwise,
    /// Lanes are pixels of a row, weights are broadcast: few input or output channels.
    Direct,
    /// A matrix product over patches that are never unfolded: lanes are output channels, pixels are broadcast from a
    /// padded copy.
    ImplicitGemm,
    /// A matrix product over patches unfolded into panels: rows of one or two pixels.
    Im2col,
}

impl Conv2dAlgo {
    /// All of them, in the order of the table.
    pub const ALL: [Conv2dAlgo; 5] = [
        Conv2dAlgo::Depthwise,
        Conv2dAlgo::Pointwise,
        Conv2dAlgo::Direct,
        Conv2dAlgo::Im2col,
        Conv2dAlgo::ImplicitGemm,
    ];

    /// As [`Conv2dAlgo::from_str`] reads it and reports print it.
    pub const fn name(self) -> &'static str {
        match self {
            Conv2dAlgo::Pointwise => "pointwise",
            Conv2dAlgo::Depthwise => "depthwise",
            Conv2dAlgo::Direct => "direct",
            Conv2dAlgo::ImplicitGemm => "implicit_gemm",
            Conv2dAlgo::Im2col => "im2col",
        }
    }

    /// Whether it can compute this convolution (at any speed).
    pub fn supports(self, shape: &Conv2dShape) -> bool {
        match self {
            Conv2dAlgo::Pointwise => is_pointwise(shape),
            Conv2dAlgo::Depthwise => shape.weights().c == 1,
            Conv2dAlgo::Direct | Conv2dAlgo::ImplicitGemm | Conv2dAlgo::Im2col => true,
        }
    }

    /// The first row of the table that fits.
    pub(super) fn choose(isa: Isa, shape: &Conv2dShape) -> (Self, &'static str) {
        let row = TABLE.iter().find(|row| row.algo.supports(shape) && (row.fits)(isa, shape));
        row.map_or((Conv2dAlgo::ImplicitGemm, "the general case"), |row| (row.algo, row.why))
    }
}

struct Row {
    algo: Conv2dAlgo,
    fits: fn(Isa, &Conv2dShape) -> bool,
    why: &'static str,
}

/// Add an algorithm here, above those that it beats on the shapes that it fits.
const TABLE: &[Row] = &[
    Row {
        algo: Conv2dAlgo::Depthwise,
        fits: |_, shape| shape.params().groups > 1,
        why: "one input channel per group: no sum over channels for a matrix product",
    },
    Row {
        algo: Conv2dAlgo::Direct,
        fits: |isa, shape| group_outputs(shape) * 2 <= isa.lanes() && shape.output().w * 2 >= isa.lanes(),
        why: "fewer output channels than half a vector: lanes are pixels",
    },
    Row {
        algo: Conv2dAlgo::Pointwise,
        fits: |_, _| true,
        why: "1x1, stride 1, no padding: the pixels as they lie are the rows of a matrix product",
    },
    Row {
        algo: Conv2dAlgo::Direct,
        fits: |isa, shape| shape.weights().c <= 4 && shape.output().w * 4 >= isa.lanes() * 3,
        why: "few input channels: the sums are too short to pay for a transposed store",
    },
    Row {
        algo: Conv2dAlgo::Im2col,
        // 2x2x512 to 512: unfolded 78% of the microkernel's speed against 67% (AVX-512), 68% against 44% (AVX2);
        // at 4x4 and above the unfolding costs more than narrow tiles do.
        fits: |_, shape| shape.output().w < 3,
        why: "rows of one or two pixels: those of several rows and images are unfolded into full tiles",
    },
    Row {
        algo: Conv2dAlgo::ImplicitGemm,
        fits: |_, _| true,
        why: "enough channels and pixels for full tiles, read from a padded copy without unfolding",
    },
];

fn group_outputs(shape: &Conv2dShape) -> usize {
    shape.weights().n / shape.params().groups
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
            "pointwise, depthwise, direct, implicit_gemm or im2col",
            "another name",
        ))
    }
}
