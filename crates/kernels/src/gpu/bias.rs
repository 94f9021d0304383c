//! The gradient to a bias: the sum of each channel, of its strips (`bias_backward.wgsl`) and then of those
//! (`bias_backward_total.wgsl`).

use super::Gpu;
use super::buffer::{GpuView, GpuViewMut, words};
use super::recorder::Dispatch;
use super::reduce::{LANES, Partials, STRIP, Strips, halves, lanes};
use super::wgsl::{Kernel, Shader, shader};
use crate::backend::expect_shape;
use crate::error::Result;
use crate::shape::Update;
use crate::tensor::Shape4;

const OP: &str = "bias_backward";

const STRIPS: Shader = shader!("bias_backward", 1, 1, "index", "reduce");
const TOTAL: Shader = shader!("bias_backward_total", 1, 1, "update", "index", "reduce");

fn strips(lanes: u32) -> Kernel {
    Kernel::new(STRIPS, [("LANES", lanes)])
}

fn total(lanes: u32, update: Update) -> Kernel {
    Kernel::new(TOTAL, [("LANES", lanes), update.constant()])
}

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    let of_lanes = |lanes| [strips(lanes)].into_iter().chain(Update::ALL.map(|update| total(lanes, update)));
    LANES.into_iter().flat_map(of_lanes)
}

impl Gpu {
    pub(super) fn bias_backward_into(
        &self,
        gy: GpuView<'_>,
        gb: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        expect_shape(OP, "bias gradient shape", Shape4::new(1, gy.shape.c, 1, 1), gb.shape())?;
        self.sums_of_channels(gy, gb.0, update)
    }

    fn sums_of_channels(&self, gy: GpuView<'_>, gb: GpuView<'_>, update: Update) -> Result<()> {
        let c = gy.shape.c;
        let Strips { parts, count } = Strips::new(self, &[gy]);
        if count.max(1) * c > self.reach() && c > 1 {
            return halves(c).into_iter().try_for_each(|half| {
                self.sums_of_channels(gy.channels(half.clone())?, gb.channels(half)?, update)
            });
        }
        let sums = Partials::new(self, OP, count * c, 1)?;
        for (part, first) in parts {
            let (from, elements) = (gy.part(self, &part), part.of_channel());
            let strips_of_part = elements.div_ceil(STRIP) * part.channels.len();
            let sizes = [
                strips_of_part,
                part.channels.len(),
                c,
                part.elements.len(),
                elements,
                STRIP,
                first,
                from.first,
                gy.batch_stride,
            ];
            self.dispatch(&Dispatch {
                op: OP,
                kernel: strips(lanes(elements)),
                params: &words(OP, sizes)?,
                reads: &[from],
                writes: &[sums.slice(self)],
                workgroups: strips_of_part,
            })?;
        }
        let to = gb.per_channel(self);
        self.dispatch(&Dispatch {
            op: OP,
            kernel: total(lanes(count), update),
            params: &words(OP, [c, count, to.first])?,
            reads: &[sums.slice(self)],
            writes: &[to],
            workgroups: c,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cpu;
    use crate::gpu::testing::{close, gradients_on_all, noise};
    use crate::tensor::Tensor;

    #[test]
    fn sums_are_those_of_the_cpu() -> Result<()> {
        for shape in [
            [2, 3, 9, 11],
            [64, 300, 1, 1],
            [1, 1, 1, 1],
            [40, 2, 30, 31],
            [3, 1500, 1, 2],
            [0, 3, 2, 2],
            [5, 3, 0, 2],
            [2, 0, 3, 3],
        ] {
            let gy = noise(shape.into(), 6);
            let mut expected = Tensor::zeros(Shape4::new(1, shape[1], 1, 1))?;
            Cpu::new()?.bias_backward_into(gy.view(), expected.view_mut(), Update::Write)?;
            for gb in gradients_on_all([&gy], expected.shape(), |gpu, [gy], gb, update| {
                gpu.bias_backward_into(gy, gb, update)
            }) {
                assert!(close(&gb, &expected, 3e-6), "{shape:?}: {gb:?} {expected:?}");
            }
        }
        Ok(())
    }
}
