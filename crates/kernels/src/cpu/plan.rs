//! What the plans of operators with weights have in common: their checks and their descriptions.

use std::fmt;

use crate::cpu::expect_shape;
use crate::error::{Error, Result};
use crate::simd::Isa;
use crate::tensor::{Shape4, TensorView, TensorViewMut};

/// What a plan chose, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// `operator/algorithm/isa/tile`, for example `conv2d/implicit_gemm/avx512/14x32`. The tile is the outputs that are
    /// summed in registers at once: pixels x channels, or channels x pixels where lanes are pixels.
    pub kernel: String,
    /// The reason, in words.
    pub why: &'static str,
}

impl Description {
    /// For a register tile of `tile.0` rows x `tile.1` vectors.
    pub(crate) fn new(op: &str, algo: &str, isa: Isa, tile: (usize, usize), why: &'static str) -> Self {
        Description { kernel: format!("{op}/{algo}/{isa}/{}x{}", tile.0, tile.1 * isa.lanes()), why }
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kernel, self.why)
    }
}

/// The shapes of input and output.
pub(crate) fn check_views(
    op: &'static str,
    x: TensorView<'_>,
    input: Shape4,
    y: &TensorViewMut<'_>,
    output: Shape4,
) -> Result<()> {
    expect_shape(op, "input shape", input, x.shape())?;
    expect_shape(op, "output shape", output, y.shape())
}

/// Refuses to run a plan without weights with its own.
pub(crate) fn check_has_weights(op: &'static str, has: bool) -> Result<()> {
    let refused =
        || Error::invalid(op, "weights", "a plan that keeps them", "one that takes them at each run");
    has.then_some(()).ok_or_else(refused)
}

/// Refuses operands that no memory holds, before tables as long as their extents are made.
pub(crate) fn check_memory(op: &'static str, operands: [Shape4; 3]) -> Result<()> {
    for shape in operands {
        let len = shape.checked_len(op, "operand")?;
        let refused = |_| Error::OutOfMemory { op, bytes: len.saturating_mul(size_of::<f32>()) };
        Vec::<f32>::new().try_reserve_exact(len).map_err(refused)?;
    }
    Ok(())
}
