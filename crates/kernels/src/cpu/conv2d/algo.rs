//! Which algorithm for which shape: a table, read from the top.

use crate::cpu::conv2d::engine::Spec;
use crate::shape::{Accuracy, Conv2dAlgo};
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
        algo: Conv2dAlgo::WinogradF3,
        // 3,224x224 to 64: 1.9 ms against 2.7 of the direct convolution (AVX2).
        fits: |isa, spec| kernel(spec) == (7, 2) && winograd_pays(isa, spec, 3),
        why: "7x7, stride 2: its four phases by tiles of 3x3, added up before they are transformed back",
    },
    Row {
        algo: Conv2dAlgo::Direct,
        fits: |isa, spec| spec.correlation.channels <= 4 && width(spec) * 4 >= isa.lanes() * 3,
        why: "few input channels: the sums are too short to pay for a transposed store",
    },
    // The thresholds were measured on AVX2: docs/performance.md.
    Row {
        algo: Conv2dAlgo::WinogradF6,
        // Where the products are many channels deep, they leave the transforms nothing to gain.
        fits: |isa, spec| {
            let shallow = spec.correlation.channels <= 128 && tiles(spec, 6) >= 100;
            let fits = kernel(spec) == (3, 1) && winograd_pays(isa, spec, 16) && shallow;
            fits && spec.accuracy == Accuracy::Fast
        },
        why: "3x3, stride 1, accuracy Fast, few channels: tiles of 6x6 by a fifth of the multiplications",
    },
    Row {
        algo: Conv2dAlgo::WinogradF4,
        fits: |isa, spec| {
            let fits = kernel(spec) == (5, 1) && winograd_pays(isa, spec, 8);
            fits && spec.accuracy == Accuracy::Fast
        },
        why: "5x5, stride 1, accuracy Fast: tiles of 4x4 by a sixth of the multiplications",
    },
    Row {
        algo: Conv2dAlgo::WinogradF2,
        fits: |isa, spec| kernel(spec) == (5, 1) && winograd_pays(isa, spec, 8),
        why: "5x5, stride 1: tiles of 2x2 by a third of the multiplications",
    },
    Row {
        algo: Conv2dAlgo::WinogradF2,
        fits: |isa, spec| kernel(spec) == (3, 1) && winograd_pays(isa, spec, 16) && fits_tiles_of_two(spec),
        why: "3x3, stride 1, a small plane: tiles of 2x2 fit it, and read fewer transformed weights than those of 4x4",
    },
    Row {
        algo: Conv2dAlgo::WinogradF4,
        fits: |isa, spec| kernel(spec) == (3, 1) && winograd_pays(isa, spec, 16),
        why: "3x3, stride 1: tiles of 4x4 by a quarter of the multiplications",
    },
    Row {
        algo: Conv2dAlgo::WinogradF4,
        // Nine times as many transformed weights as given ones: fewer tiles do not pay for reading them. 256,28x28 to 256 3x3, 16
        // tiles: 3.4 ms against 3.0 of the implicit GEMM.
        fits: |isa, spec| {
            let least = if kernel(spec) == (3, 2) { 16 } else { 8 };
            let served = spec.correlation.channels * spec.outputs <= 1024 * tiles(spec, 4);
            matches!(kernel(spec), (3..=5, 2)) && winograd_pays(isa, spec, least) && served
        },
        why: "stride 2: its four phases by tiles of 4x4, added up before they are transformed back",
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

/// Whether Winograd's algorithm is allowed, and ahead of the others: enough channels on both sides of the products to pay for the
/// transforms (and, for the input, at `least` so many, to stay within three times the error of direct algorithms).
fn winograd_pays(isa: Isa, spec: &Spec<'_>, least: usize) -> bool {
    let channels = spec.correlation.channels;
    let enough = channels >= least && spec.outputs >= isa.lanes() && channels <= 16 * spec.outputs;
    let dense = spec.placement.column == 1 && spec.accuracy != Accuracy::Exact;
    dense && enough && spec.correlation.output.iter().all(|&extent| extent >= 4)
}

/// The side of a kernel, and its stride, if both are square, and all of its taps are read, side by side.
fn kernel(spec: &Spec<'_>) -> (usize, usize) {
    let (taps, [step, of_columns]) = (&spec.correlation.taps, spec.correlation.step);
    let side = taps.len().isqrt();
    // Turned around where it belongs to a gradient.
    let extent = |axis: usize| taps[taps.len() - 1].at[axis].abs_diff(taps[0].at[axis]) + 1;
    let square = side > 0 && side * side == taps.len() && [extent(0), extent(1)] == [side; 2];
    if square && step == of_columns { (side, step) } else { (0, 0) }
}

/// Tiles of `m` by `m` outputs of all images.
fn tiles(spec: &Spec<'_>, m: usize) -> usize {
    let [rows, columns] = spec.correlation.output.map(|extent| extent.div_ceil(m));
    spec.images.saturating_mul(rows).saturating_mul(columns)
}

/// Products of a channel in tiles of `m` by `m`: more than outputs need, where the tiles reach beyond them.
fn products(spec: &Spec<'_>, m: usize) -> usize {
    tiles(spec, m).saturating_mul((m + 2) * (m + 2))
}

/// Whether tiles of 2x2 beat those of 4x4: where they are fewer products, or hardly more and there are so many weights that
/// transforming them at each run takes its time. 512,10x10 to 512: 2.3 ms against 2.7; 14x14: 4.2 against 4.0 (AVX-512).
fn fits_tiles_of_two(spec: &Spec<'_>) -> bool {
    let [of_two, of_four] = [2, 4].map(|m| products(spec, m));
    let many_weights = spec.correlation.channels * spec.outputs >= 64 * 1024;
    of_two <= of_four || tiles(spec, 4) == 1 || (many_weights && of_two <= of_four + of_four / 4)
}

/// Outputs of a row.
fn width(spec: &Spec<'_>) -> usize {
    spec.correlation.output[1]
}
