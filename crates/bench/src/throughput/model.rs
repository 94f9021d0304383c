//! Whole networks: inference and training steps.

use std::fmt;

use tilewise_kernels::{Cpu, Isa, Shape4, Tensor, Training};
use tilewise_model::zoo::{AutoEncoder, Cnn, Network, UNet};
use tilewise_model::{Loss, Optimiser, Session, Step, Target};

use super::{Options, fill};
use crate::error::Result;
use crate::machine::{self, peak_memory};
use crate::report::ModelRow;
use crate::team::Team;
use crate::timing::{Timing, time};

/// What of a network is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// What it makes of a batch.
    Infer,
    /// One step of training on a batch: forward, loss, gradients, Adam.
    Train,
}

impl Mode {
    /// As the command line spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Infer => "infer",
            Mode::Train => "train",
        }
    }

    /// Passes of the size of a forward pass: training has gradients to the data and to the weights beside it.
    const fn passes(self) -> f64 {
        match self {
            Mode::Infer => 1.0,
            Mode::Train => 3.0,
        }
    }
}

/// A network to measure, and the batch that it is given.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelProblem {
    /// What to call it.
    pub name: &'static str,
    /// The network.
    pub network: Network,
    /// Images of a batch.
    pub batch: usize,
}

impl ModelProblem {
    /// The names that [`ModelProblem::new`] knows.
    pub const NAMES: [&str; 3] = ["lenet", "autoencoder", "unet"];

    /// The network of a name, where given with `base` feature maps in its first level (U-Net), for square images of `size`, in
    /// batches of `batch`; `None` if there is no such network, or no such thing as its base.
    ///
    /// `lenet` is conv32-pool-conv64-pool-dense128 for 64 images of 1x28x28 in 10 classes; `autoencoder` the convolutional one
    /// of 16 and 32 feature maps for as many; `unet` has 3 channels in, one class, by default 16 feature maps, and 4 images of 256x256.
    pub fn new(name: &str, base: Option<usize>, size: Option<usize>, batch: Option<usize>) -> Option<Self> {
        let (name, network, usual) = match (name, base) {
            ("lenet", None) => {
                let size = size.unwrap_or(28);
                ("lenet", Network::Cnn(Cnn { size, ..Cnn::default() }), 64)
            }
            ("autoencoder", None) => {
                let size = size.unwrap_or(28);
                ("autoencoder", Network::AutoEncoder(AutoEncoder { size, ..AutoEncoder::default() }), 64)
            }
            ("unet", base) => {
                let (base, size) = (base.unwrap_or(16), size.unwrap_or(256));
                ("unet", Network::UNet(UNet { in_channels: 3, base, size, ..UNet::default() }), 4)
            }
            _ => return None,
        };
        Some(ModelProblem { name, network, batch: batch.unwrap_or(usual) })
    }

    /// The loss that the network is usually trained with.
    fn loss(&self) -> Loss {
        match self.network {
            Network::Cnn(_) => Loss::cross_entropy(),
            Network::AutoEncoder(_) => Loss::Mse,
            Network::UNet(_) => Loss::bce_with_logits(),
        }
    }
}

impl fmt::Display for ModelProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        if let Network::UNet(unet) = &self.network {
            write!(f, "{}", unet.base)?;
        }
        Ok(())
    }
}

/// A network with a batch on a device, ready to be called.
struct ModelCall<B: Training> {
    session: Session<B>,
    x: Tensor,
    y: Tensor,
    labels: Vec<usize>,
    masks: Option<Tensor>,
    step: Step,
    /// What the last call gave: a loss, or a number of its output.
    last: f32,
}

impl<B: Training> ModelCall<B> {
    fn new(device: B, problem: &ModelProblem) -> Result<Self> {
        let graph = problem.network.graph()?;
        let shape = Shape4 { n: problem.batch, ..graph.input_shape() };
        let output = graph.output_shape(shape)?;
        let loss = problem.loss();
        let mut x = Tensor::zeros(shape)?;
        fill(x.data_mut(), 1);
        x.data_mut().iter_mut().for_each(|x| *x = x.abs());
        let labels =
            if loss.wants_labels() { (0..shape.n).map(|n| n % output.c).collect() } else { Vec::new() };
        let masks = match loss {
            Loss::BceWithLogits { .. } => {
                let mut masks = Tensor::zeros(output)?;
                fill(masks.data_mut(), 2);
                masks.data_mut().iter_mut().for_each(|m| *m = f32::from(u8::from(*m > 0.0)));
                Some(masks)
            }
            _ => None,
        };
        let weights = graph.init(1);
        let session = Session::new(device, graph, &weights)?;
        let step = Step { loss, optimiser: Optimiser::adam(1e-3), clip_norm: None };
        Ok(ModelCall { session, x, y: Tensor::zeros(output)?, labels, masks, step, last: 0.0 })
    }

