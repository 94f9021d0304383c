//! Convolution: the method for each shape, and plans.

mod backward;

pub use backward::{GpuConv2dBackwardInput, GpuConv2dBackwardWeights};

use crate::backend::expect_shape;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::buffer::{GpuView, GpuViewMut};
use crate::gpu::context::AdapterKind;
use crate::gpu::correlation::{self, Geometry, HostWeights, Method, Rows, Spec, Weighted};
use crate::gpu::wgsl::Kernel;
use crate::shape::correlation::{Correlation, Placement};
use crate::shape::{Activation, Conv2dAlgo, Conv2dShape, Update, check_weights};

const OP: &str = "conv2d";

/// A convolution on a GPU: the method chosen, the weights packed on the device.
pub struct GpuConv2d {
    shape: Conv2dShape,
    algo: Conv2dAlgo,
    method: Method,
    why: &'static str,
    weighted: Weighted,
}

impl GpuConv2d {
    /// The convolution's shape.
    pub fn shape(&self) -> &Conv2dShape {
        &self.shape
    }

    /// The algorithm chosen.
    pub fn algo(&self) -> Conv2dAlgo {
        self.algo
    }

    /// What was chosen and why: `conv2d/algorithm/wgsl/tile: reason`, the tile being the outputs x pixels that an
    /// invocation sums in registers.
    pub fn describe(&self) -> String {
        let [outputs, pixels] = self.method.tile();
        format!("{OP}/{}/wgsl/{outputs}x{pixels}: {}", self.algo, self.why)
    }
}

impl Gpu {
    /// Whether this GPU has the algorithm and it computes this convolution.
    pub fn supports(&self, algo: Conv2dAlgo, shape: &Conv2dShape) -> bool {
        algo.supports(shape)
            && match algo {
                Conv2dAlgo::Depthwise | Conv2dAlgo::Direct => true,
                // Shared memory is brought in for all channels at once.
                Conv2dAlgo::ImplicitGemm | Conv2dAlgo::Pointwise => {
                    let depth = Correlation::conv2d(shape).depth();
                    gemm_blocks(self.reach(), depth).next().is_some()
                        && self.conv2d_geometry(shape).is_ok_and(|geometry| geometry.all_channels())
                }
                Conv2dAlgo::Im2col
                | Conv2dAlgo::FewOutputs
                | Conv2dAlgo::WinogradF2
                | Conv2dAlgo::WinogradF3
                | Conv2dAlgo::WinogradF4
                | Conv2dAlgo::WinogradF6 => false,
            }
    }

    fn conv2d_geometry(&self, shape: &Conv2dShape) -> Result<Geometry> {
        let whole = (Correlation::conv2d(shape), Placement::conv2d(shape));
        Geometry::new(self, OP, [shape.input(), shape.output()], vec![whole])
    }

    pub(in crate::gpu) fn plan_conv2d(
        &self,
        shape: Conv2dShape,
        weights: &[f32],
        bias: Option<&[f32]>,
        activation: Activation,
        algo: Option<Conv2dAlgo>,
    ) -> Result<GpuConv2d> {
        let (algo, why) = match algo {
            None => self.choose(&shape),
            Some(algo) if self.supports(algo, &shape) => (algo, "asked for by name"),
            Some(algo) => {
                let expected = "one that supports this shape on a GPU";
                return Err(Error::invalid(OP, "algorithm", expected, algo.name()));
            }
        };
        let geometry = self.conv2d_geometry(&shape)?;
        let groups = shape.params().groups;
        let outputs = shape.weights().n / groups;
        let (correlation, _) = &geometry.correlations[0];
        let (pixels, depth) = (geometry.pixels(correlation), correlation.depth());
        let method = match algo {
            Conv2dAlgo::Depthwise => DEPTHWISE,
            Conv2dAlgo::Direct => direct(self.adapter().kind, outputs, pixels),
            _ => gemm(self.reach(), [groups, depth, outputs], pixels),
        };
        let weighted = self.weighted_conv2d(&shape, geometry, weights, bias, activation, method)?;
        Ok(GpuConv2d { shape, algo, method, why, weighted })
    }

