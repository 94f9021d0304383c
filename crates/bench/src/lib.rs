//! What decides whether tilewise is right, and how fast it is.

pub mod case;
pub mod compare;
pub mod reference;
