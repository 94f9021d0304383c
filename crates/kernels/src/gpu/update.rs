//! Gradients that are written, or added to what is there.

use crate::shape::Update;

impl Update {
    pub(super) const ALL: [Update; 2] = [Update::Write, Update::Accumulate];

    /// The constant of `shaders/update.wgsl`.
    pub(super) fn constant(self) -> (&'static str, u32) {
        ("ACCUMULATE", (self == Update::Accumulate).into())
    }
}
