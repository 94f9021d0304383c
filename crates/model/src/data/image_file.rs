//! Images from files: PNG and JPEG, grey or colour, 8 or 16 bits.

use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageReader, Limits};
use serde::{Deserialize, Serialize};
use tilewise_kernels::{Shape4, Tensor};

use super::convert::{self, Filter};
use super::dataset::{Dataset, Targets};
use crate::error::{Error, Result};

/// How images are read from files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The channels that images get.
    pub colour: Colour,
    /// Rows and columns that images are resized to. Without, they keep their size, and all must have the same.
    pub size: Option<[usize; 2]>,
    /// Masks are white where the object sought is. With this, black.
    pub invert_masks: bool,
}

/// The channels of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    /// One channel if all images are grey, else three.
    #[default]
    Keep,
    /// One channel. Of a colour image, its luminance (0.2126 red + 0.7152 green + 0.0722 blue, ITU-R BT.709).
    Grey,
    /// Red, green and blue. Of a grey image, all the same.
    Rgb,
}

/// The longest side of an image, and the most memory to decode one (85 million pixels in colour): a header of a few bytes
/// can promise gigabytes.
pub(super) const MAX_SIDE: u32 = 16_384;
const MAX_MEMORY: u64 = 256 << 20;

/// One image, `[1, 1 or 3, h, w]`, from 0.0 (black) to 1.0 (white). How transparent it is, is not read.
///
/// ```
/// use tilewise_model::data::{Options, read_image};
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("grey.png");
/// image::GrayImage::from_pixel(3, 2, image::Luma([51])).save(&path)?;
/// let x = read_image(&path, &Options::default())?;
/// assert_eq!(x.shape().dims(), [1, 1, 2, 3]);
/// assert_eq!(x.at(0, 0, 0, 0), 0.2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Io`] and [`Error::Format`] with the file.
pub fn read_image(path: &Path, options: &Options) -> Result<Tensor> {
    let image = decode(path)?;
    let (h, w) = (image.height() as usize, image.width() as usize);
    // Both take 8 bits to 0..=1 by dividing by 255, and 16 bits by 65,535.
    let (channels, pixels) = match image.color().has_color() {
        true => (3, image.into_rgb32f().into_raw()),
        false => (1, image.to_luma32f().into_raw()),
    };
    let mut tensor = Tensor::zeros(Shape4::new(1, channels, h, w))?;
    for (c, plane) in tensor.data_mut().chunks_exact_mut(h * w).enumerate() {
        for (to, pixel) in plane.iter_mut().zip(pixels.chunks_exact(channels)) {
            *to = pixel[c];
        }
    }
    let tensor = convert::recolour(tensor, options.colour)?;
    match options.size {
        Some(size) if size != [h, w] => convert::resize(&tensor, size, Filter::Smooth),
        _ => Ok(tensor),
    }
}

/// Several images as a data set without targets.
///
/// # Errors
/// As [`read_image`]; [`Error::Format`] if the sizes differ and none was asked for.
pub fn read_images(paths: &[PathBuf], options: &Options) -> Result<Dataset> {
    Dataset::new(stack(paths, options)?, Targets::None)
}

/// The images of all files one behind the other.
pub(super) fn stack(paths: &[PathBuf], options: &Options) -> Result<Tensor> {
    let images = paths.iter().map(|path| read_image(path, options)).collect::<Result<Vec<_>>>()?;
    let Some(first) = images.first().map(Tensor::shape) else {
        return Err(Error::invalid("images", "at least one file", 0));
    };
    for (image, path) in images.iter().zip(paths) {
        let shape = image.shape();
        if (shape.h, shape.w) != (first.h, first.w) {
            let message = format!(
                "expected {}x{} pixels, as {} has, got {}x{}; ask for a size to have all resized",
                first.w,
                first.h,
                paths[0].display(),
                shape.w,
                shape.h
            );
            return Err(Error::format(path, message));
        }
    }
    let channels = images.iter().map(|image| image.shape().c).max().unwrap_or(1);
    let mut all = Tensor::zeros(Shape4 { n: images.len(), c: channels, ..first })?;
    let plane = first.h * first.w;
    for (to, image) in all.data_mut().chunks_exact_mut(channels * plane).zip(&images) {
        // A grey image among colour ones gives the same plane three times.
        for (to, from) in to.chunks_exact_mut(plane).zip(image.data().chunks_exact(plane).cycle()) {
            to.copy_from_slice(from);
        }
    }
    Ok(all)
}