    /// Waits for the result.
    fn call(&mut self, mode: Mode) -> Result<()> {
        match mode {
            Mode::Infer => {
                self.session.infer_into(self.x.view(), &mut self.y)?;
                self.last = self.y.data()[0];
            }
            Mode::Train => {
                let target = match &self.masks {
                    _ if self.step.loss.wants_labels() => Target::Labels(&self.labels),
                    Some(masks) => Target::Images(masks.view()),
                    // To give back what it sees.
                    None => Target::Images(self.x.view()),
                };
                self.last = self.session.train_step(self.x.view(), target, &self.step)?;
            }
        }
        Ok(())
    }
}

/// Times a network.
///
/// # Errors
/// If there is no such network, memory runs out, or the instruction set is missing.
pub fn model(problem: &ModelProblem, mode: Mode, options: &Options) -> Result<ModelRow> {
    match &options.gpu {
        None => {
            let isa = options.isa.map_or_else(Isa::selected, Isa::require)?;
            let team = Team::new(options.threads)?;
            let roof = || machine::fma_peak(machine::peak_isa(isa), &team);
            let device = Cpu::with_isa(isa)?.threads(options.threads);
            let before = roof();
            let (timing, last) = team.run(|| measure(device, problem, mode, options))?;
            let peak = before.max(roof());
            row(problem, mode, timing, last, ("cpu", isa.name().to_owned(), options.threads), Some(peak))
        }
        Some(gpu) => {
            let (timing, last) = measure(gpu.clone(), problem, mode, options)?;
            row(problem, mode, timing, last, ("gpu", gpu.adapter().name.clone(), 1), None)
        }
    }
}

/// The time of a call, and what the last one gave.
fn measure<B: Training>(
    device: B,
    problem: &ModelProblem,
    mode: Mode,
    options: &Options,
) -> Result<(Timing, f32)> {
    let mut call = ModelCall::new(device, problem)?;
    let timing = time(options.time, || call.call(mode))?;
    Ok((timing, call.last))
}

fn row(
    problem: &ModelProblem,
    mode: Mode,
    timing: Timing,
    last: f32,
    (device, isa, threads): (&'static str, String, usize),
    peak: Option<f64>,
) -> Result<ModelRow> {
    let graph = problem.network.graph()?;
    let input = Shape4 { n: problem.batch, ..graph.input_shape() };
    let macs = graph.macs(input)?;
    let gflops = 2.0 * macs * mode.passes() / timing.median / 1e9;
    Ok(ModelRow {
        network: problem.to_string(),
        mode: mode.name(),
        device,
        isa,
        threads,
        input,
        parameters: graph.trained(),
        macs,
        timing,
        gflops,
        percent_of_peak: peak.map(|peak| 100.0 * gflops / peak),
        peak_memory: peak_memory(),
        mismatch: (!last.is_finite()).then(|| format!("expected finite numbers, got {last}")),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn networks_are_known_by_name_and_only_one_has_a_base() {
        for name in ModelProblem::NAMES {
            let problem = ModelProblem::new(name, None, None, None).unwrap();
            assert_eq!(problem.name, name);
            problem.network.graph().unwrap();
        }
        assert_eq!(ModelProblem::new("unet", Some(64), Some(32), Some(1)).unwrap().to_string(), "unet64");
        assert_eq!(ModelProblem::new("lenet", Some(8), None, None), None);
        assert_eq!(ModelProblem::new("vit", None, None, None), None);
    }

    #[test]
    fn every_network_is_timed_in_both_modes() {
        let options = Options { time: Duration::from_millis(1), ..Options::default() };
        for name in ModelProblem::NAMES {
            let base = (name == "unet").then_some(2);
            let problem = ModelProblem::new(name, base, Some(16), Some(2)).unwrap();
            let macs = problem.network.graph().unwrap().macs(Shape4::new(
                2,
                if base.is_some() { 3 } else { 1 },
                16,
                16,
            ));
            for mode in [Mode::Infer, Mode::Train] {
                let row = model(&problem, mode, &options).unwrap();
                assert!(row.mismatch.is_none() && row.timing.samples >= 3);
                let expected = macs.as_ref().unwrap() * 2.0 * mode.passes() / row.timing.median / 1e9;
                assert!((row.gflops / expected - 1.0).abs() < 1e-9);
            }
        }
    }
}
