//! Binary cross-entropy with logits; the formula is at its shader.

use super::pairs::{Weights, share};
use super::{Gpu, UPDATES, accumulate};
use crate::error::Result;
use crate::gpu::buffer::{GpuView, GpuViewMut};
use crate::gpu::reduce::LANES;
use crate::gpu::wgsl::{Kernel, Shader, shader};
use crate::shape::Update;
use crate::shape::loss::check_pos_weight;

const OP: &str = "bce_with_logits";

const SUMS: Shader = shader!("loss_bce", 3, 1, "index", "reduce", "math");
const BACKWARD: Shader = shader!("loss_bce_backward", 3, 1, "index", "math");

fn sums(lanes: u32) -> Kernel {
    Kernel::new(SUMS, [("LANES", lanes)])
}

fn backward(update: Update) -> Kernel {
    Kernel::new(BACKWARD, [("ACCUMULATE", accumulate(update))])
}

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    LANES.into_iter().map(sums).chain(UPDATES.map(backward))
}

impl Gpu {
    pub(in crate::gpu) fn bce_with_logits_into(
        &self,
        x: GpuView<'_>,
        target: GpuView<'_>,
        pos_weight: Option<&[f32]>,
        y: GpuViewMut<'_>,
    ) -> Result<()> {
        let weights = self.pos_weights(x, pos_weight)?;
        self.mean_of_pairs(OP, sums, x, target, Some(&weights), y)
    }

    pub(in crate::gpu) fn bce_with_logits_backward_into(
        &self,
        x: GpuView<'_>,
        target: GpuView<'_>,
        pos_weight: Option<&[f32]>,
        gy: f32,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        let weights = self.pos_weights(x, pos_weight)?;
        self.map_pairs(OP, backward(update), x, target, Some(&weights), share(gy, x) as f32, gx)
    }

    /// The weights of positive targets; a single 1 for all channels if there are none.
    fn pos_weights(&self, x: GpuView<'_>, pos_weight: Option<&[f32]>) -> Result<Weights> {
        check_pos_weight(OP, x.shape, pos_weight)?;
        let weights = pos_weight.unwrap_or(&[1.0]);
        let buffer = self.upload_bytes(OP, bytemuck::cast_slice(weights))?;
        Ok(Weights { buffer, channels: weights.len(), plane: x.shape.plane_len() })
    }
}
