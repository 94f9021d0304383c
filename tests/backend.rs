//! The methods of the CPU and the trait over both devices: two ways to the same code.

use tilewise_bench::case::{Inputs, Problem, Statistics};
use tilewise_bench::check::{kernels, laws};
use tilewise_bench::suites;
use tilewise_kernels::{Activation, BatchNorm, Cpu, CrossEntropy, Result, RunningStats, Shape4, Tensor};

/// The problem by the easy methods of [`Cpu`]; `None` if an activation is fused, for which there is none.
fn by_methods(cpu: &Cpu, problem: &Problem, inputs: &Inputs) -> Result<Option<Vec<Tensor>>> {
    let tensors = &inputs.tensors;
    let data = |i: usize| tensors[i].data();
    let scalar = |value: f32| Tensor::from_vec(Shape4::new(1, 1, 1, 1), vec![value]);
    let x = &tensors[0];
    let y = match *problem {
        Problem::Conv2d { shape, bias, activation: Activation::Identity } => {
            cpu.conv2d(x, &tensors[1], bias.then(|| data(2)), shape.params())?
        }
        Problem::ConvTranspose2d { shape, bias, activation: Activation::Identity } => {
            cpu.conv_transpose2d(x, &tensors[1], bias.then(|| data(2)), shape.params())?
        }
        Problem::Linear { bias, activation: Activation::Identity, .. } => {
            cpu.linear(x, &tensors[1], bias.then(|| data(2)))?
        }
        Problem::Conv2d { .. } | Problem::ConvTranspose2d { .. } | Problem::Linear { .. } => return Ok(None),
        Problem::MaxPool2d { params, .. } => cpu.max_pool2d(x, params)?,
        Problem::AvgPool2d { params, .. } => cpu.avg_pool2d(x, params)?,
        Problem::GlobalAvgPool { .. } => cpu.global_avg_pool(x)?,
        Problem::Activation { activation, .. } => cpu.activation(x, activation)?,
        Problem::Softmax(shape) => cpu.softmax(x, shape.axis())?,
        Problem::BatchNorm { eps, statistics, .. } => {
            let norm = BatchNorm { gamma: data(1), beta: data(2), eps };
            match statistics {
                Statistics::Given => cpu.batch_norm(x, norm, data(3), data(4))?,
                Statistics::Batch => cpu.batch_norm_train(x, norm, None)?,
                Statistics::Tracked { momentum } => {
                    let (mut mean, mut var) = (tensors[3].clone(), tensors[4].clone());
                    let running = RunningStats { mean: mean.data_mut(), var: var.data_mut(), momentum };
                    let y = cpu.batch_norm_train(x, norm, Some(running))?;
                    return Ok(Some(vec![y, mean, var]));
                }
            }
        }
        Problem::Upsample(shape) => cpu.upsample(x, [shape.output().h, shape.output().w], shape.mode())?,
        Problem::Concat { .. } => cpu.concat(&tensors.iter().collect::<Vec<_>>())?,
        Problem::Add { .. } => cpu.add(x, &tensors[1])?,
        Problem::Pad { shape, value } => cpu.pad(x, shape.padding(), value)?,
        Problem::Crop(shape) => cpu.crop(x, shape.margins())?,
        Problem::CrossEntropy { weighted, label_smoothing, ignore_index, .. } => {
            let class_weights = weighted.then(|| data(1));
            let params = CrossEntropy { class_weights, label_smoothing, ignore_index };
            scalar(cpu.cross_entropy(x, &inputs.labels, params)?)?
        }
        Problem::BceWithLogits { weighted, .. } => {
            scalar(cpu.bce_with_logits(x, &tensors[1], weighted.then(|| data(2)))?)?
        }
        Problem::Mse { .. } => scalar(cpu.mse(x, &tensors[1])?)?,
        Problem::L1 { .. } => scalar(cpu.l1(x, &tensors[1])?)?,
        Problem::Dice { smooth, .. } => scalar(cpu.dice(x, &tensors[1], smooth)?)?,
        // Steps of training change what is there: there are no easy calls.
        Problem::Sgd { .. } | Problem::Adam { .. } | Problem::ClipNorm { .. } => return Ok(None),
    };
    Ok(Some(vec![y]))
}

#[test]
fn methods_and_trait_give_the_same_bits() {
    let mut compared = 0;
    for case in suites::check::cases(false) {
        let inputs = Inputs::generate(&case).unwrap();
        for cpu in laws::devices() {
            let Some(own) = by_methods(&cpu, &case.problem, &inputs).unwrap() else { continue };
            let through_trait = kernels::solve(&cpu, &case.problem, &inputs, None).unwrap();
            assert_eq!(own.len(), through_trait.len());
            for (a, b) in own.iter().zip(&through_trait) {
                assert_eq!(a.shape(), b.shape(), "{case}");
                laws::same_bits(a.data(), b.data()).unwrap_or_else(|what| panic!("{case}: {what}"));
            }
            compared += 1;
        }
    }
    assert!(compared > 100, "{compared}");
}
