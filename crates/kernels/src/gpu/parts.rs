//! Tensors larger than what one dispatch can reach, in parts: some images; where one image is too large, some channels of
//! one image; where one plane is too large, a run of its elements.
//!
//! 1. Operators that treat each element alone, or add up all elements of a channel, take any run ([`by_element`]).
//! 2. Operators on planes take rows of the output with the rows of the input that these need ([`by_window`]); of a row that
//!    is too long, some columns. Shaders go on counting from the first element of the plane, though the memory that they
//!    see begins behind it ([`Source::first`]). Where rows are so long that one dispatch does not reach from the first to the
//!    last that an output needs, these are brought together first; where even that is too much, it is taken in turn.
//! 3. Operators that need all channels at once have them brought together first: convolutions tiles of an image
//!    (`correlation/tiles`), the cross-entropy pixels.

use std::ops::Range;

use super::Gpu;
use super::buffer::{GpuTensor, GpuView, words};
use super::recorder::Slice;
use crate::error::{Error, Expected, Result};
use crate::shape::Update;
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

    /// Elements of a channel, in all images.
    pub fn of_channel(&self) -> usize {
        self.images.len() * self.elements.len()
    }

    /// Elements of all images.
    pub fn count(&self) -> usize {
        self.images.len() * self.image()
    }
}

/// Some rows and columns of the planes of an output: all columns, or one row; and what they need of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    pub rows: Range<usize>,
    pub columns: Range<usize>,
    /// The part of the output, in which these lie side by side.
    pub output: Part,
    /// The rows and columns of the input that they need, or of these what comes next: kernels look at no others.
    pub needs: [Range<usize>; 2],
    /// Whether other windows before have begun with the same outputs, and whether this one completes them.
    pub joined: bool,
    pub last: bool,
    /// Whether what it needs is brought together first: as it lies, one dispatch does not reach from the first to the last.
    apart: bool,
}

/// What a dispatch reads for a window.
pub(super) struct Source<'a> {
    pub slice: Slice<'a>,
    /// Where the first element of the first plane would be in the slice: in front of it, as a number that wraps round, if the
    /// window begins further on.
    pub first: u32,
    /// Elements from one row to the next.
    pub pitch: usize,
}

impl Window {
    /// The first row and the end of those that it needs, and of the columns.
    pub fn needs_words(&self, op: &'static str) -> Result<[u32; 4]> {
        let [rows, columns] = &self.needs;
        words(op, [rows.start, rows.end, columns.start, columns.end])
    }

    /// The copy of what it needs of a view of the input, if it must be brought together.
    pub fn bring(&self, gpu: &Gpu, op: &'static str, x: GpuView<'_>) -> Result<Option<GpuTensor>> {
        if !self.apart {
            return Ok(None);
        }
        let [rows, columns] = &self.needs;
        let copy = GpuTensor::new(gpu, op, Shape4::new(1, 1, rows.len(), columns.len()))?;
        let (n, c) = (self.output.images.start, self.output.channels.start);
        let at = [rows, columns].map(|range| range.start as isize);
        gpu.shifted(op, x.image(n).channels(c..c + 1)?, at, 0.0, copy.view(), Update::Write)?;
        Ok(Some(copy))
    }

