//! Tensors larger than what one dispatch can reach, in parts: some images; where one image is too large, some channels of
//! one image; where one plane is too large, a run of its elements.
//!
//! 1. Operators that treat each element alone, or add up all elements of a channel, take any run ([`by_element`]).
//! 2. Operators on planes take rows of the output with the rows of the input that these read ([`by_window`]); of a row that
//!    is too long, some columns. Shaders go on counting from the first element of the plane, though the memory that they
//!    see begins behind it ([`Window::first`]).
//! 3. Operators that need all channels at once have their input brought together first ([`super::tiles`]).

use std::ops::Range;

use super::Gpu;
use super::buffer::GpuView;
use super::recorder::Slice;
use crate::error::{Error, Expected, Result};
use crate::tensor::Shape4;

/// Some images, some channels of each, and a run of the elements of each plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub images: Range<usize>,
    pub channels: Range<usize>,
    pub elements: Range<usize>,
}

impl Part {
    /// Elements of an image.
    pub fn image(&self) -> usize {
        self.channels.len() * self.elements.len()
    }

    /// Elements of all images.
    pub fn count(&self) -> usize {
        self.images.len() * self.image()
    }
}

/// Some rows and columns of the planes of an output: all columns, or one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    pub rows: Range<usize>,
    pub columns: Range<usize>,
    /// The part of the output, in which these lie side by side.
    pub output: Part,
    /// The part of the input, from the first element that they need to the last.
    pub input: Part,
}

impl Window {
    /// Where the first element of the first plane of the input would be in the slice of its part: in front of it, as a
    /// number that wraps round, if the part begins further on.
    pub fn first(&self, from: &Slice<'_>) -> u32 {
        (from.first as u32).wrapping_sub(self.input.elements.start as u32)
    }
}

