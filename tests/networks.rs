//! Plans of networks against the plainest way to run one: a layer at a time, each value and each gradient in a tensor of its own.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tilewise_bench::gpu;
use tilewise_kernels::{
    Activation, Affine, AvgPool2dParams, Axis, Backend, BatchNormGradients, Conv2dParams, Conv2dShape,
    ConvTranspose2dParams, ConvTranspose2dShape, Cpu, Isa, LinearShape, MaxPool2dParams, Moments, Shape4,
    Tensor, Tracked, Training, Update, UpsampleMode,
};
use tilewise_model::{Graph, Loss, Op, Optimiser, Session, Step, Target, Value, Weights};

/// Larger than usual: 1e-5 enlarges the roundings of a nearly constant feature map 300 times, and two such norms 100,000 times.
const EPS: f32 = 1e-2;

/// A network run layer by layer on the portable CPU.
struct Plain<'a> {
    cpu: Cpu,
    graph: &'a Graph,
    weights: BTreeMap<String, Tensor>,
    values: Vec<Tensor>,
    gradients: BTreeMap<String, Tensor>,
}

impl<'a> Plain<'a> {
    fn new(graph: &'a Graph, weights: &Weights) -> Self {
        let tensors = graph.parameters().into_iter().map(|p| {
            let values = weights.get(&p.name).expect("complete").values.clone();
            (p.name.clone(), Tensor::from_vec(p.shape(), values).unwrap())
        });
        let cpu = Cpu::with_isa(Isa::Portable).unwrap().threads(1);
        Plain { cpu, graph, weights: tensors.collect(), values: Vec::new(), gradients: BTreeMap::new() }
    }

    fn weight(&self, name: &str, what: &str) -> Option<&Tensor> {
        self.weights.get(&format!("{name}.{what}"))
    }

    fn forward(&mut self, x: &Tensor, training: bool) {
        self.values = vec![x.clone()];
        for (i, layer) in self.graph.layers().iter().enumerate().skip(1) {
            let training = training && self.leads_to_result(i);
            let cpu = self.cpu;
            let input = |i: usize| &self.values[index(layer.inputs[i])];
            let x = input(0);
            let (weight, bias) = (self.weight(&layer.name, "weight"), self.weight(&layer.name, "bias"));
            let bias = bias.map(Tensor::data);
            let y = match layer.op {
                Op::Conv2d { params, .. } => cpu.conv2d(x, weight.unwrap(), bias, params).unwrap(),
                Op::ConvTranspose2d { params, .. } => {
                    cpu.conv_transpose2d(x, weight.unwrap(), bias, params).unwrap()
                }
                Op::Linear { .. } => Backend::linear(&cpu, x, weight.unwrap(), bias).unwrap(),
                Op::BatchNorm { eps, momentum } => {
                    let norm = Affine {
                        gamma: weight.unwrap(),
                        beta: self.weight(&layer.name, "bias").unwrap(),
                        eps,
                    };
                    let [mut mean, mut var] = ["running_mean", "running_var"]
                        .map(|what| self.weight(&layer.name, what).unwrap().clone());
                    if training {
                        let running = Tracked { mean: &mut mean, var: &mut var, momentum };
                        let y = Backend::batch_norm_train(&cpu, x, norm, Some(running)).unwrap();
                        self.weights.insert(format!("{}.running_mean", layer.name), mean);
                        self.weights.insert(format!("{}.running_var", layer.name), var);
                        y
                    } else {
                        Backend::batch_norm(&cpu, x, norm, &mean, &var).unwrap()
                    }
                }
                Op::Activation(f) => cpu.activation(x, f).unwrap(),
                Op::MaxPool(params) => cpu.max_pool2d(x, params).unwrap(),
                Op::AvgPool(params) => cpu.avg_pool2d(x, params).unwrap(),
                Op::GlobalAvgPool => cpu.global_avg_pool(x).unwrap(),
                Op::Softmax(axis) => cpu.softmax(x, axis).unwrap(),
                Op::Upsample { factor, mode } => {
                    cpu.upsample(x, [x.shape().h * factor, x.shape().w * factor], mode).unwrap()
                }
                Op::Concat => {
                    let inputs: Vec<_> = (0..layer.inputs.len()).map(input).collect();
                    Backend::concat(&cpu, &inputs).unwrap()
                }
                Op::Add => cpu.add(x, input(1)).unwrap(),
                Op::FitTo => fit_to(x, input(1).shape()),
                Op::Flatten => x.clone().flatten(),
                Op::Reshape { dims: [c, h, w] } => {
                    x.clone().reshape(Shape4::new(x.shape().n, c, h, w)).unwrap()
                }
                other => panic!("{other:?}"),
            };
            self.values.push(y);
        }
    }

