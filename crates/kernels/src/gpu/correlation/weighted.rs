//! An operator with weights: a correlation, or several that share the weights, as the phases of a transposed convolution do.

use super::sections::Rows;
use super::{Engine, weights};
use crate::backend::expect_shape;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::gpu::buffer::{GpuTensor, GpuView};
use crate::shape::{Update, check_new_weights};
use crate::tensor::Shape4;

/// Correlations that share weights and bias.
pub(in crate::gpu) struct Weighted {
    op: &'static str,
    engines: Vec<Engine>,
    weights: Shape4,
    rows: Rows,
    bias_len: Option<usize>,
}

/// Weights of the host, of a length that was checked, and what an image of them belongs to.
pub(in crate::gpu) struct HostWeights<'a> {
    pub values: &'a [f32],
    pub shape: Shape4,
    pub rows: Rows,
    pub bias: Option<&'a [f32]>,
}

impl Weighted {
    pub fn new(gpu: &Gpu, op: &'static str, engines: Vec<Engine>, weights: HostWeights<'_>) -> Result<Self> {
        let HostWeights { values, shape, rows, bias } = weights;
        let weighted = Weighted { op, engines, weights: shape, rows, bias_len: bias.map(<[f32]>::len) };
        let values = GpuTensor::uploaded(gpu, op, shape, values)?;
        let bias = bias.map(|bias| GpuTensor::uploaded(gpu, op, Shape4::new(1, bias.len(), 1, 1), bias));
        let bias = bias.transpose()?;
        weighted.set_weights(gpu, values.view(), bias.as_ref().map(GpuTensor::view))?;
        Ok(weighted)
    }

    /// Replaces weights and bias, on the device.
    pub fn set_weights(&self, gpu: &Gpu, weights: GpuView<'_>, bias: Option<GpuView<'_>>) -> Result<()> {
        let len = bias.map(|bias| bias.shape.c);
        check_new_weights(self.op, self.weights, weights.shape, self.bias_len, len)?;
        for engine in &self.engines {
            engine.set_weights(gpu, weights, self.rows)?;
        }
        if let Some(bias) = bias {
            expect_shape(self.op, "bias shape", Shape4::new(1, bias.shape.c, 1, 1), bias.shape)?;
            self.engines.iter().try_for_each(|engine| engine.set_bias(gpu, bias))?;
        }
        Ok(())
    }

    /// Queues what is written to `y`, or added to it, for views of the planned shapes.
    pub fn run(&self, gpu: &Gpu, x: GpuView<'_>, y: GpuView<'_>, update: Update) -> Result<()> {
        for engine in self.engines.iter().filter(|_| update == Update::Accumulate) {
            if engine.cuts_sums(gpu, x, y)? {
                // Sums of several dispatches are complete before they are added.
                let sums = GpuTensor::new(gpu, self.op, y.shape)?;
                self.run(gpu, x, sums.view(), Update::Write)?;
                return weights::add_up(gpu, self.op, sums.view(), 1, y, update);
            }
        }
        self.engines.iter().try_for_each(|engine| engine.run(gpu, x, y, update))
    }
}
