//! Softmax along any axis: `y = exp(x - max) / sum of exp(x - max)`, the maximum and the sum along the axis.
//!
//! Two passes over the axis find the maximum and the sum (a [`Peak`]), a third writes `y`. The exponentials are
//! computed twice rather than written and read back. Lanes are neighbours across the axis, or, along the rows of
//! planes, neighbours along it.

use crate::cpu::threads::SharedOut;
use crate::cpu::{Cpu, expect_shape, threads};
use crate::error::Result;
use crate::shape::{Axis, SoftmaxShape, Update};
use crate::simd::{Simd, SimdOp, math};
use crate::tensor::{Shape4, Tensor, TensorView, TensorViewMut};

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
        let (x_stride, y_stride) = (x.batch_stride(), y.batch_stride());
        let (x, y) = (SharedIn(x.as_ptr()), SharedOut::new(y.as_mut_ptr()));
        for_each_columns(self, shape, axis, |at| {
            // SAFETY: both views are of this shape and hold its columns. No two calls share one.
            let columns = unsafe {
                Columns {
                    x: x.get().add(at.offset(x_stride)),
                    x_stride: at.stride(x_stride),
                    y: y.get().add(at.offset(y_stride)),
                    y_stride: at.stride(y_stride),
                    len: at.len,
                    columns: at.columns,
                }
            };
            self.isa.run(columns);
        });
        Ok(())
    }

    /// The gradient of [`Cpu::softmax`] where it gave `y`: `gx = y * (gy - sum of gy * y)`, the sum along the axis; all
    /// of one shape. Allocates nothing.
    ///
    /// ```
    /// use tilewise_kernels::{Axis, Cpu, Shape4, Tensor, Update};
    /// let y = Tensor::from_vec(Shape4::new(1, 2, 1, 1), vec![0.25, 0.75])?;
    /// let gy = Tensor::from_vec(y.shape(), vec![8.0, 0.0])?;
    /// let mut gx = Tensor::zeros(y.shape())?;
    /// Cpu::new()?.softmax_backward_into(y.view(), Axis::C, gy.view(), gx.view_mut(), Update::Write)?;
    /// assert_eq!(gx.data(), [1.5, -1.5]);
    /// # Ok::<(), tilewise_kernels::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for another shape of `gy` or `gx`.
    pub fn softmax_backward_into(
        &self,
        y: TensorView<'_>,
        axis: Axis,
        gy: TensorView<'_>,
        mut gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        let shape = SoftmaxShape::new(y.shape(), axis)?.input();
        expect_shape("softmax_backward", "output gradient shape", shape, gy.shape())?;
        expect_shape("softmax_backward", "input gradient shape", shape, gx.shape())?;
        let strides = [y.batch_stride(), gy.batch_stride(), gx.batch_stride()];
        let (y, gy, gx) = (SharedIn(y.as_ptr()), SharedIn(gy.as_ptr()), SharedOut::new(gx.as_mut_ptr()));
        for_each_columns(self, shape, axis, |at| {
            let [y_at, gy_at, gx_at] = strides.map(|s| at.offset(s));
            // SAFETY: the three views are of this shape and hold its columns. No two calls share one.
            let columns = unsafe {
                ColumnsBackward {
                    y: y.get().add(y_at),
                    gy: gy.get().add(gy_at),
                    gx: gx.get().add(gx_at),
                    strides: strides.map(|s| at.stride(s)),
                    len: at.len,
                    columns: at.columns,
                    update,
                }
            };
            self.isa.run(columns);
        });
        Ok(())
    }
}

/// Some columns along the axis, side by side: where they are in a tensor.
struct Place {
    image: usize,
    /// Of the first element in its image.
    start: usize,
    /// From one element of a column to the next, unless that lies in the next image.
    stride: Option<usize>,
    len: usize,
    columns: usize,
}

impl Place {
    /// The first element, in a tensor whose images lie this far apart.
    fn offset(&self, batch_stride: usize) -> usize {
        self.image * batch_stride + self.start
    }

    /// From one element of a column to the next.
    fn stride(&self, batch_stride: usize) -> usize {
        self.stride.unwrap_or(batch_stride)
    }
}

