//! Convolution, backward: the gradients to the input and to the weights, each planned or by one easy call.
//!
//! The gradient to the input is the transposed convolution with the same weights ([`PhasedEngine`]); the gradient to the
//! weights a matrix product over pixels ([`WeightsGradient`]), or over tiles ([`WinogradGradient`]).

use crate::cpu::conv2d::phased::PhasedEngine;
use crate::cpu::conv2d::weights::{Spec, WeightsGradient};
use crate::cpu::conv2d::winograd::WinogradGradient;
use crate::cpu::plan::{Description, check_has_weights, check_memory};
use crate::cpu::scratch::Scratch;
use crate::cpu::{Cpu, expect_shape};
use crate::error::Result;
use crate::shape::correlation::Correlation;
use crate::shape::{
    Activation, Conv2dAlgo, Conv2dShape, ConvTranspose2dShape, Update, check_new_weights, check_weights,
};
use crate::tensor::{TensorView, TensorViewMut};

const INPUT: &str = "conv2d_backward_input";
const WEIGHTS: &str = "conv2d_backward_weights";

/// The gradient of a convolution to its input, ready to run: as [`crate::Conv2dPlan`], with the same weights.
///
/// ```
/// use tilewise_kernels::{Conv2dBackwardInputPlan, Conv2dParams, Conv2dShape, Cpu, Shape4, Tensor, Update};
/// let shape = Conv2dShape::new(Shape4::new(1, 1, 2, 3), 1, [1, 2], Conv2dParams::default())?;
/// let plan = Conv2dBackwardInputPlan::new(&Cpu::new()?, shape, &[10.0, 1.0])?;
/// let gy = Tensor::from_vec(shape.output(), vec![1.0, 2.0, 3.0, 4.0])?;
/// let mut gx = Tensor::zeros(shape.input())?;
/// plan.run(gy.view(), gx.view_mut(), Update::Write, &mut plan.scratch()?)?;
/// assert_eq!(gx.data(), [10.0, 21.0, 2.0, 30.0, 43.0, 4.0]);
/// # Ok::<(), tilewise_kernels::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Conv2dBackwardInputPlan {
    shape: Conv2dShape,
    engine: PhasedEngine,
    /// Whether it has weights of its own.
    has_weights: bool,
}

impl Conv2dBackwardInputPlan {
    /// Packs `weights` (`[out, in / groups, kernel h, kernel w]`, row-major) for this shape.
    ///
    /// The plan runs on at most as many threads as the device allows here and now ([`Cpu::thread_count`]).
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for a wrong length; [`crate::Error::Overflow`]; [`crate::Error::OutOfMemory`].
    pub fn new(cpu: &Cpu, shape: Conv2dShape, weights: &[f32]) -> Result<Self> {
        let w = shape.weights();
        check_weights(INPUT, weights, w.checked_len(INPUT, "weights")?, None, w.n)?;
        let mut plan = Self::empty(cpu, shape, true)?;
        plan.engine.set_weights(TensorView::new(weights, w, w.image_len())?);
        Ok(plan)
    }

    /// A plan for weights that change from run to run, as [`crate::Conv2dPlan::without_weights`].
    ///
    /// # Errors
    /// As [`Conv2dBackwardInputPlan::new`].
    pub fn without_weights(cpu: &Cpu, shape: Conv2dShape) -> Result<Self> {
        Self::empty(cpu, shape, false)
    }

    fn empty(cpu: &Cpu, shape: Conv2dShape, has_weights: bool) -> Result<Self> {
        check_memory(INPUT, [shape.input(), shape.weights(), shape.output()])?;
        let (transposed, accuracy) = (ConvTranspose2dShape::of_gradient(&shape)?, shape.params().accuracy);
        let engine = PhasedEngine::new(cpu, INPUT, transposed, Activation::Identity, accuracy, has_weights)?;
        Ok(Conv2dBackwardInputPlan { shape, engine, has_weights })
    }

    /// Replaces the weights, of shape [`Conv2dShape::weights`]. Allocates nothing.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for another shape, or a plan without weights.
    pub fn set_weights(&mut self, weights: TensorView<'_>) -> Result<()> {
        check_has_weights(INPUT, self.has_weights)?;
        check_new_weights(INPUT, self.shape.weights(), weights.shape(), None, None)?;
        self.engine.set_weights(weights);
        Ok(())
    }

    /// The convolution's shape.
    pub fn shape(&self) -> &Conv2dShape {
        &self.shape
    }

    /// The algorithm chosen; none where a stride needs several convolutions.
    pub fn algo(&self) -> Option<Conv2dAlgo> {
        self.engine.algo()
    }

    /// What was chosen, and why.
    pub fn describe(&self) -> Description {
        self.engine.describe(INPUT)
    }

    /// f32 of scratch that [`Conv2dBackwardInputPlan::run`] needs.
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

    /// Computes the gradient to the input, `gx`, from that to the output, `gy`. Touches nothing between the images of `gx`.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if a view has another shape than the plan's, the scratch is too small, or the plan is without
    /// weights.
    pub fn run(
        &self,
        gy: TensorView<'_>,
        gx: TensorViewMut<'_>,
        update: Update,
        scratch: &mut Scratch,
    ) -> Result<()> {
        check_has_weights(INPUT, self.has_weights)?;
        self.check_views(gy, &gx)?;
        let scratch = scratch.require(INPUT, self.scratch_len())?;
        // SAFETY: the shapes were just checked.
        unsafe { self.engine.run(gy, gx, update, scratch) };
        Ok(())
    }

