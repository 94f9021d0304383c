//! The pointwise activations, alone or as the last step of another operator.

use super::Gpu;
use super::buffer::{GpuView, GpuViewMut, words};
use super::parts::{by_element, elementwise};
use super::recorder::{Dispatch, WORKGROUP};
use super::wgsl::{Kernel, Shader, shader};
use crate::backend::expect_shape;
use crate::error::Result;
use crate::shape::Activation;

const SHADER: Shader = shader!("activation", 1, 1, "index", "epilogue", "math");

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

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    Activation::ALL.into_iter().map(kernel)
}

impl Gpu {
    pub(super) fn activation_into(&self, x: GpuView<'_>, f: Activation, y: GpuViewMut<'_>) -> Result<()> {
        let op = f.name();
        f.validate()?;
        expect_shape(op, "output shape", x.shape(), y.shape())?;
        let views = elementwise([x, y.0]);
        for part in by_element(self, &views) {
            let ([from, to], [x, y]) = (views.map(|view| view.part(self, &part)), views);
            let invocations = part.count();
            let [image, count, x_first, x_stride, y_first, y_stride] =
                words(op, [part.image(), invocations, from.first, x.batch_stride, to.first, y.batch_stride])?;
            self.dispatch(&Dispatch {
                op,
                kernel: kernel(f),
                params: &[image, count, x_first, x_stride, y_first, y_stride, code(f).1.to_bits()],
                reads: &[from],
                writes: &[to],
                workgroups: invocations.div_ceil(WORKGROUP),
            })?;
        }
        Ok(())
    }
}
