//! The matrix product, as the fully connected layer `y = relu(x * w^T + b)` that is made of it, planned.

use indicatif::ProgressBar;
use tilewise_kernels::{
    Activation, Conv2dParams, Conv2dShape, Cpu, LinearPlan, LinearShape, Scratch, Shape4, Tensor,
};

use super::conv2d::sample_positions;
use super::{Bench, Label, Options, Work, Workload, fill};
use crate::compare::Target;
use crate::error::Result;
use crate::reference::{self, Answer};
use crate::report::Report;

/// A planned fully connected layer with all its memory.
pub struct GemmCall {
    shape: LinearShape,
    plan: LinearPlan,
    scratch: Scratch,
    x: Tensor,
    weights: Tensor,
    bias: Vec<f32>,
    y: Tensor,
}

impl GemmCall {
    /// `[samples, features in, features out]`: the product of `m x k` and `k x n`, `[m, k, n]`. Packs the weights and
    /// allocates everything.
    ///
    /// # Errors
    /// If an extent is zero or memory runs out.
    pub fn new(cpu: &Cpu, [m, k, n]: [usize; 3]) -> tilewise_kernels::Result<Self> {
        let shape = LinearShape::new(Shape4::new(m, k, 1, 1), n)?;
        let mut x = Tensor::zeros(shape.input())?;
        let mut weights = Tensor::zeros(shape.weights())?;
        let mut bias = vec![0.0; n];
        fill(x.data_mut(), 1);
        fill(weights.data_mut(), 2);
        fill(&mut bias, 3);
        let plan = LinearPlan::new(cpu, shape, weights.data(), Some(&bias), Activation::Relu)?;
        let scratch = plan.scratch()?;
        let y = Tensor::zeros(shape.output())?;
        Ok(GemmCall { shape, plan, scratch, x, weights, bias, y })
    }
}

impl Workload for GemmCall {
    fn call(&mut self) -> tilewise_kernels::Result<()> {
        self.plan.run(self.x.view(), self.y.view_mut(), &mut self.scratch)
    }