fn decode(path: &Path) -> Result<DynamicImage> {
    let mut reader =
        ImageReader::open(path).and_then(ImageReader::with_guessed_format).map_err(Error::io(path))?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_MEMORY);
    reader.limits(limits);
    let expected = |e| Error::format(path, format!("expected a PNG or JPEG image, got: {e}"));
    let image = reader.decode().map_err(expected)?;
    if image.width() == 0 || image.height() == 0 {
        return Err(Error::format(path, "expected an image with pixels, got one without"));
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::{GrayImage, ImageBuffer, Luma, Rgb, RgbImage};

    use super::*;

    #[test]
    fn channels_are_planes_and_16_bits_are_scaled_as_8_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.png");
        RgbImage::from_fn(2, 1, |x, _| Rgb([255, 51 * x as u8, 0])).save(&path).unwrap();
        let x = read_image(&path, &Options::default()).unwrap();
        assert_eq!((x.shape().dims(), x.data()), ([1, 3, 1, 2], &[1.0, 1.0, 0.0, 0.2, 0.0, 0.0][..]));
        let grey = read_image(&path, &Options { colour: Colour::Grey, ..Options::default() }).unwrap();
        assert!((grey.data()[0] - 0.2126).abs() < 1e-6 && grey.shape().c == 1, "{grey:?}");
        ImageBuffer::from_fn(2, 1, |x, _| Luma([13_107 * x as u16])).save(&path).unwrap();
        let x = read_image(&path, &Options { colour: Colour::Rgb, ..Options::default() }).unwrap();
        assert_eq!(x.data(), [0.0, 0.2, 0.0, 0.2, 0.0, 0.2]);
    }

    #[test]
    fn grey_images_among_coloured_ones_get_three_channels() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a.png", "b.jpg"].map(|name| folder.path().join(name));
        GrayImage::from_pixel(4, 4, Luma([255])).save(&paths[0]).unwrap();
        RgbImage::from_pixel(4, 4, Rgb([0, 0, 0])).save(&paths[1]).unwrap();
        let set = read_images(&paths, &Options::default()).unwrap();
        assert_eq!(set.to_string(), "2 images of 3x4x4, without classes or masks");
        assert_eq!((set.images().at(0, 2, 3, 3), set.images().at(1, 0, 0, 0)), (1.0, 0.0));
        assert_eq!(read_images(&paths[..1], &Options::default()).unwrap().channels(), 1);
    }

    #[test]
    fn sizes_that_differ_are_an_error_or_resized() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a.png", "b.png"].map(|name| folder.path().join(name));
        GrayImage::new(4, 6).save(&paths[0]).unwrap();
        GrayImage::from_pixel(8, 6, Luma([51])).save(&paths[1]).unwrap();
        let message = read_images(&paths, &Options::default()).unwrap_err().to_string();
        assert!(
            message.contains("b.png: expected 4x6 pixels, as ") && message.contains("got 8x6"),
            "{message}"
        );
        let options = Options { size: Some([3, 5]), ..Options::default() };
        let set = read_images(&paths, &options).unwrap();
        assert_eq!(set.images().shape().dims(), [2, 1, 3, 5]);
        assert!(set.images().view().image(1).iter().all(|v| (v - 0.2).abs() < 1e-6));
    }

    #[test]
    fn what_is_no_image_is_refused_by_name_and_a_huge_one_is_not_allocated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.png");
        let message = |path: &Path| read_image(path, &Options::default()).unwrap_err().to_string();
        assert!(message(&path).contains("x.png: "));
        fs::write(&path, "not an image").unwrap();
        assert!(message(&path).contains("x.png: expected a PNG or JPEG image"), "{}", message(&path));
        // The header says 65,535 x 65,535 pixels of 6 bytes.
        let mut png = vec![];
        let mut cursor = std::io::Cursor::new(&mut png);
        RgbImage::new(1, 1).write_to(&mut cursor, image::ImageFormat::Png).unwrap();
        png[16..24].copy_from_slice(&[0, 0, 255, 255, 0, 0, 255, 255]);
        fs::write(&path, &png).unwrap();
        assert!(message(&path).contains("x.png: expected"), "{}", message(&path));
    }
}
