//! The gradients of pooling: each element of the input looks at the windows that it lies in, in row-major order.

use std::ops::Range;

use super::{Gpu, GpuArgmax, geometry};
use crate::backend::expect_shape;
use crate::error::Result;
use crate::gpu::buffer::{GpuTensor, GpuView, GpuViewMut, words};
use crate::gpu::parts::{Source, by_window};
use crate::gpu::recorder::{Dispatch, Slice, WORKGROUP};
use crate::gpu::reduce::divisor;
use crate::gpu::wgsl::{Kernel, Shader, shader};
use crate::shape::{AvgPool2dParams, PoolShape, Update};
use crate::tensor::Shape4;

const LARGEST: Shader = shader!("pool_backward_largest", 2, 1, "pool_reaching", "update", "index");
const MEAN: Shader =
    shader!("pool_backward_mean", 1, 1, "pool_reaching", "pool_windows", "update", "index", "math");
const PLANES: Shader = shader!("pool_global_backward", 1, 1, "update", "index", "math");

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    let updates = |shader| Update::ALL.map(|update| Kernel::new(shader, [update.constant()]));
    [LARGEST, MEAN, PLANES].into_iter().flat_map(updates)
}

/// What comes from a window.
#[derive(Clone, Copy)]
enum Spread<'a> {
    /// All, to where its largest element was.
    Largest(GpuView<'a>),
    /// A share, to each of its elements.
    Mean { count_include_pad: bool },
}

impl Gpu {
    pub(in crate::gpu) fn max_pool2d_backward_into(
        &self,
        argmax: &GpuArgmax,
        gy: GpuView<'_>,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        let (op, shape) = ("max_pool2d_backward", argmax.shape());
        expect_shape(op, "output gradient shape", shape.output(), gy.shape())?;
        expect_shape(op, "input gradient shape", shape.input(), gx.shape())?;
        self.spread_windows(op, &shape, gy, Spread::Largest(argmax.view()), gx, update)
    }

    pub(in crate::gpu) fn avg_pool2d_backward_into(
        &self,
        params: AvgPool2dParams,
        gy: GpuView<'_>,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        let (op, shape) = ("avg_pool2d_backward", PoolShape::avg(gx.shape(), params)?);
        expect_shape(op, "output gradient shape", shape.output(), gy.shape())?;
        let spread = Spread::Mean { count_include_pad: params.count_include_pad };
        self.spread_windows(op, &shape, gy, spread, gx, update)
    }

    fn spread_windows(
        &self,
        op: &'static str,
        shape: &PoolShape,
        gy: GpuView<'_>,
        spread: Spread<'_>,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        let output = shape.output();
        let [height, width, window_words @ ..] = geometry(op, shape)?;
        let [windows_height, windows_width] = words(op, [output.h, output.w])?;
        let (shader, positions, padding_counts) = match spread {
            Spread::Largest(positions) => (LARGEST, Some(positions), false),
            Spread::Mean { count_include_pad } => (MEAN, None, count_include_pad),
        };
        let read: Vec<GpuView<'_>> = [gy].into_iter().chain(positions).collect();
        // As in the shader.
        let reaching = |axis: usize, inputs: Range<usize>| {
            let (kernel, stride, padding) =
                (shape.kernel()[axis], shape.stride()[axis], shape.padding()[axis]);
            let windows = [output.h, output.w][axis];
            let (first, last) = (inputs.start + padding, inputs.end - 1 + padding);
            let start = if first < kernel { 0 } else { (first - kernel) / stride + 1 };
            start.min(windows)..(last / stride + 1).min(windows)
        };
        let windows = by_window(self, &read, &[gx.0], reaching);
        if update == Update::Accumulate && windows.iter().any(|window| window.joined) {
            // Sums of several dispatches are complete before they are added.
            let mut sums = GpuTensor::new(self, op, gx.shape())?;
            self.spread_windows(op, shape, gy, spread, sums.view_mut(), Update::Write)?;
            return self.add_backward_into(sums.view(), gx, update);
        }
        let gx = gx.0;
        for window in windows {
            let copies = read.iter().map(|&view| window.bring(self, op, view)).collect::<Result<Vec<_>>>()?;
            let sources = read.iter().zip(&copies).map(|(&view, copy)| window.source(self, view, copy));
            let from: Vec<Source<'_>> = sources.collect();
            let (inputs, to) = (&window.output, gx.part(self, &window.output));
            let count = inputs.count();
            let sizes = [count, inputs.image(), inputs.elements.len(), window.columns.len()];
            let first_of = |i: usize| from.get(i).map_or(0, |source| source.first);
            let [gy_pitch, gy_stride, positions_stride] =
                words(op, [from[0].pitch, gy.batch_stride, positions.map_or(0, |view| view.batch_stride)])?;
            let params = [
                &words(op, sizes)?[..],
                &words(op, [window.rows.start, window.columns.start])?,
                &[height, width, windows_height, windows_width],
                &window_words,
                &[first_of(0), gy_pitch, gy_stride],
                &words(op, [to.first, gx.batch_stride])?,
                &[first_of(1), positions_stride, padding_counts.into()],
                &window.needs_words(op)?,
            ];
            let update = if window.joined { Update::Accumulate } else { update };
            let reads: Vec<Slice<'_>> = from.iter().map(|source| source.slice).collect();
            self.dispatch(&Dispatch {
                op,
                kernel: Kernel::new(shader, [update.constant()]),
                params: &params.concat(),
                reads: &reads,
                writes: &[to],
                workgroups: count.div_ceil(WORKGROUP),
            })?;
        }
        Ok(())
    }