    fn leads_to_result(&self, i: usize) -> bool {
        let layers = self.graph.layers();
        i + 1 == layers.len()
            || (i + 1..layers.len())
                .any(|j| layers[j].operands().iter().any(|x| index(*x) == i) && self.leads_to_result(j))
    }

    /// The gradients of `mse(output, target)` to all that is trained; the loss.
    fn backward(&mut self, target: &Tensor) -> f32 {
        let cpu = self.cpu;
        let output = self.values.last().unwrap();
        let loss = Backend::mse(&cpu, output, target).unwrap().data()[0];
        let mut gradients = BTreeMap::new();
        let mut to: Vec<Option<Tensor>> = vec![None; self.values.len()];
        *to.last_mut().unwrap() = Some(Training::mse_backward(&cpu, output, target, 1.0).unwrap());
        for (i, layer) in self.graph.layers().iter().enumerate().skip(1).rev() {
            let Some(gy) = to[i].clone() else { continue };
            let input = |k: usize| &self.values[index(layer.inputs[k])];
            let (x, y) = (input(0), &self.values[i]);
            let weight = self.weight(&layer.name, "weight");
            let has_bias = self.weight(&layer.name, "bias").is_some();
            let own = &mut gradients;
            let mut learnt = |what: &str, g: Tensor| own.insert(format!("{}.{what}", layer.name), g);
            let mut back = vec![match layer.op {
                Op::Conv2d { out_channels, kernel, params, .. } => {
                    let shape = Conv2dShape::new(x.shape(), out_channels, kernel, params).unwrap();
                    learnt("weight", Training::conv2d_backward_weights(&cpu, &shape, x, &gy).unwrap());
                    Training::conv2d_backward_input(&cpu, &shape, weight.unwrap(), &gy).unwrap()
                }
                Op::ConvTranspose2d { out_channels, kernel, params, .. } => {
                    let shape = ConvTranspose2dShape::new(x.shape(), out_channels, kernel, params).unwrap();
                    learnt(
                        "weight",
                        Training::conv_transpose2d_backward_weights(&cpu, &shape, x, &gy).unwrap(),
                    );
                    Training::conv_transpose2d_backward_input(&cpu, &shape, weight.unwrap(), &gy).unwrap()
                }
                Op::Linear { out_features, .. } => {
                    let shape = LinearShape::new(x.shape(), out_features).unwrap();
                    learnt("weight", Training::linear_backward_weights(&cpu, &shape, x, &gy).unwrap());
                    Training::linear_backward_input(&cpu, &shape, weight.unwrap(), &gy).unwrap()
                }
                Op::BatchNorm { eps, .. } => {
                    let one = Shape4::new(1, x.shape().c, 1, 1);
                    let zeros = || Tensor::zeros(one).unwrap();
                    let beta = zeros();
                    let norm = Affine { gamma: weight.unwrap().view(), beta: beta.view(), eps };
                    let (mut mean, mut inv_std, mut again) = (zeros(), zeros(), y.clone());
                    let moments = Moments { mean: mean.view_mut(), inv_std: inv_std.view_mut() };
                    Training::batch_norm_moments_into(&cpu, x.view(), norm, None, moments, again.view_mut())
                        .unwrap();
                    let (mut gx, mut gamma, mut beta) = (x.clone(), zeros(), zeros());
                    let gradients = BatchNormGradients {
                        x: gx.view_mut(),
                        gamma: gamma.view_mut(),
                        beta: beta.view_mut(),
                    };
                    let moments = Moments { mean: mean.view(), inv_std: inv_std.view() };
                    Training::batch_norm_train_backward_into(
                        &cpu,
                        x.view(),
                        weight.unwrap().view(),
                        moments,
                        gy.view(),
                        gradients,
                        Update::Write,
                    )
                    .unwrap();
                    learnt("weight", gamma);
                    learnt("bias", beta);
                    gx
                }
                Op::Activation(f) => Training::activation_backward(&cpu, x, f, &gy).unwrap(),
                Op::MaxPool(params) => {
                    let (_, argmax) = Training::max_pool2d_argmax(&cpu, x, params).unwrap();
                    Training::max_pool2d_backward(&cpu, x.shape(), &argmax, &gy).unwrap()
                }
                Op::AvgPool(params) => Training::avg_pool2d_backward(&cpu, x.shape(), params, &gy).unwrap(),
                Op::GlobalAvgPool => Training::global_avg_pool_backward(&cpu, x.shape(), &gy).unwrap(),
                Op::Softmax(axis) => Training::softmax_backward(&cpu, y, axis, &gy).unwrap(),
                Op::Upsample { mode, .. } => Training::upsample_backward(&cpu, x.shape(), mode, &gy).unwrap(),
                Op::FitTo => fit_back(&gy, x.shape()),
                Op::Add | Op::Flatten | Op::Reshape { .. } => gy.clone().reshape(x.shape()).unwrap(),
                Op::Concat => gy.view().channels(0..x.shape().c).unwrap().to_tensor().unwrap(),
                other => panic!("{other:?}"),
            }];
            match layer.op {
                Op::Conv2d { .. } | Op::ConvTranspose2d { .. } | Op::Linear { .. } if has_bias => {
                    learnt("bias", Training::bias_backward(&cpu, &gy).unwrap());
                }
                Op::Add => back.push(gy),
                Op::Concat => {
                    let mut first = x.shape().c;
                    for k in 1..layer.inputs.len() {
                        let channels = first..first + input(k).shape().c;
                        first = channels.end;
                        back.push(gy.view().channels(channels).unwrap().to_tensor().unwrap());
                    }
                }
                _ => {}
            }
            for (value, gx) in layer.inputs.iter().zip(back) {
                let sum = &mut to[index(*value)];
                *sum = Some(match sum.take() {
                    Some(other) => Backend::add(&cpu, &other, &gx).unwrap(),
                    None => gx,
                });
            }
        }
        self.gradients = gradients;
        loss
    }
}

