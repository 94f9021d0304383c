//! Addition of tensors of equal shapes.

use super::Gpu;
use super::buffer::{GpuView, GpuViewMut, words};
use super::parts::{by_element, elementwise};
use super::recorder::{Dispatch, WORKGROUP};
use super::wgsl::{Kernel, Shader, shader};
use crate::backend::expect_shape;
use crate::error::Result;

const OP: &str = "add";
const SHADER: Shader = shader!("add", 2, 1, "index");

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    [Kernel::new(SHADER, [])].into_iter()
}

impl Gpu {
    pub(super) fn add_into(&self, a: GpuView<'_>, b: GpuView<'_>, y: GpuViewMut<'_>) -> Result<()> {
        expect_shape(OP, "second input shape", a.shape, b.shape)?;
        expect_shape(OP, "output shape", a.shape, y.shape())?;
        let views = elementwise([a, b, y.0]);
        for part in by_element(self, &views) {
            let [from_a, from_b, to] = views.map(|view| view.part(self, &part));
            let [a, b, y] = views;
            let count = part.count();
            let params = words(
                OP,
                [
                    part.image(),
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
}
