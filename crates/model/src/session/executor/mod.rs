//! A plan on a device: its slots, its kernels, and the loops over its units.

mod backward;
mod forward;

use std::cell::RefCell;

use tilewise_kernels::{
    DeviceTensor, DeviceView, PoolShape, Shape4, Tensor, Training, Update, View, ViewMut,
};

use super::store::{Layout, Part, Parts, Store, flat};
use super::weighted::{Weighted, WeightedBackward, WeightedShape};
use crate::error::{Error, Result};
use crate::graph::{Graph, Op, Value};
use crate::loss::{Loss, Target};
use crate::plan::{Mode, Place, Plan, Unit};

pub use backward::Gradients;

/// Of what runs kernels.
type Done<T = ()> = tilewise_kernels::Result<T>;

/// Computes one view from another.
type Map<'f, B> = &'f mut dyn FnMut(View<'_, B>, ViewMut<'_, B>) -> Done;

/// Computes a gradient from that behind it.
type Back<'f, B> = &'f mut dyn FnMut(View<'_, B>, ViewMut<'_, B>, Update) -> Done;

/// What a unit keeps on the device.
enum Kernel<B: Training> {
    /// Nothing.
    Plain,
    Weighted {
        forward: Weighted<B>,
        backward: Option<WeightedBackward<B>>,
    },
    /// Where the maxima were.
    MaxPool(B::Argmax),
}

/// A plan on a device.
pub(super) struct Executor<B: Training> {
    pub plan: Plan,
    slots: Vec<RefCell<B::Tensor>>,
    kernels: Vec<Kernel<B>>,
    /// What a loss compares with, once one did.
    target: Option<B::Tensor>,
}

impl<B: Training> Executor<B> {
    /// Plans a network for a batch of this shape; for inference with these numbers, while training packs its own at each step.
    pub fn new(
        device: &B,
        graph: &Graph,
        layout: &Layout,
        numbers: Option<&Store<B::Tensor>>,
        input: Shape4,
        mode: Mode,
    ) -> Result<Self> {
        let plan = Plan::new(graph, input, mode)?;
        let slots = plan.slots.iter().map(|len| Ok(RefCell::new(device.empty(flat(*len))?)));
        let slots = slots.collect::<Result<_>>()?;
        let kernel = |unit: &Unit| {
            let op = &graph.layers()[unit.layer].op;
            let x = plan.shapes[unit.inputs[0].0];
            if let Op::MaxPool(params) = op
                && mode == Mode::Training
            {
                return Ok(Kernel::MaxPool(device.empty_argmax(PoolShape::max(x, *params)?)?));
            }
            let Some(shape) = WeightedShape::of(op, x)? else { return Ok(Kernel::Plain) };
            let parts = layout.layers[unit.layer].as_ref().expect("it has weights");
            let Some(numbers) = numbers else {
                let forward =
                    Weighted::plan_without_weights(device, shape, parts.bias.is_some(), unit.activation)?;
                let to_input = plan.gradients[plan.roots[unit.inputs[0].0].0].is_some();
                let needed = plan.gradients[unit.output.0].is_some();
                let backward = needed.then(|| WeightedBackward::plan(device, shape, to_input)).transpose()?;
                return Ok(Kernel::Weighted { forward, backward });
            };
            let forward = with_folded(device, graph, layout, numbers, unit, shape, |weights, bias| {
                Weighted::plan(device, shape, weights, bias, unit.activation)
            })?;
            Ok(Kernel::Weighted { forward, backward: None })
        };
        let kernels = plan.units.iter().map(|unit| kernel(unit).map_err(|e| named(graph, unit, e)));
        let kernels = kernels.collect::<Result<_>>()?;
        Ok(Executor { plan, slots, kernels, target: None })
    }

    /// Packs other numbers for inference.
    pub fn repack(
        &mut self,
        device: &B,
        graph: &Graph,
        layout: &Layout,
        numbers: &Store<B::Tensor>,
    ) -> Result<()> {
        for (unit, kernel) in self.plan.units.iter().zip(&mut self.kernels) {
            let Kernel::Weighted { forward, .. } = kernel else { continue };
            let op = &graph.layers()[unit.layer].op;
            let shape = WeightedShape::of(op, self.plan.shapes[unit.inputs[0].0])?.expect("it has weights");
            let parts = layout.layers[unit.layer].as_ref().expect("it has weights");
            let packed = with_folded(device, graph, layout, numbers, unit, shape, |weights, bias| {
                let weights = device.upload(&Tensor::from_vec(parts.weight.shape, weights.to_vec())?)?;
                let bias = bias.map(|bias| {
                    device.upload(&Tensor::from_vec(Shape4::new(1, bias.len(), 1, 1), bias.to_vec())?)
                });
                let bias = bias.transpose()?;
                forward.set_weights(device, weights.view(), bias.as_ref().map(|bias| bias.view()))
            });
            packed.map_err(|e| named(graph, unit, e))?;
        }
        Ok(())
    }

