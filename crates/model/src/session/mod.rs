//! A network on a device: inference, and training step by step.
//!
//! ```
//! use tilewise_kernels::{Cpu, Shape4, Tensor};
//! use tilewise_model::{Graph, Loss, Optimiser, Session, Step, Target};
//!
//! // A straight line, learnt from two points: y = 2 x + 1.
//! let mut line = Graph::new(Shape4::new(1, 1, 1, 1))?;
//! line.linear("line", line.input(), 1)?;
//! let weights = line.init(0);
//! let mut session = Session::new(Cpu::new()?, line, &weights)?;
//!
//! let x = Tensor::from_vec(Shape4::new(2, 1, 1, 1), vec![-1.0, 1.0])?;
//! let y = Tensor::from_vec(x.shape(), vec![-1.0, 3.0])?;
//! let step = Step { loss: Loss::Mse, optimiser: Optimiser::adam(0.05), clip_norm: None };
//! for _ in 0..500 {
//!     session.train_step(x.view(), Target::Images(y.view()), &step)?;
//! }
//! let answer = session.infer(&Tensor::from_vec(Shape4::new(1, 1, 1, 1), vec![10.0])?)?;
//! assert!((answer.data()[0] - 21.0).abs() < 0.1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod executor;
mod store;
mod weighted;

use std::ops::Range;

use tilewise_kernels::{DeviceTensor, DeviceView, Shape4, Tensor, TensorView, Training, View};

use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::loss::{Loss, MAX_TERMS, Target};
use crate::optimiser::{Optimiser, OptimiserState};
use crate::plan::Mode;
use crate::weights::Weights;
use executor::{Executor, Gradients};
use store::{Layout, Store, flat};

/// For how many shapes of batches plans are kept; of more, the oldest goes.
const KEPT: usize = 3;

/// What one step of training does.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What is to become small.
    pub loss: Loss,
    /// Who changes the weights.
    pub optimiser: Optimiser,
    /// Gradients of a larger norm, over all that is trained, are scaled down to this.
    pub clip_norm: Option<f32>,
}

/// A network with its numbers on a device.
///
/// The first call for a shape of batches plans it, and allocates; later calls for that shape allocate nothing on the CPU.
/// On the CPU, results do not depend on the number of threads.
pub struct Session<B: Training> {
    device: B,
    graph: Graph,
    layout: Layout,
    numbers: Store<B::Tensor>,
    /// Counts the changes of the numbers.
    version: u64,
    /// Each with the version of the numbers that it has packed.
    inference: Vec<(Executor<B>, u64)>,
    training: Option<TrainingState<B>>,
    terms: Terms<B>,
}

/// What only training needs.
struct TrainingState<B: Training> {
    gradients: Gradients<B>,
    executors: Vec<Executor<B>>,
    norm: B::Tensor,
    step: u64,
    moments: Vec<B::Tensor>,
}

impl<B: Training> Session<B> {
    /// Brings a network and its weights to a device.
    ///
    /// # Errors
    /// [`Error::Weights`] if they do not belong together; those of the device.
    pub fn new(device: B, graph: Graph, weights: &Weights) -> Result<Self> {
        weights.check(&graph)?;
        let layout = Layout::new(&graph);
        let numbers = Store::upload(&device, &layout, weights)?;
        let terms = Terms::new(&device)?;
        Ok(Session {
            device,
            graph,
            layout,
            numbers,
            version: 0,
            inference: Vec::new(),
            training: None,
            terms,
        })
    }

    /// The network.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The device.
    pub fn device(&self) -> &B {
        &self.device
    }

    /// The present weights and running statistics.
    ///
    /// # Errors
    /// Those of the device.
    pub fn weights(&self) -> Result<Weights> {
        self.numbers.download(&self.device, &self.layout)
    }

    /// Replaces the weights and running statistics; what an optimiser remembers stays.
    ///
    /// # Errors
    /// [`Error::Weights`] if they do not belong to the network; those of the device.
    pub fn set_weights(&mut self, weights: &Weights) -> Result<()> {
        weights.check(&self.graph)?;
        self.numbers = Store::upload(&self.device, &self.layout, weights)?;
        self.version += 1;
        Ok(())
    }

    /// What the network makes of a batch of images.
    ///
    /// # Errors
    /// As [`Session::infer_into`].
    pub fn infer(&mut self, x: &Tensor) -> Result<Tensor> {
        let mut y = Tensor::zeros(self.graph.output_shape(x.shape())?)?;
        self.infer_into(x.view(), &mut y)?;
        Ok(y)
    }

