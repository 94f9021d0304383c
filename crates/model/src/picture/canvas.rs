//! Drawing on pixels: text of an 8x8 font, rectangles, images.

use std::io::Cursor;

use font8x8::legacy::BASIC_LEGACY;
use image::{ImageFormat, Rgb, RgbImage};

use super::colour::{Colour, PAPER};
use crate::error::{Error, Result};

/// A character of the font, before it is enlarged.
pub(super) const GLYPH: u32 = 8;

/// Pixels to draw on. What does not fit is cut off.
pub(super) struct Canvas(RgbImage);

impl Canvas {
    pub(super) fn new(width: u32, height: u32) -> Self {
        Canvas(RgbImage::from_pixel(width, height, Rgb(PAPER)))
    }

    pub(super) fn into_image(self) -> RgbImage {
        self.0
    }

    fn set(&mut self, x: u32, y: u32, colour: Colour) {
        if let Some(pixel) = self.0.get_pixel_mut_checked(x, y) {
            *pixel = Rgb(colour);
        }
    }

    /// Writes text whose upper left corner is at `at`, with `scale` pixels for each dot of the font. What is not ASCII
    /// becomes a question mark.
    pub(super) fn text(&mut self, text: &str, at: (u32, u32), scale: u32, colour: Colour) {
        for (char, x) in text.chars().zip((at.0..).step_by((GLYPH * scale) as usize)) {
            let glyph = BASIC_LEGACY.get(char as usize).unwrap_or(&BASIC_LEGACY[usize::from(b'?')]);
            for dy in 0..GLYPH * scale {
                for dx in 0..GLYPH * scale {
                    if glyph[(dy / scale) as usize] >> (dx / scale) & 1 == 1 {
                        self.set(x + dx, at.1 + dy, colour);
                    }
                }
            }
        }
    }

    pub(super) fn rectangle(&mut self, (x, y): (u32, u32), (width, height): (u32, u32), colour: Colour) {
        for dy in 0..height {
            (0..width).for_each(|dx| self.set(x + dx, y + dy, colour));
        }
    }

    /// An image, each of its pixels enlarged to `scale` x `scale`.
    pub(super) fn image(&mut self, image: &RgbImage, at: (u32, u32), scale: u32) {
        for (x, y, pixel) in image.enumerate_pixels() {
            self.rectangle((at.0 + x * scale, at.1 + y * scale), (scale, scale), pixel.0);
        }
    }
}

/// How wide a text is, in dots.
pub(super) fn text_width(text: &str) -> u32 {
    u32::try_from(text.chars().count()).unwrap_or(u32::MAX / GLYPH / 4) * GLYPH
}

/// The bytes of a PNG file.
pub(super) fn png(image: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).map_err(|e| Error::Draw(e.to_string()))?;
    Ok(bytes.into_inner())
}
