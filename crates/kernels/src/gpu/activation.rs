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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cpu;
    use crate::gpu::testing::{gradients_on_all, noise};
    use crate::tensor::{Shape4, Tensor};

    /// Near and far from 0, at every jump, at the ends, and NaN.
    fn points() -> Result<Tensor> {
        let special = [
            0.0,
            -0.0,
            6.0,
            1e-30,
            -1e-30,
            90.0,
            -90.0,
            1e30,
            -1e30,
            f32::INFINITY,
            -f32::INFINITY,
            f32::NAN,
        ];
        let mut x = noise(Shape4::new(3, 7, 9, 11), 3);
        x.data_mut().iter_mut().enumerate().for_each(|(i, v)| *v *= (1 + i % 20) as f32);
        x.data_mut()[..12].copy_from_slice(&special);
        Ok(x)
    }

    #[test]
    fn slopes_are_those_of_the_cpu() -> Result<()> {
        let (x, mut gy) = (points()?, noise(Shape4::new(3, 7, 9, 11), 4));
        gy.data_mut()[20] = f32::INFINITY;
        gy.data_mut()[30] = f32::NAN;
        let others = [Activation::LeakyRelu { slope: -0.5 }, Activation::Elu { alpha: 0.3 }];
        for f in Activation::ALL.into_iter().chain(others) {
            let mut expected = Tensor::zeros(x.shape())?;
            let cpu = Cpu::new()?;
            cpu.activation_backward_into(x.view(), f, gy.view(), expected.view_mut(), Update::Write)?;
            for gx in gradients_on_all([&x, &gy], x.shape(), |gpu, [x, gy], gx, update| {
                gpu.activation_backward_into(x, f, gy, gx, update)
            }) {
                for (i, (&g, &e)) in gx.data().iter().zip(expected.data()).enumerate() {
                    // Terms of GELU and SiLU that cancel, and numbers below the normal range.
                    let close = (g - e).abs() <= 1e-6 * e.abs() + 1e-7 * gy.data()[i].abs() || g == e;
                    assert!(close || g.is_nan() && e.is_nan(), "{f:?} at {}: {g} for {e}", x.data()[i]);
                }
            }
        }
        Ok(())
    }
}
