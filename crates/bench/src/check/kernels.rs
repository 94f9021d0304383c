//! A problem, solved by the kernels.

use tilewise_kernels::{
    Conv2dAlgo, Conv2dPlan, ConvTranspose2dPlan, Cpu, Error, Expected, Got, LinearPlan, Result, Tensor,
};

use crate::case::{Inputs, Problem};

/// Everything that the problem gives, in the order of [`Problem::outputs`]. `algo` forces one for conv2d.
///
/// # Errors
/// Whatever the kernels refuse.
pub fn solve(cpu: &Cpu, problem: &Problem, inputs: &Inputs, algo: Option<Conv2dAlgo>) -> Result<Vec<Tensor>> {
    let tensors = &inputs.tensors;
    let data = |i: usize| tensors[i].data();
    let x = &tensors[0];
    let y = match *problem {
        Problem::Conv2d { shape, bias, activation } => {
            let bias = bias.then(|| data(2));
            let plan = Conv2dPlan::new(cpu, shape, data(1), bias, activation, algo)?;
            let mut y = Tensor::zeros(shape.output())?;
            plan.run(x.view(), y.view_mut(), &mut plan.scratch()?)?;
            y
        }
        Problem::ConvTranspose2d { shape, bias, activation } => {
            let bias = bias.then(|| data(2));
            let plan = ConvTranspose2dPlan::new(cpu, shape, data(1), bias, activation)?;
            let mut y = Tensor::zeros(shape.output())?;
            plan.run(x.view(), y.view_mut(), &mut plan.scratch()?)?;
            y
        }
        Problem::Linear { shape, bias, activation } => {
            let bias = bias.then(|| data(2));
            let plan = LinearPlan::new(cpu, shape, data(1), bias, activation)?;
            let mut y = Tensor::zeros(shape.output())?;
            plan.run(x.view(), y.view_mut(), &mut plan.scratch()?)?;
            y
        }
        Problem::Activation { activation, .. } => cpu.activation(x, activation)?,
        _ => {
            let (op, got) = ("check", Got::Words(problem.op().name()));
            let expected = Expected::Words("one that the kernels have");
            return Err(Error::Invalid { op, arg: "operator", expected, got });
        }
    };
    Ok(vec![y])
}
