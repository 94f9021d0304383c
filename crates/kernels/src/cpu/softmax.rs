//! Softmax along any axis: `y = exp(x - max) / sum of exp(x - max)`, the maximum and the sum along the axis.
//!
//! Two passes over the axis find the maximum and the sum (a [`Peak`]), a third writes `y`. The exponentials are
//! computed twice rather than written and read back. Lanes are neighbours across the axis, or, along the rows of
//! planes, neighbours along it.

use crate::cpu::threads::SharedOut;
use crate::cpu::{Cpu, expect_shape, threads};
use crate::error::Result;
use crate::shape::{Axis, SoftmaxShape};
use crate::simd::{Simd, SimdOp, math};
use crate::tensor::{Tensor, TensorView, TensorViewMut};

impl Cpu {
    /// Softmax along `axis`; of the same shape as `x`.
    ///
    /// A NaN, an infinity or nothing but minus infinities along the axis make all of it NaN, as in PyTorch.
    ///
    /// ```
    /// use tilewise_kernels::{Axis, Cpu, Shape4, Tensor};
    /// let x = Tensor::from_vec(Shape4::new(1, 2, 1, 1), vec![1000.0, 1000.0])?;
    /// assert_eq!(Cpu::new()?.softmax(&x, Axis::C)?.data(), [0.5, 0.5]);
    /// # Ok::<(), tilewise_kernels::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub fn softmax(&self, x: &Tensor, axis: Axis) -> Result<Tensor> {
        let mut y = Tensor::zeros(x.shape())?;
        self.softmax_into(x.view(), axis, y.view_mut())?;
        Ok(y)
    }

    /// [`Cpu::softmax`] into `y`, which has the shape of `x`. Allocates nothing.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for another shape of `y`.
    pub fn softmax_into(&self, x: TensorView<'_>, axis: Axis, mut y: TensorViewMut<'_>) -> Result<()> {
        let shape = SoftmaxShape::new(x.shape(), axis)?.input();
        expect_shape("softmax", "output shape", shape, y.shape())?;
        let [n, c, h, w] = shape.dims();
        let work = n * shape.image_len();
        if work == 0 {
            return Ok(());
        }
        // The axis has `len` elements, `stride` apart; `across` elements side by side form a slab, and there are
        // `slabs` of those in each of `n` images.
        let (n, slabs, len, across) = match axis {
            Axis::N => (1, 1, n, shape.image_len()),
            Axis::C => (n, 1, c, h * w),
            Axis::H => (n, c, h, w),
            Axis::W => (n, c * h, w, 1),
        };
        let (x_stride, y_stride) = match axis {
            Axis::N => (x.batch_stride(), y.batch_stride()),
            _ => (across, across),
        };
        // An item is some columns of a slab, or some slabs.
        let columns = across.min((threads::CHUNK / len / 64 * 64).max(64));
        let slabs_at_once =
            if columns < across { 1 } else { (threads::CHUNK / (len * across)).clamp(1, slabs) };
        let (groups, parts) = (slabs.div_ceil(slabs_at_once), across.div_ceil(columns));
        let (x_image, y_image) = (x.batch_stride(), y.batch_stride());
        let (x, y) = (SharedIn(x.as_ptr()), SharedOut::new(y.as_mut_ptr()));
        threads::for_each_item(threads::strands(self, work), n * groups * parts, |_, item| {
            let (image, group, part) = (item / parts / groups, item / parts % groups, item % parts);
            let first = part * columns;
            for slab in group * slabs_at_once..slabs.min((group + 1) * slabs_at_once) {
                let start = slab * len * across + first;
                let columns = columns.min(across - first);
                // SAFETY: both views hold the image, and the image the slab and its columns. No two items share a
                // column.
                let (x, y) =
                    unsafe { (x.get().add(image * x_image + start), y.get().add(image * y_image + start)) };
                self.isa.run(Columns { x, x_stride, y, y_stride, len, columns });
            }
        });
        Ok(())
    }
}

/// A pointer into an input that several strands read.
#[derive(Clone, Copy)]
struct SharedIn(*const f32);

// SAFETY: nobody writes an input while it is borrowed.
unsafe impl Send for SharedIn {}
// SAFETY: as above.
unsafe impl Sync for SharedIn {}

impl SharedIn {
    /// The pointer. A method, so that closures capture the wrapper and not the bare pointer.
    fn get(self) -> *const f32 {
        self.0
    }
}

/// Softmax of `columns` neighbouring columns of `len` elements, which lie a stride apart.
///
/// Whoever makes one sees to it that all of them can be read from `x` and written to `y`.
struct Columns {
    x: *const f32,
    x_stride: usize,
    y: *mut f32,
    y_stride: usize,
    len: usize,
    columns: usize,
}

