//! Convolution, forward: a plan made once from a validated shape, or one easy call.
//!
//! [`algo`] holds the table that chooses; each algorithm is a file. All read weights packed when the plan was made.

mod algo;
mod direct;
mod im2col;
pub(crate) mod implicit;
pub(crate) mod patches;
mod pointwise;

use crate::cpu::gemm::{Epilogue, Panels, Rows};
use crate::cpu::plan::{Description, check_views};
use crate::cpu::scratch::Scratch;
use crate::cpu::{Cpu, expect_shape};
use crate::error::{Error, Result};
use crate::shape::correlation::{Correlation, Placement};
use crate::shape::{Activation, Conv2dAlgo, Conv2dParams, Conv2dShape, check_weights};
use crate::tensor::{Tensor, TensorView, TensorViewMut, checked_product};
use direct::Direct;
use im2col::Im2col;
use implicit::ImplicitGemm;
use pointwise::Pointwise;

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
    algo: Conv2dAlgo,
    why: &'static str,
    engine: Engine,
    scratch_len: usize,
}

#[derive(Debug, Clone)]
enum Engine {
    Implicit(ImplicitGemm),
    Im2col(Im2col),
    Pointwise(Pointwise),
    Direct(Direct),
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
        activation.validate()?;
        let isa = cpu.isa();
        let (algo, why) = match algo {
            None => algo::choose(isa, &shape),
            Some(algo) if algo.supports(&shape) => (algo, "asked for by name"),
            Some(algo) => {
                return Err(Error::invalid(OP, "algorithm", "one that supports this shape", algo.name()));
            }
        };
        let correlation = Correlation::conv2d(&shape);
        let groups = shape.params().groups;
        let epilogues = || Epilogue::per_group(groups, shape.weights().n / groups, bias, activation);
        let panels = || group_panels(cpu, &shape, &correlation, weights);
        let output = shape.output();
        let placement = Placement::conv2d(&shape);
        let (engine, strand_len) = match algo {
            Conv2dAlgo::Direct | Conv2dAlgo::Depthwise => {
                let direct = Direct::new(isa, &shape, weights, bias, activation)?;
                let len = direct.strand_len();
                (Engine::Direct(direct), len)
            }
            Conv2dAlgo::Pointwise => {
                let pointwise = Pointwise::new(isa, &shape, panels()?, epilogues()?)?;
                let len = pointwise.strand_len(isa);
                (Engine::Pointwise(pointwise), len)
            }
            Conv2dAlgo::Im2col => {
                let im2col =
                    Im2col::new(OP, isa, &correlation, output.n, panels()?, epilogues()?, placement)?;
                let len = im2col.strand_len(isa);
                (Engine::Im2col(im2col), len)
            }
            Conv2dAlgo::ImplicitGemm => {
                let implicit =
                    ImplicitGemm::new(OP, cpu, output.n, &correlation, panels()?, epilogues()?, placement)?;
                let len = implicit.strand_len(isa);
                (Engine::Implicit(implicit), len)
            }
        };
        let strands = cpu.thread_count();
        let scratch_len = checked_product(OP, "scratch", &[strands, strand_len])?;
        Ok(Conv2dPlan { cpu: *cpu, strands, shape, algo, why, engine, scratch_len })
    }

    /// The convolution's shape.
    pub fn shape(&self) -> &Conv2dShape {
        &self.shape
    }

    /// The algorithm chosen.
    pub fn algo(&self) -> Conv2dAlgo {
        self.algo
    }

    /// What was chosen, and why.
    pub fn describe(&self) -> Description {
        let isa = self.cpu.isa();
        let tile = match &self.engine {
            Engine::Direct(direct) => direct.tile(isa),
            _ => isa.tile(),
        };
        Description::new(OP, self.algo.name(), isa, tile, self.why)
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
    /// [`Error::Invalid`] if a view has another shape than the plan's, or the scratch is too small.
    pub fn run(&self, x: TensorView<'_>, mut y: TensorViewMut<'_>, scratch: &mut Scratch) -> Result<()> {
        check_views(OP, x, self.shape.input(), &y, self.shape.output())?;
        let scratch = scratch.require(OP, self.scratch_len)?;
        let (isa, strands) = (self.cpu.isa(), self.strands);
        // SAFETY: the shapes were just checked.
        unsafe {
            match &self.engine {
                Engine::Implicit(e) => e.run(isa, x, &mut y, strands, scratch),
                Engine::Im2col(e) => e.run(isa, x, &mut y, strands, scratch),
                Engine::Pointwise(e) => e.run(isa, x, &mut y, strands, scratch),
                Engine::Direct(e) => e.run(isa, x, &mut y, strands, scratch),
            }
        }
        Ok(())
    }
}

fn group_panels(
    cpu: &Cpu,
    shape: &Conv2dShape,
    correlation: &Correlation,
    weights: &[f32],
) -> Result<Vec<Panels>> {
    let groups = shape.params().groups;
    let outputs = shape.weights().n / groups;
    let kernel = shape.kernel()[0] * shape.kernel()[1];
    let taps = &correlation.taps;
    (0..groups)
        .map(|group| {
            Panels::pack(cpu.isa(), correlation.depth(), outputs, |k, column| {
                let (c, tap) = (k / taps.len(), taps[k % taps.len()].index);
                weights[((group * outputs + column) * correlation.channels + c) * kernel + tap]
            })
        })
        .collect()
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
