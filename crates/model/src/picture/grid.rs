//! Pictures side by side: what went in, what came out, how far that is off.

use image::RgbImage;
use tilewise_kernels::TensorView;

use super::canvas::{self, Canvas, GLYPH, text_width};
use super::colour::{Colour, FALSE, FOUND, INK, LINES, MISSED, MUTED};
use super::tile::{Tile, differences};
use crate::error::{Error, Result};

/// Rows and columns of [`Tile`]s with a title, headings and captions, as PNG. Small images are enlarged by whole numbers,
/// so that each of their pixels can be seen.
///
/// ```
/// use tilewise_model::{data, picture::{Grid, Tile}};
/// let digits = data::digits()?;
/// let tile = |n| Tile::image(digits.images().view(), n);
/// let mut grid = Grid::new("digits", &["first", "second"]);
/// grid.row("0 and 1", vec![tile(0)?, tile(1)?])?;
/// assert_eq!(&grid.png()?[1..4], b"PNG");
/// # Ok::<(), tilewise_model::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Grid {
    title: String,
    columns: Vec<String>,
    rows: Vec<(String, Vec<Tile>)>,
    legend: Vec<(Colour, &'static str)>,
}

/// Around all, and between tiles.
const MARGIN: u32 = 16;
const GAP: u32 = 8;
/// Tiles are enlarged until their longer side is at least so long.
const SIDE: u32 = 144;
/// Title, headings, and a line of small text.
const TITLE: u32 = 34;
const HEADING: u32 = 22;
const LINE: u32 = 12;

impl Grid {
    /// Without rows.
    pub fn new(title: impl Into<String>, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|&name| name.to_owned()).collect();
        Grid { title: title.into(), columns, rows: Vec::new(), legend: Vec::new() }
    }

    /// Adds a row: a caption (its lines stand on the left) and a tile for each column.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there are more tiles or fewer.
    pub fn row(&mut self, caption: impl Into<String>, tiles: Vec<Tile>) -> Result<()> {
        if tiles.len() != self.columns.len() {
            return Err(Error::invalid("grid: tiles of a row", self.columns.len(), tiles.len()));
        }
        self.rows.push((caption.into(), tiles));
        Ok(())
    }

    /// The bytes of a PNG file.
    ///
    /// # Errors
    /// [`Error::Draw`].
    pub fn png(&self) -> Result<Vec<u8>> {
        canvas::png(&self.draw())
    }

    fn draw(&self) -> RgbImage {
        let sides = self.rows.iter().flat_map(|(_, tiles)| tiles).map(|tile| tile.pixels().dimensions());
        let longest = sides.clone().map(|(w, h)| w.max(h)).max().unwrap_or(1);
        let scale = SIDE.div_ceil(longest);
        let (width, height) =
            sides.fold((0, 0), |(w, h), side| (w.max(side.0 * scale), h.max(side.1 * scale)));
        // Headings are of double size where they fit.
        let widest = self.columns.iter().map(|name| text_width(name)).max().unwrap_or(0);
        let heading = if 2 * widest <= width { 2 } else { 1 };
        let pitch = width.max(heading * widest) + GAP;
        let lines = |text: &str| text.lines().map(text_width).max().unwrap_or(0);
        let captions = self.rows.iter().map(|(caption, _)| lines(caption)).max().unwrap_or(0);
        let left = MARGIN + captions + if captions > 0 { GAP } else { 0 };
        let top = MARGIN + TITLE + HEADING;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let legend = self.legend.iter().map(|(_, name)| text_width(name) + 4 * GLYPH).sum::<u32>();
        let total = (left + count(self.columns.len()).saturating_mul(pitch))
            .max(MARGIN + 2 * text_width(&self.title))
            .max(MARGIN + legend);
        let bottom = top + count(self.rows.len()).saturating_mul(height + GAP);
        let foot = if self.legend.is_empty() { 0 } else { LINE + GAP };

        let mut canvas = Canvas::new(total + MARGIN, bottom + foot + MARGIN - GAP);
        canvas.text(&self.title, (MARGIN, MARGIN), 2, INK);
        for (name, x) in self.columns.iter().zip((left..).step_by(pitch as usize)) {
            canvas.text(name, (x, MARGIN + TITLE), heading, INK);
        }
        for ((caption, tiles), y) in self.rows.iter().zip((top..).step_by((height + GAP) as usize)) {
            for (line, y) in caption.lines().zip((y..).step_by(LINE as usize)) {
                canvas.text(line, (MARGIN, y), 1, MUTED);
            }
            for (tile, x) in tiles.iter().zip((left..).step_by(pitch as usize)) {
                let (w, h) = tile.pixels().dimensions();
                canvas.rectangle((x - 1, y - 1), (w * scale + 2, h * scale + 2), LINES);
                canvas.image(tile.pixels(), (x, y), scale);
            }
        }
        let mut x = MARGIN;
        for &(colour, name) in &self.legend {
            canvas.rectangle((x, bottom), (GLYPH, GLYPH), colour);
            canvas.text(name, (x + 2 * GLYPH, bottom), 1, MUTED);
            x += text_width(name) + 4 * GLYPH;
        }
        canvas.into_image()
    }
}

