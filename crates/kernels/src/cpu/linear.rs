//! Fully connected layer: a matrix product whose rows are samples, and its gradients: another, with the transposed weights,
//! and one whose sums run over the samples.

use crate::cpu::conv2d::weights::{Spec, WeightsGradient};
use crate::cpu::gemm::{Blocking, Epilogue, Output, Panels, Rows, Stretch, Tile, store_rows};
use crate::cpu::plan::{Description, check_memory, check_views};
use crate::cpu::scratch::Scratch;
use crate::cpu::{Cpu, expect_shape};
use crate::error::Result;
use crate::shape::correlation::Correlation;
use crate::shape::{Activation, LinearShape, Update, check_new_weights, check_weights};
use crate::simd::Simd;
use crate::tensor::{Tensor, TensorView, TensorViewMut, checked_product};

const OP: &str = "linear";
const INPUT: &str = "linear_backward_input";
const WEIGHTS: &str = "linear_backward_weights";

/// A fully connected layer (with bias and activation) ready to run, as [`crate::Conv2dPlan`] is.
///
/// ```
/// use tilewise_kernels::{Activation, Cpu, LinearPlan, LinearShape, Shape4, Tensor};
/// let x = Tensor::from_vec(Shape4::new(2, 3, 1, 1), vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?;
/// let shape = LinearShape::new(x.shape(), 1)?;
/// let plan = LinearPlan::new(&Cpu::new()?, shape, &[1.0, 1.0, 1.0], Some(&[0.5]), Activation::Identity)?;
/// let mut y = Tensor::zeros(shape.output())?;
/// plan.run(x.view(), y.view_mut(), &mut plan.scratch()?)?;
/// assert_eq!(y.data(), [6.5, 15.5]);
/// # Ok::<(), tilewise_kernels::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LinearPlan {
    cpu: Cpu,
    strands: usize,
    shape: LinearShape,
    panels: Panels,
    epilogue: Epilogue,
    has_bias: bool,
    offsets: Vec<usize>,
    pitch: usize,
    blocking: Blocking,
    scratch_len: usize,
}

impl LinearPlan {
    /// Packs `weights` (`[out features, in features]`, row-major) for this shape. `bias` has one value per output
    /// feature.
    ///
    /// The plan runs on at most as many threads as the device allows here and now ([`Cpu::thread_count`]).
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for wrong lengths or an activation with a parameter that is not finite;
    /// [`crate::Error::OutOfMemory`].
    pub fn new(
        cpu: &Cpu,
        shape: LinearShape,
        weights: &[f32],
        bias: Option<&[f32]>,
        activation: Activation,
    ) -> Result<Self> {
        let w = shape.weights();
        check_weights(OP, weights, w.checked_len(OP, "weights")?, bias, w.n)?;
        activation.validate()?;
        let mut plan = LinearPlan::without_weights(cpu, OP, shape, activation, bias.is_some())?;
        plan.set_weights(TensorView::new(weights, w, w.image_len())?, bias)?;
        Ok(plan)
    }

    /// With weights and bias of zeros.
    fn without_weights(
        cpu: &Cpu,
        op: &'static str,
        shape: LinearShape,
        activation: Activation,
        has_bias: bool,
    ) -> Result<Self> {
        let (depth, outputs) = (shape.in_features(), shape.output().c);
        let isa = cpu.isa();
        let pitch = isa.tile().0;
        let tile_len = checked_product(op, "panel", &[depth, pitch])?;
        let mut plan = LinearPlan {
            cpu: *cpu,
            strands: cpu.thread_count(),
            shape,
            panels: Panels::new(isa, depth, outputs)?,
            epilogue: Epilogue::new(outputs, activation)?,
            has_bias,
            offsets: (0..depth).map(|k| k * pitch).collect(),
            pitch,
            blocking: Blocking::new(shape.input().n, pitch, tile_len),
            scratch_len: 0,
        };
        plan.scratch_len = checked_product(op, "scratch", &[plan.strands, plan.strand_len(isa)])?;
        Ok(plan)
    }

