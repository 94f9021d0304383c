//! The pointwise activations, alone or as the last step of another operator.

use super::Gpu;
use super::buffer::{GpuView, GpuViewMut, words};
use super::parts::{by_channel, elementwise};
use super::recorder::{Dispatch, WORKGROUP};
use super::wgsl::{Kernel, Shader, shader};
use crate::backend::expect_shape;
use crate::error::Result;
use crate::shape::{Activation, Update};

const SHADER: Shader = shader!("activation", 1, 1, "index", "epilogue", "math");
const BACKWARD: Shader = shader!("activation_backward", 2, 1, "index", "math");

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

fn kernel(shader: Shader, f: Activation) -> Kernel {
    Kernel::new(shader, [("ACTIVATION", code(f).0)])
}

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    [SHADER, BACKWARD].into_iter().flat_map(|shader| Activation::ALL.map(|f| kernel(shader, f)))
}

impl Gpu {
    pub(super) fn activation_into(&self, x: GpuView<'_>, f: Activation, y: GpuViewMut<'_>) -> Result<()> {
        let op = f.name();
        f.validate()?;
        expect_shape(op, "output shape", x.shape(), y.shape())?;
        let views = elementwise([x, y.0]);
        for part in by_channel(self, op, &views)? {
            let ([from, to], [x, y]) = (views.map(|view| view.part(self, &part)), views);
            let image = part.channels.len();
            let invocations = part.images.len() * image;
            let [image, count, x_first, x_stride, y_first, y_stride] =
                words(op, [image, invocations, from.first, x.batch_stride, to.first, y.batch_stride])?;
            self.dispatch(&Dispatch {
                op,
                kernel: kernel(SHADER, f),
                params: &[image, count, x_first, x_stride, y_first, y_stride, code(f).1.to_bits()],
                reads: &[from],
                writes: &[to],
                workgroups: invocations.div_ceil(WORKGROUP),
            })?;
        }
        Ok(())
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
        let views = elementwise([x, gy, gx.0]);
        for part in by_channel(self, op, &views)? {
            let [from, gradient, to] = views.map(|view| view.part(self, &part));
            let [x, gy, gx] = views;
            let image = part.channels.len();
            let count = part.images.len() * image;
            let sizes = words(
                op,
                [
                    image,
                    count,
                    from.first,
                    x.batch_stride,
                    gradient.first,
                    gy.batch_stride,
                    to.first,
                    gx.batch_stride,
                ],
            )?;
            self.dispatch(&Dispatch {
                op,
                kernel: kernel(BACKWARD, f),
                params: &[&sizes[..], &[flag(update), code(f).1.to_bits()]].concat(),
                reads: &[from, gradient],
                writes: &[to],
                workgroups: count.div_ceil(WORKGROUP),
            })?;
        }
        Ok(())
    }
}

/// The word that tells a shader whether to add to what is there.
pub(super) fn flag(update: Update) -> u32 {
    (update == Update::Accumulate).into()
}
