//! The loss, and the gradients of a network, unit by unit from the last to the first.

use std::ops::Range;

use tilewise_kernels::{
    Activation, BatchNormGradients, DeviceTensor, DeviceView, Moments, Shape4, Tensor, Training, Update,
    View, ViewMut,
};

use super::{Back, Done, Executor, Kernel, named, view_mut};
use crate::error::Result;
use crate::graph::{Graph, Op, Value};
use crate::loss::{DeviceTarget, Loss, Target};
use crate::plan::{Place, Unit, tells_slope};
use crate::session::store::{Layout, Part, Parts, Store, flat};

/// What training keeps beside the numbers of the network.
pub struct Gradients<B: Training> {
    /// To all that is trained; or to the numbers of one layer.
    pub trained: B::Tensor,
    /// Whether it is the first.
    whole: bool,
    /// Of every batch norm, where its statistics lie.
    pub(super) moments: Moments<B::Tensor>,
    /// To the factors of one batch norm, and to what it adds.
    norm: [B::Tensor; 2],
    zeros: B::Tensor,
}

impl<B: Training> Gradients<B> {
    pub fn new(device: &B, layout: &Layout) -> Result<Self> {
        let stats = flat(layout.stats);
        let zeros = Tensor::zeros(stats)?;
        Ok(Gradients {
            trained: device.empty(flat(0))?,
            whole: false,
            moments: Moments { mean: device.empty(stats)?, inv_std: device.empty(stats)? },
            norm: [device.empty(stats)?, device.empty(stats)?],
            zeros: device.upload(&zeros)?,
        })
    }

    /// Makes room for the gradient to all that is trained, or for that to the numbers of one layer.
    pub fn resize(&mut self, device: &B, layout: &Layout, whole: bool) -> Result<()> {
        let of_layer = |parts: &Parts| parts.trained().len();
        let largest = || layout.layers.iter().flatten().map(of_layer).max().unwrap_or(0);
        let len = flat(if whole { layout.trained } else { largest() });
        if self.trained.shape() != len || (whole && !self.whole) {
            self.trained = device.empty(flat(0))?;
            // What no gradient reaches has one of zero.
            self.trained = if whole { device.upload(&Tensor::zeros(len)?)? } else { device.empty(len)? };
        }
        self.whole = whole;
        Ok(())
    }

    /// Where the gradient to a part of a layer's numbers lies.
    fn place(&self, parts: &Parts, part: &Part) -> Part {
        part.behind(if self.whole { 0 } else { parts.trained().start })
    }
}

impl<B: Training> Executor<B> {
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

    /// Computes the gradient to all that is trained, from that of the loss. Once the numbers of a layer are not needed any more,
    /// `done` gets their range, them, and the gradient to them.
    pub fn backward(
        &mut self,
        device: &B,
        graph: &Graph,
        layout: &Layout,
        numbers: &mut Store<B::Tensor>,
        gradients: &mut Gradients<B>,
        mut done: impl FnMut(Range<usize>, &mut B::Tensor, &B::Tensor) -> Done,
    ) -> Result<()> {
        let mut kernels = std::mem::take(&mut self.kernels);
        let outcome = kernels.iter_mut().enumerate().rev().try_for_each(|(u, kernel)| {
            let unit = &self.plan.units[u];
            let parts = layout.layers[unit.layer].as_ref();
            self.unit_backward(device, graph, u, kernel, parts, numbers, gradients)
                .map_err(|e| named(graph, unit, e))?;
            match parts {
                Some(parts) => Ok(done(parts.trained(), &mut numbers.trained, &gradients.trained)?),
                None => Ok(()),
            }
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
    ) -> Done {
        let unit = &self.plan.units[u];
        let op = graph.layers()[unit.layer].op;
        let Some(own) = &self.plan.gradients[unit.output.0] else { return Ok(()) };
        let shape = self.plan.shapes[unit.output.0];
        let gy = |f: &mut dyn FnMut(View<'_, B>) -> Done| self.at(&own.place, shape, |gy| f(gy));
        // Where the gradient to the first input goes, if anything needs it.
        let gx = |f: &mut dyn FnMut(ViewMut<'_, B>, Update) -> Done| match self.gradient_of(u, 0) {
            Some((place, shape, update)) => self.at_mut(place, shape, |gx| f(gx, update)),
            None => Ok(()),
        };
        let both = |f: Back<'_, B>| gy(&mut |gy| gx(&mut |gx, update| f(gy, gx, update)));
        match (op, kernel) {
            (_, Kernel::Weighted { backward: Some(backward), .. }) => {
                let parts = parts.expect("it has weights");
                self.at(self.before_activation(device, u, &own.place)?, shape, |gz| {
                    if let Some(bias) = &parts.bias {
                        let gb = gradients.place(parts, bias);
                        let gb = gb.of_mut::<B>(&mut gradients.trained)?;
                        device.bias_backward_into(gz, gb, Update::Write)?;
                    }
                    let gw = gradients.place(parts, &parts.weight);
                    self.with_value(unit.inputs[0], |x| {
                        backward.weights(device, x, gz, gw.of_mut::<B>(&mut gradients.trained)?)
                    })?;
                    let weights = parts.weight.of::<B>(&numbers.trained)?;
                    gx(&mut |gx, update| backward.input(device, weights, gz, gx, update))
                })
            }
            (Op::MaxPool(_), Kernel::MaxPool(argmax)) => {
                both(&mut |gy, gx, update| device.max_pool2d_backward_into(argmax, gy, gx, update))
            }
            (Op::BatchNorm { .. }, _) => {
                self.batch_norm_backward(device, u, parts.expect("it has parameters"), numbers, gradients)
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

    /// Where the gradient to what the activation of a unit takes is, from that to what it makes.
    fn before_activation<'a>(&'a self, device: &B, u: usize, own: &'a Place) -> Done<&'a Place> {
        let Unit { activation, output, .. } = self.plan.units[u];
        if activation == Activation::Identity {
            return Ok(own);
        }
        let shape = self.plan.shapes[output.0];
        let scratch = self.plan.scratch[u].as_ref().expect("planned with the activation");
        self.with_value(output, |y| {
            self.at(own, shape, |gy| {
                self.at_mut(scratch, shape, |gz| {
                    device.activation_backward_into(y, activation, gy, gz, Update::Write)
                })
            })
        })?;
        Ok(scratch)
    }

    fn batch_norm_backward(
        &self,
        device: &B,
        u: usize,
        parts: &Parts,
        numbers: &Store<B::Tensor>,
        gradients: &mut Gradients<B>,
    ) -> Done {
        let Parts { weight, bias: Some(bias), stats: Some(stats) } = parts else {
            unreachable!("a batch norm has factors, what it adds, and statistics")
        };
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
        let own = self.before_activation(device, u, &own.place)?;
        self.with_value(unit.inputs[0], |x| {
            self.at(own, shape, |gy| {
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
        let places = [weight, bias].map(|to| gradients.place(parts, to));
        for (to, sum) in places.iter().zip(&gradients.norm) {
            device.add_backward_into(
                part.of::<B>(sum)?,
                to.of_mut::<B>(&mut gradients.trained)?,
                Update::Write,
            )?;
        }
        Ok(())
    }
}