    /// Replaces the weights (of shape [`LinearShape::weights`]) and the bias. Allocates nothing.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for another shape or length, or a bias where there was none and the other way round.
    pub fn set_weights(&mut self, weights: TensorView<'_>, bias: Option<&[f32]>) -> Result<()> {
        let w = self.shape.weights();
        check_new_weights(OP, w, weights.shape(), self.has_bias.then_some(w.n), bias.map(<[f32]>::len))?;
        self.panels.fill_columns(&self.cpu, |column| weights.image(column));
        bias.into_iter().for_each(|bias| self.epilogue.set_bias(bias));
        Ok(())
    }

    /// f32 of a packed tile.
    fn tile_len(&self) -> usize {
        self.offsets.len() * self.pitch
    }

    /// The layer's shape.
    pub fn shape(&self) -> &LinearShape {
        &self.shape
    }

    /// What was chosen, and why.
    pub fn describe(&self) -> Description {
        let isa = self.cpu.isa();
        Description::new(OP, "gemm", isa, isa.tile(), "a matrix product whose rows are samples")
    }

    /// f32 of scratch that [`LinearPlan::run`] needs.
    pub fn scratch_len(&self) -> usize {
        self.scratch_len
    }

    /// A scratch large enough.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub fn scratch(&self) -> Result<Scratch> {
        Scratch::with_len(self.scratch_len)
    }

    /// Computes `y = activation(x * weights^T + bias)`. `y` is `[n, out features, 1, 1]`.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if a view has another shape than the plan's, or the scratch is too small.
    pub fn run(&self, x: TensorView<'_>, mut y: TensorViewMut<'_>, scratch: &mut Scratch) -> Result<()> {
        check_views(OP, x, self.shape.input(), &y, self.shape.output())?;
        let scratch = scratch.require(OP, self.scratch_len)?;
        // SAFETY: the shapes were just checked.
        unsafe { Rows::run(self, self.cpu.isa(), x, &mut y, Update::Write, self.strands, scratch) };
        Ok(())
    }
}

// SAFETY: the panels hold `pitch` samples for every feature; the outputs of a tile are its own samples'.
unsafe impl Rows for LinearPlan {
    fn panels(&self) -> &[Panels] {
        std::slice::from_ref(&self.panels)
    }

    fn blocks(&self, _: usize) -> usize {
        self.blocking.blocks()
    }

    #[inline(always)]
    fn group(&self, _: usize) -> usize {
        0
    }

    fn load_len(&self) -> usize {
        self.blocking.max_tiles() * self.tile_len()
    }

    fn max_tiles(&self) -> usize {
        self.blocking.max_tiles()
    }

    #[inline(always)]
    fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    #[inline(always)]
    fn load<S: Simd>(&self, _: S, x: TensorView<'_>, block: usize, scratch: &mut [f32]) -> *const f32 {
        for tile in 0..self.tiles(block) {
            let (first, count) = self.blocking.tile(block, tile);
            let panel = &mut scratch[tile * self.tile_len()..(tile + 1) * self.tile_len()];
            for i in 0..count {
                let sample = x.image(first + i);
                for (value, &x) in panel[i..].iter_mut().step_by(self.pitch).zip(sample) {
                    *value = x;
                }
            }
        }
        scratch.as_ptr()
    }

    #[inline(always)]
    fn tiles(&self, block: usize) -> usize {
        self.blocking.tiles(block)
    }

    #[inline(always)]
    fn tile(&self, block: usize, tile: usize) -> Tile {
        Tile { start: tile * self.tile_len(), rows: self.blocking.tile(block, tile).1 }
    }

    #[inline(always)]
    fn follows(&self, _: usize) -> bool {
        true
    }