/// Cuts an operator to which the elements of a plane, the same in all views, are so many single ones.
pub(super) fn by_element(gpu: &Gpu, views: &[GpuView<'_>]) -> Vec<Part> {
    let limit = gpu.reach();
    let Some(shape) = views.first().map(|view| view.shape) else {
        return Vec::new();
    };
    let plane = shape.plane_len();
    let whole = |images, channels| Part { images, channels, elements: 0..plane };
    cut(limit, views, whole).unwrap_or_else(|| {
        let mut parts = Vec::new();
        for n in 0..shape.n {
            for elements in pieces(plane, limit) {
                let of_channel =
                    |c| Part { images: n..n + 1, channels: c..c + 1, elements: elements.clone() };
                parts.extend((0..shape.c).map(of_channel));
            }
        }
        parts
    })
}

/// Cuts an operator that makes each plane of `y` of one of `x`. `reads(axis, outputs)` are the input's rows (axis 0) or
/// columns (axis 1) that those of the output need; further on for outputs further on.
///
/// # Errors
/// [`Error::Invalid`] if what one element of the output needs is more than a dispatch can reach.
pub(super) fn by_window(
    gpu: &Gpu,
    op: &'static str,
    x: GpuView<'_>,
    y: GpuView<'_>,
    reads: impl Fn(usize, Range<usize>) -> Range<usize>,
) -> Result<Vec<Window>> {
    let limit = gpu.reach();
    let window = |images: Range<usize>, channels: Range<usize>, rows: Range<usize>, columns: Range<usize>| {
        let of = |elements| Part { images: images.clone(), channels: channels.clone(), elements };
        let input = of(run(x.shape.w, reads(0, rows.clone()), reads(1, columns.clone())));
        Window { output: of(run(y.shape.w, rows.clone(), columns.clone())), input, rows, columns }
    };
    let whole = |images, channels| window(images, channels, 0..y.shape.h, 0..y.shape.w);
    if let Some(windows) = cut(limit, &[x, y], whole) {
        return Ok(windows);
    }
    let needs = |rows: Range<usize>, columns: Range<usize>| {
        let inputs = run(x.shape.w, reads(0, rows.clone()), reads(1, columns.clone()));
        inputs.len().max(run(y.shape.w, rows, columns).len())
    };
    let mut rectangles = Vec::new();
    let mut top = 0;
    while top < y.shape.h {
        let rows = most(y.shape.h - top, |rows| needs(top..top + rows, 0..y.shape.w) <= limit);
        if rows > 0 {
            rectangles.push((top..top + rows, 0..y.shape.w));
        }
        let mut left = if rows > 0 { y.shape.w } else { 0 };
        while left < y.shape.w {
            let columns =
                most(y.shape.w - left, |columns| needs(top..top + 1, left..left + columns) <= limit);
            if columns == 0 {
                let needed = needs(top..top + 1, left..left + 1);
                return Err(too_large(op, "elements from the first of a window to its last", limit, needed));
            }
            rectangles.push((top..top + 1, left..left + columns));
            left += columns;
        }
        top += rows.max(1);
    }
    let mut windows = Vec::new();
    for n in 0..y.shape.n {
        for c in 0..y.shape.c {
            let of_plane = |(rows, columns): &(Range<usize>, Range<usize>)| {
                window(n..n + 1, c..c + 1, rows.clone(), columns.clone())
            };
            windows.extend(rectangles.iter().map(of_plane));
        }
    }
    Ok(windows)
}

/// What does not fit this GPU even in parts.
pub(super) fn too_large(op: &'static str, arg: &'static str, limit: usize, got: usize) -> Error {
    Error::invalid(op, arg, Expected::AtMost(limit), got)
}

/// The elements of a plane, `width` a row, from the first of these rows and columns to the last.
fn run(width: usize, rows: Range<usize>, columns: Range<usize>) -> Range<usize> {
    if rows.is_empty() || columns.is_empty() {
        return 0..0;
    }
    rows.start * width + columns.start..(rows.end - 1) * width + columns.end
}

/// The largest count up to `len` that fits, if fewer fit wherever more do; 0 if not even one does.
pub(super) fn most(len: usize, fits: impl Fn(usize) -> bool) -> usize {
    let (mut fitting, mut beyond) = (0, len + 1);
    while fitting + 1 < beyond {
        let middle = fitting + (beyond - fitting) / 2;
        if fits(middle) { fitting = middle } else { beyond = middle }
    }
    fitting
}

/// The size of a view, as far as cutting it is concerned.
#[derive(Debug, Clone, Copy)]
struct Extent {
    channels: usize,
    plane: usize,
    batch_stride: usize,
}

impl Extent {
    fn image(&self) -> usize {
        self.channels * self.plane
    }

    /// How many images lie within `limit` elements.
    fn images_within(&self, limit: usize) -> usize {
        match limit.checked_sub(self.image()) {
            None => 0,
            Some(left) => 1 + left / self.batch_stride.max(1),
        }
    }
}

/// Images and channels of which whole planes are within the limit, the channels of all views belonging together; `None`
/// where a single plane is not.
fn cut<T>(
    limit: usize,
    views: &[GpuView<'_>],
    part: impl Fn(Range<usize>, Range<usize>) -> T,
) -> Option<Vec<T>> {
    let extents = views.iter().map(|view| Extent {
        channels: view.shape.c,
        plane: view.shape.plane_len(),
        batch_stride: view.batch_stride,
    });
    let first = views.first()?.shape;
    if extents.clone().all(|extent| extent.image() == 0) || first.n == 0 {
        return Some(Vec::new());
    }
    let images = extents.clone().map(|extent| extent.images_within(limit)).min().unwrap_or(0);
    if images > 0 {
        return Some(pieces(first.n, images).map(|images| part(images, 0..first.c)).collect());
    }
    let plane = extents.map(|extent| extent.plane).max().unwrap_or(0);
    let channels = limit / plane.max(1);
    if channels == 0 {
        return None;
    }
    let part = &part;
    let of_image = |n| pieces(first.c, channels).map(move |channels| part(n..n + 1, channels));
    Some((0..first.n).flat_map(of_image).collect())
}

/// `0..len` in pieces of at most `most`.
pub(super) fn pieces(len: usize, most: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    (0..len).step_by(most).map(move |start| start..len.min(start + most))
}

/// Views of equal extents as planes of single elements, so that they can be cut anywhere; as one image, where nothing lies
/// between the images of any.
pub(super) fn elementwise<const N: usize>(views: [GpuView<'_>; N]) -> [GpuView<'_>; N] {
    let views = match views.iter().all(|view| view.joined().is_some()) {
        true => views.map(|view| view.joined().unwrap_or(view)),
        false => views,
    };
    views.map(|view| {
        let shape = Shape4::new(view.shape.n, view.shape.image_len(), 1, 1);
        GpuView { shape, ..view }
    })
}

impl<'a> GpuView<'a> {
    /// The memory of a part; its first element is `first` of the slice.
    pub(super) fn part(&self, gpu: &Gpu, part: &Part) -> Slice<'a> {
        let plane = self.shape.plane_len();
        let start = self.start + part.images.start * self.batch_stride + part.channels.start * plane;
        let [images, channels] = [&part.images, &part.channels].map(|range| range.len().saturating_sub(1));
        let len = images * self.batch_stride + channels * plane + part.elements.len();
        Slice::new(gpu, self.buffer, start + part.elements.start, len)
    }

    /// Image `n` alone.
    pub(super) fn image(&self, n: usize) -> GpuView<'a> {
        GpuView { start: self.start + n * self.batch_stride, shape: Shape4 { n: 1, ..self.shape }, ..*self }
    }

    /// A run of elements of each plane of image `n`, as images.
    pub(super) fn planes(&self, n: usize, elements: Range<usize>) -> GpuView<'a> {
        GpuView {
            start: self.start + n * self.batch_stride + elements.start,
            shape: Shape4::new(self.shape.c, 1, 1, elements.len()),
            batch_stride: self.shape.plane_len(),
            ..*self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_all_once() {
        for len in 0..20 {
            for most in 1..20 {
                let all: Vec<usize> = pieces(len, most).flatten().collect();
                assert_eq!(all, (0..len).collect::<Vec<_>>());
                assert!(pieces(len, most).all(|piece| piece.len() <= most));
            }
        }
    }

    #[test]
    fn images_within_a_limit_fit_it() {
        for (channels, plane, gap) in [(1, 1, 0), (3, 7, 0), (3, 7, 5), (2, 10, 100)] {
            let extent = Extent { channels, plane, batch_stride: channels * plane + gap };
            for limit in 0..500 {
                let images = extent.images_within(limit);
                let len = |images: usize| (images - 1) * extent.batch_stride + extent.image();
                assert!(images == 0 || len(images) <= limit);
                assert!(len(images + 1) > limit);
            }
        }
    }
}
