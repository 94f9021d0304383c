//! The values of a network, unit by unit.

use tilewise_kernels::{Affine, Moments, Tracked, Training};

use super::{Done, Executor, Gradients, Kernel, Map, named};
use crate::error::Result;
use crate::graph::{Fit, Graph, Op};
use crate::plan::{Mode, Place, Unit};
use crate::session::store::{Layout, Parts, Store};

impl<B: Training> Executor<B> {
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
    ) -> Done {
        let unit = &self.plan.units[u];
        let op = graph.layers()[unit.layer].op;
        let place = self.plan.places[unit.output.0].as_ref().expect("what is computed has a place");
        let shape = self.plan.shapes[unit.output.0];
        if op == Op::Concat {
            return self.concat(device, unit, place);
        }
        // The operand, and where the result goes.
        let io = |f: Map<'_, B>| self.with_value(unit.inputs[0], |x| self.at_mut(place, shape, |y| f(x, y)));
        match (op, kernel) {
            (_, Kernel::Weighted { forward, .. }) => {
                let (Some(parts), Mode::Training) = (parts, self.plan.mode) else {
                    return io(&mut |x, y| forward.run(device, x, y));
                };
                let weights = parts.weight.of::<B>(&numbers.trained)?;
                let bias = parts.bias.as_ref().map(|bias| bias.of::<B>(&numbers.trained)).transpose()?;
                io(&mut |x, y| forward.run_with(device, weights, bias, x, y))
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
                    device.batch_norm_activation_into(x, norm, Some(running), moments, unit.activation, y)
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

    pub(super) fn fit(&self, graph: &Graph, unit: &Unit) -> Fit {
        let [x, like] = [0, 1].map(|i| self.plan.shapes[graph.layers()[unit.layer].inputs[i].0]);
        Fit::new(x, like).expect("the shapes were checked")
    }

    /// Copies what does not lie there yet.
    fn concat(&self, device: &B, unit: &Unit, place: &Place) -> Done {
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
}
