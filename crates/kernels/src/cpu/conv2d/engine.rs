//! One correlation with its weights, by any algorithm: what convolutions, transposed convolutions and the gradients of both
//! to their inputs are made of.

use crate::cpu::Cpu;
use crate::cpu::conv2d::algo::choose;
use crate::cpu::conv2d::direct::Direct;
use crate::cpu::conv2d::few_outputs::FewOutputs;
use crate::cpu::conv2d::im2col::Im2col;
use crate::cpu::conv2d::implicit::ImplicitGemm;
use crate::cpu::conv2d::pointwise::Pointwise;
use crate::cpu::conv2d::winograd::{self, Tile, Winograd};
use crate::cpu::gemm::{Epilogue, Panels, Rows};
use crate::error::Result;
use crate::shape::correlation::{Correlation, Placement, Spread};
use crate::shape::{Accuracy, Activation, Conv2dAlgo, Update};
use crate::simd::Isa;
use crate::tensor::{TensorView, TensorViewMut};

/// What an engine is to compute.
#[derive(Clone, Copy)]
pub(crate) struct Spec<'a> {
    pub op: &'static str,
    pub images: usize,
    pub groups: usize,
    /// Output channels of a group.
    pub outputs: usize,
    pub correlation: &'a Correlation,
    pub placement: Placement,
    pub activation: Activation,
    pub accuracy: Accuracy,
}

impl Spec<'_> {
    /// Whether an algorithm can compute it (at any speed).
    pub fn supports(&self, algo: Conv2dAlgo) -> bool {
        let Correlation { channels, input, output, step, ref taps } = *self.correlation;
        match algo {
            Conv2dAlgo::Pointwise => {
                let as_it_lies = matches!(taps[..], [tap] if tap.at == [0, 0]);
                as_it_lies && step == [1, 1] && input == output && self.is_dense()
            }
            Conv2dAlgo::Depthwise => channels == 1,
            Conv2dAlgo::Im2col => self.is_dense(),
            Conv2dAlgo::Direct | Conv2dAlgo::FewOutputs | Conv2dAlgo::ImplicitGemm => true,
            Conv2dAlgo::WinogradF2 => winograd::computes(self.correlation, Tile::Two),
            Conv2dAlgo::WinogradF3 => winograd::computes(self.correlation, Tile::Three),
            Conv2dAlgo::WinogradF4 => winograd::computes(self.correlation, Tile::Four),
            Conv2dAlgo::WinogradF6 => winograd::computes(self.correlation, Tile::Six),
        }
    }

    /// Whether the outputs lie side by side.
    fn is_dense(&self) -> bool {
        let (at, [height, width]) = (self.placement, self.correlation.output);
        at.plane == height * width && at.row == width && at.column == 1
    }
}

/// Weights as they are given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filters<'a> {
    weights: TensorView<'a>,
    /// Images of a group.
    of_group: usize,
    /// Whether an image of the view has the kernels of a channel, rather than those of an output.
    by_channel: bool,
}

impl<'a> Filters<'a> {
    /// `[output of all groups][channel][tap]`
    pub fn by_output(weights: TensorView<'a>, groups: usize) -> Self {
        Filters { weights, of_group: weights.shape().n / groups, by_channel: false }
    }

    /// `[channel of all groups][output][tap]`
    pub fn by_channel(weights: TensorView<'a>, groups: usize) -> Self {
        Filters { by_channel: true, ..Self::by_output(weights, groups) }
    }

    /// Elements of a kernel.
    pub fn taps(&self) -> usize {
        self.weights.shape().plane_len()
    }

    /// The kernels of a channel of a group, output by output; of [`Filters::by_channel`].
    pub fn channel(&self, group: usize, channel: usize) -> &'a [f32] {
        debug_assert!(self.by_channel);
        self.weights.image(group * self.of_group + channel)
    }

    /// A kernel: of a group, an output of the group, and a channel of the group.
    #[inline(always)]
    pub fn kernel(&self, group: usize, output: usize, channel: usize) -> &'a [f32] {
        let [image, plane] = if self.by_channel { [channel, output] } else { [output, channel] };
        self.weights.plane(group * self.of_group + image, plane)
    }
}

