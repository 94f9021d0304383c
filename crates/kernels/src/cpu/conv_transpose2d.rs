//! Transposed convolution: forward by the phases of its stride ([`PhasedEngine`]), its gradients as those of a convolution with
//! the roles of input and output exchanged.

use crate::cpu::conv2d::engine::{Engine, Filters, Spec};
use crate::cpu::conv2d::phased::PhasedEngine;
use crate::cpu::conv2d::weights::{self, WeightsGradient};
use crate::cpu::plan::{Description, check_memory, check_views};
use crate::cpu::scratch::Scratch;
use crate::cpu::{Cpu, expect_shape};
use crate::error::Result;
use crate::shape::correlation::{Correlation, Placement};
use crate::shape::{
    Accuracy, Activation, ConvTranspose2dParams, ConvTranspose2dShape, Update, check_new_weights,
    check_weights,
};
use crate::tensor::{Tensor, TensorView, TensorViewMut, checked_product};

const OP: &str = "conv_transpose2d";
const INPUT: &str = "conv_transpose2d_backward_input";
const WEIGHTS: &str = "conv_transpose2d_backward_weights";

/// A transposed convolution (with bias and activation) ready to run, as [`crate::Conv2dPlan`] is.
///
/// ```
/// use tilewise_kernels::{Activation, ConvTranspose2dParams, ConvTranspose2dPlan, ConvTranspose2dShape};
/// use tilewise_kernels::{Cpu, Shape4, Tensor};
/// // The up-convolution of a U-Net: twice as high and wide, half as many channels.
/// let x = Tensor::zeros(Shape4::new(1, 8, 5, 5))?;
/// let shape = ConvTranspose2dShape::new(x.shape(), 4, [2, 2], ConvTranspose2dParams::default().stride(2))?;
/// let plan = ConvTranspose2dPlan::new(&Cpu::new()?, shape, &[0.1; 8 * 4 * 4], None, Activation::Identity)?;
/// let mut y = Tensor::zeros(Shape4::new(1, 4, 10, 10))?;
/// plan.run(x.view(), y.view_mut(), &mut plan.scratch()?)?;
/// # Ok::<(), tilewise_kernels::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ConvTranspose2dPlan {
    engine: PhasedEngine,
    has_bias: bool,
}

impl ConvTranspose2dPlan {
    /// Packs `weights` (`[in, out / groups, kernel h, kernel w]`, row-major) for this shape. `bias` has one value per
    /// output channel.
    ///
    /// The plan runs on at most as many threads as the device allows here and now ([`Cpu::thread_count`]).
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for wrong lengths or an activation with a parameter that is not finite;
    /// [`crate::Error::OutOfMemory`].
    pub fn new(
        cpu: &Cpu,
        shape: ConvTranspose2dShape,
        weights: &[f32],
        bias: Option<&[f32]>,
        activation: Activation,
    ) -> Result<Self> {
        let w = shape.weights();
        check_weights(OP, weights, w.checked_len(OP, "weights")?, bias, shape.output().c)?;
        activation.validate()?;
        let engine = PhasedEngine::new(cpu, OP, shape, activation, Accuracy::Exact, true)?;
        let mut plan = ConvTranspose2dPlan { engine, has_bias: bias.is_some() };
        plan.set_weights(TensorView::new(weights, w, w.image_len())?, bias)?;
        Ok(plan)
    }

    /// Replaces the weights (of shape [`ConvTranspose2dShape::weights`]) and the bias. Allocates nothing.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for another shape or length, or a bias where there was none and the other way round.
    pub fn set_weights(&mut self, weights: TensorView<'_>, bias: Option<&[f32]>) -> Result<()> {
        let shape = self.engine.shape();
        let bias_len = self.has_bias.then_some(shape.output().c);
        check_new_weights(OP, shape.weights(), weights.shape(), bias_len, bias.map(<[f32]>::len))?;
        self.engine.set_weights(weights);
        bias.map_or(Ok(()), |bias| self.engine.set_bias(bias))
    }

    /// The transposed convolution's shape.
    pub fn shape(&self) -> &ConvTranspose2dShape {
        self.engine.shape()
    }