/// Calls `f` for all columns of a tensor, each once, some at a time.
fn for_each_columns(cpu: &Cpu, shape: Shape4, axis: Axis, f: impl Fn(Place) + Sync) {
    let [n, c, h, w] = shape.dims();
    let work = n * shape.image_len();
    if work == 0 {
        return;
    }
    // The axis has `len` elements, `across` apart; that many elements side by side form a slab, and there are `slabs`
    // of those in each of `images` images.
    let (images, slabs, len, across) = match axis {
        Axis::N => (1, 1, n, shape.image_len()),
        Axis::C => (n, 1, c, h * w),
        Axis::H => (n, c, h, w),
        Axis::W => (n, c * h, w, 1),
    };
    let stride = (axis != Axis::N).then_some(across);
    // An item is some columns of a slab, or some slabs.
    let at_once = across.min((threads::CHUNK / len / 64 * 64).max(64));
    let slabs_at_once = if at_once < across { 1 } else { (threads::CHUNK / (len * across)).clamp(1, slabs) };
    let (groups, parts) = (slabs.div_ceil(slabs_at_once), across.div_ceil(at_once));
    threads::for_each_item(threads::strands(cpu, work), images * groups * parts, |_, item| {
        let (image, group, part) = (item / parts / groups, item / parts % groups, item % parts);
        let first = part * at_once;
        let columns = at_once.min(across - first);
        for slab in group * slabs_at_once..slabs.min((group + 1) * slabs_at_once) {
            f(Place { image, start: slab * len * across + first, stride, len, columns });
        }
    });
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

/// The gradient of softmax for `columns` neighbouring columns of `len` elements, which lie `strides` apart: of `y`, `gy`
/// and `gx`.
///
/// Whoever makes one sees to it that all of them can be read from `y` and `gy` and written to `gx`.
struct ColumnsBackward {
    y: *const f32,
    gy: *const f32,
    gx: *mut f32,
    strides: [usize; 3],
    len: usize,
    columns: usize,
    update: Update,
}

impl SimdOp for ColumnsBackward {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let ColumnsBackward { y, gy, gx, strides, len, columns, update } = self;
        if columns == 1 && strides == [1; 3] {
            // SAFETY: the one column is a row of `len` elements in all three, and `gx` overlaps neither.
            unsafe {
                let mut dot = simd.splat(0.0);
                for i in (0..len).step_by(S::LANES) {
                    let (y, gy) = (simd.load_up_to(y.add(i), len - i), simd.load_up_to(gy.add(i), len - i));
                    dot = simd.mul_add(gy, y, dot);
                }
                let dot = simd.splat(simd.reduce_add(dot));
                for i in (0..len).step_by(S::LANES) {
                    let (y, gy) = (simd.load_up_to(y.add(i), len - i), simd.load_up_to(gy.add(i), len - i));
                    let gradient = simd.mul(y, simd.sub(gy, dot));
                    update.store_up_to(simd, gx.add(i), len - i, gradient);
                }
            }
            return;
        }
        let [y_stride, gy_stride, gx_stride] = strides;
        for first in (0..columns).step_by(S::LANES) {
            let n = columns - first;
            // SAFETY: columns first..first + n are among those that may be read and written.
            unsafe {
                let (y, gy, gx) = (y.add(first), gy.add(first), gx.add(first));
                let mut dot = simd.splat(0.0);
                for i in 0..len {
                    let y = simd.load_up_to(y.add(i * y_stride), n);
                    dot = simd.mul_add(simd.load_up_to(gy.add(i * gy_stride), n), y, dot);
                }
                for i in 0..len {
                    let y = simd.load_up_to(y.add(i * y_stride), n);
                    let gy = simd.load_up_to(gy.add(i * gy_stride), n);
                    update.store_up_to(simd, gx.add(i * gx_stride), n, simd.mul(y, simd.sub(gy, dot)));
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

    #[test]
    fn gradients_along_every_axis() -> Result<()> {
        for dims in [[2, 3, 5, 7], [3, 40, 2, 9], [1, 2, 30, 33], [9, 1, 1, 1]] {
            let shape = Shape4::from(dims);
            let gy =
                Tensor::from_fn(shape, |[n, c, h, w]| ((n * 5 + c * 3 + h * 7 + w * 2) % 11) as f32 - 5.0)?;
            let y = Tensor::from_fn(shape, |[n, c, h, w]| ((n + c * 2 + h * 3 + w * 5) % 13) as f32 / 16.0)?;
            for (isa, axis) in Isa::available().flat_map(|isa| Axis::ALL.map(|axis| (isa, axis))) {
                // Channel 0 of something larger: batch strides of their own.
                let wide = Shape4 { c: 2 * shape.c, ..shape };
                let (mut large, mut written) =
                    (Tensor::from_fn(wide, |_| 0.7)?, Tensor::from_fn(shape, |_| f32::NAN)?);
                let cpu = Cpu::with_isa(isa)?;
                cpu.softmax_backward_into(y.view(), axis, gy.view(), written.view_mut(), Update::Write)?;
                let part = large.view_mut().channels(0..shape.c)?;
                cpu.softmax_backward_into(y.view(), axis, gy.view(), part, Update::Accumulate)?;
                for i in 0..y.data().len() {
                    let mut at = [0; 4];
                    let mut rest = i;
                    for (at, extent) in at.iter_mut().zip(dims).rev() {
                        (*at, rest) = (rest % extent, rest / extent);
                    }
                    let dot: f32 = (0..dims[axis.index()])
                        .map(|k| {
                            let mut from = at;
                            from[axis.index()] = k;
                            y.at(from[0], from[1], from[2], from[3])
                                * gy.at(from[0], from[1], from[2], from[3])
                        })
                        .sum();
                    // Sixteenths: exact.
                    let [n, c, h, w] = at;
                    let exact = y.data()[i] * (gy.data()[i] - dot);
                    assert_eq!(written.data()[i], exact, "{isa} {axis:?} {shape} {at:?}");
                    assert_eq!(large.at(n, c, h, w), 0.7 + exact, "{isa} {axis:?} {shape} {at:?}");
                    assert_eq!(large.at(n, c + shape.c, h, w), 0.7);
                }
            }
        }
        Ok(())
    }

    #[test]
    fn gradients_of_other_shapes_are_refused() -> Result<()> {
        let (y, mut gx) = (Tensor::zeros(Shape4::new(1, 2, 1, 1))?, Tensor::zeros(Shape4::new(1, 1, 2, 1))?);
        let refused =
            Cpu::new()?.softmax_backward_into(y.view(), Axis::C, y.view(), gx.view_mut(), Update::Write);
        assert!(matches!(refused, Err(crate::Error::Invalid { op: "softmax_backward", .. })), "{refused:?}");
        Ok(())
    }
}
