//! Which algorithm for which shape: a table, read from the top.

use crate::cpu::conv2d::engine::Spec;
use crate::shape::Conv2dAlgo;
use crate::simd::Isa;

/// The first row of the table that fits and that `allowed` allows.
pub(super) fn choose(
    isa: Isa,
    spec: &Spec<'_>,
    allowed: impl Fn(Conv2dAlgo) -> bool,
) -> (Conv2dAlgo, &'static str) {
    let row = TABLE.iter().find(|row| spec.supports(row.algo) && allowed(row.algo) && (row.fits)(isa, spec));
    row.map_or((Conv2dAlgo::ImplicitGemm, "the general case"), |row| (row.algo, row.why))
}

struct Row {
    algo: Conv2dAlgo,
    fits: fn(Isa, &Spec<'_>) -> bool,
    why: &'static str,
}

/// Add an algorithm here, above those that it beats on the shapes that it fits.
const TABLE: &[Row] = &[
    Row {
        algo: Conv2dAlgo::Depthwise,
        fits: |_, spec| spec.groups > 1,
        why: "one input channel per group: no sum over channels for a matrix product",
    },
    Row {
        algo: Conv2dAlgo::FewOutputs,
        // 64x64x64 to 8, 3x3: 0.51 ms against 0.68 of the implicit GEMM (AVX2); to 3 of 14x14: 0.05 against 0.15 of the direct
        // convolution, which is ahead where it reads the input in place, and on the portable path but for one output.
        fits: |isa, spec| {
            let (depth, taps) = (spec.correlation.depth(), spec.correlation.taps.len());
            let few = spec.outputs <= if isa == Isa::Portable { 1 } else { 8 };
            few && width(spec) * 2 >= isa.lanes() && depth > if taps == 1 { 128 } else { 64 }
        },
        why: "few output channels, long sums: lanes are pixels, the channels are taken a few at a time",
    },
    Row {
        algo: Conv2dAlgo::Direct,
        fits: |isa, spec| spec.outputs * 2 <= isa.lanes() && width(spec) * 2 >= isa.lanes(),
        why: "fewer output channels than half a vector: lanes are pixels",
    },
    Row {
        algo: Conv2dAlgo::Pointwise,
        fits: |_, _| true,
        why: "1x1, stride 1, no padding: the pixels as they lie are the rows of a matrix product",
    },
    Row {
        algo: Conv2dAlgo::Direct,
        fits: |isa, spec| spec.correlation.channels <= 4 && width(spec) * 4 >= isa.lanes() * 3,
        why: "few input channels: the sums are too short to pay for a transposed store",
    },
    Row {
        algo: Conv2dAlgo::Im2col,
        // 2x2x512 to 512: unfolded 78% of the microkernel's speed against 67% (AVX-512), 68% against 44% (AVX2);
        // at 4x4 and above the unfolding costs more than narrow tiles do.
        fits: |_, spec| width(spec) < 3,
        why: "rows of one or two pixels: those of several rows and images are unfolded into full tiles",
    },
    Row {
        algo: Conv2dAlgo::ImplicitGemm,
        fits: |_, _| true,
        why: "enough channels and pixels for full tiles, read from a padded copy without unfolding",
    },
];

/// Outputs of a row.
fn width(spec: &Spec<'_>) -> usize {
    spec.correlation.output[1]
}
