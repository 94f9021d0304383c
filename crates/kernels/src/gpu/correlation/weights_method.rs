//! How the gradient to the weights is computed: the shaders of the first pass, and their tiles.

use std::ops::Range;

use crate::gpu::context::AdapterKind;
use crate::gpu::wgsl::{Kernel, Shader, shader};

const DIRECT: Shader = shader!("conv2d_backward_weights_direct", 3, 1, "conv2d_backward_weights");
const GEMM: Shader = shader!("conv2d_backward_weights_gemm", 3, 1, "conv2d_backward_weights");

/// How the first pass computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// Each of `lanes` invocations sums a tile of outputs x products over some pixels of the part.
    Direct { tile: [usize; 2], lanes: usize },
    /// A workgroup of `grid` x `grid` invocations, each with a tile of `tile` x `tile`, shares what it reads.
    Gemm { tile: usize, grid: usize },
}

/// Invocations that add up their tiles. A software driver has eight in a vector, and gains nothing by more of them.
const LANES: usize = 64;
const SOFTWARE_LANES: usize = 8;

/// Every method that a plan may choose.
pub(super) const METHODS: [Method; 10] = [
    Method::Direct { tile: [1, 12], lanes: SOFTWARE_LANES },
    Method::Direct { tile: [4, 8], lanes: SOFTWARE_LANES },
    Method::Direct { tile: [16, 4], lanes: SOFTWARE_LANES },
    Method::Direct { tile: [16, 8], lanes: SOFTWARE_LANES },
    Method::Direct { tile: [1, 12], lanes: LANES },
    Method::Direct { tile: [4, 8], lanes: LANES },
    Method::Direct { tile: [16, 4], lanes: LANES },
    Method::Direct { tile: [8, 8], lanes: LANES },
    Method::Gemm { tile: 4, grid: 8 },
    Method::Gemm { tile: 4, grid: 16 },
];

impl Method {
    pub fn choose(kind: AdapterKind, outputs: usize, products: usize) -> Self {
        // As to the convolution itself, shared memory is no faster to a software driver than any other.
        let software = kind == AdapterKind::Cpu;
        let tile = match (outputs, products) {
            (1, _) => [1, 12],
            (..=4, _) => [4, 8],
            (_, ..=4) => [16, 4],
            _ if software => [16, 8],
            (..16, _) | (_, ..16) => [8, 8],
            (..=32, _) | (_, ..=32) => return Method::Gemm { tile: 4, grid: 8 },
            _ => return Method::Gemm { tile: 4, grid: 16 },
        };
        Method::Direct { tile, lanes: if software { SOFTWARE_LANES } else { LANES } }
    }

    pub fn kernel(self) -> Kernel {
        let word = |size: usize| size as u32;
        match self {
            Method::Direct { tile: [outputs, products], lanes } => {
                let constants =
                    [("TILE_M", word(outputs)), ("TILE_N", word(products)), ("LANES", word(lanes))];
                Kernel::new(DIRECT, constants)
            }
            Method::Gemm { tile, grid } => {
                // A slice of 16 pixels in vectors of four, for each invocation.
                let bring = 4 * tile / grid;
                Kernel::new(GEMM, [("TILE", word(tile)), ("GRID", word(grid)), ("BRING", word(bring))])
            }
        }
    }

    /// Outputs and products of a workgroup.
    pub fn block(self) -> [usize; 2] {
        match self {
            Method::Direct { tile, .. } => tile,
            Method::Gemm { tile, grid } => [tile * grid; 2],
        }
    }

    /// Pixels that a workgroup takes together.
    pub fn step(self) -> usize {
        if let Method::Direct { lanes, .. } = self { lanes } else { 16 }
    }

    /// Steps that make a part worth its sums, and those after which its sums would get too long.
    pub fn steps(self) -> Range<usize> {
        if let Method::Direct { .. } = self { 16..256 } else { 16..128 }
    }
}
