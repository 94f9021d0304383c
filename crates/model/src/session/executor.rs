//! A plan on a device: its slots, its kernels, and the loops over its units.

use std::cell::RefCell;

use tilewise_kernels::{
    Activation, Affine, BatchNormGradients, DeviceTensor, DeviceView, Moments, PoolShape, Shape4, Tensor,
    Tracked, Training, Update, View, ViewMut,
};

use super::store::{Layout, Part, Parts, Store, flat};
use super::weighted::{Weighted, WeightedBackward, WeightedShape};
use crate::error::{Error, Result};
use crate::graph::{Fit, Graph, Op, Value};
use crate::loss::{DeviceTarget, Loss, Target};
use crate::plan::{Mode, Place, Plan, Unit, tells_slope};

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

/// What training keeps beside the numbers of the network.
pub(super) struct Gradients<B: Training> {
    /// To all that is trained.
    pub trained: B::Tensor,
    /// Of every batch norm, where its statistics lie.
    moments: Moments<B::Tensor>,
    /// To the factors of one batch norm, and to what it adds.
    norm: [B::Tensor; 2],
    zeros: B::Tensor,
}

impl<B: Training> Gradients<B> {
    pub fn new(device: &B, layout: &Layout) -> Result<Self> {
        let stats = flat(layout.stats);
        let zeros = Tensor::zeros(stats)?;
        Ok(Gradients {
            // What no gradient reaches has one of zero.
            trained: device.upload(&Tensor::zeros(flat(layout.trained))?)?,
            moments: Moments { mean: device.empty(stats)?, inv_std: device.empty(stats)? },
            norm: [device.empty(stats)?, device.empty(stats)?],
            zeros: device.upload(&zeros)?,
        })
    }
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
        numbers: Option<&Store<Tensor>>,
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
                let forward = Weighted::plan_empty(device, shape, parts.bias.is_some(), unit.activation)?;
                let to_input = plan.gradients[plan.roots[unit.inputs[0].0].0].is_some();
                let needed = plan.gradients[unit.output.0].is_some();
                let backward = needed.then(|| WeightedBackward::plan(device, shape, to_input)).transpose()?;
                return Ok(Kernel::Weighted { forward, backward });
            };
            let forward = with_folded(graph, layout, numbers, unit, shape, |weights, bias| {
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
        numbers: &Store<Tensor>,
    ) -> Result<()> {
        for (unit, kernel) in self.plan.units.iter().zip(&mut self.kernels) {
            let Kernel::Weighted { forward, .. } = kernel else { continue };
            let op = &graph.layers()[unit.layer].op;
            let shape = WeightedShape::of(op, self.plan.shapes[unit.inputs[0].0])?.expect("it has weights");
            let parts = layout.layers[unit.layer].as_ref().expect("it has weights");
            let packed = with_folded(graph, layout, numbers, unit, shape, |weights, bias| {
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
    fn with_value<T>(
        &self,
        value: Value,
        f: impl FnOnce(View<'_, B>) -> tilewise_kernels::Result<T>,
    ) -> tilewise_kernels::Result<T> {
        let place = self.plan.places[self.plan.roots[value.0].0].as_ref().expect("what is read has a place");
        let slot = self.slots[place.slot].borrow();
        f(view::<B>(&slot, place, self.plan.shapes[value.0])?)
    }

    /// Lets `f` see the place of something.
    fn at<T>(
        &self,
        place: &Place,
        shape: Shape4,
        f: impl FnOnce(View<'_, B>) -> tilewise_kernels::Result<T>,
    ) -> tilewise_kernels::Result<T> {
        f(view::<B>(&self.slots[place.slot].borrow(), place, shape)?)
    }

    /// Lets `f` write to the place of something, which nobody reads meanwhile.
    fn at_mut<T>(
        &self,
        place: &Place,
        shape: Shape4,
        f: impl FnOnce(ViewMut<'_, B>) -> tilewise_kernels::Result<T>,
    ) -> tilewise_kernels::Result<T> {
        f(view_mut::<B>(&mut self.slots[place.slot].borrow_mut(), place, shape)?)
    }

    /// Computes every value; in training from the present numbers, whose running statistics it updates.
    pub fn forward(
        &mut self,
        device: &B,
        graph: &Graph,
        layout: &Layout,
        numbers: &mut Store<B::Tensor>,
        gradients: Option<&mut Gradients<B>>,
    ) -> Result<()> {
        let mut kernels = std::mem::take(&mut self.kernels);
        let mut moments = gradients.map(|gradients| &mut gradients.moments);
        let outcome = kernels.iter_mut().enumerate().try_for_each(|(u, kernel)| {
            let unit = &self.plan.units[u];
            let parts = layout.layers[unit.layer].as_ref();
            self.unit_forward(device, graph, u, kernel, parts, numbers, moments.as_deref_mut())
                .map_err(|e| named(graph, unit, e))
        });
        self.kernels = kernels;
        outcome
    }

    #[expect(clippy::too_many_arguments, reason = "each is a part of the session that others do not borrow")]
    fn unit_forward(
        &self,
        device: &B,
        graph: &Graph,
        u: usize,
        kernel: &mut Kernel<B>,
        parts: Option<&Parts>,
        numbers: &mut Store<B::Tensor>,
        moments: Option<&mut Moments<B::Tensor>>,
    ) -> tilewise_kernels::Result<()> {
        let unit = &self.plan.units[u];
        let op = graph.layers()[unit.layer].op;
        let place = self.plan.places[unit.output.0].as_ref().expect("what is computed has a place");
        let shape = self.plan.shapes[unit.output.0];
        if op == Op::Concat {
            return self.concat(device, unit, place);
        }
        // The operand, and where the result goes.
        let io = |f: &mut dyn FnMut(View<'_, B>, ViewMut<'_, B>) -> tilewise_kernels::Result<()>| {
            self.with_value(unit.inputs[0], |x| self.at_mut(place, shape, |y| f(x, y)))
        };
        match (op, kernel) {
            (_, Kernel::Weighted { forward, .. }) => {
                if let (Some(parts), Mode::Training) = (parts, self.plan.mode) {
                    let bias = parts.bias.as_ref().map(|bias| bias.of::<B>(&numbers.trained)).transpose()?;
                    forward.set_weights(device, parts.weight.of::<B>(&numbers.trained)?, bias)?;
                }
                io(&mut |x, y| forward.run(device, x, y))
            }
            (Op::MaxPool(params), Kernel::MaxPool(argmax)) => {
                io(&mut |x, y| device.max_pool2d_argmax_into(x, params, y, argmax))
            }
            (Op::BatchNorm { eps, momentum }, _) => {
                let Parts { weight, bias: Some(bias), stats: Some(stats) } =
                    parts.expect("it has parameters")
                else {
                    unreachable!("a batch norm has factors, what it adds, and statistics")
                };
                let norm = Affine {
                    gamma: weight.of::<B>(&numbers.trained)?,
                    beta: bias.of::<B>(&numbers.trained)?,
                    eps,
                };
                let (mean, var) = (&mut numbers.running_mean, &mut numbers.running_var);
                let Some(moments) = moments else {
                    let (mean, var) = (stats.of::<B>(mean)?, stats.of::<B>(var)?);
                    return io(&mut |x, y| device.batch_norm_into(x, norm, mean, var, y));
                };
                io(&mut |x, y| {
                    let running =
                        Tracked { mean: stats.of_mut::<B>(mean)?, var: stats.of_mut::<B>(var)?, momentum };
                    let moments = Moments {
                        mean: stats.of_mut::<B>(&mut moments.mean)?,
                        inv_std: stats.of_mut::<B>(&mut moments.inv_std)?,
                    };
                    device.batch_norm_moments_into(x, norm, Some(running), moments, y)
                })
            }
            (Op::Activation(f), _) => io(&mut |x, y| device.activation_into(x, f, y)),
            (Op::MaxPool(params), _) => io(&mut |x, y| device.max_pool2d_into(x, params, y)),
            (Op::AvgPool(params), _) => io(&mut |x, y| device.avg_pool2d_into(x, params, y)),
            (Op::GlobalAvgPool, _) => io(&mut |x, y| device.global_avg_pool_into(x, y)),
            (Op::Softmax(axis), _) => io(&mut |x, y| device.softmax_into(x, axis, y)),
            (Op::Upsample { mode, .. }, _) => io(&mut |x, y| device.upsample_into(x, mode, y)),
            (Op::Add, _) => self.with_value(unit.inputs[1], |b| io(&mut |a, y| device.add_into(a, b, y))),
            (Op::FitTo, _) => {
                let fit = self.fit(graph, unit);
                match &self.plan.scratch[u] {
                    Some(scratch) if !fit.is_one_step() => {
                        self.with_value(unit.inputs[0], |x| {
                            self.at_mut(scratch, fit.padded, |y| device.pad_into(x, fit.pad, 0.0, y))
                        })?;
                        self.at(scratch, fit.padded, |x| {
                            self.at_mut(place, shape, |y| device.crop_into(x, fit.crop, y))
                        })
                    }
                    _ if fit.pads() => io(&mut |x, y| device.pad_into(x, fit.pad, 0.0, y)),
                    _ => io(&mut |x, y| device.crop_into(x, fit.crop, y)),
                }
            }
            (Op::Input | Op::Concat | Op::Flatten | Op::Reshape { .. }, _)
            | (Op::Conv2d { .. } | Op::ConvTranspose2d { .. } | Op::Linear { .. }, _) => {
                unreachable!("no units, done before, or planned with weights")
            }
        }
    }

    fn fit(&self, graph: &Graph, unit: &Unit) -> Fit {
        let [x, like] = [0, 1].map(|i| self.plan.shapes[graph.layers()[unit.layer].inputs[i].0]);
        Fit::new(x, like).expect("the shapes were checked")
    }

    /// Copies what does not lie there yet.
    fn concat(&self, device: &B, unit: &Unit, place: &Place) -> tilewise_kernels::Result<()> {
        let mut first = place.channels.start;
        for value in &unit.inputs {
            let shape = self.plan.shapes[value.0];
            let channels = first..first + shape.c;
            first = channels.end;
            let own =
                self.plan.places[self.plan.roots[value.0].0].as_ref().expect("what is read has a place");
            if own.slot != place.slot {
                let part = Place { channels, ..place.clone() };
                self.with_value(*value, |x| self.at_mut(&part, shape, |y| device.concat_into(&[x], y)))?;
            }
        }
        Ok(())
    }

    /// The value of each term of the loss, to the first elements of `values`; and its gradient. The target was taken before.
    pub fn loss(
        &mut self,
        device: &B,
        loss: &Loss,
        target: Target<'_>,
        values: &mut B::Tensor,
        with_gradient: bool,
    ) -> Result<()> {
        let target = &match (target, &self.target) {
            (Target::Labels(labels), _) => DeviceTarget::Labels(labels),
            (Target::Images(_), Some(images)) => DeviceTarget::Images(images.view()),
            (Target::Images(_), None) => unreachable!("taken before"),
        };
        let (result, shape) = (Value(self.plan.shapes.len() - 1), self.plan.output());
        for (i, term) in loss.terms().enumerate() {
            self.with_value(result, |x| {
                let value = values.view_mut().channels(i..i + 1)?;
                term.forward(device, x, target, value)?;
                match &self.plan.gradients[self.plan.roots[result.0].0] {
                    Some(gradient) if with_gradient => {
                        let update = if i == 0 { Update::Write } else { Update::Accumulate };
                        self.at_mut(&gradient.place, shape, |gx| term.backward(device, x, target, gx, update))
                    }
                    _ => Ok(()),
                }
            })?;
        }
        Ok(())
    }

    /// Computes the gradient to all that is trained, from that of the loss.
    pub fn backward(
        &mut self,
        device: &B,
        graph: &Graph,
        layout: &Layout,
        numbers: &Store<B::Tensor>,
        gradients: &mut Gradients<B>,
    ) -> Result<()> {
        let mut kernels = std::mem::take(&mut self.kernels);
        let outcome = kernels.iter_mut().enumerate().rev().try_for_each(|(u, kernel)| {
            let unit = &self.plan.units[u];
            let parts = layout.layers[unit.layer].as_ref();
            self.unit_backward(device, graph, u, kernel, parts, numbers, gradients)
                .map_err(|e| named(graph, unit, e))
        });
        self.kernels = kernels;
        outcome
    }

    #[expect(clippy::too_many_arguments, reason = "each is a part of the session that others do not borrow")]
    fn unit_backward(
        &self,
        device: &B,
        graph: &Graph,
        u: usize,
        kernel: &mut Kernel<B>,
        parts: Option<&Parts>,
        numbers: &Store<B::Tensor>,
        gradients: &mut Gradients<B>,
    ) -> tilewise_kernels::Result<()> {
        let unit = &self.plan.units[u];
        let op = graph.layers()[unit.layer].op;
        let Some(own) = &self.plan.gradients[unit.output.0] else { return Ok(()) };
        let shape = self.plan.shapes[unit.output.0];
        let gy = |f: &mut dyn FnMut(View<'_, B>) -> tilewise_kernels::Result<()>| {
            self.at(&own.place, shape, |gy| f(gy))
        };
        // Where the gradient to the first input goes, if anything needs it.
        let gx = |f: &mut dyn FnMut(ViewMut<'_, B>, Update) -> tilewise_kernels::Result<()>| match self
            .gradient_of(u, 0)
        {
            Some((place, shape, update)) => self.at_mut(place, shape, |gx| f(gx, update)),
            None => Ok(()),
        };
        let both =
            |f: &mut dyn FnMut(View<'_, B>, ViewMut<'_, B>, Update) -> tilewise_kernels::Result<()>| {
                gy(&mut |gy| gx(&mut |gx, update| f(gy, gx, update)))
            };
        match (op, kernel) {
            (_, Kernel::Weighted { backward: Some(backward), .. }) => {
                let parts = parts.expect("it has weights");
                let place = if unit.activation == Activation::Identity {
                    &own.place
                } else {
                    // The gradient to what the activation takes.
                    let scratch = self.plan.scratch[u].as_ref().expect("planned with the activation");
                    self.with_value(unit.output, |y| {
                        gy(&mut |gy| {
                            self.at_mut(scratch, shape, |gz| {
                                device.activation_backward_into(y, unit.activation, gy, gz, Update::Write)
                            })
                        })
                    })?;
                    scratch
                };
                self.at(place, shape, |gz| {
                    if let Some(bias) = &parts.bias {
                        let gb = bias.of_mut::<B>(&mut gradients.trained)?;
                        device.bias_backward_into(gz, gb, Update::Write)?;
                    }
                    self.with_value(unit.inputs[0], |x| {
                        backward.weights(device, x, gz, parts.weight.of_mut::<B>(&mut gradients.trained)?)
                    })?;
                    let weights = parts.weight.of::<B>(&numbers.trained)?;
                    gx(&mut |gx, update| backward.input(device, weights, gz, gx, update))
                })
            }
            (Op::MaxPool(_), Kernel::MaxPool(argmax)) => {
                both(&mut |gy, gx, update| device.max_pool2d_backward_into(argmax, gy, gx, update))
            }
            (Op::BatchNorm { .. }, _) => {
                let Parts { weight, bias: Some(bias), stats: Some(stats) } =
                    parts.expect("it has parameters")
                else {
                    unreachable!("a batch norm has factors, what it adds, and statistics")
                };
                self.batch_norm_backward(device, u, [weight, bias, stats], numbers, gradients)
            }
            (Op::Activation(f), _) => {
                let operand = if tells_slope(f) { unit.output } else { unit.inputs[0] };
                self.with_value(operand, |x| {
                    both(&mut |gy, gx, update| device.activation_backward_into(x, f, gy, gx, update))
                })
            }
            (Op::AvgPool(params), _) => {
                both(&mut |gy, gx, update| device.avg_pool2d_backward_into(params, gy, gx, update))
            }
            (Op::GlobalAvgPool, _) => {
                both(&mut |gy, gx, update| device.global_avg_pool_backward_into(gy, gx, update))
            }
            (Op::Softmax(axis), _) => self.with_value(unit.output, |y| {
                both(&mut |gy, gx, update| device.softmax_backward_into(y, axis, gy, gx, update))
            }),
            (Op::Upsample { mode, .. }, _) => {
                both(&mut |gy, gx, update| device.upsample_backward_into(mode, gy, gx, update))
            }
            (Op::Concat | Op::Add, _) => {
                let mut first = 0;
                for i in 0..unit.inputs.len() {
                    let channel = if op == Op::Concat { first } else { 0 };
                    first += self.plan.shapes[unit.inputs[i].0].c;
                    let Some((place, shape, update)) = self.gradient_of(u, i) else { continue };
                    // One that lies in that of the result is there already.
                    if place.slot != own.place.slot {
                        gy(&mut |gy| {
                            self.at_mut(place, shape, |gx| {
                                device.concat_backward_into(gy, channel, gx, update)
                            })
                        })?;
                    }
                }
                Ok(())
            }
            (Op::FitTo, _) => {
                let fit = self.fit(graph, unit);
                match &self.plan.scratch[u] {
                    Some(scratch) if !fit.is_one_step() => {
                        gy(&mut |gy| {
                            self.at_mut(scratch, fit.padded, |gx| {
                                device.crop_backward_into(fit.crop, gy, gx, Update::Write)
                            })
                        })?;
                        self.at(scratch, fit.padded, |gy| {
                            gx(&mut |gx, update| device.pad_backward_into(fit.pad, gy, gx, update))
                        })
                    }
                    _ if fit.pads() => {
                        both(&mut |gy, gx, update| device.pad_backward_into(fit.pad, gy, gx, update))
                    }
                    _ => both(&mut |gy, gx, update| device.crop_backward_into(fit.crop, gy, gx, update)),
                }
            }
            _ => unreachable!("no units, or planned with weights"),
        }
    }

    /// Where the gradient to an input of a unit goes, its shape there, and whether it is the first to be there.
    fn gradient_of(&self, u: usize, input: usize) -> Option<(&Place, Shape4, Update)> {
        let inputs = &self.plan.units[u].inputs;
        let root = |value: Value| self.plan.roots[value.0];
        let gradient = self.plan.gradients[root(inputs[input]).0].as_ref()?;
        let first = !inputs[..input].iter().any(|value| root(*value) == root(inputs[input]));
        let update = if first && gradient.writer == Some(u) { Update::Write } else { Update::Accumulate };
        Some((&gradient.place, self.plan.shapes[inputs[input].0], update))
    }

    fn batch_norm_backward(
        &self,
        device: &B,
        u: usize,
        [weight, bias, stats]: [&Part; 3],
        numbers: &Store<B::Tensor>,
        gradients: &mut Gradients<B>,
    ) -> tilewise_kernels::Result<()> {
        let unit = &self.plan.units[u];
        let own = self.plan.gradients[unit.output.0].as_ref().expect("asked before");
        let shape = self.plan.shapes[unit.output.0];
        let (place, _, update) = match (self.gradient_of(u, 0), &self.plan.scratch[u]) {
            (Some(gradient), _) => gradient,
            (None, scratch) => (scratch.as_ref().expect("planned for this"), shape, Update::Write),
        };
        // A part of its own for each gradient, as one flat tensor cannot be written in two places at once.
        let part = Part::first(bias.shape);
        if update == Update::Accumulate {
            for sum in &mut gradients.norm {
                let zeros = part.of::<B>(&gradients.zeros)?;
                device.add_backward_into(zeros, part.of_mut::<B>(sum)?, Update::Write)?;
            }
        }
        let [gamma, beta] = &mut gradients.norm;
        let moments = Moments {
            mean: stats.of::<B>(&gradients.moments.mean)?,
            inv_std: stats.of::<B>(&gradients.moments.inv_std)?,
        };
        self.with_value(unit.inputs[0], |x| {
            self.at(&own.place, shape, |gy| {
                let mut slot = self.slots[place.slot].borrow_mut();
                let to = BatchNormGradients {
                    x: view_mut::<B>(&mut slot, place, shape)?,
                    gamma: part.of_mut::<B>(gamma)?,
                    beta: part.of_mut::<B>(beta)?,
                };
                let factors = weight.of::<B>(&numbers.trained)?;
                device.batch_norm_train_backward_into(x, factors, moments, gy, to, update)
            })
        })?;
        for (to, sum) in [weight, bias].into_iter().zip(&gradients.norm) {
            let to = to.of_mut::<B>(&mut gradients.trained)?;
            device.add_backward_into(part.of::<B>(sum)?, to, Update::Write)?;
        }
        Ok(())
    }
}

/// Calls `f` with the weights and the bias of a unit, its batch norm folded into them.
fn with_folded<T>(
    graph: &Graph,
    layout: &Layout,
    numbers: &Store<Tensor>,
    unit: &Unit,
    shape: WeightedShape,
    f: impl FnOnce(&[f32], Option<&[f32]>) -> tilewise_kernels::Result<T>,
) -> tilewise_kernels::Result<T> {
    let parts = layout.layers[unit.layer].as_ref().expect("it has weights");
    let (weights, bias) =
        (numbers.trained(&parts.weight), parts.bias.as_ref().map(|bias| numbers.trained(bias)));
    let Some(norm) = unit.norm else { return f(weights, bias) };
    let (Op::BatchNorm { eps, .. }, Some(Parts { weight, bias: Some(beta), stats: Some(stats) })) =
        (graph.layers()[norm].op, &layout.layers[norm])
    else {
        unreachable!("a batch norm has factors, what it adds, and statistics")
    };
    let [mean, var] = numbers.stats(stats);
    let scale: Vec<f32> =
        numbers.trained(weight).iter().zip(var).map(|(gamma, v)| gamma / (v + eps).sqrt()).collect();
    let shift =
        numbers.trained(beta).iter().zip(mean).zip(&scale).map(|((beta, mean), scale)| beta - mean * scale);
    let [weights, bias] = shape.folded(weights, bias, &scale, &shift.collect::<Vec<_>>());
    f(&weights, Some(&bias))
}

fn view<'a, B: Training>(
    slot: &'a B::Tensor,
    place: &Place,
    shape: Shape4,
) -> tilewise_kernels::Result<View<'a, B>> {
    let whole = slot.view().channels(0..place.whole.n * place.whole.image_len())?.reshape(place.whole)?;
    let part = whole.channels(place.channels.clone())?;
    if part.shape() == shape { Ok(part) } else { part.reshape(shape) }
}

fn view_mut<'a, B: Training>(
    slot: &'a mut B::Tensor,
    place: &Place,
    shape: Shape4,
) -> tilewise_kernels::Result<ViewMut<'a, B>> {
    let whole = slot.view_mut().channels(0..place.whole.n * place.whole.image_len())?.reshape(place.whole)?;
    let part = whole.channels(place.channels.clone())?;
    if part.shape() == shape { Ok(part) } else { part.reshape(shape) }
}

/// An error of a kernel, with the layer that it came from.
fn named(graph: &Graph, unit: &Unit, source: tilewise_kernels::Error) -> Error {
    Error::Layer { layer: graph.name(unit.layer), source }
}
