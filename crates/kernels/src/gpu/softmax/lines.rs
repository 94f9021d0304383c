//! Lines along an axis, through views of one shape.

use super::Gpu;
use crate::error::Result;
use crate::gpu::buffer::{GpuView, words};
use crate::gpu::parts::{Part, by_element};
use crate::gpu::recorder::WORKGROUP;
use crate::shape::Axis;
use crate::tensor::Shape4;

/// Elements from which on a line is long.
const LONG_LINE: usize = 256;

/// So many lines keep a GPU busy with an invocation each, and a warp then reads neighbours where lines lie side by side.
const MANY_LINES: usize = 1 << 14;

/// Lines of some parts of a tensor.
pub(super) enum Lines<'a, const N: usize> {
    /// Those of one part of the views, none of which leaves it.
    Whole([GpuView<'a>; N], Part, Whole),
    /// Those that no dispatch can reach.
    Cut(Cut<'a, N>),
}

/// Lines along images, one at each position.
pub(super) struct Cut<'a, const N: usize> {
    /// Views, and the parts of which each has some of their images: the lines run through all of them, in order.
    pub pieces: Vec<([GpuView<'a>; N], Vec<Part>)>,
    /// An image: the positions.
    pub image: Shape4,
    /// Whether the elements at all positions are of one line.
    pub one_line: bool,
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

/// Calls `f` for all lines along an axis, each once.
pub(super) fn for_each_lines<'a, const N: usize>(
    gpu: &Gpu,
    axis: Axis,
    views: [GpuView<'a>; N],
    f: impl Fn(Lines<'a, N>) -> Result<()>,
) -> Result<()> {
    let shape = views[0].shape;
    let (reach, plane) = (gpu.reach(), shape.plane_len());
    match axis {
        Axis::N => along_images(gpu, views, &f),
        // The channels of each image as images of one channel.
        Axis::C if shape.image_len() > reach => {
            (0..shape.n).try_for_each(|n| along_images(gpu, views.map(|view| view.planes(n, 0..plane)), &f))
        }
        Axis::C => within_images(gpu, views, shape.c, plane, &f),
        // The rows of each plane as images.
        Axis::H if plane > reach => {
            each_plane(shape, |n, c| along_images(gpu, views.map(|view| rows_of(view, n, c)), &f))
        }
        Axis::H => within_images(gpu, views, shape.h, shape.w, &f),
        Axis::W if shape.w > reach => each_plane(shape, |n, c| {
            let rows = views.map(|view| rows_of(view, n, c));
            (0..shape.h).try_for_each(|h| along_row(gpu, rows.map(|view| view.image(h)), &f))
        }),
        // The rows of all channels as planes.
        Axis::W => {
            let rows = Shape4::new(shape.n, shape.c * shape.h, 1, shape.w);
            within_images(gpu, views.map(|view| GpuView { shape: rows, ..view }), shape.w, 1, &f)
        }
    }
}

/// Lines of `len` elements that lie `across` apart.
fn within_images<'a, const N: usize>(
    gpu: &Gpu,
    views: [GpuView<'a>; N],
    len: usize,
    across: usize,
    f: &impl Fn(Lines<'a, N>) -> Result<()>,
) -> Result<()> {
    by_element(gpu, &views).into_iter().try_for_each(|part| {
        let per_image = part.image() / len;
        let (count, slab) = (part.images.len() * per_image, len * across);
        f(Lines::Whole(views, part, Whole { count, per_image, across, slab, len, step: Some(across) }))
    })
}

fn along_images<'a, const N: usize>(
    gpu: &Gpu,
    views: [GpuView<'a>; N],
    f: &impl Fn(Lines<'a, N>) -> Result<()>,
) -> Result<()> {
    let mut parts = by_element(gpu, &views);
    let shape = views[0].shape;
    if parts.len() > 1 {
        let image = Shape4 { n: 1, ..shape };
        return f(Lines::Cut(Cut { pieces: vec![(views, parts)], image, one_line: false }));
    }
    parts.pop().map_or(Ok(()), |part| {
        let image = shape.image_len();
        let lines =
            Whole { count: image, per_image: image, across: image, slab: 0, len: shape.n, step: None };
        f(Lines::Whole(views, part, lines))
    })
}

/// Along one row, as many short lines side by side; the first of them have an element more, if there is a rest.
fn along_row<'a, const N: usize>(
    gpu: &Gpu,
    rows: [GpuView<'a>; N],
    f: &impl Fn(Lines<'a, N>) -> Result<()>,
) -> Result<()> {
    let len = rows[0].shape.w;
    let across = MANY_LINES.min(gpu.reach());
    let whole = len / across * across;
    let shape = Shape4::new(len / across, 1, 1, across);
    let lines = rows.map(|row| GpuView { shape, batch_stride: across, ..row });
    let rest = rows.map(|row| row.planes(0, whole..len));
    let pieces = [lines, rest].map(|views| (views, by_element(gpu, &views))).into();
    f(Lines::Cut(Cut { pieces, image: Shape4 { n: 1, ..shape }, one_line: true }))
}

fn each_plane(shape: Shape4, f: impl Fn(usize, usize) -> Result<()>) -> Result<()> {
    (0..shape.n).try_for_each(|n| (0..shape.c).try_for_each(|c| f(n, c)))
}

/// The rows of a plane as images of one channel.
fn rows_of(view: GpuView<'_>, n: usize, c: usize) -> GpuView<'_> {
    GpuView {
        start: view.start + n * view.batch_stride + c * view.shape.plane_len(),
        shape: Shape4::new(view.shape.h, 1, 1, view.shape.w),
        batch_stride: view.shape.w,
        ..view
    }
}