    /// The same with these weights: for a plan of either kind, whose own are replaced.
    ///
    /// # Errors
    /// Those of [`Conv2dBackwardInputPlan::set_weights`] and [`Conv2dBackwardInputPlan::run`].
    pub fn run_with(
        &mut self,
        weights: TensorView<'_>,
        gy: TensorView<'_>,
        gx: TensorViewMut<'_>,
        update: Update,
        scratch: &mut Scratch,
    ) -> Result<()> {
        check_new_weights(INPUT, self.shape.weights(), weights.shape(), None, None)?;
        self.check_views(gy, &gx)?;
        let scratch = scratch.require(INPUT, self.scratch_len())?;
        // SAFETY: the shapes were just checked.
        unsafe { self.engine.run_with(weights, gy, gx, update, scratch) };
        Ok(())
    }

    fn check_views(&self, gy: TensorView<'_>, gx: &TensorViewMut<'_>) -> Result<()> {
        expect_shape(INPUT, "shape of gy", self.shape.output(), gy.shape())?;
        expect_shape(INPUT, "shape of gx", self.shape.input(), gx.shape())
    }
}

/// The gradient of a convolution to its weights, ready to run.
///
/// ```
/// use tilewise_kernels::{Conv2dBackwardWeightsPlan, Conv2dParams, Conv2dShape, Cpu, Shape4, Tensor, Update};
/// let shape = Conv2dShape::new(Shape4::new(1, 1, 2, 3), 1, [1, 2], Conv2dParams::default())?;
/// let plan = Conv2dBackwardWeightsPlan::new(&Cpu::new()?, shape)?;
/// let x = Tensor::from_vec(shape.input(), vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?;
/// let gy = Tensor::from_vec(shape.output(), vec![1.0, 0.0, 0.0, 10.0])?;
/// let mut gw = Tensor::zeros(shape.weights())?;
/// plan.run(x.view(), gy.view(), gw.view_mut(), Update::Write, &mut plan.scratch()?)?;
/// assert_eq!(gw.data(), [51.0, 62.0]);
/// # Ok::<(), tilewise_kernels::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Conv2dBackwardWeightsPlan {
    shape: Conv2dShape,
    engine: WeightsEngine,
}

#[derive(Debug, Clone)]
enum WeightsEngine {
    Product(WeightsGradient),
    Winograd(WinogradGradient),
}

impl Conv2dBackwardWeightsPlan {
    /// Sizes everything for this shape.
    ///
    /// The plan runs on at most as many threads as the device allows here and now ([`Cpu::thread_count`]).
    ///
    /// # Errors
    /// [`crate::Error::Overflow`]; [`crate::Error::OutOfMemory`].
    pub fn new(cpu: &Cpu, shape: Conv2dShape) -> Result<Self> {
        let (w, groups) = (shape.weights(), shape.params().groups);
        check_memory(WEIGHTS, [shape.input(), w, shape.output()])?;
        let spec = Spec {
            op: WEIGHTS,
            images: shape.input().n,
            groups,
            outputs: w.n / groups,
            correlation: &Correlation::conv2d(&shape),
            kernel: w.h * w.w,
        };
        let accuracy = shape.params().accuracy;
        let engine = if WinogradGradient::pays(cpu, &spec, accuracy) {
            WeightsEngine::Winograd(WinogradGradient::new(cpu, &spec, accuracy)?)
        } else {
            WeightsEngine::Product(WeightsGradient::new(cpu, spec)?)
        };
        Ok(Conv2dBackwardWeightsPlan { shape, engine })
    }

    /// The convolution's shape.
    pub fn shape(&self) -> &Conv2dShape {
        &self.shape
    }

    /// The algorithm, if it is Winograd's: that of the convolution with such tiles.
    pub fn algo(&self) -> Option<Conv2dAlgo> {
        match &self.engine {
            WeightsEngine::Product(_) => None,
            WeightsEngine::Winograd(engine) => Some(engine.algo()),
        }
    }

    /// What was chosen, and why.
    pub fn describe(&self) -> Description {
        match &self.engine {
            WeightsEngine::Product(engine) => engine.describe(WEIGHTS),
            WeightsEngine::Winograd(engine) => engine.describe(WEIGHTS),
        }
    }

    /// f32 of scratch that [`Conv2dBackwardWeightsPlan::run`] needs.
    pub fn scratch_len(&self) -> usize {
        match &self.engine {
            WeightsEngine::Product(engine) => engine.scratch_len(),
            WeightsEngine::Winograd(engine) => engine.scratch_len(),
        }
    }

    /// A scratch large enough.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub fn scratch(&self) -> Result<Scratch> {
        Scratch::with_len(self.scratch_len())
    }

    /// Computes the gradient to the weights, `gw` (of shape [`Conv2dShape::weights`]), from the input and the gradient to the
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
        // SAFETY: the shapes were just checked.
        unsafe {
            match &self.engine {
                WeightsEngine::Product(engine) => engine.run(x, gy, gw, update, scratch),
                WeightsEngine::Winograd(engine) => engine.run(x, gy, gw, update, scratch),
            }
        }
        Ok(())
    }
}
