//! Addition of tensors of equal shapes. Its gradient, to either, is that of the sum: passed on, as other operators do, too.

use super::Gpu;
use super::buffer::{GpuView, GpuViewMut};
use super::wgsl::{Kernel, Shader, shader};
use crate::backend::expect_shape;
use crate::error::Result;
use crate::shape::Update;

const OP: &str = "add";
const SHADER: Shader = shader!("add", 2, 1, "index");
const BACKWARD: Shader = shader!("add_backward", 1, 1, "update", "index");

fn backward(update: Update) -> Kernel {
    Kernel::new(BACKWARD, [update.constant()])
}

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    [Kernel::new(SHADER, [])].into_iter().chain(Update::ALL.map(backward))
}

impl Gpu {
    pub(super) fn add_into(&self, a: GpuView<'_>, b: GpuView<'_>, y: GpuViewMut<'_>) -> Result<()> {
        expect_shape(OP, "second input shape", a.shape, b.shape)?;
        expect_shape(OP, "output shape", a.shape, y.shape())?;
        self.for_each_element(OP, Kernel::new(SHADER, []), [a, b, y.0], &[])
    }

    pub(super) fn add_backward_into(
        &self,
        gy: GpuView<'_>,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        let op = "add_backward";
        expect_shape(op, "input gradient shape", gy.shape, gx.shape())?;
        self.for_each_element(op, backward(update), [gy, gx.0], &[])
    }
}
