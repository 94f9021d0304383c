//! Shapes as data: what is checked and what is timed.

pub mod check;
