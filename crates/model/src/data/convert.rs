//! Other sizes and colours, where a network wants them.

use image::imageops::{self, FilterType};
use image::{ImageBuffer, Luma};
use tilewise_kernels::{Shape4, Tensor};

use super::dataset::{Dataset, Targets};
use super::image_file::{Colour, MAX_SIDE};
use crate::error::{Error, Result};

/// How pixels between pixels are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    /// Linear between neighbours; all pixels count that become one.
    Smooth,
    /// The nearest pixel as it is: no new values.
    Nearest,
}

/// The weights of red, green and blue in luminance, ITU-R BT.709.
const LUMINANCE: [f32; 3] = [0.2126, 0.7152, 0.0722];

impl Dataset {
    /// The images in another size, of rows and columns: linear between neighbours, averaged where they shrink. Masks stay
    /// 0 or 1: each pixel is that of the nearest. For images of values in 0..=1, so before they are normalised.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is nothing left, or a side is longer than 16,384; [`Error::Kernel`] if memory runs out.
    pub fn resized(&self, size: [usize; 2]) -> Result<Self> {
        if size == self.size() {
            return Ok(self.clone());
        }
        let masks = match self.targets() {
            Targets::Masks(masks) => Some(resize(masks, size, Filter::Nearest)?),
            _ => None,
        };
        self.with_images(resize(self.images(), size, Filter::Smooth)?, masks)
    }

    /// The images in other colours.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the images have neither 1 nor 3 channels; [`Error::Kernel`] if memory runs out.
    pub fn coloured(&self, colour: Colour) -> Result<Self> {
        self.with_images(recolour(self.images().clone(), colour)?, None)
    }
}

/// [`Dataset::coloured`], of images alone.
pub(super) fn recolour(images: Tensor, colour: Colour) -> Result<Tensor> {
    let shape = images.shape();
    match (colour, shape.c) {
        (Colour::Keep, _) | (Colour::Grey, 1) | (Colour::Rgb, 3) => Ok(images),
        (Colour::Grey, 3) => Ok(Tensor::from_fn(Shape4 { c: 1, ..shape }, |[n, _, h, w]| {
            (0..3).map(|c| LUMINANCE[c] * images.at(n, c, h, w)).sum()
        })?),
        (Colour::Rgb, 1) => {
            Ok(Tensor::from_fn(Shape4 { c: 3, ..shape }, |[n, _, h, w]| images.at(n, 0, h, w))?)
        }
        _ => Err(Error::invalid("images: channels", "1 (grey) or 3 (red, green, blue)", shape.c)),
    }
}

/// Resizes every plane.
pub(super) fn resize(from: &Tensor, [h, w]: [usize; 2], filter: Filter) -> Result<Tensor> {
    let side = |extent: usize| match u32::try_from(extent) {
        Ok(side @ 1..=MAX_SIDE) => Ok(side),
        _ => Err(Error::invalid("size", format!("1 to {MAX_SIDE} rows and columns"), extent)),
    };
    let (height, width) = (side(h)?, side(w)?);
    let shape = from.shape();
    let (old_height, old_width) = (side(shape.h)?, side(shape.w)?);
    let filter = match filter {
        Filter::Smooth => FilterType::Triangle,
        Filter::Nearest => FilterType::Nearest,
    };
    let mut to = Tensor::zeros(Shape4 { h, w, ..shape })?;
    let planes = from.data().chunks_exact(shape.h * shape.w);
    for (plane, to) in planes.zip(to.data_mut().chunks_exact_mut(h * w)) {
        let plane = ImageBuffer::<Luma<f32>, _>::from_raw(old_width, old_height, plane);
        let plane = plane.ok_or_else(|| Error::invalid("size", "a whole plane", shape))?;
        to.copy_from_slice(imageops::resize(&plane, width, height, filter).as_raw());
    }
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(shape: Shape4, f: impl Fn([usize; 4]) -> f32) -> Dataset {
        let masks =
            Tensor::from_fn(Shape4 { c: 1, ..shape }, |[_, _, _, w]| f32::from(u8::from(w * 2 < shape.w)));
        Dataset::new(Tensor::from_fn(shape, f).unwrap(), Targets::Masks(masks.unwrap())).unwrap()
    }

    #[test]
    fn halving_averages_and_masks_stay_masks() {
        let set = set(Shape4::new(2, 1, 8, 8), |[n, _, h, w]| (n * 64 + h * 8 + w) as f32 / 128.0);
        let half = set.resized([4, 4]).unwrap();
        assert_eq!(half.images().shape(), Shape4::new(2, 1, 4, 4));
        // A ramp stays a ramp, away from its edges: the mean of rows 2 and 3, columns 2 and 3.
        assert!((half.images().at(1, 0, 1, 1) - (64.0 + 22.5) / 128.0).abs() < 0.04);
        for row in half.masks().unwrap().data().chunks_exact(4) {
            assert_eq!(row, [1.0, 1.0, 0.0, 0.0]);
        }
        assert_eq!(set.resized([8, 8]).unwrap(), set);
        let odd = set.resized([5, 13]).unwrap();
        assert_eq!(odd.masks().unwrap().shape(), Shape4::new(2, 1, 5, 13));
        for size in [[0, 4], [4, 0], [4, 16_385]] {
            assert!(set.resized(size).is_err());
        }
    }

    #[test]
    fn grey_becomes_three_channels_and_back() {
        let grey = set(Shape4::new(1, 1, 2, 2), |[_, _, h, w]| (h * 2 + w) as f32 / 4.0);
        let colour = grey.coloured(Colour::Rgb).unwrap();
        assert_eq!(colour.channels(), 3);
        assert_eq!(colour.images().at(0, 2, 1, 0), 0.5);
        let back = colour.coloured(Colour::Grey).unwrap();
        assert_eq!(back.masks().unwrap(), grey.masks().unwrap());
        for (a, b) in back.images().data().iter().zip(grey.images().data()) {
            assert!((a - b).abs() < 1e-6);
        }
        assert_eq!(colour.coloured(Colour::Keep).unwrap(), colour);
        assert!(set(Shape4::new(1, 2, 2, 2), |_| 0.0).coloured(Colour::Grey).is_err());
    }
}
