//! An operator with weights: a correlation, or several that share the weights, as the phases of a transposed convolution do.

use super::sections::Rows;
use super::tiles::Tiles;
use super::{Engine, Spec, weights};
use crate::backend::expect_shape;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::gpu::buffer::{GpuTensor, GpuView};
use crate::shape::correlation::{Correlation, Placement};
use crate::shape::{Update, check_new_weights};
use crate::tensor::Shape4;

/// The correlations that make an operator, as they are computed: of whole images or, where these are too large, of tiles.
pub(in crate::gpu) struct Geometry {
    pub correlations: Vec<(Correlation, Placement)>,
    tiles: Option<Tiles>,
    /// Images that are computed together.
    images: usize,
    /// Whether one dispatch reaches all channels of an image, or of a tile.
    all_channels: bool,
}

impl Geometry {
    /// Correlations of `input` that make `output` together.
    pub fn new(
        gpu: &Gpu,
        op: &'static str,
        [input, output]: [Shape4; 2],
        mut correlations: Vec<(Correlation, Placement)>,
    ) -> Result<Self> {
        let tiles = Tiles::cut(gpu, op, input, output, &mut correlations)?;
        let shapes = tiles.as_ref().map_or([input, output], Tiles::shapes);
        let all_channels = shapes.iter().all(|shape| shape.image_len() <= gpu.reach());
        Ok(Geometry { correlations, images: shapes[0].n, tiles, all_channels })
    }

    /// Pixels that a correlation computes at once.
    pub fn pixels(&self, correlation: &Correlation) -> usize {
        self.images * correlation.output[0] * correlation.output[1]
    }

    /// Whether one dispatch reaches all channels of an image, or of a tile.
    pub fn all_channels(&self) -> bool {
        self.all_channels
    }
}

/// Correlations that share weights and bias.
pub(in crate::gpu) struct Weighted {
    op: &'static str,
    engines: Vec<Engine>,
    tiles: Option<Tiles>,
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
    /// Each correlation is computed as `spec` says.
    pub fn new(
        gpu: &Gpu,
        op: &'static str,
        geometry: Geometry,
        spec: impl Fn(&Geometry, &Correlation) -> Spec,
        weights: HostWeights<'_>,
    ) -> Result<Self> {
        let HostWeights { values, shape, rows, bias } = weights;
        let engine = |(correlation, placement): &(Correlation, Placement)| {
            Engine::new(gpu, spec(&geometry, correlation), correlation, *placement)
        };
        let engines = geometry.correlations.iter().map(engine).collect::<Result<_>>()?;
        let (tiles, bias_len) = (geometry.tiles, bias.map(<[f32]>::len));
        let weighted = Weighted { op, engines, tiles, weights: shape, rows, bias_len };
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
        match &self.tiles {
            None => self.run_at_once(gpu, x, y, update),
            Some(tiles) => tiles.run(gpu, self.op, x, y, update, |x, y| {
                self.engines.iter().try_for_each(|engine| engine.run(gpu, x, y, Update::Write))
            }),
        }
    }

    fn run_at_once(&self, gpu: &Gpu, x: GpuView<'_>, y: GpuView<'_>, update: Update) -> Result<()> {
        if update == Update::Accumulate && self.engines.iter().any(|engine| engine.cuts_sums(gpu, x, y)) {
            // Sums of several dispatches are complete before they are added.
            let sums = GpuTensor::new(gpu, self.op, y.shape)?;
            self.run_at_once(gpu, x, sums.view(), Update::Write)?;
            return weights::add_up(gpu, self.op, sums.view(), 1, y, update);
        }
        self.engines.iter().try_for_each(|engine| engine.run(gpu, x, y, update))
    }
}
