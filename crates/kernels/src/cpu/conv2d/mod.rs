//! Convolution, forward: a plan made once from a validated shape, or one easy call.
//!
//! [`algo`] holds the table that chooses; each algorithm is a file. All read weights packed when the plan was made.

mod algo;
mod backward;
mod direct;
pub(crate) mod engine;
mod few_outputs;
mod im2col;
mod implicit;
pub(crate) mod patches;
pub(crate) mod phased;
mod pointwise;
pub(crate) mod weights;
mod winograd;

pub use backward::{Conv2dBackwardInputPlan, Conv2dBackwardWeightsPlan};

use crate::cpu::plan::{Description, check_has_weights, check_memory, check_views};
use crate::cpu::scratch::Scratch;
use crate::cpu::{Cpu, expect_shape};
use crate::error::{Error, Result};
use crate::shape::correlation::{Correlation, Placement};
use crate::shape::{
    Activation, Conv2dAlgo, Conv2dParams, Conv2dShape, Update, check_new_weights, check_weights,
};
use crate::tensor::{Tensor, TensorView, TensorViewMut, checked_product};
use engine::{Engine, Filters, Spec};

const OP: &str = "conv2d";

/// A convolution (with bias and activation) ready to run: the algorithm chosen, the weights packed, the scratch
/// sized. It may run on any number of threads at once, each run with a scratch of its own.
///
/// ```
/// use tilewise_kernels::{Activation, Conv2dParams, Conv2dPlan, Conv2dShape, Cpu, Shape4, Tensor};
/// let cpu = Cpu::new()?;
/// let x = Tensor::from_fn(Shape4::new(1, 16, 32, 32), |[_, c, h, w]| (c + h + w) as f32)?;
/// let shape = Conv2dShape::new(x.shape(), 32, [3, 3], Conv2dParams::default().padding(1))?;
/// let weights = vec![0.01; 32 * 16 * 3 * 3];
/// let plan = Conv2dPlan::new(&cpu, shape, &weights, None, Activation::Relu, None)?;
/// println!("{}", plan.describe());
///
/// let (mut y, mut scratch) = (Tensor::zeros(shape.output())?, plan.scratch()?);
/// for _ in 0..3 {
///     plan.run(x.view(), y.view_mut(), &mut scratch)?; // allocates nothing
/// }
/// # Ok::<(), tilewise_kernels::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Conv2dPlan {
    cpu: Cpu,
    strands: usize,
    shape: Conv2dShape,
    engine: Engine,
    has_bias: bool,
    /// Whether it has weights of its own.
    has_weights: bool,
    scratch_len: usize,
}

impl Conv2dPlan {
    /// Packs `weights` (`[out, in / groups, kernel h, kernel w]`, row-major) for this shape. `bias` has one value per
    /// output channel. Without an `algo` the table chooses.
    ///
    /// The plan runs on at most as many threads as the device allows here and now ([`Cpu::thread_count`]).
    ///
    /// # Errors
    /// [`Error::Invalid`] for wrong lengths, an activation with a parameter that is not finite, or an algorithm that
    /// does not support the shape; [`Error::OutOfMemory`].
    pub fn new(
        cpu: &Cpu,
        shape: Conv2dShape,
        weights: &[f32],
        bias: Option<&[f32]>,
        activation: Activation,
        algo: Option<Conv2dAlgo>,
    ) -> Result<Self> {
        check_weights(OP, weights, shape.weights().checked_len(OP, "weights")?, bias, shape.weights().n)?;
        let mut plan = Self::empty(cpu, shape, bias.is_some(), activation, algo, true)?;
        let w = shape.weights();
        plan.set_weights(TensorView::new(weights, w, w.image_len())?, bias)?;
        Ok(plan)
    }

    /// A plan for weights that change from run to run, as they do in training: they come with
    /// [`Conv2dPlan::run_with`], and so does the bias, if there is one.
    ///
    /// Of weights that an algorithm would have to pack anew each time, it keeps none.
    ///
    /// # Errors
    /// As [`Conv2dPlan::new`].
    pub fn without_weights(
        cpu: &Cpu,
        shape: Conv2dShape,
        has_bias: bool,
        activation: Activation,
    ) -> Result<Self> {
        Self::empty(cpu, shape, has_bias, activation, None, false)
    }

    fn empty(
        cpu: &Cpu,
        shape: Conv2dShape,
        has_bias: bool,
        activation: Activation,
        algo: Option<Conv2dAlgo>,
        has_weights: bool,
    ) -> Result<Self> {
        check_memory(OP, [shape.input(), shape.weights(), shape.output()])?;
        activation.validate()?;
        if let Some(algo) = algo.filter(|algo| !algo.supports(&shape)) {
            return Err(Error::invalid(OP, "algorithm", "one that supports this shape", algo.name()));
        }
        let groups = shape.params().groups;
        let spec = Spec {
            op: OP,
            images: shape.output().n,
            groups,
            outputs: shape.weights().n / groups,
            correlation: &Correlation::conv2d(&shape),
            placement: Placement::conv2d(&shape),
            activation,
            accuracy: shape.params().accuracy,
        };
        let engine = Engine::new(cpu, spec, algo, has_weights, |algo| algo.supports(&shape))?;
        let strands = cpu.thread_count();
        let scratch_len = checked_product(OP, "scratch", &[strands, engine.strand_len(cpu.isa())])?;
        Ok(Conv2dPlan { cpu: *cpu, strands, shape, engine, has_bias, has_weights, scratch_len })
    }