    /// Whether there is a gradient to everything that is trained.
    pub fn reaches_all(&self, layout: &Layout) -> bool {
        layout.layers.iter().enumerate().filter(|(_, parts)| parts.is_some()).all(|(layer, _)| {
            let unit = self.plan.units.iter().find(|unit| unit.layer == layer);
            unit.is_some_and(|unit| self.plan.gradients[unit.output.0].is_some())
        })
    }

    /// Where the images of a batch go.
    pub fn write_input(&mut self, write: impl FnOnce(ViewMut<'_, B>) -> Result<()>) -> Result<()> {
        let place = self.plan.places[0].as_ref().expect("the input has a place");
        write(view_mut::<B>(self.slots[place.slot].get_mut(), place, self.plan.shapes[0])?)
    }

    /// Takes what a loss is to compare with.
    pub fn write_target(&mut self, device: &B, loss: &Loss, target: Target<'_>) -> Result<()> {
        loss.check(&target, self.plan.output())?;
        if let Target::Images(images) = target {
            let to = match &mut self.target {
                Some(to) => to,
                none => none.insert(device.empty(images.shape())?),
            };
            device.upload_into(images, to.view_mut())?;
        }
        Ok(())
    }

    /// The result of the network.
    pub fn read_output<T>(&self, read: impl FnOnce(View<'_, B>) -> Result<T>) -> Result<T> {
        self.with_value(Value(self.plan.shapes.len() - 1), |y| Ok(read(y)))?
    }

    /// Lets `f` see a value.
    fn with_value<T>(&self, value: Value, f: impl FnOnce(View<'_, B>) -> Done<T>) -> Done<T> {
        let place = self.plan.places[self.plan.roots[value.0].0].as_ref().expect("what is read has a place");
        let slot = self.slots[place.slot].borrow();
        f(view::<B>(&slot, place, self.plan.shapes[value.0])?)
    }

    /// Lets `f` see the place of something.
    fn at<T>(&self, place: &Place, shape: Shape4, f: impl FnOnce(View<'_, B>) -> Done<T>) -> Done<T> {
        f(view::<B>(&self.slots[place.slot].borrow(), place, shape)?)
    }

    /// Lets `f` write to the place of something, which nobody reads meanwhile.
    fn at_mut<T>(&self, place: &Place, shape: Shape4, f: impl FnOnce(ViewMut<'_, B>) -> Done<T>) -> Done<T> {
        f(view_mut::<B>(&mut self.slots[place.slot].borrow_mut(), place, shape)?)
    }
}

/// Calls `f` with the weights and the bias of a unit, its batch norm folded into them.
fn with_folded<B: Training, T>(
    device: &B,
    graph: &Graph,
    layout: &Layout,
    numbers: &Store<B::Tensor>,
    unit: &Unit,
    shape: WeightedShape,
    f: impl FnOnce(&[f32], Option<&[f32]>) -> Done<T>,
) -> Done<T> {
    let parts = layout.layers[unit.layer].as_ref().expect("it has weights");
    let trained = |part: &Part| part.download(device, &numbers.trained);
    let (weights, bias) = (trained(&parts.weight)?, parts.bias.as_ref().map(trained).transpose()?);
    let Some(norm) = unit.norm else { return f(&weights, bias.as_deref()) };
    let (Op::BatchNorm { eps, .. }, Some(Parts { weight, bias: Some(beta), stats: Some(stats) })) =
        (graph.layers()[norm].op, &layout.layers[norm])
    else {
        unreachable!("a batch norm has factors, what it adds, and statistics")
    };
    let (mean, var) =
        (stats.download(device, &numbers.running_mean)?, stats.download(device, &numbers.running_var)?);
    let scale: Vec<f32> =
        trained(weight)?.iter().zip(var).map(|(gamma, v)| gamma / (v + eps).sqrt()).collect();
    let beta = trained(beta)?;
    let shift = beta.iter().zip(mean).zip(&scale).map(|((beta, mean), scale)| beta - mean * scale);
    let [weights, bias] = shape.folded(weights, bias, &scale, &shift.collect::<Vec<_>>());
    f(&weights, Some(&bias))
}

fn view<'a, B: Training>(slot: &'a B::Tensor, place: &Place, shape: Shape4) -> Done<View<'a, B>> {
    let whole = slot.view().channels(0..place.whole.n * place.whole.image_len())?.reshape(place.whole)?;
    let part = whole.channels(place.channels.clone())?;
    if part.shape() == shape { Ok(part) } else { part.reshape(shape) }
}

fn view_mut<'a, B: Training>(slot: &'a mut B::Tensor, place: &Place, shape: Shape4) -> Done<ViewMut<'a, B>> {
    let whole = slot.view_mut().channels(0..place.whole.n * place.whole.image_len())?.reshape(place.whole)?;
    let part = whole.channels(place.channels.clone())?;
    if part.shape() == shape { Ok(part) } else { part.reshape(shape) }
}

/// An error of a kernel, with the layer that it came from.
fn named(graph: &Graph, unit: &Unit, source: tilewise_kernels::Error) -> Error {
    Error::Layer { layer: graph.name(unit.layer), source: Box::new(source) }
}
