//! Ours: planned, as `tilewise bench conv2d` times it.

use tilewise_kernels::{
    Activation, Conv2dBackwardInputPlan, Conv2dBackwardWeightsPlan, Conv2dParams, Conv2dPlan, Conv2dShape,
    Cpu, Scratch, Shape4, Tensor, Update,
};

use crate::problem::{Pass, Problem};
use crate::{Peer, Result};

enum Plan {
    /// Of `x`.
    Forward(Conv2dPlan, Tensor),
    /// Of `gy`.
    Input(Conv2dBackwardInputPlan, Tensor),
    /// Of `x` and `gy`.
    Weights(Conv2dBackwardWeightsPlan, Tensor, Tensor),
}

struct Tilewise {
    plan: Plan,
    result: Tensor,
    scratch: Scratch,
}

pub fn load(problem: &Problem, threads: usize) -> Result<Box<dyn Peer>> {
    let cpu = Cpu::new()?.threads(threads);
    let [n, c, h, w] = problem.input;
    let params = Conv2dParams::default().stride(problem.stride).padding(problem.padding);
    let shape =
        Conv2dShape::new(Shape4::new(n, c, h, w), problem.weights[0], [problem.weights[2]; 2], params)?;
    let x = || Ok::<_, Box<dyn std::error::Error>>(Tensor::from_vec(shape.input(), problem.data("x")?)?);
    let gy = || Ok::<_, Box<dyn std::error::Error>>(Tensor::from_vec(shape.output(), problem.data("gy")?)?);
    let weights = problem.data("w")?;
    let (plan, result, scratch) = match problem.pass {
        Pass::Forward => {
            let bias = problem.data("b")?;
            let plan = Conv2dPlan::new(&cpu, shape, &weights, Some(&bias), Activation::Relu, None)?;
            let scratch = plan.scratch()?;
            (Plan::Forward(plan, x()?), shape.output(), scratch)
        }
        Pass::Input => {
            let plan = Conv2dBackwardInputPlan::new(&cpu, shape, &weights)?;
            let scratch = plan.scratch()?;
            (Plan::Input(plan, gy()?), shape.input(), scratch)
        }
        Pass::Weights => {
            let plan = Conv2dBackwardWeightsPlan::new(&cpu, shape)?;
            let scratch = plan.scratch()?;
            (Plan::Weights(plan, x()?, gy()?), shape.weights(), scratch)
        }
    };
    Ok(Box::new(Tilewise { plan, result: Tensor::zeros(result)?, scratch }))
}

impl Peer for Tilewise {
    fn call(&mut self) -> Result<()> {
        let (result, scratch) = (self.result.view_mut(), &mut self.scratch);
        match &self.plan {
            Plan::Forward(plan, x) => plan.run(x.view(), result, scratch)?,
            Plan::Input(plan, gy) => plan.run(gy.view(), result, Update::Write, scratch)?,
            Plan::Weights(plan, x, gy) => plan.run(x.view(), gy.view(), result, Update::Write, scratch)?,
        }
        Ok(())
    }

    fn output(&self) -> Result<Vec<f32>> {
        Ok(self.result.data().to_vec())
    }
}