fn index(value: Value) -> usize {
    value.index()
}

/// Zeros around the middle, or the middle cut out: rows and columns before it are half of the difference, rounded down.
fn fit_to(x: &Tensor, like: Shape4) -> Tensor {
    let (s, [dh, dw]) = (x.shape(), offsets(x.shape(), like));
    Tensor::from_fn(Shape4 { h: like.h, w: like.w, ..s }, |[n, c, h, w]| {
        match ((h as isize - dh).try_into(), (w as isize - dw).try_into()) {
            (Ok(h), Ok(w)) if h < s.h && w < s.w => x.at(n, c, h, w),
            _ => 0.0,
        }
    })
    .unwrap()
}

fn fit_back(gy: &Tensor, x: Shape4) -> Tensor {
    let (s, [dh, dw]) = (gy.shape(), offsets(x, gy.shape()));
    Tensor::from_fn(x, |[n, c, h, w]| match ((h as isize + dh).try_into(), (w as isize + dw).try_into()) {
        (Ok(h), Ok(w)) if h < s.h && w < s.w => gy.at(n, c, h, w),
        _ => 0.0,
    })
    .unwrap()
}

fn offsets(x: Shape4, like: Shape4) -> [isize; 2] {
    [(x.h, like.h), (x.w, like.w)].map(|(from, to)| (to as isize - from as isize).div_euclid(2))
}

