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
        let columns = across.min((threads::CHUNK / len).next_multiple_of(64));
        let slabs_at_once = if columns < across { 1 } else { (threads::CHUNK / (len * across)).clamp(1, slabs) };
        let parts = [n, slabs.div_ceil(slabs_at_once), across.div_ceil(columns)];
        let batch_stride = y.batch_stride();
        let out = SharedOut::new(y.as_mut_ptr());
        threads::for_each_item(threads::strands(self, work), parts.iter().product(), |_, item| {
            let (rest, part) = (item / parts[2], item % parts[2]);
            let (image, group) = (rest / parts[1], rest % parts[1]);
            let first = part * columns;
            for slab in group * slabs_at_once..slabs.min((group + 1) * slabs_at_once) {
                let start = slab * len * across + first;
                let columns = columns.min(across - first);
                let x = x.from(image, start);
                // SAFETY: `start` lies within the image, the view of `y` having the shape of `x`.
                let y = unsafe { out.get().add(image * batch_stride + start) };
                self.isa.run(Columns { x, x_stride, y, y_stride, len, columns });
            }
        });
        Ok(())
    }
}