    /// What was chosen, and why.
    pub fn describe(&self) -> Description {
        self.engine.describe(OP)
    }

    /// f32 of scratch that [`ConvTranspose2dPlan::run`] needs.
    pub fn scratch_len(&self) -> usize {
        self.engine.scratch_len()
    }

    /// A scratch large enough.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub fn scratch(&self) -> Result<Scratch> {
        Scratch::with_len(self.engine.scratch_len())
    }

    /// Computes `y = activation(conv_transpose(x) + bias)`. Writes every element of `y`, and nothing between its
    /// images.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if a view has another shape than the plan's, or the scratch is too small.
    pub fn run(&self, x: TensorView<'_>, y: TensorViewMut<'_>, scratch: &mut Scratch) -> Result<()> {
        check_views(OP, x, self.shape().input(), &y, self.shape().output())?;
        let scratch = scratch.require(OP, self.scratch_len())?;
        // SAFETY: the shapes were just checked.
        unsafe { self.engine.run(x, y, Update::Write, scratch) };
        Ok(())
    }
}

/// The gradient of a transposed convolution to its input, ready to run: a convolution of the gradient to the output, with the
/// same weights.
///
/// ```
/// use tilewise_kernels::{ConvTranspose2dBackwardInputPlan, ConvTranspose2dParams, ConvTranspose2dShape};
/// use tilewise_kernels::{Cpu, Shape4, Tensor, Update};
/// let params = ConvTranspose2dParams::default().stride(2);
/// let shape = ConvTranspose2dShape::new(Shape4::new(1, 1, 1, 2), 1, [1, 2], params)?;
/// let plan = ConvTranspose2dBackwardInputPlan::new(&Cpu::new()?, shape, &[1.0, 10.0])?;
/// let gy = Tensor::from_vec(shape.output(), vec![1.0, 2.0, 3.0, 4.0])?;
/// let mut gx = Tensor::zeros(shape.input())?;
/// plan.run(gy.view(), gx.view_mut(), Update::Write, &mut plan.scratch()?)?;
/// assert_eq!(gx.data(), [21.0, 43.0]);
/// # Ok::<(), tilewise_kernels::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ConvTranspose2dBackwardInputPlan {
    cpu: Cpu,
    strands: usize,
    shape: ConvTranspose2dShape,
    engine: Engine,
    scratch_len: usize,
}

impl ConvTranspose2dBackwardInputPlan {
    /// Packs `weights` (`[in, out / groups, kernel h, kernel w]`, row-major) for this shape.
    ///
    /// The plan runs on at most as many threads as the device allows here and now ([`Cpu::thread_count`]).
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for a wrong length; [`crate::Error::Overflow`]; [`crate::Error::OutOfMemory`].
    pub fn new(cpu: &Cpu, shape: ConvTranspose2dShape, weights: &[f32]) -> Result<Self> {
        let w = shape.weights();
        check_weights(INPUT, weights, w.checked_len(INPUT, "weights")?, None, w.n)?;
        let correlation = Correlation::conv_transpose2d_backward(&shape);
        let spec = Spec {
            op: INPUT,
            images: shape.input().n,
            groups: shape.params().groups,
            outputs: w.n / shape.params().groups,
            correlation: &correlation,
            placement: Placement::dense(correlation.output),
            activation: Activation::Identity,
            accuracy: Accuracy::Exact,
        };
        let engine = Engine::new(cpu, spec, None, true, |_| true)?;
        let strands = cpu.thread_count();
        let scratch_len = checked_product(INPUT, "scratch", &[strands, engine.strand_len(cpu.isa())])?;
        let mut plan = ConvTranspose2dBackwardInputPlan { cpu: *cpu, strands, shape, engine, scratch_len };
        plan.set_weights(TensorView::new(weights, w, w.image_len())?)?;
        Ok(plan)
    }

