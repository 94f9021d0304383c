//! A transposed convolution with its weights: one correlation per phase of the stride ([`Phases`]), each by the algorithm that
//! suits it; or one product, where the kernel is the stride ([`Spread`]).
//!
//! So every product is computed once. Outputs that no tap reaches are filled in beforehand.

use crate::cpu::conv2d::engine::{Engine, Filters, Spec};
use crate::cpu::plan::Description;
use crate::cpu::{Cpu, threads};
use crate::error::Result;
use crate::shape::correlation::{Phases, Placement, Spread};
use crate::shape::{Accuracy, Activation, Conv2dAlgo, ConvTranspose2dShape, Update};
use crate::tensor::{Shape4, Tensor, TensorView, TensorViewMut, checked_product};

/// What a transposed convolution and the gradient of a convolution to its input have in common.
#[derive(Debug, Clone)]
pub(crate) struct PhasedEngine {
    cpu: Cpu,
    strands: usize,
    shape: ConvTranspose2dShape,
    activation: Activation,
    phases: Vec<Engine>,
    /// The activated bias of each channel, where some outputs hold nothing else.
    fill: Option<Tensor>,
    scratch_len: usize,
}

impl PhasedEngine {
    /// With weights and bias of zeros; with none to keep, if they come with each run ([`PhasedEngine::run_with`]).
    pub fn new(
        cpu: &Cpu,
        op: &'static str,
        shape: ConvTranspose2dShape,
        activation: Activation,
        accuracy: Accuracy,
        keep: bool,
    ) -> Result<Self> {
        let output = shape.output();
        let spec = |outputs, correlation, placement| Spec {
            op,
            images: output.n,
            groups: shape.params().groups,
            outputs,
            correlation,
            placement,
            activation,
            accuracy,
        };
        let (outputs, Phases { reached, leave_gaps }) = (shape.weights().c, Phases::new(&shape));
        let phases = match Spread::new(&shape).filter(|spread| spread.taps() > 1) {
            Some(spread) => {
                let (columns, correlation) = (outputs * spread.taps(), Spread::correlation(&shape));
                let placement = Placement::dense([output.h, output.w]);
                vec![Engine::spread(cpu, spec(columns, &correlation, placement), spread)?]
            }
            None => reached
                .iter()
                .map(|(correlation, placement)| {
                    Engine::new(cpu, spec(outputs, correlation, *placement), None, keep, |_| true)
                })
                .collect::<Result<Vec<_>>>()?,
        };
        let fill = if leave_gaps {
            Some(cpu.activation(&Tensor::zeros(Shape4::new(1, output.c, 1, 1))?, activation)?)
        } else {
            None
        };
        let strands = cpu.thread_count();
        let strand_len = phases.iter().map(|phase| phase.strand_len(cpu.isa())).max().unwrap_or(0);
        let scratch_len = checked_product(op, "scratch", &[strands, strand_len])?;
        Ok(PhasedEngine { cpu: *cpu, strands, shape, activation, phases, fill, scratch_len })
    }

    pub fn shape(&self) -> &ConvTranspose2dShape {
        &self.shape
    }

    /// The algorithm, if there is one for all outputs.
    pub fn algo(&self) -> Option<Conv2dAlgo> {
        match &self.phases[..] {
            [only] => Some(only.algo()),
            _ => None,
        }
    }

    /// What was chosen, and why.
    pub fn describe(&self, op: &str) -> Description {
        let isa = self.cpu.isa();
        match &self.phases[..] {
            [only] => Description::new(op, only.algo().name(), isa, only.tile(isa), only.why()),
            _ => Description::new(
                op,
                "phases",
                isa,
                isa.tile(),
                "one convolution with stride 1 for each phase of the stride",
            ),
        }
    }

    /// f32 of scratch that [`PhasedEngine::run`] needs.
    pub fn scratch_len(&self) -> usize {
        self.scratch_len
    }

    /// Replaces the weights, of shape [`ConvTranspose2dShape::weights`].
    pub fn set_weights(&mut self, weights: TensorView<'_>) {
        let filters = Filters::by_channel(weights, self.shape.params().groups);
        self.phases.iter_mut().for_each(|phase| phase.set_weights(filters));
    }

    /// Replaces the bias: one value per output channel.
    pub fn set_bias(&mut self, bias: &[f32]) -> Result<()> {
        self.phases.iter_mut().for_each(|phase| phase.set_bias(bias));
        if let Some(fill) = &mut self.fill {
            let bias = TensorView::new(bias, fill.shape(), bias.len())?;
            self.cpu.activation_into(bias, self.activation, fill.view_mut())?;
        }
        Ok(())
    }

    /// Computes `y = activation(conv_transpose(x) + bias)`; or adds it to `y`, for a gradient, which has neither bias nor
    /// activation.
    ///
    /// # Safety
    /// The views have the planned shapes.
    pub unsafe fn run(
        &self,
        x: TensorView<'_>,
        mut y: TensorViewMut<'_>,
        update: Update,
        scratch: &mut [f32],
    ) {
        self.fill_gaps(&mut y, update);
        for phase in &self.phases {
            // SAFETY: the caller's promise.
            unsafe { phase.run(self.cpu.isa(), x, &mut y, update, self.strands, scratch) };
        }
    }

    /// The same with these weights.
    ///
    /// # Safety
    /// As there; and the weights have the planned shape.
    pub unsafe fn run_with(
        &mut self,
        weights: TensorView<'_>,
        x: TensorView<'_>,
        mut y: TensorViewMut<'_>,
        update: Update,
        scratch: &mut [f32],
    ) {
        self.fill_gaps(&mut y, update);
        let filters = Filters::by_channel(weights, self.shape.params().groups);
        for phase in &mut self.phases {
            // SAFETY: the caller's promise.
            unsafe { phase.run_with(filters, self.cpu.isa(), x, &mut y, update, self.strands, scratch) };
        }
    }

    /// Writes what no tap reaches.
    fn fill_gaps(&self, y: &mut TensorViewMut<'_>, update: Update) {
        if let (Some(fill), Update::Write) = (&self.fill, update) {
            let plane = self.shape.output().plane_len();
            threads::for_each_chunk(&self.cpu, y.reborrow(), plane, |_, start, y| {
                y.fill(fill.data()[start / plane])
            });
        }
    }
}