impl SimdOp for Columns {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Columns { x, x_stride, y, y_stride, len, columns } = self;
        if columns == 1 && x_stride == 1 && y_stride == 1 {
            // SAFETY: the one column is a row of `len` elements in `x` and in `y`, which do not overlap.
            let (x, y) =
                unsafe { (std::slice::from_raw_parts(x, len), std::slice::from_raw_parts_mut(y, len)) };
            let peak = row_peak(simd, x);
            let (max, scale) = (simd.splat(peak.max), simd.splat(1.0 / peak.sum));
            for (x, y) in x.chunks(S::LANES).zip(y.chunks_mut(S::LANES)) {
                // SAFETY: only the elements of the two chunks, which are of one length, are touched.
                unsafe {
                    let e = math::exp(simd, simd.sub(simd.load_partial(x.as_ptr(), x.len()), max));
                    simd.store_up_to(y.as_mut_ptr(), y.len(), simd.mul(e, scale));
                }
            }
            return;
        }
        for first in (0..columns).step_by(S::LANES) {
            let n = S::LANES.min(columns - first);
            // SAFETY: columns first..first + n are among those that may be read and written.
            unsafe {
                let (x, y) = (x.add(first), y.add(first));
                let peak = column_peaks(simd, x, x_stride, len, n);
                let scale = simd.div(simd.splat(1.0), peak.sum);
                for i in 0..len {
                    let e = math::exp(simd, simd.sub(simd.load_up_to(x.add(i * x_stride), n), peak.max));
                    simd.store_up_to(y.add(i * y_stride), n, simd.mul(e, scale));
                }
            }
        }
    }
}

/// The largest `x` of a row or column, and the sum of `exp(x - max)`: `max + ln(sum)` is the logarithm of the sum of
/// all `exp(x)`. The maximum passes over NaN; the sum does not.
pub(crate) struct Peak<T> {
    pub(crate) max: T,
    pub(crate) sum: T,
}

/// The peaks of `n <= LANES` neighbouring columns of `len` elements, which lie `stride` apart, a column a lane.
///
/// # Safety
/// All of them can be read at `x`.
#[inline(always)]
pub(crate) unsafe fn column_peaks<S: Simd>(
    simd: S,
    x: *const f32,
    stride: usize,
    len: usize,
    n: usize,
) -> Peak<S::F32> {
    let mut max = simd.splat(f32::NEG_INFINITY);
    let mut sum = simd.splat(0.0);
    for i in 0..len {
        // The second operand comes out where the first is NaN.
        // SAFETY: row i of the n columns.
        max = simd.max(unsafe { simd.load_up_to(x.add(i * stride), n) }, max);
    }
    for i in 0..len {
        // SAFETY: as above.
        let x = unsafe { simd.load_up_to(x.add(i * stride), n) };
        sum = simd.add(sum, math::exp(simd, simd.sub(x, max)));
    }
    Peak { max, sum }
}

/// The peak of a row.
#[inline(always)]
pub(crate) fn row_peak<S: Simd>(simd: S, x: &[f32]) -> Peak<f32> {
    let (vectors, rest) = x.split_at(x.len() - x.len() % S::LANES);
    let mut max = simd.splat(f32::NEG_INFINITY);
    for x in vectors.chunks_exact(S::LANES) {
        // SAFETY: the chunk holds LANES elements.
        max = simd.max(unsafe { simd.load(x.as_ptr()) }, max);
    }
    let max = rest.iter().fold(simd.reduce_max(max), |m, &x| if x > m { x } else { m });
    let shift = simd.splat(max);
    let mut sum = simd.splat(0.0);
    for x in vectors.chunks_exact(S::LANES) {
        // SAFETY: as above.
        sum = simd.add(sum, math::exp(simd, simd.sub(unsafe { simd.load(x.as_ptr()) }, shift)));
    }
    // SAFETY: only the elements of `rest` are read.
    let last = unsafe { simd.load_partial(rest.as_ptr(), rest.len()) };
    let last = simd.to_lanes(math::exp(simd, simd.sub(last, shift)));
    Peak { max, sum: last[..rest.len()].iter().fold(simd.reduce_add(sum), |sum, &e| sum + e) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Isa;
    use crate::tensor::Shape4;

    #[test]
    fn limits_are_those_of_pytorch() -> Result<()> {
        const INF: f32 = f32::INFINITY;
        const NAN: f32 = f32::NAN;
        for (x, expected) in [
            ([1.0, NAN, 2.0], [NAN; 3]),
            ([1.0, INF, 2.0], [NAN; 3]),
            ([-INF, -INF, -INF], [NAN; 3]),
            ([-INF, 1.0, -200.0], [0.0, 1.0, 0.0]),
        ] {
            for isa in Isa::available() {
                for (i, axis) in Axis::ALL.into_iter().enumerate() {
                    let mut dims = [1; 4];
                    dims[i] = 3;
                    let y = Cpu::with_isa(isa)?
                        .softmax(&Tensor::from_vec(Shape4::from(dims), x.to_vec())?, axis)?;
                    let same =
                        y.data().iter().zip(expected).all(|(&y, e)| y == e || y.is_nan() && e.is_nan());
                    assert!(same, "{isa} {axis:?} {x:?}: {:?}", y.data());
                }
            }
        }
        Ok(())
    }
}
