//! The Dice loss: sums over strips of planes (`loss_dice.wgsl`), from them the loss of each plane and what its gradient needs
//! (`loss_dice_planes.wgsl`), then the mean over planes, or the gradient of each element.

use super::{Gpu, UPDATES, accumulate};
use crate::backend::{SCALAR, expect_shape};
use crate::error::Result;
use crate::gpu::buffer::{GpuView, GpuViewMut, words};
use crate::gpu::parts::{Part, by_channel};
use crate::gpu::recorder::{Dispatch, Slice, WORKGROUP};
use crate::gpu::reduce::{LANES, Partials, STRIP, divisor, lanes};
use crate::gpu::wgsl::{Kernel, Shader, shader};
use crate::shape::Update;
use crate::shape::loss::check_smooth;
use crate::tensor::Shape4;

const OP: &str = "dice";

const SUMS: Shader = shader!("loss_dice", 2, 1, "index", "reduce", "math");
const PLANES: Shader = shader!("loss_dice_planes", 1, 2, "index", "reduce", "math");
const BACKWARD: Shader = shader!("loss_dice_backward", 3, 1, "index", "math");

/// Words of the sums of a strip, and of what the gradient of a plane needs.
const STRIP_WORDS: usize = 3;
const PLANE_WORDS: usize = 2;

fn reducing(shader: Shader, lanes: u32) -> Kernel {
    Kernel::new(shader, [("LANES", lanes)])
}

fn backward(update: Update) -> Kernel {
    Kernel::new(BACKWARD, [("ACCUMULATE", accumulate(update))])
}

/// Every kernel of this file.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    let of_lanes = |lanes| [SUMS, PLANES].map(|shader| reducing(shader, lanes));
    LANES.into_iter().flat_map(of_lanes).chain(UPDATES.map(backward))
}

/// Planes of a part: their losses, and what their gradients need.
struct Planes {
    count: usize,
    losses: Partials,
    slopes: Partials,
}

impl Gpu {
    pub(in crate::gpu) fn dice_into(
        &self,
        x: GpuView<'_>,
        target: GpuView<'_>,
        smooth: f32,
        y: GpuViewMut<'_>,
    ) -> Result<()> {
        check_smooth(OP, smooth)?;
        expect_shape(OP, "output shape", SCALAR, y.shape())?;
        expect_shape(OP, "target shape", x.shape(), target.shape())?;
        let planes = x.shape.n.saturating_mul(x.shape.c);
        if x.shape.n * x.shape.image_len() == 0 {
            // All planes are alike, if there are any: 1 - smooth / smooth.
            let loss = [if smooth > 0.0 { 0.0f32 } else { f32::NAN }];
            let loss = self.upload_bytes(OP, bytemuck::cast_slice(&loss))?;
            let divisor = if planes == 0 { f32::NAN } else { 1.0 };
            return self.mean(OP, Slice::new(self, &loss, 0, 1), 1, divisor, y.0);
        }
        let parts = parts(self, &[x, target])?;
        let sums = Partials::new(self, OP, parts.len(), 1)?;
        for (i, part) in parts.iter().enumerate() {
            let planes = self.dice_planes(x, target, part, smooth, 0.0)?;
            let to = sums.entry(self, i);
            self.mean_to(OP, planes.losses.slice(self), planes.count, 1.0, to)?;
        }
        self.mean(OP, sums.slice(self), parts.len(), divisor(planes), y.0)
    }

    pub(in crate::gpu) fn dice_backward_into(
        &self,
        x: GpuView<'_>,
        target: GpuView<'_>,
        smooth: f32,
        gy: f32,
        gx: GpuViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        check_smooth(OP, smooth)?;
        expect_shape(OP, "target shape", x.shape(), target.shape())?;
        expect_shape(OP, "gradient shape", x.shape(), gx.shape())?;
        let gx = gx.0;
        let share = f64::from(gy) / x.shape.n.saturating_mul(x.shape.c) as f64;
        for part in parts(self, &[x, target, gx])? {
            let planes = self.dice_planes(x, target, &part, smooth, share as f32)?;
            let [from, of_target, to] = [x, target, gx].map(|view| view.part(self, &part));
            let plane = x.shape.plane_len();
            let image = part.channels.len() * plane;
            let count = part.images.len() * image;
            let sizes = [
                plane,
                image,
                count,
                from.first,
                x.batch_stride,
                of_target.first,
                target.batch_stride,
                to.first,
                gx.batch_stride,
            ];
            self.dispatch(&Dispatch {
                op: OP,
                kernel: backward(update),
                params: &words(OP, sizes)?,
                reads: &[from, of_target, planes.slopes.slice(self)],
                writes: &[to],
                workgroups: count.div_ceil(WORKGROUP),
            })?;
        }
        Ok(())
    }

    fn dice_planes(
        &self,
        x: GpuView<'_>,
        target: GpuView<'_>,
        part: &Part,
        smooth: f32,
        share: f32,
    ) -> Result<Planes> {
        let (plane, channels) = (x.shape.plane_len(), part.channels.len());
        let (count, per_plane) = (part.images.len() * channels, plane.div_ceil(STRIP));
        let strips = count * per_plane;
        let (from, of_target) = (x.part(self, part), target.part(self, part));
        let sums = Partials::new(self, OP, strips, STRIP_WORDS)?;
        let sizes = [
            strips,
            per_plane,
            channels,
            plane,
            STRIP,
            from.first,
            x.batch_stride,
            of_target.first,
            target.batch_stride,
        ];
        self.dispatch(&Dispatch {
            op: OP,
            kernel: reducing(SUMS, lanes(plane)),
            params: &words(OP, sizes)?,
            reads: &[from, of_target],
            writes: &[sums.slice(self)],
            workgroups: strips,
        })?;
        let losses = Partials::new(self, OP, count, 1)?;
        let slopes = Partials::new(self, OP, count, PLANE_WORDS)?;
        let [planes_word, per_plane_word] = words(OP, [count, per_plane])?;
        self.dispatch(&Dispatch {
            op: OP,
            kernel: reducing(PLANES, lanes(per_plane)),
            params: &[planes_word, per_plane_word, smooth.to_bits(), share.to_bits()],
            reads: &[sums.slice(self)],
            writes: &[losses.slice(self), slopes.slice(self)],
            workgroups: count,
        })?;
        Ok(Planes { count, losses, slopes })
    }
}

/// Parts of views of one shape that a dispatch can reach, with the sums of their strips.
fn parts(gpu: &Gpu, views: &[GpuView<'_>]) -> Result<Vec<Part>> {
    let with_sums = views.first().map(|x| {
        let shape = Shape4 { h: x.shape.plane_len().div_ceil(STRIP) * STRIP_WORDS, w: 1, ..x.shape };
        GpuView { shape, batch_stride: shape.image_len(), ..*x }
    });
    by_channel(gpu, OP, &views.iter().copied().chain(with_sums).collect::<Vec<_>>())
}
