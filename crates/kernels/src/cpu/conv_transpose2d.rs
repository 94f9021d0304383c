//! Transposed convolution, forward: one correlation per phase of the stride ([`Phases`]), all by implicit GEMM.
//!
//! So every product is computed once, and nothing is added into memory. Outputs that no tap reaches are filled in
//! beforehand.

use crate::cpu::conv2d::implicit::ImplicitGemm;
use crate::cpu::gemm::{Epilogue, Panels, Rows};
use crate::cpu::plan::{Description, check_views};
use crate::cpu::scratch::Scratch;
use crate::cpu::{Cpu, expect_shape, threads};
use crate::error::Result;
use crate::shape::correlation::{Correlation, Phases};
use crate::shape::{Activation, ConvTranspose2dParams, ConvTranspose2dShape, check_weights};
use crate::tensor::{Shape4, Tensor, TensorView, TensorViewMut, checked_product};

const OP: &str = "conv_transpose2d";

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
    cpu: Cpu,
    strands: usize,
    shape: ConvTranspose2dShape,
    phases: Vec<ImplicitGemm>,
    /// The activated bias of each channel, where some outputs hold nothing else.
    fill: Option<Tensor>,
    scratch_len: usize,
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
        let output = shape.output();
        check_weights(OP, weights, shape.weights().checked_len(OP, "weights")?, bias, output.c)?;
        activation.validate()?;
        let Phases { reached, leave_gaps } = Phases::new(&shape);
        let phases = reached
            .iter()
            .map(|(correlation, placement)| {
                let panels = group_panels(cpu, &shape, correlation, weights)?;
                let epilogues =
                    Epilogue::per_group(shape.params().groups, shape.weights().c, bias, activation)?;
                ImplicitGemm::new(OP, cpu, output.n, correlation, panels, epilogues, *placement)
            })
            .collect::<Result<Vec<_>>>()?;
        let fill = if leave_gaps {
            let bias = bias.map_or_else(|| vec![0.0; output.c], <[f32]>::to_vec);
            Some(cpu.activation(&Tensor::from_vec(Shape4::new(1, output.c, 1, 1), bias)?, activation)?)
        } else {
            None
        };
        let strands = cpu.thread_count();
        let strand_len = phases.iter().map(|phase| phase.strand_len(cpu.isa())).max().unwrap_or(0);
        let scratch_len = checked_product(OP, "scratch", &[strands, strand_len])?;
        Ok(ConvTranspose2dPlan { cpu: *cpu, strands, shape, phases, fill, scratch_len })
    }

    /// The transposed convolution's shape.
    pub fn shape(&self) -> &ConvTranspose2dShape {
        &self.shape
    }

    /// What was chosen, and why.
    pub fn describe(&self) -> Description {
        let isa = self.cpu.isa();
        Description::new(
            OP,
            "phases",
            isa,
            isa.tile(),
            "one convolution with stride 1 for each phase of the stride",
        )
    }

    /// f32 of scratch that [`ConvTranspose2dPlan::run`] needs.
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

    /// Computes `y = activation(conv_transpose(x) + bias)`. Writes every element of `y`, and nothing between its
    /// images.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if a view has another shape than the plan's, or the scratch is too small.
    pub fn run(&self, x: TensorView<'_>, mut y: TensorViewMut<'_>, scratch: &mut Scratch) -> Result<()> {
        check_views(OP, x, self.shape.input(), &y, self.shape.output())?;
        let scratch = scratch.require(OP, self.scratch_len)?;
        if let Some(fill) = &self.fill {
            let plane = self.shape.output().plane_len();
            threads::for_each_chunk(&self.cpu, y.reborrow(), plane, |_, start, y| {
                y.fill(fill.data()[start / plane])
            });
        }
        for phase in &self.phases {
            // SAFETY: the shapes were just checked.
            unsafe { phase.run(self.cpu.isa(), x, &mut y, self.strands, scratch) };
        }
        Ok(())
    }
}

fn group_panels(
    cpu: &Cpu,
    shape: &ConvTranspose2dShape,
    correlation: &Correlation,
    weights: &[f32],
) -> Result<Vec<Panels>> {
    let outputs = shape.weights().c;
    let kernel = shape.kernel()[0] * shape.kernel()[1];
    let taps = &correlation.taps;
    (0..shape.params().groups)
        .map(|group| {
            Panels::pack(cpu.isa(), correlation.depth(), outputs, |k, column| {
                let (c, tap) = (group * correlation.channels + k / taps.len(), taps[k % taps.len()].index);
                weights[(c * outputs + column) * kernel + tap]
            })
        })
        .collect()
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