    /// Replaces the weights, of shape [`ConvTranspose2dShape::weights`]. Allocates nothing.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for another shape.
    pub fn set_weights(&mut self, weights: TensorView<'_>) -> Result<()> {
        check_new_weights(INPUT, self.shape.weights(), weights.shape(), None, None)?;
        self.engine.set_weights(Filters::by_output(weights, self.shape.params().groups));
        Ok(())
    }

    /// The transposed convolution's shape.
    pub fn shape(&self) -> &ConvTranspose2dShape {
        &self.shape
    }

    /// What was chosen, and why.
    pub fn describe(&self) -> Description {
        let (isa, engine) = (self.cpu.isa(), &self.engine);
        Description::new(INPUT, engine.algo().name(), isa, engine.tile(isa), engine.why())
    }

    /// f32 of scratch that [`ConvTranspose2dBackwardInputPlan::run`] needs.
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
        let scratch = scratch.require(INPUT, self.scratch_len)?;
        // SAFETY: the shapes were just checked.
        unsafe { self.engine.run(self.cpu.isa(), gy, &mut gx, update, self.strands, scratch) };
        Ok(())
    }
}

/// The gradient of a transposed convolution to its weights, ready to run: as [`crate::Conv2dBackwardWeightsPlan`], with the
/// roles of input and output exchanged.
#[derive(Debug, Clone)]
pub struct ConvTranspose2dBackwardWeightsPlan {
    shape: ConvTranspose2dShape,
    engine: WeightsGradient,
}

impl ConvTranspose2dBackwardWeightsPlan {
    /// Sizes everything for this shape.
    ///
    /// The plan runs on at most as many threads as the device allows here and now ([`Cpu::thread_count`]).
    ///
    /// # Errors
    /// [`crate::Error::Overflow`]; [`crate::Error::OutOfMemory`].
    pub fn new(cpu: &Cpu, shape: ConvTranspose2dShape) -> Result<Self> {
        let (w, groups) = (shape.weights(), shape.params().groups);
        check_memory(WEIGHTS, [shape.input(), w, shape.output()])?;
        let spec = weights::Spec {
            op: WEIGHTS,
            images: shape.input().n,
            groups,
            outputs: w.n / groups,
            correlation: &Correlation::conv_transpose2d_backward(&shape),
            kernel: w.h * w.w,
        };
        Ok(ConvTranspose2dBackwardWeightsPlan { shape, engine: WeightsGradient::new(cpu, spec)? })
    }

    /// The transposed convolution's shape.
    pub fn shape(&self) -> &ConvTranspose2dShape {
        &self.shape
    }

    /// What was chosen, and why.
    pub fn describe(&self) -> Description {
        self.engine.describe(WEIGHTS)
    }

    /// f32 of scratch that [`ConvTranspose2dBackwardWeightsPlan::run`] needs.
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

    /// Computes the gradient to the weights, `gw` (of shape [`ConvTranspose2dShape::weights`]), from the input and the
    /// gradient to the output, `gy`.
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
        unsafe { self.engine.run(gy, x, gw, update, scratch) };
        Ok(())
    }
}

impl Cpu {
    /// The transposed convolution of `x` (`[n, in, h, w]`) with `weights` (`[in, out / groups, kernel h, kernel w]`):
    /// the easy call, which plans, packs and allocates every time. See [`ConvTranspose2dPlan`] for the other.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] or [`crate::Error::Overflow`] if the arguments do not fit;
    /// [`crate::Error::OutOfMemory`].
    pub fn conv_transpose2d(
        &self,
        x: &Tensor,
        weights: &Tensor,
        bias: Option<&[f32]>,
        params: ConvTranspose2dParams,
    ) -> Result<Tensor> {
        let w = weights.shape();
        let outputs = checked_product(OP, "output channels", &[w.c, params.groups])?;
        let shape = ConvTranspose2dShape::new(x.shape(), outputs, [w.h, w.w], params)?;
        expect_shape(OP, "weights shape", shape.weights(), w)?;
        let plan = ConvTranspose2dPlan::new(self, shape, weights.data(), bias, Activation::Identity)?;
        let mut y = Tensor::zeros(shape.output())?;
        plan.run(x.view(), y.view_mut(), &mut plan.scratch()?)?;
        Ok(y)
    }
}
