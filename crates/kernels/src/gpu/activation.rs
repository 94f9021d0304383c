//! The pointwise activations, alone or as the last step of another operator.

use super::Gpu;
use super::buffer::{GpuView, GpuViewMut};
use super::wgsl::{Kernel, Shader, shader};
use crate::backend::expect_shape;
use crate::error::Result;
use crate::shape::{Activation, Update};

const SHADER: Shader = shader!("activation", 1, 1, "index", "epilogue", "math");
const BACKWARD: Shader = shader!("activation_backward", 2, 1, "update", "index", "math");

/// The number that stands for the function in `shaders/epilogue.wgsl`, and its parameter.
pub(super) const fn code(f: Activation) -> (u32, f32) {
    match f {
        Activation::Identity => (0, 0.0),
        Activation::Relu => (1, 0.0),
        Activation::LeakyRelu { slope } => (2, slope),
        Activation::Relu6 => (3, 0.0),
        Activation::Elu { alpha } => (4, alpha),
        Activation::Gelu => (5, 0.0),
        Activation::Silu => (6, 0.0),
        Activation::Sigmoid => (7, 0.0),
        Activation::Tanh => (8, 0.0),
    }
}

fn kernel(f: Activation) -> Kernel {
    Kernel::new(SHADER, [("ACTIVATION", code(f).0)])
}

fn backward(f: Activation, update: Update) -> Kernel {
    Kernel::new(BACKWARD, [("ACTIVATION", code(f).0), update.constant()])
}

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    let backward = |f| Update::ALL.map(|update| backward(f, update));
    Activation::ALL.into_iter().map(kernel).chain(Activation::ALL.into_iter().flat_map(backward))
}

impl Gpu {
    pub(super) fn activation_into(&self, x: GpuView<'_>, f: Activation, y: GpuViewMut<'_>) -> Result<()> {
        let op = f.name();
        f.validate()?;
        expect_shape(op, "output shape", x.shape(), y.shape())?;
        self.for_each_element(op, kernel(f), [x, y.0], &[code(f).1.to_bits()])
    }

    pub(super) fn activation_backward_into(
        &self,
        x: GpuView<'_>,
        f: Activation,
        gy: GpuView<'_>,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        let op = "activation_backward";
        f.validate()?;
        expect_shape(op, "output gradient shape", x.shape(), gy.shape())?;
        expect_shape(op, "input gradient shape", x.shape(), gx.shape())?;
        self.for_each_element(op, backward(f, update), [x, gy, gx.0], &[code(f).1.to_bits()])
    }
}