    fn weighted_conv2d(
        &self,
        shape: &Conv2dShape,
        geometry: Geometry,
        weights: &[f32],
        bias: Option<&[f32]>,
        activation: Activation,
        method: Method,
    ) -> Result<Weighted> {
        let w = shape.weights();
        check_weights(OP, weights, w.checked_len(OP, "weights")?, bias, w.n)?;
        activation.validate()?;
        let groups = shape.params().groups;
        let spec = Spec { op: OP, groups, outputs: w.n / groups, activation, method };
        let weights = HostWeights { values: weights, shape: w, rows: Rows::Outputs, bias };
        Weighted::new(self, OP, geometry, |_, _| spec, weights)
    }

    pub(in crate::gpu) fn conv2d_set_weights(
        &self,
        plan: &GpuConv2d,
        weights: GpuView<'_>,
        bias: Option<GpuView<'_>>,
    ) -> Result<()> {
        plan.weighted.set_weights(self, weights, bias)
    }

    pub(in crate::gpu) fn conv2d_into(
        &self,
        plan: &GpuConv2d,
        x: GpuView<'_>,
        y: GpuViewMut<'_>,
    ) -> Result<()> {
        expect_shape(OP, "input shape", plan.shape.input(), x.shape)?;
        expect_shape(OP, "output shape", plan.shape.output(), y.shape())?;
        plan.weighted.run(self, x, y.0, Update::Write)
    }

    /// The first row of the table that fits.
    fn choose(&self, shape: &Conv2dShape) -> (Conv2dAlgo, &'static str) {
        let kind = self.adapter().kind;
        let row = TABLE.iter().find(|row| self.supports(row.algo, shape) && (row.fits)(kind, shape));
        row.map_or((Conv2dAlgo::Direct, "computes every convolution"), |row| (row.algo, row.why))
    }
}

struct Row {
    algo: Conv2dAlgo,
    fits: fn(AdapterKind, &Conv2dShape) -> bool,
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
        fits: |kind, _| kind == AdapterKind::Cpu,
        why: "a software driver: shared memory is as slow as any other, so that only registers help",
    },
    Row {
        algo: Conv2dAlgo::Direct,
        fits: |_, shape| shape.weights().c <= 4 || shape.weights().n / shape.params().groups < 16,
        why: "few input or output channels: a block of a matrix product would stay half empty",
    },
    Row {
        algo: Conv2dAlgo::Pointwise,
        fits: |_, _| true,
        why: "1x1, stride 1, no padding: pixels that are aligned in fours are read as they lie",
    },
    Row {
        algo: Conv2dAlgo::ImplicitGemm,
        fits: |_, _| true,
        why: "enough channels for a matrix product over patches that are never unfolded",
    },
];

/// The tile of the direct method.
///
/// A software driver reads memory one lane at a time, about 200 cycles for a vector: of the tiles from 4x1 to 32x8, 16x8 was
/// the fastest when this was written (64,56x56 -> 64 3x3 on lavapipe: 2.1 GFLOP/s, against 0.4 for 4x1). A GPU hides latency by many invocations with few registers.
fn direct(kind: AdapterKind, outputs: usize, pixels: usize) -> Method {
    let [outputs, pixels] = match (kind, outputs, pixels) {
        (AdapterKind::Cpu, ..=4, _) => [4, 4],
        (AdapterKind::Cpu, _, ..=64) => [16, 1],
        (AdapterKind::Cpu, _, ..=256) => [16, 4],
        (AdapterKind::Cpu, ..) => [16, 8],
        (_, ..=4, _) => [4, 2],
        _ => [8, 2],
    };
    Method::Direct { outputs, pixels }
}

impl Gpu {
    /// The method of a correlation of an operator without a table of its own.
    pub(in crate::gpu) fn method(
        &self,
        [groups, outputs]: [usize; 2],
        geometry: &Geometry,
        correlation: &Correlation,
    ) -> Method {
        let (kind, channels, depth) = (self.adapter().kind, correlation.channels, correlation.depth());
        if groups > 1 && channels == 1 {
            return DEPTHWISE;
        }
        let pixels = geometry.pixels(correlation);
        let few = channels <= 4 || outputs < 16;
        let fits = geometry.all_channels() && gemm_blocks(self.reach(), depth).next().is_some();
        if kind == AdapterKind::Cpu || few || !fits {
            direct(kind, outputs, pixels)
        } else {
            gemm(self.reach(), [groups, depth, outputs], pixels)
        }
    }
}

/// Four pixels share what an invocation reads of weights and taps.
const DEPTHWISE: Method = Method::Depthwise { pixels: 4 };

