//! Lines along an axis, through views of one shape.

use super::Gpu;
use crate::error::Result;
use crate::gpu::buffer::{GpuView, words};
use crate::gpu::parts::{Part, by_channel};
use crate::gpu::recorder::WORKGROUP;
use crate::shape::Axis;
use crate::tensor::Shape4;

/// Elements from which on a line is long.
const LONG_LINE: usize = 256;

/// So many lines keep a GPU busy with an invocation each, and a warp then reads neighbours where lines lie side by side.
const MANY_LINES: usize = 1 << 14;

/// Lines of some parts of a tensor.
pub(super) enum Lines {
    /// Those of one part, none of which leaves it.
    Whole(Part, Whole),
    /// Along the images of the batch, of which each of these parts has some.
    Cut(Vec<Part>),
}

/// Lines within a part.
pub(super) struct Whole {
    /// How many, and how many of one image.
    count: usize,
    per_image: usize,
    /// Lines side by side, and the elements of as many lines.
    across: usize,
    slab: usize,
    /// Elements of a line.
    pub len: usize,
    /// How far apart they lie, unless each lies in an image of its own.
    step: Option<usize>,
}

impl Whole {
    /// How far apart the elements of a line lie in a view.
    pub fn step(&self, view: &GpuView<'_>) -> usize {
        self.step.unwrap_or(view.batch_stride)
    }

    /// Whether a workgroup shares each.
    pub fn shared(&self) -> bool {
        self.len > LONG_LINE && (self.across == 1 || self.count < MANY_LINES)
    }

    pub fn workgroups(&self) -> usize {
        if self.shared() { self.count } else { self.count.div_ceil(WORKGROUP) }
    }

    /// What the parameters of shaders of lines begin with.
    pub fn words(&self, op: &'static str) -> Result<[u32; 5]> {
        words(op, [self.count, self.per_image, self.across, self.slab, self.len])
    }
}

/// Calls `f` for all lines along an axis, each once, with the views that they run through.
pub(super) fn for_each_lines<'a, const N: usize>(
    gpu: &Gpu,
    op: &'static str,
    axis: Axis,
    views: [GpuView<'a>; N],
    f: impl Fn(Lines, [GpuView<'a>; N]) -> Result<()>,
) -> Result<()> {
    let shape = views[0].shape;
    let plane = shape.plane_len();
    let (len, across) = match axis {
        Axis::N => return along_images(gpu, op, views, &f),
        Axis::C if shape.image_len() > gpu.reach() => {
            // The channels of each image as images of one channel.
            let of_image = |view: GpuView<'a>, n: usize| GpuView {
                start: view.start + n * view.batch_stride,
                batch_stride: plane,
                shape: Shape4::new(shape.c, 1, shape.h, shape.w),
                ..view
            };
            return (0..shape.n)
                .try_for_each(|n| along_images(gpu, op, views.map(|view| of_image(view, n)), &f));
        }
        Axis::C => (shape.c, plane),
        Axis::H => (shape.h, shape.w),
        Axis::W => (shape.w, 1),
    };
    for part in by_channel(gpu, op, &views)? {
        let per_image = part.channels.len() * plane / len;
        let (count, slab) = (part.images.len() * per_image, len * across);
        let lines = Whole { count, per_image, across, slab, len, step: Some(across) };
        f(Lines::Whole(part, lines), views)?;
    }
    Ok(())
}

fn along_images<'a, const N: usize>(
    gpu: &Gpu,
    op: &'static str,
    views: [GpuView<'a>; N],
    f: impl Fn(Lines, [GpuView<'a>; N]) -> Result<()>,
) -> Result<()> {
    let mut parts = by_channel(gpu, op, &views)?;
    let (len, image) = (views[0].shape.n, views[0].shape.image_len());
    if parts.len() > 1 {
        return f(Lines::Cut(parts), views);
    }
    parts.pop().map_or(Ok(()), |part| {
        let lines = Whole { count: image, per_image: image, across: image, slab: 0, len, step: None };
        f(Lines::Whole(part, lines), views)
    })
}
