//! Addition of tensors of equal shapes, and its gradient, a copy.

use super::Gpu;
use super::buffer::{GpuView, GpuViewMut, words};
use super::parts::{by_channel, elementwise};
use super::recorder::{Dispatch, WORKGROUP};
use super::wgsl::{Kernel, Shader, shader};
use crate::backend::expect_shape;
use crate::error::Result;
use crate::shape::{Activation, Update};

const OP: &str = "add";
const SHADER: Shader = shader!("add", 2, 1, "index");
const ACCUMULATE: Shader = shader!("accumulate", 1, 1, "index");

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    [SHADER, ACCUMULATE].into_iter().map(|shader| Kernel::new(shader, []))
}

impl Gpu {
    pub(super) fn add_into(&self, a: GpuView<'_>, b: GpuView<'_>, y: GpuViewMut<'_>) -> Result<()> {
        expect_shape(OP, "second input shape", a.shape, b.shape)?;
        expect_shape(OP, "output shape", a.shape, y.shape())?;
        let views = elementwise([a, b, y.0]);
        for part in by_channel(self, OP, &views)? {
            let [from_a, from_b, to] = views.map(|view| view.part(self, &part));
            let [a, b, y] = views;
            let image = part.channels.len();
            let count = part.images.len() * image;
            let params = words(
                OP,
                [
                    image,
                    count,
                    from_a.first,
                    a.batch_stride,
                    from_b.first,
                    b.batch_stride,
                    to.first,
                    y.batch_stride,
                ],
            )?;
            self.dispatch(&Dispatch {
                op: OP,
                kernel: Kernel::new(SHADER, []),
                params: &params,
                reads: &[from_a, from_b],
                writes: &[to],
                workgroups: count.div_ceil(WORKGROUP),
            })?;
        }
        Ok(())
    }

    pub(super) fn add_backward_into(
        &self,
        gy: GpuView<'_>,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        self.copy_into("add_backward", gy, gx, update)
    }

    /// `y = x`, or `y += x`.
    pub(super) fn copy_into(
        &self,
        op: &'static str,
        x: GpuView<'_>,
        y: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        expect_shape(op, "input gradient shape", x.shape, y.shape())?;
        if update == Update::Write {
            return self.activation_into(x, Activation::Identity, y);
        }
        let views = elementwise([x, y.0]);
        for part in by_channel(self, op, &views)? {
            let ([from, to], [x, y]) = (views.map(|view| view.part(self, &part)), views);
            let image = part.channels.len();
            let count = part.images.len() * image;
            let sizes = [image, count, from.first, x.batch_stride, to.first, y.batch_stride];
            self.dispatch(&Dispatch {
                op,
                kernel: Kernel::new(ACCUMULATE, []),
                params: &words(op, sizes)?,
                reads: &[from],
                writes: &[to],
                workgroups: count.div_ceil(WORKGROUP),
            })?;
        }
        Ok(())
    }
}