/// Every tile that [`direct`] gives.
const DIRECT_TILES: [[usize; 2]; 6] = [[4, 4], [16, 1], [16, 4], [16, 8], [4, 2], [8, 2]];

/// Blocks of a matrix product, the largest first: 128x128, 64x64 and 32x32.
const GEMM_BLOCKS: [Method; 3] = [
    Method::Gemm { tile: [8, 8], grid: [16, 16] },
    Method::Gemm { tile: [4, 4], grid: [16, 16] },
    Method::Gemm { tile: [4, 4], grid: [8, 8] },
];

/// Those of the blocks whose weights a dispatch reaches, for sums of `depth` products.
fn gemm_blocks(reach: usize, depth: usize) -> impl Iterator<Item = Method> {
    GEMM_BLOCKS.into_iter().filter(move |block| depth.saturating_mul(block.outputs()) <= reach)
}

/// The largest block of which there are enough to keep a hundred processors busy.
fn gemm(reach: usize, [groups, depth, outputs]: [usize; 3], pixels: usize) -> Method {
    let enough = |block: &Method| {
        let size = block.outputs();
        outputs > size / 2 && groups * outputs.div_ceil(size) * pixels.div_ceil(size) >= 100
    };
    let [.., small] = GEMM_BLOCKS;
    gemm_blocks(reach, depth).find(enough).unwrap_or(small)
}

/// Every method that a plan may choose.
fn methods() -> impl Iterator<Item = Method> {
    let direct = DIRECT_TILES.into_iter().map(|[outputs, pixels]| Method::Direct { outputs, pixels });
    direct.chain(GEMM_BLOCKS).chain([DEPTHWISE])
}

/// Every kernel of correlations.
pub(in crate::gpu) fn kernels() -> impl Iterator<Item = Kernel> {
    let methods = methods().flat_map(|method| {
        let gemm = matches!(method, Method::Gemm { .. });
        let loaders = if gemm { &[false, true][..] } else { &[false] };
        let of = move |f: Activation| loaders.iter().map(move |&pointwise| method.kernel(f, pointwise));
        Activation::ALL.into_iter().flat_map(of)
    });
    methods.chain(correlation::kernels())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cpu;
    use crate::gpu::{GpuTensor, testing};
    use crate::shape::Conv2dParams;
    use crate::tensor::{Shape4, Tensor};

    /// Shapes choose few of the tiles; here all of them compute the same convolutions.
    #[test]
    fn every_method_computes_the_same() -> Result<()> {
        let Some(gpu) = testing::devices().first() else { return Ok(()) };
        let dense = Conv2dParams::default().padding(1).stride(2).dilation(2);
        let cases = [(3, [3, 3], dense), (24, [1, 1], Conv2dParams::default()), (6, [3, 2], dense.groups(6))];
        for (channels, kernel, params) in cases {
            let shape = Conv2dShape::new(Shape4::new(3, channels, 18, 22), 132, kernel, params)?;
            let numbers = |shape: Shape4| {
                Tensor::from_fn(shape, |[n, c, h, w]| ((5 * n + 3 * c + 7 * h + 11 * w) % 13) as f32 - 6.0)
            };
            let (x, w) = (numbers(shape.input())?, numbers(shape.weights())?);
            let bias: Vec<f32> = (0..132).map(|i| (i % 5) as f32).collect();
            let want = Cpu::new()?.conv2d(&x, &w, Some(&bias), params)?;
            let twice = Tensor::from_fn(want.shape(), |[n, c, h, w]| 2.0 * want.at(n, c, h, w))?;
            let x = GpuTensor::uploaded(gpu, OP, x.shape(), x.data())?;
            let fits = |m: &Method| shape.weights().c == 1 || !matches!(m, Method::Depthwise { .. });
            for method in methods().filter(fits) {
                let identity = Activation::Identity;
                let geometry = gpu.conv2d_geometry(&shape)?;
                let weighted =
                    gpu.weighted_conv2d(&shape, geometry, w.data(), Some(&bias), identity, method)?;
                let garbage = vec![f32::NAN; want.data().len()];
                let y = GpuTensor::uploaded(gpu, OP, shape.output(), &garbage)?;
                for (update, want) in [(Update::Write, &want), (Update::Accumulate, &twice)] {
                    weighted.run(gpu, x.view(), y.view(), update)?;
                    let what = format!("{update:?} {method:?} of {shape:?}");
                    assert!(gpu.download_view(y.view())? == *want, "{what}");
                }
            }
        }
        Ok(())
    }
}
