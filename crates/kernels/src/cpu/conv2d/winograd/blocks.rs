//! Where tiles lie: an output in tiles, rows of tiles of all images one under the other, blocks of whole rows.

use std::ops::Range;

use crate::cpu::gemm::EvenParts;

/// The longest part of a row of tiles.
const MOST: usize = 72;

/// The blocks of a convolution. One with few tiles has tiles of several images in a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blocks {
    images: usize,
    /// Rows of tiles of an image, and tiles of a row.
    rows: usize,
    columns: usize,
    /// A row, in parts of tiles that follow each other.
    parts: usize,
    part: EvenParts,
    /// The rows of all images, in bands.
    bands: usize,
    band: EvenParts,
    most: usize,
}

/// Rows of tiles of one image, within a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub image: usize,
    /// The first row of tiles of the image, and how many.
    pub row: usize,
    pub rows: usize,
}

/// Some tiles of one group: the same part of some rows.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub group: usize,
    /// Rows, counted through all images.
    rows: Range<usize>,
    rows_of_image: usize,
    /// The first tile of each row, and how many.
    pub column: usize,
    pub columns: usize,
}

impl Blocks {
    /// For outputs of `output` rows and columns, in tiles of `m` by `m`; blocks of about `tiles` tiles.
    pub fn new(images: usize, output: [usize; 2], m: usize, tiles: usize) -> Self {
        let [rows, columns] = output.map(|extent| extent.div_ceil(m));
        let parts = columns.div_ceil(MOST);
        let longest = columns.div_ceil(parts);
        let all = images * rows;
        // The nearest number of rows, and of bands, so that none falls far behind.
        let nearest = |n: usize, of: usize| ((n + of / 2) / of).max(1);
        let bands = if all > 0 { nearest(all, nearest(tiles, longest).min(all)) } else { 0 };
        let most = longest * all.div_ceil(bands.max(1));
        let (part, band) = (EvenParts::new(columns, parts), EvenParts::new(all, bands));
        Blocks { images, rows, columns, parts, part, bands, band, most }
    }

    /// Blocks of one group.
    pub fn count(&self) -> usize {
        self.parts * self.bands
    }

    /// Tiles of one group.
    pub fn tiles(&self) -> usize {
        self.images * self.rows * self.columns
    }

    /// The most tiles of a block, and of a row of it.
    pub fn most(&self) -> [usize; 2] {
        [self.most, self.columns.div_ceil(self.parts)]
    }

    /// The most rows of a block that belong to one image.
    pub fn most_rows(&self) -> usize {
        self.band.part(0).1.min(self.rows)
    }

    /// One of the blocks of all groups, those of a group one after the other.
    #[inline(always)]
    pub fn block(&self, index: usize) -> Block {
        let (group, band, part) = (index / self.count(), index / self.parts % self.bands, index % self.parts);
        let (first, count) = self.band.part(band);
        let (column, columns) = self.part.part(part);
        Block { group, rows: first..first + count, rows_of_image: self.rows, column, columns }
    }
}

impl Block {
    pub fn tiles(&self) -> usize {
        self.rows.len() * self.columns
    }

    /// Its rows, image by image.
    #[inline(always)]
    pub fn runs(&self) -> impl Iterator<Item = Run> + use<> {
        let (mut rows, of_image) = (self.rows.clone(), self.rows_of_image);
        std::iter::from_fn(move || {
            let first = rows.start;
            let (image, row) = (first / of_image, first % of_image);
            rows.start = rows.end.min(first + of_image - row);
            (rows.start > first).then_some(Run { image, row, rows: rows.start - first })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tile_of_every_image_is_in_one_block() {
        for (images, output, m) in [
            (1, [1, 1], 4),
            (3, [7, 7], 2),
            (5, [14, 13], 4),
            (2, [9, 700], 4),
            (1, [224, 224], 6),
            (40, [4, 5], 4),
        ] {
            let blocks = Blocks::new(images, output, m, 48);
            let [height, width] = output.map(|extent: usize| extent.div_ceil(m));
            let mut seen = vec![0; images * height * width];
            for index in 0..blocks.count() {
                let block = blocks.block(index);
                let [most, longest] = blocks.most();
                assert!(block.group == 0 && block.tiles() <= most && block.columns <= longest);
                for run in block.runs() {
                    assert!(run.rows <= blocks.most_rows());
                    for row in run.row..run.row + run.rows {
                        for column in block.column..block.column + block.columns {
                            seen[(run.image * height + row) * width + column] += 1;
                        }
                    }
                }
            }
            assert!(seen.iter().all(|&n| n == 1), "{images} x {output:?}");
            assert_eq!(blocks.block(blocks.count()).group, 1);
        }
        assert_eq!(Blocks::new(0, [5, 5], 4, 48).count(), 0);
    }
}
