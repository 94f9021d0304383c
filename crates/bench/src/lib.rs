//! What decides whether tilewise is right, and how fast it is.

pub mod case;
pub mod check;
pub mod compare;
pub mod golden;
pub mod reference;
pub mod suites;