    /// Replaces the weights (of shape [`Conv2dShape::weights`]) and the bias. Allocates nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] for another shape or length, or a bias where there was none and the other way round; for a plan
    /// without weights.
    pub fn set_weights(&mut self, weights: TensorView<'_>, bias: Option<&[f32]>) -> Result<()> {
        check_has_weights(OP, self.has_weights)?;
        self.check_weights(weights, bias)?;
        self.engine.set_weights(Filters::by_output(weights, self.shape.params().groups));
        bias.into_iter().for_each(|bias| self.engine.set_bias(bias));
        Ok(())
    }

    fn check_weights(&self, weights: TensorView<'_>, bias: Option<&[f32]>) -> Result<()> {
        let w = self.shape.weights();
        check_new_weights(OP, w, weights.shape(), self.has_bias.then_some(w.n), bias.map(<[f32]>::len))
    }

    /// The convolution's shape.
    pub fn shape(&self) -> &Conv2dShape {
        &self.shape
    }

    /// The algorithm chosen.
    pub fn algo(&self) -> Conv2dAlgo {
        self.engine.algo()
    }

    /// What was chosen, and why.
    pub fn describe(&self) -> Description {
        let isa = self.cpu.isa();
        Description::new(OP, self.engine.algo().name(), isa, self.engine.tile(isa), self.engine.why())
    }

    /// f32 of scratch that [`Conv2dPlan::run`] needs.
    pub fn scratch_len(&self) -> usize {
        self.scratch_len
    }

    /// A scratch large enough.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn scratch(&self) -> Result<Scratch> {
        Scratch::with_len(self.scratch_len)
    }

    /// Computes `y = activation(conv(x) + bias)`. Writes every element of `y`, and nothing between its images.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a view has another shape than the plan's, the scratch is too small, or the plan is without weights.
    pub fn run(&self, x: TensorView<'_>, mut y: TensorViewMut<'_>, scratch: &mut Scratch) -> Result<()> {
        check_has_weights(OP, self.has_weights)?;
        check_views(OP, x, self.shape.input(), &y, self.shape.output())?;
        let scratch = scratch.require(OP, self.scratch_len)?;
        // SAFETY: the shapes were just checked.
        unsafe { self.engine.run(self.cpu.isa(), x, &mut y, Update::Write, self.strands, scratch) };
        Ok(())
    }

    /// The same with these weights and this bias: for a plan of either kind, whose own are replaced.
    ///
    /// # Errors
    /// Those of [`Conv2dPlan::set_weights`] and [`Conv2dPlan::run`].
    pub fn run_with(
        &mut self,
        weights: TensorView<'_>,
        bias: Option<&[f32]>,
        x: TensorView<'_>,
        mut y: TensorViewMut<'_>,
        scratch: &mut Scratch,
    ) -> Result<()> {
        self.check_weights(weights, bias)?;
        check_views(OP, x, self.shape.input(), &y, self.shape.output())?;
        let scratch = scratch.require(OP, self.scratch_len)?;
        bias.into_iter().for_each(|bias| self.engine.set_bias(bias));
        let filters = Filters::by_output(weights, self.shape.params().groups);
        let (isa, strands) = (self.cpu.isa(), self.strands);
        // SAFETY: the shapes were just checked.
        unsafe { self.engine.run_with(filters, isa, x, &mut y, Update::Write, strands, scratch) };
        Ok(())
    }
}

impl Cpu {
    /// Convolves `x` (`[n, in, h, w]`) with `weights` (`[out, in / groups, kernel h, kernel w]`): the easy call, which
    /// plans, packs and allocates every time. See [`Conv2dPlan`] for the other.
    ///
    /// # Errors
    /// [`Error::Invalid`] or [`Error::Overflow`] if the arguments do not fit; [`Error::OutOfMemory`].
    pub fn conv2d(
        &self,
        x: &Tensor,
        weights: &Tensor,
        bias: Option<&[f32]>,
        params: Conv2dParams,
    ) -> Result<Tensor> {
        let w = weights.shape();
        let shape = Conv2dShape::new(x.shape(), w.n, [w.h, w.w], params)?;
        expect_shape(OP, "weights shape", shape.weights(), w)?;
        let plan = Conv2dPlan::new(self, shape, weights.data(), bias, Activation::Identity, None)?;
        let mut y = Tensor::zeros(shape.output())?;
        plan.run(x.view(), y.view_mut(), &mut plan.scratch()?)?;
        Ok(y)
    }
}