/// An algorithm with its weights, in the layout that it reads.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    cpu: Cpu,
    algo: Conv2dAlgo,
    why: &'static str,
    kind: Kind,
    /// The position in the kernel of each tap that is read.
    taps: Vec<usize>,
}

/// The right sides of a product, with one for each group.
fn right_sides(isa: Isa, spec: &Spec<'_>) -> Result<Vec<Panels>> {
    (0..spec.groups).map(|_| Panels::new(isa, spec.correlation.depth(), spec.outputs)).collect()
}

fn epilogues(spec: &Spec<'_>) -> Result<Vec<Epilogue>> {
    (0..spec.groups).map(|_| Epilogue::new(spec.outputs, spec.activation)).collect()
}

#[derive(Debug, Clone)]
enum Kind {
    Implicit(ImplicitGemm),
    Im2col(Im2col),
    Pointwise(Pointwise),
    Direct(Direct),
    Winograd(Winograd),
    FewOutputs(FewOutputs),
}

impl Engine {
    /// With weights and bias of zeros. Without an `algo`, the first of the table that `allowed` allows. If the weights come
    /// with each run ([`Engine::run_with`]), it need not keep them.
    pub fn new(
        cpu: &Cpu,
        spec: Spec<'_>,
        algo: Option<Conv2dAlgo>,
        keep: bool,
        allowed: impl Fn(Conv2dAlgo) -> bool,
    ) -> Result<Self> {
        let isa = cpu.isa();
        let (algo, why) = match algo {
            None => choose(isa, &spec, allowed),
            Some(algo) => (algo, "asked for by name"),
        };
        let (panels, epilogues) = (|| right_sides(isa, &spec), || epilogues(&spec));
        let winograd = |tile| Winograd::new(cpu, &spec, tile, epilogues()?, keep).map(Kind::Winograd);
        let kind = match algo {
            Conv2dAlgo::Direct | Conv2dAlgo::Depthwise => Kind::Direct(Direct::new(isa, &spec)?),
            Conv2dAlgo::FewOutputs => Kind::FewOutputs(FewOutputs::new(isa, &spec)?),
            Conv2dAlgo::Pointwise => {
                Kind::Pointwise(Pointwise::new(isa, &spec, None, panels()?, epilogues()?)?)
            }
            Conv2dAlgo::Im2col => Kind::Im2col(Im2col::new(isa, &spec, panels()?, epilogues()?)?),
            Conv2dAlgo::ImplicitGemm => {
                Kind::Implicit(ImplicitGemm::new(cpu, &spec, panels()?, epilogues()?)?)
            }
            Conv2dAlgo::WinogradF2 => winograd(Tile::Two)?,
            Conv2dAlgo::WinogradF3 => winograd(Tile::Three)?,
            Conv2dAlgo::WinogradF4 => winograd(Tile::Four)?,
            Conv2dAlgo::WinogradF6 => winograd(Tile::Six)?,
        };
        let taps = spec.correlation.taps.iter().map(|tap| tap.index).collect();
        Ok(Engine { cpu: *cpu, algo, why, kind, taps })
    }

    /// A transposed convolution whose kernel is its stride, as one product: its outputs are as many as taps of output channels.
    pub fn spread(cpu: &Cpu, spec: Spec<'_>, spread: Spread) -> Result<Self> {
        let (panels, epilogues) = (right_sides(cpu.isa(), &spec)?, epilogues(&spec)?);
        let kind = Kind::Pointwise(Pointwise::new(cpu.isa(), &spec, Some(spread), panels, epilogues)?);
        let why = "the kernel is the stride: all taps are columns of one matrix product over the pixels as they lie";
        Ok(Engine { cpu: *cpu, algo: Conv2dAlgo::Pointwise, why, kind, taps: (0..spread.taps()).collect() })
    }

    /// The algorithm.
    pub fn algo(&self) -> Conv2dAlgo {
        self.algo
    }

