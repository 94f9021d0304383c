//! Losses, reduced to the mean, and their gradients: cross-entropy over channels, binary cross-entropy with logits, mean
//! squared and mean absolute error, Dice.
//!
//! Each loss is a sum of parts that do not depend on the number of threads, in f64, added in order. The mean over nothing is
//! NaN, as in PyTorch. A gradient takes the one of the loss as a number, and allocates nothing; nor does a loss.

mod bce;
mod cross_entropy;
mod dice;
mod pairs;

use crate::backend::SCALAR;
use crate::cpu::expect_shape;
use crate::error::Result;
use crate::shape::Update;
use crate::simd::Simd;
use crate::tensor::TensorViewMut;

/// Writes what `loss` gives to the single element of `y`.
fn write_scalar(op: &'static str, y: TensorViewMut<'_>, loss: impl FnOnce() -> Result<f32>) -> Result<()> {
    expect_shape(op, "output shape", SCALAR, y.shape())?;
    y.into_image(0)[0] = loss()?;
    Ok(())
}

/// Writes or adds the first `n` lanes of a gradient.
///
/// # Safety
/// `min(n, LANES)` f32 can be read and written at `gx`.
#[inline(always)]
unsafe fn put<S: Simd>(simd: S, gx: *mut f32, n: usize, value: S::F32, update: Update) {
    // SAFETY: as the caller promises.
    unsafe {
        let value = match update {
            Update::Write => value,
            Update::Accumulate => simd.add(simd.load_up_to(gx, n), value),
        };
        simd.store_up_to(gx, n, value);
    }
}

/// The first `n` lanes, the others 0.
#[inline(always)]
fn first_lanes<S: Simd>(simd: S, v: S::F32, n: usize) -> S::F32 {
    let lanes = simd.to_lanes(v);
    // SAFETY: there are as many lanes as MAX_LANES, at least n.
    unsafe { simd.load_partial(lanes.as_ptr(), n.min(lanes.len())) }
}