    pub(in crate::gpu) fn global_avg_pool_backward_into(
        &self,
        gy: GpuView<'_>,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        let (op, gx) = ("global_avg_pool_backward", gx.0);
        expect_shape(op, "output gradient shape", Shape4 { h: 1, w: 1, ..gx.shape }, gy.shape())?;
        let divisor = divisor(gx.shape.plane_len()).to_bits();
        for window in by_window(self, &[gy], &[gx], |_, _| 0..1) {
            let (from, to) = (window.source(self, gy, &None).slice, gx.part(self, &window.output));
            let inputs = &window.output;
            let [count, image, plane] = words(op, [inputs.count(), inputs.image(), inputs.elements.len()])?;
            let [gy_first, gy_stride, gx_first, gx_stride] =
                words(op, [from.first, gy.batch_stride, to.first, gx.batch_stride])?;
            self.dispatch(&Dispatch {
                op,
                kernel: Kernel::new(PLANES, [update.constant()]),
                params: &[count, image, plane, divisor, gy_first, gy_stride, gx_first, gx_stride],
                reads: &[from],
                writes: &[to],
                workgroups: inputs.count().div_ceil(WORKGROUP),
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cpu;
    use crate::gpu::testing::{Gapped, close, devices, gradients_on_all, noise, same};
    use crate::shape::MaxPool2dParams;
    use crate::tensor::Tensor;

    /// Few values, so that many are the largest, with NaN, infinities, and both zeros.
    fn coarse(shape: Shape4, seed: u32) -> Tensor {
        let mut x = noise(shape, seed);
        for (i, v) in x.data_mut().iter_mut().enumerate() {
            *v = match i % 29 {
                3 | 4 => f32::NEG_INFINITY,
                11 | 12 if seed == 0 => f32::NAN,
                17 => f32::INFINITY,
                _ => (*v * 2.0).trunc(),
            };
        }
        x
    }

    #[test]
    fn maxima_and_their_places_are_those_of_the_cpu() -> Result<()> {
        let cpu = Cpu::new()?;
        for (i, [n, c, h, w]) in
            [[2, 3, 9, 11], [1, 1, 1, 1], [0, 2, 5, 5], [3, 70, 5, 4], [1, 2, 31, 30], [7, 5, 6, 7]]
                .into_iter()
                .enumerate()
        {
            let x = coarse(Shape4::new(n, c, h, w), i as u32);
            for (kernel, stride, padding) in [
                ([1, 1], [1, 1], [0, 0]),
                ([2, 2], [2, 2], [0, 0]),
                ([3, 2], [2, 1], [1, 1]),
                ([3, 5], [1, 4], [1, 2]),
                ([9, 3], [3, 3], [4, 0]),
                ([1, 2], [3, 5], [0, 1]),
            ] {
                for ceil_mode in [false, true] {
                    let max = MaxPool2dParams { kernel, stride, padding, ceil_mode };
                    let Ok(shape) = PoolShape::max(x.shape(), max) else { continue };
                    check_largest(&cpu, &x, max, shape)?;
                    for count_include_pad in [false, true] {
                        let avg = AvgPool2dParams { kernel, stride, padding, ceil_mode, count_include_pad };
                        check_mean(&cpu, avg, shape)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn check_largest(cpu: &Cpu, x: &Tensor, params: MaxPool2dParams, shape: PoolShape) -> Result<()> {
        let (mut y, mut argmax) = (Tensor::zeros(shape.output())?, cpu.empty_argmax(shape)?);
        cpu.max_pool2d_argmax_into(x.view(), params, y.view_mut(), &mut argmax)?;
        let gy = noise(shape.output(), 2);
        let mut expected = Tensor::zeros(shape.input())?;
        cpu.max_pool2d_backward_into(&argmax, gy.view(), expected.view_mut(), Update::Write)?;
        let all = gradients_on_all([x, &gy], shape.input(), |gpu, [x, gy], gx, update| {
            let (mut largest, mut places) = (Gapped::blank(gpu, shape.output(), 3), gpu.empty_argmax(shape)?);
            gpu.max_pool2d_argmax_into(x, params, largest.view_mut(), &mut places)?;
            assert!(close(&largest.download(gpu), &y, 0.0), "{params:?} {}", shape.input());
            assert_eq!(gpu.download_argmax(&places)?, argmax.positions(), "{params:?} {}", shape.input());
            gpu.max_pool2d_backward_into(&places, gy, gx, update)
        });
        for gx in all {
            assert!(same(&gx, expected.data()), "{params:?} {}: {gx:?} {expected:?}", shape.input());
        }
        Ok(())
    }

    fn check_mean(cpu: &Cpu, params: AvgPool2dParams, shape: PoolShape) -> Result<()> {
        let gy = noise(shape.output(), 5);
        let mut expected = Tensor::zeros(shape.input())?;
        cpu.avg_pool2d_backward_into(params, gy.view(), expected.view_mut(), Update::Write)?;
        for gx in gradients_on_all([&gy], shape.input(), |gpu, [gy], gx, update| {
            gpu.avg_pool2d_backward_into(params, gy, gx, update)
        }) {
            assert!(close(&gx, &expected, 6e-7), "{params:?} {}: {gx:?} {expected:?}", shape.input());
        }
        Ok(())
    }

    #[test]
    fn means_of_planes_go_to_all_of_them() -> Result<()> {
        for [n, c, h, w] in [[2, 3, 9, 11], [3, 70, 5, 4], [2, 3, 0, 4], [0, 1, 2, 2], [1, 9, 31, 30]] {
            let (gy, shape) = (noise(Shape4::new(n, c, 1, 1), 3), Shape4::new(n, c, h, w));
            let mut expected = Tensor::zeros(shape)?;
            Cpu::new()?.global_avg_pool_backward_into(gy.view(), expected.view_mut(), Update::Write)?;
            for gx in gradients_on_all([&gy], shape, |gpu, [gy], gx, update| {
                gpu.global_avg_pool_backward_into(gy, gx, update)
            }) {
                assert!(close(&gx, &expected, 2e-8), "{shape}: {gx:?} {expected:?}");
            }
        }
        Ok(())
    }

    /// Whatever lies in an argmax that was never filled, it is compared only.
    #[test]
    fn places_that_are_none_do_no_harm() -> Result<()> {
        let shape = PoolShape::max(Shape4::new(1, 2, 8, 8), MaxPool2dParams::new(2))?;
        for gpu in devices() {
            // As the pool may hand it out again: positions far outside.
            drop(Gapped::new(gpu, &Tensor::from_vec(shape.output(), vec![f32::NAN; 32])?, 0));
            let argmax = gpu.empty_argmax(shape)?;
            let (gy, mut gx) = (noise(shape.output(), 1), Gapped::blank(gpu, shape.input(), 5));
            let gy = Gapped::new(gpu, &gy, 0);
            gpu.max_pool2d_backward_into(&argmax, gy.view(), gx.view_mut(), Update::Write)?;
            assert!(gx.download(gpu).data().iter().all(|g| g.is_finite()));
        }
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_refused() -> Result<()> {
        let Some(gpu) = devices().first() else { return Ok(()) };
        let params = MaxPool2dParams::new(2);
        let shape = PoolShape::max(Shape4::new(1, 1, 4, 4), params)?;
        let mut argmax = gpu.empty_argmax(shape)?;
        let (large, small) = (Gapped::blank(gpu, shape.input(), 0), Gapped::blank(gpu, shape.output(), 0));
        for (gy, to) in [(&large, shape.input()), (&small, shape.output())] {
            let mut gx = Gapped::blank(gpu, to, 0);
            let write = Update::Write;
            assert!(gpu.max_pool2d_backward_into(&argmax, gy.view(), gx.view_mut(), write).is_err());
            let mean = AvgPool2dParams::new(2);
            assert!(gpu.avg_pool2d_backward_into(mean, gy.view(), gx.view_mut(), write).is_err());
            assert!(gpu.global_avg_pool_backward_into(gy.view(), gx.view_mut(), write).is_err());
        }
        let other = params.stride(1);
        let mut y = Gapped::blank(gpu, PoolShape::max(shape.input(), other)?.output(), 0);
        assert!(gpu.max_pool2d_argmax_into(large.view(), other, y.view_mut(), &mut argmax).is_err());
        Ok(())
    }
}
