//! Shapes as data: what is checked and what is timed.

pub mod check;
pub mod networks;
mod shapes_file;

pub use shapes_file::read_shapes;