/// A network of random layers; those that do not fit are left out.
fn random_graph(image: Shape4, choices: &[[u8; 4]]) -> Graph {
    let mut net = Graph::new(image).unwrap();
    let mut values = vec![net.input()];
    for (i, &[kind, first, second, detail]) in choices.iter().enumerate() {
        // Most layers take the newest value, as in real networks; some take any.
        let pick = |choice: u8| {
            let any = values[usize::from(choice) % values.len()];
            if choice.is_multiple_of(3) { any } else { *values.last().unwrap() }
        };
        let (x, other, name) = (pick(first), values[usize::from(second) % values.len()], format!("layer{i}"));
        let d = usize::from(detail);
        let shape = net.shape(x);
        let bias = d % 2 == 0;
        let op = match kind % 16 {
            0 | 1 => Op::Conv2d {
                out_channels: 1 + d % 5,
                kernel: [1 + d % 3, 1 + d / 4 % 3],
                params: Conv2dParams::default().padding(d / 3 % 2).stride(1 + d / 7 % 2),
                bias,
            },
            2 => Op::ConvTranspose2d {
                out_channels: 1 + d % 4,
                kernel: [2, 2],
                params: ConvTranspose2dParams::default().stride(1 + d % 2),
                bias,
            },
            3 => Op::Linear { out_features: 1 + d % 7, bias },
            4 if shape.h * shape.w >= 4 => Op::BatchNorm { eps: EPS, momentum: 0.1 },
            5 | 6 => Op::Activation(
                [
                    Activation::Relu,
                    Activation::LeakyRelu { slope: 0.2 },
                    Activation::Relu6,
                    Activation::Sigmoid,
                    Activation::Tanh,
                    Activation::Silu,
                    Activation::LeakyRelu { slope: -0.5 },
                ][d % 7],
            ),
            7 => Op::MaxPool(MaxPool2dParams::new(2).stride(1 + d % 2)),
            8 => Op::AvgPool(AvgPool2dParams::new(2).stride(1 + d % 2)),
            9 => Op::GlobalAvgPool,
            // (Over one channel it is 1 everywhere, and a batch norm behind that makes numbers of roundings.)
            10 if shape.c > 1 => Op::Softmax(Axis::C),
            11 => Op::Upsample { factor: 2, mode: UpsampleMode::Bilinear { align_corners: bias } },
            12 => Op::Concat,
            13 => Op::Add,
            14 => Op::FitTo,
            _ if d % 3 == 0 => Op::Flatten,
            _ => Op::Reshape { dims: [shape.c * shape.h, shape.w, 1] },
        };
        let inputs: Vec<Value> = match op {
            Op::Concat if d % 5 == 0 => vec![x, other, x],
            Op::Concat | Op::Add | Op::FitTo => vec![x, other],
            _ => vec![x],
        };
        let small = |net: &Graph, y: Value| net.shape(y).c * net.shape(y).h * net.shape(y).w <= 4000;
        let mut longer = net.clone();
        if let Ok(y) = longer.push(&name, op, &inputs)
            && small(&longer, y)
        {
            net = longer;
            values.push(y);
        }
    }
    net
}

/// How far one list of numbers is from another, relative to its norm; or to `least`, as what is 0 but for rounding (the gradient
/// to a bias before a batch norm) has no norm of its own.
fn distance(got: &[f32], want: &[f32], least: f64) -> f64 {
    assert_eq!(got.len(), want.len());
    let norm = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut got.iter().zip(want).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    difference / norm(&mut want.iter().map(|v| f64::from(*v))).max(least)
}