    /// The same, into a tensor of the shape that [`Graph::output_shape`] tells.
    ///
    /// Batch norms use their running statistics, folded into the convolutions before them.
    ///
    /// # Errors
    /// [`Error::Layer`] if the images do not fit the network; [`Error::Kernel`] if the tensor does not fit the result;
    /// those of the device.
    pub fn infer_into(&mut self, x: TensorView<'_>, y: &mut Tensor) -> Result<()> {
        self.plan_inference(x.shape())?;
        let Session { device, graph, layout, numbers, inference, .. } = self;
        let (executor, _) = inference.last_mut().expect("planned just now");
        executor.write_input(|input| Ok(device.upload_into(x, input)?))?;
        executor.forward(device, graph, layout, numbers, None)?;
        executor.read_output(|output| Ok(device.download_into(output, y)?))
    }

    /// [`Session::infer_into`], and the loss of the result: as in training, but with running statistics, and nothing is learnt.
    ///
    /// # Errors
    /// As there, and for a target as [`Session::train_step`].
    pub fn evaluate(
        &mut self,
        x: TensorView<'_>,
        target: Target<'_>,
        loss: &Loss,
        y: &mut Tensor,
    ) -> Result<f32> {
        self.infer_into(x, y)?;
        let Session { device, inference, terms, .. } = self;
        // It was the last one used.
        let (executor, _) = inference.last_mut().expect("planned just now");
        executor.write_target(device, loss, target)?;
        executor.loss(device, loss, target, &mut terms.values, false)?;
        terms.sum(device, loss)
    }

    /// Plans inference for batches of this shape, or takes the plan that is there, with the present numbers; it is the last one.
    fn plan_inference(&mut self, shape: Shape4) -> Result<()> {
        let Session { device, graph, layout, numbers, version, inference, .. } = self;
        if let Some(i) = inference.iter().position(|(executor, _)| executor.plan.input() == shape) {
            inference[i..].rotate_left(1);
            let (executor, packed) = inference.last_mut().expect("one is there");
            if packed != version {
                executor.repack(device, graph, layout, numbers)?;
                *packed = *version;
            }
            return Ok(());
        }
        if inference.len() == KEPT {
            inference.remove(0);
        }
        inference
            .push((Executor::new(device, graph, layout, Some(numbers), shape, Mode::Inference)?, *version));
        Ok(())
    }

    /// One step of training on a batch: the loss before it.
    ///
    /// # Errors
    /// [`Error::Layer`] if the images do not fit the network; [`Error::Invalid`] or [`Error::Kernel`] if the target does not
    /// fit the loss or the result; those of the device.
    pub fn train_step(&mut self, x: TensorView<'_>, target: Target<'_>, step: &Step) -> Result<f32> {
        let Session { device, graph, layout, numbers, terms, version, .. } = self;
        let training = match &mut self.training {
            Some(training) => training,
            none => none.insert(TrainingState::new(device, layout)?),
        };
        let executor = training.executor(device, graph, layout, x.shape())?;
        executor.write_target(device, &step.loss, target)?;
        executor.write_input(|input| Ok(device.upload_into(x, input)?))?;

        // The norm of a gradient is known when all of it is; otherwise each layer is changed when its gradient is there.
        let at_once = step.clip_norm.is_some() || !executor.reaches_all(layout);
        training.prepare(device, layout, step, at_once)?;
        let TrainingState { gradients, executors, norm, step: count, moments } = training;
        let executor = executors.last_mut().expect("planned just now");
        executor.forward(device, graph, layout, numbers, Some(gradients))?;
        executor.loss(device, &step.loss, target, &mut terms.values, true)?;
        *count += 1;
        let mut change = |range: Range<usize>, trained: &mut B::Tensor, g: View<'_, B>| {
            take_step(device, step.optimiser, *count, range, trained, g, moments)
        };
        executor.backward(device, graph, layout, numbers, gradients, |range, trained, g| {
            if at_once {
                return Ok(());
            }
            let g = g.view().channels(0..range.len())?;
            change(range, trained, g)
        })?;
        if at_once {
            if let Some(max_norm) = step.clip_norm {
                device.clip_norm_into(gradients.trained.view_mut(), max_norm, norm.view_mut())?;
            }
            change(0..numbers.trained.shape().c, &mut numbers.trained, gradients.trained.view())?;
        }
        *version += 1;
        terms.sum(device, &step.loss)
    }

    /// What the optimiser remembers, if any step was taken.
    ///
    /// # Errors
    /// Those of the device.
    pub fn optimiser_state(&self) -> Result<OptimiserState> {
        let Some(training) = &self.training else { return Ok(OptimiserState::default()) };
        let moments = training.moments.iter().map(|moment| Ok(self.device.download(moment)?.into_vec()));
        Ok(OptimiserState { step: training.step, moments: moments.collect::<Result<_>>()? })
    }

    /// Gives the optimiser back what it remembered, to go on from there.
    ///
    /// # Errors
    /// [`Error::Invalid`] if that was of another network; those of the device.
    pub fn set_optimiser_state(&mut self, state: &OptimiserState) -> Result<()> {
        let shape = flat(self.layout.trained);
        if let Some(moment) = state.moments.iter().find(|moment| moment.len() != shape.c) {
            return Err(Error::invalid("optimiser state: numbers", shape.c, moment.len()));
        }
        let moments = state
            .moments
            .iter()
            .map(|moment| Ok(self.device.upload(&Tensor::from_vec(shape, moment.clone())?)?));
        let moments = moments.collect::<Result<Vec<_>>>()?;
        let training = match &mut self.training {
            Some(training) => training,
            none => none.insert(TrainingState::new(&self.device, &self.layout)?),
        };
        (training.step, training.moments) = (state.step, moments);
        Ok(())
    }
}

