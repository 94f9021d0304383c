//! How a correlation is computed: the shaders, and their tiles.

use crate::gpu::activation::code;
use crate::gpu::recorder::WORKGROUP;
use crate::gpu::wgsl::{Kernel, Shader, shader};
use crate::shape::Activation;

const DIRECT: Shader = shader!("conv2d_direct", 4, 1, "conv2d_params", "index", "epilogue", "math");
const DEPTHWISE: Shader = shader!("conv2d_depthwise", 4, 1, "conv2d_params", "index", "epilogue", "math");
const GATHER: Shader =
    shader!("conv2d_gather", 4, 1, "conv2d_gemm", "conv2d_params", "index", "epilogue", "math");
const POINTWISE: Shader =
    shader!("conv2d_pointwise", 4, 1, "conv2d_gemm", "conv2d_params", "index", "epilogue", "math");

/// How a correlation is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::gpu) enum Method {
    /// An invocation computes so many pixels of one output; for one input channel in a group.
    Depthwise { pixels: usize },
    /// An invocation holds a tile of so many outputs x pixels.
    Direct { outputs: usize, pixels: usize },
    /// A workgroup of `grid` invocations, each with a tile of `tile` outputs x pixels, shares what it reads.
    Gemm { tile: [usize; 2], grid: [usize; 2] },
}

impl Method {
    /// Outputs of a workgroup; weights are padded to a multiple of it.
    pub fn outputs(self) -> usize {
        match self {
            Method::Depthwise { .. } => 1,
            Method::Direct { outputs, .. } => outputs,
            Method::Gemm { tile, grid } => tile[0] * grid[0],
        }
    }

    /// Pixels of a workgroup.
    pub fn pixels(self) -> usize {
        match self {
            Method::Depthwise { pixels } | Method::Direct { pixels, .. } => WORKGROUP * pixels,
            Method::Gemm { tile, grid } => tile[1] * grid[1],
        }
    }

    /// Weights that the shader reads at once.
    pub fn vector(self) -> usize {
        if matches!(self, Method::Depthwise { .. }) { 1 } else { 4 }
    }

    /// The register tile: outputs x pixels.
    pub fn tile(self) -> [usize; 2] {
        match self {
            Method::Depthwise { pixels } => [1, pixels],
            Method::Direct { outputs, pixels } => [outputs, pixels],
            Method::Gemm { tile, .. } => tile,
        }
    }

    /// The kernel; `pointwise` where pixels are products' rows of aligned vectors.
    pub fn kernel(self, activation: Activation, pointwise: bool) -> Kernel {
        let [outputs, pixels] = self.tile().map(|size| size as u32);
        let activation = ("ACTIVATION", code(activation).0);
        match self {
            Method::Depthwise { .. } => Kernel::new(DEPTHWISE, [activation, ("TILE_N", pixels)]),
            Method::Direct { .. } => {
                Kernel::new(DIRECT, [activation, ("TILE_M", outputs), ("TILE_N", pixels)])
            }
            Method::Gemm { grid, .. } => {
                let [grid_m, grid_n] = grid.map(|size| size as u32);
                let shader = if pointwise { POINTWISE } else { GATHER };
                let tile = [("TILE_M", outputs), ("TILE_N", pixels), ("GRID_M", grid_m), ("GRID_N", grid_n)];
                Kernel::new(shader, [activation, tile[0], tile[1], tile[2], tile[3]])
            }
        }
    }
}
