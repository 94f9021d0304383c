//! The Dice loss: sums over strips of planes (`loss_dice.wgsl`), from them the loss of each plane and what its gradient needs
//! (`loss_dice_planes.wgsl`), then the mean over planes, or the gradient of each element.

use super::{Gpu, UPDATES, accumulate};
use crate::backend::{SCALAR, expect_shape};
use crate::error::Result;
use crate::gpu::buffer::{GpuView, GpuViewMut, words};
use crate::gpu::parts::{Part, by_element, pieces};
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

/// Whole planes, and the parts of them that a dispatch reaches.
struct Slab {
    planes: Part,
    parts: Vec<Part>,
}

/// Planes of a slab: their losses, and what their gradients need.
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
        let slabs = slabs(self, &[x, target]);
        let sums = Partials::new(self, OP, slabs.len(), 1)?;
        for (i, slab) in slabs.iter().enumerate() {
            let planes = self.dice_planes(x, target, slab, smooth, 0.0)?;
            let to = sums.entry(self, i);
            self.mean_to(OP, planes.losses.slice(self), planes.count, 1.0, to)?;
        }
        self.mean(OP, sums.slice(self), slabs.len(), divisor(planes), y.0)
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
        for slab in slabs(self, &[x, target, gx]) {
            let planes = self.dice_planes(x, target, &slab, smooth, share as f32)?;
            for part in &slab.parts {
                let [from, of_target, to] = [x, target, gx].map(|view| view.part(self, part));
                let sizes = [
                    part.elements.len(),
                    part.image(),
                    part.count(),
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
                    workgroups: part.count().div_ceil(WORKGROUP),
                })?;
            }
        }
        Ok(())
    }

    fn dice_planes(
        &self,
        x: GpuView<'_>,
        target: GpuView<'_>,
        slab: &Slab,
        smooth: f32,
        share: f32,
    ) -> Result<Planes> {
        let planes = |part: &Part| part.images.len() * part.channels.len();
        let strips_of = |part: &Part| part.elements.len().div_ceil(STRIP);
        let (count, per_plane) = (planes(&slab.planes), slab.parts.iter().map(strips_of).sum());
        let sums = Partials::new(self, OP, count * per_plane, STRIP_WORDS)?;
        let mut first = 0;
        for part in &slab.parts {
            let (from, of_target) = (x.part(self, part), target.part(self, part));
            let strips = planes(part) * strips_of(part);
            let sizes = [
                strips,
                first,
                strips_of(part),
                part.channels.len(),
                part.elements.len(),
                STRIP,
                from.first,
                x.batch_stride,
                of_target.first,
                target.batch_stride,
            ];
            self.dispatch(&Dispatch {
                op: OP,
                kernel: reducing(SUMS, lanes(part.elements.len())),
                params: &words(OP, sizes)?,
                reads: &[from, of_target],
                writes: &[sums.slice(self)],
                workgroups: strips,
            })?;
            first += strips;
        }
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

/// The planes of views of one shape: as many as a dispatch can reach, with the sums of their strips; or single ones, in parts.
fn slabs(gpu: &Gpu, views: &[GpuView<'_>]) -> Vec<Slab> {
    let Some(x) = views.first() else { return Vec::new() };
    let (plane, reach) = (x.shape.plane_len(), gpu.reach());
    if plane <= reach {
        let shape = Shape4 { h: plane.div_ceil(STRIP) * STRIP_WORDS, w: 1, ..x.shape };
        let sums = GpuView { shape, batch_stride: shape.image_len(), ..*x };
        let together = by_element(gpu, &[views, &[sums]].concat());
        return together.into_iter().map(|part| Slab { planes: part.clone(), parts: vec![part] }).collect();
    }
    // Of whole strips, if they fit.
    let most = if reach < STRIP { reach } else { reach - reach % STRIP };
    let part = |n, c, elements| Part { images: n..n + 1, channels: c..c + 1, elements };
    let slab = |n, c| Slab {
        planes: part(n, c, 0..plane),
        parts: pieces(plane, most).map(|elements| part(n, c, elements)).collect(),
    };
    (0..x.shape.n).flat_map(|n| (0..x.shape.c).map(move |c| slab(n, c))).collect()
}