    /// Why it was chosen.
    pub fn why(&self) -> &'static str {
        self.why
    }

    /// The register tile.
    pub fn tile(&self, isa: Isa) -> (usize, usize) {
        match &self.kind {
            Kind::Direct(direct) => direct.tile(isa),
            Kind::FewOutputs(e) => e.tile(),
            _ => isa.tile(),
        }
    }

    /// f32 of scratch for each strand.
    pub fn strand_len(&self, isa: Isa) -> usize {
        match &self.kind {
            Kind::Implicit(e) => e.strand_len(isa),
            Kind::Im2col(e) => e.strand_len(isa),
            Kind::Pointwise(e) => e.strand_len(isa),
            Kind::Direct(e) => e.strand_len(),
            Kind::Winograd(e) => e.strand_len(),
            Kind::FewOutputs(e) => e.strand_len(),
        }
    }

    /// Replaces the weights.
    pub fn set_weights(&mut self, filters: Filters<'_>) {
        let weight = |group, output, channel, tap: usize| filters.kernel(group, output, channel)[tap];
        let panels = match &mut self.kind {
            Kind::Direct(direct) => return direct.set_weights(&self.taps, weight),
            Kind::Winograd(winograd) => return winograd.set_weights(filters),
            Kind::FewOutputs(e) => return e.set_weights(weight),
            Kind::Implicit(e) => &mut e.panels,
            Kind::Im2col(e) => &mut e.panels,
            Kind::Pointwise(e) => {
                if e.is_spread() {
                    for (group, panels) in e.panels.iter_mut().enumerate() {
                        panels.fill_rows(&self.cpu, |channel| filters.channel(group, channel));
                    }
                    return;
                }
                &mut e.panels
            }
        };
        for (group, panels) in panels.iter_mut().enumerate() {
            panels.fill(|k| {
                let (channel, tap) = (k / self.taps.len(), self.taps[k % self.taps.len()]);
                move |output| weight(group, output, channel, tap)
            });
        }
    }

    /// Replaces the bias: one value per output channel.
    pub fn set_bias(&mut self, bias: &[f32]) {
        let epilogues = match &mut self.kind {
            Kind::Direct(direct) => return direct.set_bias(bias),
            Kind::FewOutputs(e) => return e.set_bias(bias),
            Kind::Implicit(e) => &mut e.epilogues,
            Kind::Im2col(e) => &mut e.epilogues,
            Kind::Pointwise(e) => &mut e.epilogues,
            Kind::Winograd(e) => &mut e.epilogues,
        };
        let outputs = bias.len() / epilogues.len();
        for (epilogue, bias) in epilogues.iter_mut().zip(bias.chunks_exact(outputs)) {
            epilogue.set_bias(bias);
        }
    }

    /// Computes `y = activation(correlation(x) + bias)`, or adds that to `y`, on as many threads as there are strands.
    ///
    /// # Safety
    /// The views have the planned shapes.
    pub unsafe fn run(
        &self,
        isa: Isa,
        x: TensorView<'_>,
        y: &mut TensorViewMut<'_>,
        update: Update,
        strands: usize,
        scratch: &mut [f32],
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            match &self.kind {
                Kind::Implicit(e) => e.run(isa, x, y, update, strands, scratch),
                Kind::Im2col(e) => e.run(isa, x, y, update, strands, scratch),
                Kind::Pointwise(e) => e.run(isa, x, y, update, strands, scratch),
                Kind::Direct(e) => e.run(isa, x, y, update, strands, scratch),
                Kind::Winograd(e) => e.run(None, x, y, update, strands, scratch),
                Kind::FewOutputs(e) => e.run(isa, x, y, update, strands, scratch),
            }
        }
    }

    /// The same with these weights, which the engine need not keep.
    ///
    /// # Safety
    /// As there; and the weights are those of the specification.
    #[expect(clippy::too_many_arguments, reason = "those of `run`, and the weights")]
    pub unsafe fn run_with(
        &mut self,
        filters: Filters<'_>,
        isa: Isa,
        x: TensorView<'_>,
        y: &mut TensorViewMut<'_>,
        update: Update,
        strands: usize,
        scratch: &mut [f32],
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            match &self.kind {
                Kind::Winograd(e) if !e.keeps_weights() => {
                    e.run(Some(filters), x, y, update, strands, scratch)
                }
                _ => {
                    self.set_weights(filters);
                    self.run(isa, x, y, update, strands, scratch);
                }
            }
        }
    }
}