/// Input, reconstruction and error map of each image, worst colour for the largest error of all.
///
/// # Errors
/// [`Error::Invalid`] if inputs and reconstructions differ in shape, or it is not one caption for each.
pub fn reconstructions(
    title: impl Into<String>,
    inputs: TensorView<'_>,
    outputs: TensorView<'_>,
    captions: &[String],
) -> Result<Grid> {
    check_captions(inputs, captions)?;
    let mut most = 0.0f32;
    for n in 0..captions.len() {
        most = differences(inputs, outputs, n)?.into_iter().fold(most, f32::max);
    }
    let mut grid = Grid::new(title, &["input", "output", "error"]);
    for (n, caption) in captions.iter().enumerate() {
        let tiles = vec![
            Tile::image(inputs, n)?,
            Tile::image(outputs, n)?,
            Tile::difference(inputs, outputs, n, most)?,
        ];
        grid.row(caption, tiles)?;
    }
    Ok(grid)
}

/// Image, true mask, and the overlay of what each network predicted: a column for each, with its name. What is above
/// `threshold` is predicted.
///
/// # Errors
/// [`Error::Invalid`] if images and masks differ in size or number, or it is not one caption for each image.
pub fn segmentations(
    title: impl Into<String>,
    images: TensorView<'_>,
    truth: TensorView<'_>,
    predictions: &[(&str, TensorView<'_>)],
    threshold: f32,
    captions: &[String],
) -> Result<Grid> {
    check_captions(images, captions)?;
    let names = predictions.iter().map(|(name, _)| *name);
    let mut grid = Grid::new(title, &["image", "truth"].into_iter().chain(names).collect::<Vec<_>>());
    grid.legend = vec![(FOUND, "found"), (FALSE, "false"), (MISSED, "missed")];
    for (n, caption) in captions.iter().enumerate() {
        let mut tiles = vec![Tile::image(images, n)?, Tile::mask(truth, n, 0.5)?];
        for (_, predicted) in predictions {
            tiles.push(Tile::overlay(images, *predicted, Some(truth), n, threshold)?);
        }
        grid.row(caption, tiles)?;
    }
    Ok(grid)
}

fn check_captions(images: TensorView<'_>, captions: &[String]) -> Result<()> {
    let count = images.shape().n;
    if captions.len() == count {
        Ok(())
    } else {
        Err(Error::invalid("grid: captions", count, captions.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Cells;

    #[test]
    fn a_grid_has_room_for_all() {
        let set = Cells { count: 2, size: 48, seed: 1 }.generate().unwrap();
        let (images, masks) = (set.images().view(), set.masks().unwrap().view());
        let captions = ["first\nDice 0.91".to_owned(), "second".to_owned()];
        let grid = segmentations("cells", images, masks, &[("U-Net", masks)], 0.5, &captions).unwrap();
        let picture = image::load_from_memory(&grid.png().unwrap()).unwrap();
        assert!(picture.width() > 3 * 144 && picture.height() > 2 * 144 && picture.width() < 700);
        let grid = reconstructions("cells", images, images, &captions).unwrap();
        assert!(grid.png().is_ok());
        assert!(reconstructions("cells", images, images, &captions[..1]).is_err());
        assert!(Grid::new("empty", &[]).png().is_ok());
        assert!(Grid::new("x", &["a"]).row("", vec![]).is_err());
    }
}
