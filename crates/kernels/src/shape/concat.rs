//! Concatenation of channels: the shape of the result, and the channels of each input in it.

use std::ops::Range;

use crate::error::{Dims, Error, Expected, Result};
use crate::tensor::Shape4;

const OP: &str = "concat";

/// The extents of a concatenation: the channels add up, batch, height and width are the same in all parts.
///
/// # Errors
/// [`Error::Invalid`] without parts or for parts that do not fit the first; [`Error::Overflow`].
pub fn concat_shape(parts: impl IntoIterator<Item = Shape4>) -> Result<Shape4> {
    let mut parts = parts.into_iter();
    let Some(mut shape) = parts.next() else {
        return Err(Error::invalid(OP, "number of inputs", Expected::AtLeast(1), 0));
    };
    for part in parts {
        let expected = Shape4 { c: part.c, ..shape };
        if part != expected {
            return Err(Error::invalid(OP, "input shape", expected, part));
        }
        let overflow =
            Error::Overflow { op: OP, arg: "output channels", dims: Dims::new(&[shape.c, part.c]) };
        shape.c = shape.c.checked_add(part.c).ok_or(overflow)?;
    }
    shape.checked_len(OP, "output")?;
    Ok(shape)
}

/// The channels of `gy` that are the gradient to the input whose first channel is `first` in the output; `gx` is its shape.
pub(crate) fn backward_channels(gy: Shape4, first: usize, gx: Shape4) -> Result<Range<usize>> {
    const OP: &str = "concat_backward";
    let channels = gy.c;
    let expected = Shape4 { c: channels, ..gx };
    if gy != expected {
        return Err(Error::invalid(OP, "output gradient shape", expected, gy));
    }
    let too_many = Error::invalid(OP, "input gradient channels", Expected::AtMost(channels), gx.c);
    let most = channels.checked_sub(gx.c).ok_or(too_many)?;
    if first > most {
        return Err(Error::invalid(OP, "first channel", Expected::AtMost(most), first));
    }
    Ok(first..first + gx.c)
}