    #[inline(always)]
    unsafe fn store<S: Simd>(&self, simd: S, out: Output, block: usize, tile: usize, result: Stretch) {
        let first = self.blocking.tile(block, tile).0;
        // SAFETY: whole rows of samples of the batch.
        unsafe {
            store_rows(simd, &self.epilogue, result, out.at(first, 0), out.batch_stride(), out.update());
        }
    }
}

/// The gradient of a fully connected layer to its input, ready to run: `gx = gy * weights`.
///
/// ```
/// use tilewise_kernels::{Cpu, LinearBackwardInputPlan, LinearShape, Shape4, Tensor, Update};
/// let shape = LinearShape::new(Shape4::new(1, 3, 1, 1), 2)?;
/// let plan = LinearBackwardInputPlan::new(&Cpu::new()?, shape, &[1.0, 2.0, 3.0, 10.0, 20.0, 30.0])?;
/// let gy = Tensor::from_vec(shape.output(), vec![1.0, 2.0])?;
/// let mut gx = Tensor::zeros(shape.input())?;
/// plan.run(gy.view(), gx.view_mut(), Update::Write, &mut plan.scratch()?)?;
/// assert_eq!(gx.data(), [21.0, 42.0, 63.0]);
/// # Ok::<(), tilewise_kernels::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LinearBackwardInputPlan {
    shape: LinearShape,
    /// The layer with the transposed weights.
    transposed: LinearPlan,
}

impl LinearBackwardInputPlan {
    /// Packs `weights` (`[out features, in features]`, row-major) for this shape.
    ///
    /// The plan runs on at most as many threads as the device allows here and now ([`Cpu::thread_count`]).
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for a wrong length; [`crate::Error::Overflow`]; [`crate::Error::OutOfMemory`].
    pub fn new(cpu: &Cpu, shape: LinearShape, weights: &[f32]) -> Result<Self> {
        let w = shape.weights();
        check_weights(INPUT, weights, w.checked_len(INPUT, "weights")?, None, w.n)?;
        let transposed = LinearShape::new(shape.output(), shape.in_features())?;
        let transposed = LinearPlan::without_weights(cpu, INPUT, transposed, Activation::Identity, false)?;
        let mut plan = LinearBackwardInputPlan { shape, transposed };
        plan.set_weights(TensorView::new(weights, w, w.image_len())?)?;
        Ok(plan)
    }

    /// Replaces the weights, of shape [`LinearShape::weights`]. Allocates nothing.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for another shape.
    pub fn set_weights(&mut self, weights: TensorView<'_>) -> Result<()> {
        check_new_weights(INPUT, self.shape.weights(), weights.shape(), None, None)?;
        let LinearPlan { panels, cpu, .. } = &mut self.transposed;
        panels.fill_rows(cpu, |row| weights.image(row));
        Ok(())
    }

    /// The layer's shape.
    pub fn shape(&self) -> &LinearShape {
        &self.shape
    }

    /// What was chosen, and why.
    pub fn describe(&self) -> Description {
        let isa = self.transposed.cpu.isa();
        Description::new(INPUT, "gemm", isa, isa.tile(), "a matrix product whose rows are samples")
    }

    /// f32 of scratch that [`LinearBackwardInputPlan::run`] needs.
    pub fn scratch_len(&self) -> usize {
        self.transposed.scratch_len
    }

    /// A scratch large enough.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub fn scratch(&self) -> Result<Scratch> {
        self.transposed.scratch()
    }

    /// Computes the gradient to the input, `gx`, from that to the output, `gy`. Touches nothing between the images of `gx`.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if a view has another shape than the plan's, or the scratch is too small.
    pub fn run(
        &self,
        gy: TensorView<'_>,
        mut gx: TensorViewMut<'_>,
        update: Update,
        scratch: &mut Scratch,
    ) -> Result<()> {
        expect_shape(INPUT, "shape of gy", self.shape.output(), gy.shape())?;
        expect_shape(INPUT, "shape of gx", self.shape.input(), gx.shape())?;
        let LinearPlan { cpu, strands, scratch_len, .. } = self.transposed;
        let scratch = scratch.require(INPUT, scratch_len)?;
        // SAFETY: the shapes were just checked; an image of gx is a row of features.
        unsafe { Rows::run(&self.transposed, cpu.isa(), gy, &mut gx, update, strands, scratch) };
        Ok(())
    }
}

