//! How rows are cut: into even tiles, and tiles into blocks whose packed panels fit a part of L2.

/// The packed panels of a block in f32 (256 KiB), unless one tile needs more.
const BLOCK_LEN: usize = 64 * 1024;

/// A length in even parts: 49 rows in tiles of up to 14 are 13, 12, 12, 12, not 14, 14, 14, 7.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EvenParts {
    /// The length of the later parts; the first `longer` are one longer.
    short: usize,
    longer: usize,
}

impl EvenParts {
    /// `parts` parts of `len`.
    pub fn new(len: usize, parts: usize) -> Self {
        let parts = parts.max(1);
        EvenParts { short: len / parts, longer: len % parts }
    }

    /// The start and the length of a part. Divides nothing: it is asked for every tile.
    #[inline(always)]
    pub fn part(&self, part: usize) -> (usize, usize) {
        (part * self.short + part.min(self.longer), self.short + usize::from(part < self.longer))
    }
}

/// Rows in even tiles, tiles in blocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blocking {
    rows: EvenParts,
    tiles: usize,
    per_block: usize,
    blocks: usize,
}

impl Blocking {
    /// For tiles of up to `most` rows, each `tile_len` f32 when packed.
    pub fn new(rows: usize, most: usize, tile_len: usize) -> Self {
        let tiles = rows.div_ceil(most);
        let per_block = (BLOCK_LEN / tile_len.max(1)).clamp(1, tiles.max(1));
        Blocking { rows: EvenParts::new(rows, tiles), tiles, per_block, blocks: tiles.div_ceil(per_block) }
    }

    /// Divides nothing, as [`EvenParts::part`].
    #[inline(always)]
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Tiles of the largest block.
    pub fn max_tiles(&self) -> usize {
        self.per_block
    }

    /// Tiles of this block.
    #[inline(always)]
    pub fn tiles(&self, block: usize) -> usize {
        self.per_block.min(self.tiles - block * self.per_block)
    }

    /// A tile's first row, and how many it has.
    #[inline(always)]
    pub fn tile(&self, block: usize, tile: usize) -> (usize, usize) {
        self.rows.part(block * self.per_block + tile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_belongs_to_one_tile_and_tiles_are_even() {
        for rows in 1..200 {
            for most in 1..15 {
                let blocking = Blocking::new(rows, most, BLOCK_LEN / 3);
                let mut next = 0;
                let mut lengths = Vec::new();
                for block in 0..blocking.blocks() {
                    assert!((1..=blocking.max_tiles()).contains(&blocking.tiles(block)));
                    for tile in 0..blocking.tiles(block) {
                        let (first, count) = blocking.tile(block, tile);
                        assert_eq!(first, next);
                        next += count;
                        lengths.push(count);
                    }
                }
                let (short, long) = (lengths.iter().min().unwrap(), lengths.iter().max().unwrap());
                assert_eq!(next, rows);
                assert!(*short > 0 && *long <= most && long - short <= 1);
            }
        }
        assert_eq!(Blocking::new(0, 14, 1).blocks(), 0);
    }
}
