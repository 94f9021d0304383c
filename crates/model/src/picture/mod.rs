//! Pictures of what a network sees and how it learns.
//!
//! Images, masks and grids of them are PNG ([`Tile`], [`Grid`]); curves, histograms and tables are SVG, whose text needs no
//! font of this machine. All come as bytes or text: [`write_atomically`](crate::files::write_atomically) makes files of
//! them.

mod canvas;
mod chart;
mod colour;
mod confusion;
mod curves;
mod grid;
mod histogram;
mod tile;

pub use confusion::confusion;
pub use curves::{Panel, Series, curves};
pub use grid::{Grid, reconstructions, segmentations};
pub use histogram::histogram;
pub use tile::Tile;