/// The gradient of a fully connected layer to its weights, ready to run: `gw = gy^T * x`, summed over the samples.
#[derive(Debug, Clone)]
pub struct LinearBackwardWeightsPlan {
    shape: LinearShape,
    engine: WeightsGradient,
}

impl LinearBackwardWeightsPlan {
    /// Sizes everything for this shape.
    ///
    /// The plan runs on at most as many threads as the device allows here and now ([`Cpu::thread_count`]).
    ///
    /// # Errors
    /// [`crate::Error::Overflow`]; [`crate::Error::OutOfMemory`].
    pub fn new(cpu: &Cpu, shape: LinearShape) -> Result<Self> {
        check_memory(WEIGHTS, [shape.input(), shape.weights(), shape.output()])?;
        let spec = Spec {
            op: WEIGHTS,
            images: shape.input().n,
            groups: 1,
            outputs: shape.output().c,
            correlation: &Correlation::linear(&shape),
            kernel: 1,
        };
        Ok(LinearBackwardWeightsPlan { shape, engine: WeightsGradient::new(cpu, spec)? })
    }

    /// The layer's shape.
    pub fn shape(&self) -> &LinearShape {
        &self.shape
    }

    /// What was chosen, and why.
    pub fn describe(&self) -> Description {
        self.engine.describe(WEIGHTS)
    }

    /// f32 of scratch that [`LinearBackwardWeightsPlan::run`] needs.
    pub fn scratch_len(&self) -> usize {
        self.engine.scratch_len()
    }

    /// A scratch large enough.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub fn scratch(&self) -> Result<Scratch> {
        Scratch::with_len(self.scratch_len())
    }

    /// Computes the gradient to the weights, `gw` (of shape [`LinearShape::weights`]), from the input and the gradient to the
    /// output, `gy`.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if a view has another shape than the plan's, or the scratch is too small.
    pub fn run(
        &self,
        x: TensorView<'_>,
        gy: TensorView<'_>,
        gw: TensorViewMut<'_>,
        update: Update,
        scratch: &mut Scratch,
    ) -> Result<()> {
        expect_shape(WEIGHTS, "shape of x", self.shape.input(), x.shape())?;
        expect_shape(WEIGHTS, "shape of gy", self.shape.output(), gy.shape())?;
        expect_shape(WEIGHTS, "shape of gw", self.shape.weights(), gw.shape())?;
        let scratch = scratch.require(WEIGHTS, self.scratch_len())?;
        // SAFETY: the shapes were just checked; an image of x is a row of features, each a channel of one pixel.
        unsafe { self.engine.run(x.flattened(), gy, gw, update, scratch) };
        Ok(())
    }
}

impl Cpu {
    /// The fully connected layer: `x` is `[n, c, h, w]` (each image one row of `c*h*w` features), `weights`
    /// `[out features, in features, 1, 1]`; the result is `[n, out features, 1, 1]`. The easy call, which plans, packs
    /// and allocates every time. See [`LinearPlan`] for the other.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] or [`crate::Error::Overflow`] if the arguments do not fit;
    /// [`crate::Error::OutOfMemory`].
    pub fn linear(&self, x: &Tensor, weights: &Tensor, bias: Option<&[f32]>) -> Result<Tensor> {
        let shape = LinearShape::new(x.shape(), weights.shape().n)?;
        expect_shape(OP, "weights shape", shape.weights(), weights.shape())?;
        let plan = LinearPlan::new(self, shape, weights.data(), bias, Activation::Identity)?;
        let mut y = Tensor::zeros(shape.output())?;
        plan.run(x.view(), y.view_mut(), &mut plan.scratch()?)?;
        Ok(y)
    }
}
