//! Tensors larger than what one dispatch can reach, in parts: some images, or, where one image alone is too large, some
//! channels of one image.

use std::ops::Range;

use super::Gpu;
use super::buffer::GpuView;
use super::recorder::Slice;
use crate::error::{Error, Expected, Result};
use crate::tensor::Shape4;

/// Some images, and some channels of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub images: Range<usize>,
    pub channels: Range<usize>,
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

/// Cuts an operator that treats each channel of each image alone: the channels of all views belong together.
pub(super) fn by_channel(gpu: &Gpu, op: &'static str, views: &[GpuView<'_>]) -> Result<Vec<Part>> {
    cut(op, gpu.reach(), views)
}

/// Cuts an operator that needs all channels of an image at once.
///
/// # Errors
/// [`Error::Invalid`] if an image is larger than what a dispatch can reach.
pub(super) fn by_image(gpu: &Gpu, op: &'static str, views: &[GpuView<'_>]) -> Result<Vec<Part>> {
    let parts = cut(op, gpu.reach(), views)?;
    match views.iter().find(|view| parts.iter().any(|part| part.channels.len() < view.shape.c)) {
        None => Ok(parts),
        Some(view) => Err(too_large(op, "elements of an image", gpu.reach(), view.shape.image_len())),
    }
}

fn too_large(op: &'static str, arg: &'static str, limit: usize, got: usize) -> Error {
    Error::invalid(op, arg, Expected::AtMost(limit), got)
}

fn cut(op: &'static str, limit: usize, views: &[GpuView<'_>]) -> Result<Vec<Part>> {
    let extents: Vec<Extent> = views
        .iter()
        .map(|view| Extent {
            channels: view.shape.c,
            plane: view.shape.plane_len(),
            batch_stride: view.batch_stride,
        })
        .collect();
    let Some(first) = views.first().map(|view| view.shape) else {
        return Ok(Vec::new());
    };
    if extents.iter().all(|extent| extent.image() == 0) || first.n == 0 {
        return Ok(Vec::new());
    }
    let images = extents.iter().map(|extent| extent.images_within(limit)).min().unwrap_or(0);
    if images > 0 {
        let part = |images| Part { images, channels: 0..first.c };
        return Ok(pieces(first.n, images).map(part).collect());
    }
    let plane = extents.iter().map(|extent| extent.plane).max().unwrap_or(0);
    let channels = limit / plane.max(1);
    if channels == 0 {
        return Err(too_large(op, "elements of a plane", limit, plane));
    }
    let of_image = |n| pieces(first.c, channels).map(move |channels| Part { images: n..n + 1, channels });
    Ok((0..first.n).flat_map(of_image).collect())
}

/// `0..len` in pieces of at most `most`.
fn pieces(len: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
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
    /// The memory of a single image, which is not cut; of one value per channel, say.
    pub(super) fn image(&self, gpu: &Gpu) -> Slice<'a> {
        self.part(gpu, &Part { images: 0..1, channels: 0..self.shape.c })
    }

    /// The memory of a part; its first element is `first` of the slice.
    pub(super) fn part(&self, gpu: &Gpu, part: &Part) -> Slice<'a> {
        let plane = self.shape.plane_len();
        let start = self.start + part.images.start * self.batch_stride + part.channels.start * plane;
        let images = part.images.len().saturating_sub(1);
        Slice::new(gpu, self.buffer, start, images * self.batch_stride + part.channels.len() * plane)
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
