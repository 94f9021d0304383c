//! One image of a batch as a picture.

use image::{Rgb, RgbImage};
use tilewise_kernels::TensorView;

use super::canvas;
use super::colour::{self, FALSE, FOUND, MISSED};
use crate::error::{Error, Result};

/// A picture of one image, pixel for pixel: to be saved, or shown in a [`Grid`](super::Grid).
///
/// ```
/// use tilewise_model::{data, picture::Tile};
/// let digits = data::digits()?;
/// let png = Tile::image(digits.images().view(), 0)?.png()?;
/// assert_eq!(&png[1..4], b"PNG");
/// # Ok::<(), tilewise_model::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile(RgbImage);

/// How much of an overlay's colour covers the image.
const COVER: f32 = 0.55;

impl Tile {
    /// Image `n`, grey or coloured: 0 is black, 1 is white, what lies outside is cut off.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no such image, or it has neither 1 nor 3 channels.
    pub fn image(images: TensorView<'_>, n: usize) -> Result<Self> {
        let [h, w] = check(images, n)?;
        let channels = images.shape().c;
        if channels != 1 && channels != 3 {
            return Err(Error::invalid("picture: channels", "1 (grey) or 3 (red, green, blue)", channels));
        }
        let image = images.image(n);
        Ok(Tile::from_fn([h, w], |i| [0, 1, 2].map(|c| byte(image[c.min(channels - 1) * h * w + i]))))
    }

    /// Where mask `n` (`[n, 1, h, w]`, probabilities or 0 and 1) is above `threshold`, white; else black.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no such mask.
    pub fn mask(masks: TensorView<'_>, n: usize, threshold: f32) -> Result<Self> {
        let [h, w] = check(masks, n)?;
        let mask = masks.plane(n, 0);
        Ok(Tile::from_fn([h, w], |i| [if mask[i] > threshold { 255 } else { 0 }; 3]))
    }

    /// How far image `n` of `a` is from that of `b`: the mean of the absolute differences of the channels, from black
    /// (none) to pale yellow (`most` or more).
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no such image, or they differ in shape.
    pub fn difference(a: TensorView<'_>, b: TensorView<'_>, n: usize, most: f32) -> Result<Self> {
        let size = check(a, n)?;
        let errors = differences(a, b, n)?;
        Ok(Tile::from_fn(size, |i| colour::heat(errors[i] / most)))
    }

    /// A map of values from `low` (black) to `high` (pale yellow): channel 0 of image `n`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no such map.
    pub fn heat(maps: TensorView<'_>, n: usize, low: f32, high: f32) -> Result<Self> {
        let size = check(maps, n)?;
        let map = maps.plane(n, 0);
        Ok(Tile::from_fn(size, |i| colour::heat((map[i] - low) / (high - low))))
    }

    /// Image `n` with a predicted mask over it, where that is above `threshold`. With the truth: green where it was found,
    /// red where it is not, blue where it was missed.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no such image, or image and masks differ in size.
    pub fn overlay(
        images: TensorView<'_>,
        predicted: TensorView<'_>,
        truth: Option<TensorView<'_>>,
        n: usize,
        threshold: f32,
    ) -> Result<Self> {
        let Tile(mut image) = Tile::image(images, n)?;
        let size = check(images, n)?;
        for masks in [Some(predicted), truth].into_iter().flatten() {
            if check(masks, n)? != size {
                return Err(Error::invalid("overlay: mask", images.shape(), masks.shape()));
            }
        }
        let (predicted, truth) = (predicted.plane(n, 0), truth.map(|truth| truth.plane(n, 0)));
        for (i, pixel) in image.pixels_mut().enumerate() {
            let colour = match (predicted[i] > threshold, truth.map(|truth| truth[i] > 0.5)) {
                (true, None | Some(true)) => FOUND,
                (true, Some(false)) => FALSE,
                (false, Some(true)) => MISSED,
                (false, None | Some(false)) => continue,
            };
            *pixel = Rgb(colour::mix(pixel.0, colour, COVER));
        }
        Ok(Tile(image))
    }

    /// The bytes of a PNG file.
    ///
    /// # Errors
    /// [`Error::Draw`].
    pub fn png(&self) -> Result<Vec<u8>> {
        canvas::png(&self.0)
    }

    /// The pixels.
    pub(super) fn pixels(&self) -> &RgbImage {
        &self.0
    }

    fn from_fn([h, w]: [usize; 2], colour: impl Fn(usize) -> [u8; 3]) -> Self {
        // `check` has seen that both fit.
        Tile(RgbImage::from_fn(w as u32, h as u32, |x, y| Rgb(colour(y as usize * w + x as usize))))
    }
}

/// The mean of the absolute differences of the channels, for each pixel of image `n`.
pub(super) fn differences(a: TensorView<'_>, b: TensorView<'_>, n: usize) -> Result<Vec<f32>> {
    if a.shape() != b.shape() {
        return Err(Error::invalid("difference", a.shape(), b.shape()));
    }
    let [h, w] = check(a, n)?;
    let channels = a.shape().c;
    let mut errors = vec![0.0; h * w];
    for c in 0..channels {
        for ((error, a), b) in errors.iter_mut().zip(a.plane(n, c)).zip(b.plane(n, c)) {
            *error += (a - b).abs() / channels as f32;
        }
    }
    Ok(errors)
}