fn numbers(shape: Shape4, seed: usize) -> Tensor {
    Tensor::from_fn(shape, |[n, c, h, w]| {
        let mixed =
            (seed + n * 7919 + c * 104_729 + h * 1_299_709 + w * 15_485_863).wrapping_mul(2_654_435_761);
        (mixed >> 8 & 0xffff) as f32 / 32768.0 - 1.0
    })
    .unwrap()
}

/// Weights as networks start, but for the biases: a batch norm's start at 0, so that the mean of its result is 0 but for rounding,
/// and a maximum or a ReLU behind it would be decided by roundings.
fn weights_of(graph: &Graph) -> Weights {
    let mut weights = graph.init(5);
    for (i, parameter) in graph.parameters().iter().enumerate() {
        if parameter.name.ends_with(".bias") {
            let values = numbers(parameter.shape(), 10 + i).data().to_vec();
            weights.insert(&parameter.name, parameter.dims.clone(), values);
        }
    }
    weights
}

/// Runs a network planned on a device, and layer by layer, and compares results, losses, gradients and statistics.
fn compare<B: Training>(device: B, graph: &Graph, batch: usize) -> Result<(), TestCaseError> {
    let weights = weights_of(graph);
    let x = numbers(Shape4 { n: batch, ..graph.input_shape() }, 1);
    let target = numbers(graph.output_shape(x.shape()).unwrap(), 2);
    let mut plain = Plain::new(graph, &weights);
    let mut session = Session::new(device, graph.clone(), &weights).unwrap();

    plain.forward(&x, false);
    let y = session.infer(&x).unwrap();
    let far = distance(y.data(), plain.values.last().unwrap().data(), 1e-3);
    prop_assert!(far < 1e-4, "inference is {far} away");

    // With a learning rate of 1, the step is the gradient.
    plain.forward(&x, true);
    let want = plain.backward(&target);
    let sgd = tilewise_kernels::Sgd { lr: 1.0, ..Default::default() };
    let step = Step { loss: Loss::Mse, optimiser: Optimiser::Sgd(sgd), clip_norm: None };
    let loss = session.train_step(x.view(), Target::Images(target.view()), &step).unwrap();
    prop_assert!((loss - want).abs() <= 1e-4 * want.abs().max(1e-3), "loss {loss}, layer by layer {want}");
    let after = session.weights().unwrap();
    for (name, array) in after.iter() {
        let before = &weights.get(name).unwrap().values;
        if name.contains("running") {
            let far = distance(&array.values, plain.weights[name].data(), 1e-3);
            prop_assert!(far < 1e-4, "{name} is {far} away");
        } else {
            let moved: Vec<f32> =
                before.iter().zip(&array.values).map(|(before, after)| before - after).collect();
            let zeros = vec![0.0; moved.len()];
            let far = distance(&moved, plain.gradients.get(name).map_or(&zeros[..], Tensor::data), 0.1);
            prop_assert!(far < 2e-3, "the gradient to {name} is {far} away");
        }
    }

    // Inference sees what training changed.
    let mut changed = Plain::new(graph, &after);
    changed.forward(&x, false);
    let far = distance(session.infer(&x).unwrap().data(), changed.values.last().unwrap().data(), 1e-3);
    prop_assert!(far < 1e-4, "inference after training is {far} away");
    Ok(())
}

proptest! {
    #[test]
    fn plans_compute_what_layers_compute(
        [c, h, w, batch] in [1usize..4, 3usize..10, 3usize..10, 1usize..4],
        choices in prop::collection::vec(any::<[u8; 4]>(), 1..14),
    ) {
        let graph = random_graph(Shape4::new(1, c, h, w), &choices);
        for isa in Isa::available() {
            compare(Cpu::with_isa(isa).unwrap().threads(1), &graph, batch)?;
        }
        if let Some(gpu) = gpu::of_tests() {
            compare(gpu.clone(), &graph, batch)?;
        }
    }
}