impl<B: Training> TrainingState<B> {
    fn new(device: &B, layout: &Layout) -> Result<Self> {
        let gradients = Gradients::new(device, layout)?;
        Ok(TrainingState {
            gradients,
            executors: Vec::new(),
            norm: device.empty(flat(1))?,
            step: 0,
            moments: Vec::new(),
        })
    }

    /// Plans training for batches of this shape, or takes the plan that is there; it is the last one.
    fn executor(
        &mut self,
        device: &B,
        graph: &Graph,
        layout: &Layout,
        shape: Shape4,
    ) -> Result<&mut Executor<B>> {
        match self.executors.iter().position(|executor| executor.plan.input() == shape) {
            Some(i) => self.executors[i..].rotate_left(1),
            None => {
                if self.executors.len() == KEPT {
                    self.executors.remove(0);
                }
                // The numbers are packed at each step.
                self.executors.push(Executor::new(device, graph, layout, None, shape, Mode::Training)?);
            }
        }
        Ok(self.executors.last_mut().expect("one is there"))
    }

    /// Makes room for what the optimiser remembers, and for the gradient to all that is trained, or to a layer at a time.
    fn prepare(&mut self, device: &B, layout: &Layout, step: &Step, at_once: bool) -> Result<()> {
        let count = step.optimiser.moments();
        if self.moments.len() != count {
            // The first step, or another optimiser than before.
            let zeros = Tensor::zeros(flat(layout.trained))?;
            let moments = (0..count).map(|_| device.upload(&zeros));
            (self.step, self.moments) = (0, moments.collect::<tilewise_kernels::Result<_>>()?);
        }
        self.gradients.resize(device, layout, at_once)
    }
}

/// Changes a range of what is trained by the gradient to it.
fn take_step<B: Training>(
    device: &B,
    optimiser: Optimiser,
    count: u64,
    range: Range<usize>,
    trained: &mut B::Tensor,
    g: View<'_, B>,
    moments: &mut [B::Tensor],
) -> tilewise_kernels::Result<()> {
    let p = trained.view_mut().channels(range.clone())?;
    match (optimiser, moments) {
        (Optimiser::Sgd(sgd), [velocity]) => {
            device.sgd_step(&sgd, p, g, Some(velocity.view_mut().channels(range)?))
        }
        (Optimiser::Adam(adam), [m, v]) => {
            let (m, v) = (m.view_mut().channels(range.clone())?, v.view_mut().channels(range)?);
            device.adam_step(&adam, count, p, g, m, v)
        }
        _ => unreachable!("as many moments as the optimiser has"),
    }
}

/// The terms of a loss, on the device and on the host.
struct Terms<B: Training> {
    values: B::Tensor,
    read: Tensor,
}

impl<B: Training> Terms<B> {
    fn new(device: &B) -> Result<Self> {
        let zeros = Tensor::zeros(flat(MAX_TERMS))?;
        Ok(Terms { values: device.upload(&zeros)?, read: zeros })
    }

    /// Waits for them, and adds them up.
    fn sum(&mut self, device: &B, loss: &Loss) -> Result<f32> {
        device.download_into(self.values.view(), &mut self.read)?;
        Ok(self.read.data()[..loss.terms().count()].iter().sum())
    }
}