/// Rows and columns of image `n`, if there is one and it can be drawn.
fn check(images: TensorView<'_>, n: usize) -> Result<[usize; 2]> {
    /// A side of more would make a picture that nothing shows.
    const MOST: usize = 16_384;
    let shape = images.shape();
    if n >= shape.n {
        return Err(Error::invalid("picture: image", format!("less than {}", shape.n), n));
    }
    if shape.c == 0 || !(1..=MOST).contains(&shape.h) || !(1..=MOST).contains(&shape.w) {
        return Err(Error::invalid("picture: image", format!("1 to {MOST} rows and columns"), shape));
    }
    Ok([shape.h, shape.w])
}

fn byte(value: f32) -> u8 {
    // `as` saturates, and makes 0 of NaN.
    (value * 255.0).round() as u8
}

#[cfg(test)]
mod tests {
    use tilewise_kernels::{Shape4, Tensor};

    use super::*;

    fn tensor(shape: [usize; 4], data: &[f32]) -> Tensor {
        Tensor::from_vec(Shape4::from(shape), data.to_vec()).unwrap()
    }

    #[test]
    fn pixels_have_the_colours_of_their_values() {
        let grey = tensor([2, 1, 1, 2], &[0.0, 0.0, 0.5, 7.0]);
        let Tile(image) = Tile::image(grey.view(), 1).unwrap();
        assert_eq!(image.as_raw()[..], [128, 128, 128, 255, 255, 255]);
        let colour = tensor([1, 3, 1, 2], &[1.0, 0.0, 0.2, f32::NAN, -1.0, 0.4]);
        let Tile(image) = Tile::image(colour.view(), 0).unwrap();
        assert_eq!(image.as_raw()[..], [255, 51, 0, 0, 0, 102]);
        let Tile(mask) = Tile::mask(grey.view(), 1, 0.5).unwrap();
        assert_eq!(mask.as_raw()[..], [0, 0, 0, 255, 255, 255]);
        let Tile(map) = Tile::heat(grey.view(), 1, 0.5, 7.0).unwrap();
        assert_eq!((map.get_pixel(0, 0).0, map.get_pixel(1, 0).0), (colour::heat(0.0), colour::heat(1.0)));
        let png = image::load_from_memory(&Tile(image.clone()).png().unwrap()).unwrap();
        assert_eq!(png.into_rgb8(), image);
    }

    #[test]
    fn differences_are_means_over_channels() {
        let a = tensor([1, 2, 1, 2], &[1.0, 0.0, 0.5, 0.0]);
        let b = tensor([1, 2, 1, 2], &[0.0, 0.0, 1.0, 0.5]);
        assert_eq!(differences(a.view(), b.view(), 0).unwrap(), [0.75, 0.25]);
        let Tile(map) = Tile::difference(a.view(), b.view(), 0, 0.75).unwrap();
        assert_eq!(map.get_pixel(0, 0).0, colour::heat(1.0));
        // Equal images on a scale of nothing.
        assert!(Tile::difference(a.view(), a.view(), 0, 0.0).is_ok());
    }

    #[test]
    fn an_overlay_shows_found_false_and_missed() {
        let image = tensor([1, 1, 1, 4], &[1.0; 4]);
        let predicted = tensor([1, 1, 1, 4], &[0.9, 0.9, 0.1, 0.1]);
        let truth = tensor([1, 1, 1, 4], &[1.0, 0.0, 1.0, 0.0]);
        let Tile(picture) =
            Tile::overlay(image.view(), predicted.view(), Some(truth.view()), 0, 0.5).unwrap();
        let expected = [FOUND, FALSE, MISSED].map(|c| colour::mix([255; 3], c, COVER));
        assert_eq!([0, 1, 2].map(|x| picture.get_pixel(x, 0).0), expected);
        assert_eq!(picture.get_pixel(3, 0).0, [255; 3]);
        let Tile(alone) = Tile::overlay(image.view(), predicted.view(), None, 0, 0.5).unwrap();
        assert_eq!(alone.get_pixel(1, 0).0, expected[0]);
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let two = tensor([1, 2, 1, 2], &[0.0; 4]);
        assert!(Tile::image(two.view(), 0).is_err() && Tile::mask(two.view(), 1, 0.5).is_err());
        let other = tensor([1, 1, 2, 1], &[0.0; 2]);
        let image = tensor([1, 1, 1, 2], &[0.0; 2]);
        assert!(Tile::overlay(image.view(), other.view(), None, 0, 0.5).is_err());
        assert!(Tile::difference(image.view(), other.view(), 0, 1.0).is_err());
        assert!(Tile::image(tensor([1, 1, 0, 2], &[]).view(), 0).is_err());
    }
}