    /// What it reads of a view of the input, or of the copy.
    pub fn source<'a>(&self, gpu: &Gpu, x: GpuView<'a>, copy: &'a Option<GpuTensor>) -> Source<'a> {
        let [rows, columns] = self.needs.clone();
        let (slice, pitch) = match copy {
            Some(copy) => (copy.all(gpu), columns.len()),
            None => {
                let elements = run(x.shape.w, rows.clone(), columns.clone());
                (x.part(gpu, &Part { elements, ..self.output.clone() }), x.shape.w)
            }
        };
        let in_front = rows.start * pitch + columns.start;
        Source { first: (slice.first as u32).wrapping_sub(in_front as u32), slice, pitch }
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

/// Cuts an operator that makes each plane of the outputs of one of the inputs, which are of one shape each. `reads(axis,
/// outputs)` are the input's rows (axis 0) or columns (axis 1) that those of the output need; further on for outputs further
/// on.
pub(super) fn by_window(
    gpu: &Gpu,
    inputs: &[GpuView<'_>],
    outputs: &[GpuView<'_>],
    reads: impl Fn(usize, Range<usize>) -> Range<usize>,
) -> Vec<Window> {
    let limit = gpu.reach();
    let ([x, ..], [y, ..]) = (inputs, outputs) else { return Vec::new() };
    let (x, y) = (x.shape, y.shape);
    let needs = |rows: &Range<usize>, columns: &Range<usize>| {
        let needs = [reads(0, rows.clone()), reads(1, columns.clone())];
        if needs.iter().any(Range::is_empty) { [0..0, 0..0] } else { needs }
    };
    let run_of = |[rows, columns]: &[Range<usize>; 2]| run(x.w, rows.clone(), columns.clone()).len();
    let window = |rows: Range<usize>, columns: Range<usize>| {
        let needs = needs(&rows, &columns);
        let output = Part { images: 0..1, channels: 0..1, elements: run(y.w, rows.clone(), columns.clone()) };
        let apart = run_of(&needs) > limit;
        Window { rows, columns, output, needs, joined: false, last: true, apart }
    };
    let of_planes = |window: Window, images, channels| {
        let output = Part { images, channels, ..window.output };
        Window { output, ..window }
    };
    let whole = |images, channels| of_planes(window(0..y.h, 0..y.w), images, channels);
    if let Some(windows) = cut(limit, &[inputs, outputs].concat(), whole) {
        return windows;
    }
    let fits = |rows: Range<usize>, columns: Range<usize>, apart: bool| {
        let needs = needs(&rows, &columns);
        let input = if apart { needs[0].len() * needs[1].len() } else { run_of(&needs) };
        input.max(run(y.w, rows, columns).len()) <= limit
    };
    let mut of_plane: Vec<Window> = Vec::new();
    let mut top = 0;
    while top < y.h {
        let rows = most(y.h - top, |rows| fits(top..top + rows, 0..y.w, false));
        if rows > 0 {
            of_plane.push(window(top..top + rows, 0..y.w));
        }
        let mut left = if rows > 0 { y.w } else { 0 };
        while left < y.w {
            let columns = |apart| most(y.w - left, |columns| fits(top..top + 1, left..left + columns, apart));
            let columns = match columns(false) {
                0 => columns(true),
                columns => columns,
            };
            let some = window(top..top + 1, left..left + columns.max(1));
            if columns > 0 {
                of_plane.push(some);
            } else {
                of_plane.extend(in_turn(limit, some, run_of));
            }
            left += columns.max(1);
        }
        top += rows.max(1);
    }
    let planes = (0..y.n).flat_map(|n| (0..y.c).map(move |c| (n, c)));
    planes.flat_map(|(n, c)| of_plane.iter().map(move |w| of_planes(w.clone(), n..n + 1, c..c + 1))).collect()
}

/// A window of one output, which needs more than a dispatch can reach: windows that take this part by part.
fn in_turn(
    limit: usize,
    window: Window,
    run_of: impl Fn(&[Range<usize>; 2]) -> usize,
) -> impl Iterator<Item = Window> {
    let [rows, columns] = window.needs.clone();
    let of = |range: &Range<usize>, most| {
        let start = range.start;
        pieces(range.len(), most).map(move |piece| start + piece.start..start + piece.end)
    };
    let (rows_each, columns_each) = ((limit / columns.len()).max(1), limit.min(columns.len()));
    let needs: Vec<_> = of(&rows, rows_each)
        .flat_map(|rows| of(&columns, columns_each).map(move |columns| [rows.clone(), columns]))
        .collect();
    let count = needs.len();
    needs.into_iter().enumerate().map(move |(i, needs)| {
        let apart = run_of(&needs) > limit;
        Window { needs, apart, joined: i > 0, last: i + 1 == count, ..window.clone() }
    })
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
    /// The memory of one value per channel, which is not cut.
    pub(super) fn per_channel(&self, gpu: &Gpu) -> Slice<'a> {
        self.part(gpu, &Part { images: 0..1, channels: 0..self.shape.c, elements: 0..1 })
    }

    /// The memory of a part; its first element is `first` of the slice.
    pub(super) fn part(&self, gpu: &Gpu, part: &Part) -> Slice<'a> {
        let plane = self.shape.plane_len();
        let start = self.start + part.images.start * self.batch_stride + part.channels.start * plane;
        let [images, channels] = [&part.images, &part.channels].map(|range| range.len().saturating_sub(1));
        let len = images * self.batch_stride + channels * plane + part.elements.len();
        Slice::new(gpu, self.buffer, start + part.elements.start, if part.count() == 0 { 0 } else { len })
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
