//! Shapes and f32 tensors in NCHW order, owned and borrowed.
//!
//! The elements of one image (all its channels) are contiguous; images lie `batch_stride` elements apart. So a
//! view can be a range of channels of a larger tensor, and an operator writes its part of a concatenation
//! without a copy.

use std::fmt;
use std::ops::Range;

use bytemuck::Zeroable;

use crate::error::{Dims, Error, Expected, Result};

/// The extents of a 4-dimensional tensor: batch, channels, height, width.
///
/// Weights use the same type: `n` = output channels, `c` = input channels per group, `h` and `w` = the kernel.
/// A matrix (samples x features) is `[n, c, 1, 1]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape4 {
    /// Batch: the number of images.
    pub n: usize,
    /// Channels.
    pub c: usize,
    /// Height: rows of a plane.
    pub h: usize,
    /// Width: columns of a plane.
    pub w: usize,
}

impl Shape4 {
    /// The shape `n x c x h x w`.
    pub const fn new(n: usize, c: usize, h: usize, w: usize) -> Self {
        Shape4 { n, c, h, w }
    }

    /// The extents in the order n, c, h, w.
    pub const fn dims(&self) -> [usize; 4] {
        [self.n, self.c, self.h, self.w]
    }

    /// The number of elements.
    ///
    /// # Errors
    /// [`Error::Overflow`] if that many f32 do not fit the address space.
    pub fn checked_len(&self, op: &'static str, arg: &'static str) -> Result<usize> {
        checked_product(op, arg, &self.dims())
    }

    /// The number of elements of one image; of a shape that passed [`Shape4::checked_len`] (as that of every
    /// tensor and view has).
    pub const fn image_len(&self) -> usize {
        self.c * self.plane_len()
    }

    /// The number of elements of one plane; as [`Shape4::image_len`].
    pub const fn plane_len(&self) -> usize {
        self.h * self.w
    }
}

impl fmt::Display for Shape4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}x{}", self.n, self.c, self.h, self.w)
    }
}

impl From<[usize; 4]> for Shape4 {
    fn from([n, c, h, w]: [usize; 4]) -> Self {
        Shape4 { n, c, h, w }
    }
}

/// The product of all factors, if every partial product of the non-zero ones (and so every sub-extent: a plane,
/// an image) fits as a length of f32.
pub(crate) fn checked_product(op: &'static str, arg: &'static str, dims: &[usize]) -> Result<usize> {
    let overflow = || Error::Overflow { op, arg, dims: Dims::new(dims) };
    let limit = isize::MAX as usize / size_of::<f32>();
    let mut all = 1usize;
    for &d in dims.iter().filter(|&&d| d != 0) {
        all = all.checked_mul(d).filter(|&v| v <= limit).ok_or_else(overflow)?;
    }
    Ok(if dims.contains(&0) { 0 } else { all })
}

/// A zeroed vector, or a typed error where the allocator refuses. (Its zeros may be those of fresh pages, which take no memory
/// until they are written.)
pub(crate) fn try_zeroed<T: Zeroable>(op: &'static str, len: usize) -> Result<Vec<T>> {
    let refused = |()| Error::OutOfMemory { op, bytes: len.saturating_mul(size_of::<T>()) };
    bytemuck::allocation::try_zeroed_vec(len).map_err(refused)
}

/// An owned f32 tensor, NCHW, contiguous.
///
/// ```
/// use tilewise_kernels::{Shape4, Tensor};
/// let x = Tensor::from_vec(Shape4::new(1, 2, 1, 2), vec![1.0, 2.0, 3.0, 4.0])?;
/// assert_eq!(x.at(0, 1, 0, 0), 3.0);
/// assert!(Tensor::from_vec(Shape4::new(1, 2, 2, 2), vec![0.0; 7]).is_err());
/// # Ok::<(), tilewise_kernels::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Shape4,
    data: Vec<f32>,
}

impl Tensor {
    /// A tensor of zeros.
    ///
    /// # Errors
    /// [`Error::Overflow`] or [`Error::OutOfMemory`] if it is too large.
    pub fn zeros(shape: Shape4) -> Result<Self> {
        let len = shape.checked_len("tensor", "shape")?;
        Ok(Tensor { shape, data: try_zeroed("tensor", len)? })
    }

    /// Takes the elements of `data`, in NCHW order.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the number of elements is not that of the shape.
    pub fn from_vec(shape: Shape4, data: Vec<f32>) -> Result<Self> {
        let len = shape.checked_len("tensor", "shape")?;
        if data.len() != len {
            return Err(Error::invalid("tensor", "data length", len, data.len()));
        }
        Ok(Tensor { shape, data })
    }

    /// The element at `[n, c, h, w]` is `f([n, c, h, w])`; called in memory order.
    ///
    /// # Errors
    /// As [`Tensor::zeros`].
    pub fn from_fn(shape: Shape4, mut f: impl FnMut([usize; 4]) -> f32) -> Result<Self> {
        let mut t = Tensor::zeros(shape)?;
        let mut i = 0;
        // Of no elements there may be more images than could be counted.
        let images = if t.data.is_empty() { 0 } else { shape.n };
        for n in 0..images {
            for c in 0..shape.c {
                for h in 0..shape.h {
                    for w in 0..shape.w {
                        t.data[i] = f([n, c, h, w]);
                        i += 1;
                    }
                }
            }
        }
        Ok(t)
    }

    /// The extents.
    pub fn shape(&self) -> Shape4 {
        self.shape
    }

    /// All elements in NCHW order.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// All elements in NCHW order, to be changed.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// The elements, without the shape.
    pub fn into_vec(self) -> Vec<f32> {
        self.data
    }

    /// One element.
    ///
    /// # Panics
    /// If an index is outside the shape, as slices do.
    pub fn at(&self, n: usize, c: usize, h: usize, w: usize) -> f32 {
        let s = self.shape;
        assert!(n < s.n && c < s.c && h < s.h && w < s.w, "index [{n}, {c}, {h}, {w}] outside {s}");
        self.data[((n * s.c + c) * s.h + h) * s.w + w]
    }

    /// The same elements under another shape (NCHW order is kept). `flatten` is `reshape` to `[n, c*h*w, 1, 1]`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the number of elements differs.
    pub fn reshape(self, shape: Shape4) -> Result<Self> {
        let len = shape.checked_len("reshape", "shape")?;
        if len != self.data.len() {
            return Err(Error::invalid("reshape", "shape", self.shape, shape));
        }
        Ok(Tensor { shape, data: self.data })
    }

    /// One row of features per image: `[n, c, h, w]` becomes `[n, c*h*w, 1, 1]`, without a copy.
    pub fn flatten(self) -> Self {
        let s = self.shape;
        Tensor { shape: Shape4::new(s.n, s.image_len(), 1, 1), data: self.data }
    }

    /// Borrows all of it.
    pub fn view(&self) -> TensorView<'_> {
        TensorView { data: &self.data, shape: self.shape, batch_stride: self.shape.image_len() }
    }

    /// Borrows all of it, to be written.
    pub fn view_mut(&mut self) -> TensorViewMut<'_> {
        let batch_stride = self.shape.image_len();
        TensorViewMut { data: &mut self.data, shape: self.shape, batch_stride }
    }
}

/// Checks that `len` elements hold images of `shape`, `batch_stride` apart and not overlapping. Gives the stride
/// back; that of a single image, which nothing reads, is the image's length.
pub(crate) fn check_view(shape: Shape4, batch_stride: usize, len: usize) -> Result<usize> {
    let op = "view";
    shape.checked_len(op, "shape")?;
    let image = shape.image_len();
    if shape.n > 1 && batch_stride < image {
        return Err(Error::invalid(
            op,
            "batch stride (images would overlap)",
            Expected::AtLeast(image),
            batch_stride,
        ));
    }
    let needed =
        match shape.n {
            0 => 0,
            n => (n - 1).checked_mul(batch_stride).and_then(|v| v.checked_add(image)).ok_or(
                Error::Overflow { op, arg: "batch stride", dims: Dims::new(&[n - 1, batch_stride]) },
            )?,
        };
    if len < needed {
        return Err(Error::invalid(op, "data length", Expected::AtLeast(needed), len));
    }
    Ok(if shape.n > 1 { batch_stride } else { image })
}

/// Where channels `range` of a view start within an image, and the shape they have.
pub(crate) fn channel_range(shape: Shape4, range: &Range<usize>) -> Result<(usize, Shape4)> {
    if range.end > shape.c {
        return Err(Error::invalid("view", "last channel", Expected::AtMost(shape.c), range.end));
    }
    if range.start > range.end {
        return Err(Error::invalid("view", "first channel", Expected::AtMost(range.end), range.start));
    }
    Ok((range.start * shape.plane_len(), Shape4 { c: range.len(), ..shape }))
}

/// Checks that a view of this shape, its images `batch_stride` apart, can be seen as one of the shape `to`.
pub(crate) fn check_reshape(shape: Shape4, batch_stride: usize, to: Shape4) -> Result<()> {
    let op = "reshape";
    if to.checked_len(op, "shape")? != shape.n * shape.image_len() {
        return Err(Error::invalid(op, "shape", shape, to));
    }
    if shape.n > 1 && batch_stride != shape.image_len() {
        return Err(Error::invalid(op, "batch stride", shape.image_len(), batch_stride));
    }
    Ok(())
}

/// A borrowed f32 tensor: images of `c*h*w` contiguous elements, `batch_stride` apart.
#[derive(Debug, Clone, Copy)]
pub struct TensorView<'a> {
    data: &'a [f32],
    shape: Shape4,
    batch_stride: usize,
}

impl<'a> TensorView<'a> {
    /// A view of `data`: image `i` starts at element `i * batch_stride` (of one image or none, any stride will do).
    ///
    /// # Errors
    /// [`Error::Invalid`] if images would overlap or `data` is too short.
    pub fn new(data: &'a [f32], shape: Shape4, batch_stride: usize) -> Result<Self> {
        let batch_stride = check_view(shape, batch_stride, data.len())?;
        Ok(TensorView { data, shape, batch_stride })
    }

    /// The extents.
    pub fn shape(&self) -> Shape4 {
        self.shape
    }

    /// Elements from one image to the next.
    pub fn batch_stride(&self) -> usize {
        self.batch_stride
    }

    /// The same elements as one image of many channels, where nothing lies between the images: so that a batch of tiny
    /// images is no more work to share out than one large one.
    pub(crate) fn joined(self) -> Option<Self> {
        let s = self.shape;
        (self.batch_stride == s.image_len() && s.n > 1).then_some(TensorView {
            data: self.data,
            shape: Shape4::new(1, s.n * s.c, s.h, s.w),
            batch_stride: s.n * self.batch_stride,
        })
    }

    /// Each image as a row of features: `[n, c*h*w, 1, 1]`.
    pub(crate) fn flattened(self) -> Self {
        TensorView { shape: Shape4::new(self.shape.n, self.shape.image_len(), 1, 1), ..self }
    }

    /// All elements of image `n`, channel by channel.
    ///
    /// # Panics
    /// If `n` is outside the batch, as slices do.
    #[inline]
    pub fn image(&self, n: usize) -> &'a [f32] {
        assert!(n < self.shape.n, "image {n} of {}", self.shape);
        let start = n * self.batch_stride;
        &self.data[start..start + self.shape.image_len()]
    }

    /// The elements of channel `c` of image `n`, row by row.
    ///
    /// # Panics
    /// If an index is outside the shape, as slices do.
    #[inline]
    pub fn plane(&self, n: usize, c: usize) -> &'a [f32] {
        let len = self.shape.plane_len();
        &self.image(n)[c * len..(c + 1) * len]
    }

    /// The channels of `range`, in every image.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the range is not within the channels.
    pub fn channels(self, range: Range<usize>) -> Result<Self> {
        let (start, shape) = channel_range(self.shape, &range)?;
        let data = self.data.get(start..).unwrap_or_default();
        Ok(TensorView { data, shape, batch_stride: self.batch_stride })
    }

    /// The same elements under another shape: a part of a flat buffer of parameters as the weights of a layer, say.
    ///
    /// # Errors
    /// [`Error::Invalid`] if their number differs, or something lies between the images.
    pub fn reshape(self, shape: Shape4) -> Result<Self> {
        check_reshape(self.shape, self.batch_stride, shape)?;
        Ok(TensorView { data: self.data, shape, batch_stride: shape.image_len() })
    }

    /// The elements of `range`, those of all images counted in order, if nothing lies between them.
    pub(crate) fn contiguous(&self, range: Range<usize>) -> Option<&'a [f32]> {
        let image = self.shape.image_len().max(1);
        let n = range.start / image;
        if self.batch_stride == image {
            return self.data.get(range);
        }
        let start = n * self.batch_stride + range.start % image;
        (range.end <= (n + 1) * image).then(|| &self.data[start..start + range.len()])
    }

    /// Copies the elements from the one numbered `first` on, those of all images counted in order.
    pub(crate) fn copy_to(&self, mut first: usize, mut to: &mut [f32]) {
        let image = self.shape.image_len();
        while !to.is_empty() {
            let rest = &self.image(first / image)[first % image..];
            let (piece, behind) = to.split_at_mut(rest.len().min(to.len()));
            piece.copy_from_slice(&rest[..piece.len()]);
            first += piece.len();
            to = behind;
        }
    }

    /// The first element, for the inner loops that cross images.
    pub(crate) fn as_ptr(&self) -> *const f32 {
        self.data.as_ptr()
    }

    /// A contiguous copy.
    ///
    /// # Errors
    /// As [`Tensor::zeros`].
    pub fn to_tensor(&self) -> Result<Tensor> {
        let mut t = Tensor::zeros(self.shape)?;
        let image = self.shape.image_len();
        if image > 0 {
            for (n, dst) in t.data.chunks_exact_mut(image).enumerate() {
                dst.copy_from_slice(self.image(n));
            }
        }
        Ok(t)
    }
}

/// A borrowed f32 tensor to be written: images of `c*h*w` contiguous elements, `batch_stride` apart. What lies
/// between two images is never touched.
#[derive(Debug)]
pub struct TensorViewMut<'a> {
    data: &'a mut [f32],
    shape: Shape4,
    batch_stride: usize,
}

impl<'a> TensorViewMut<'a> {
    /// A view of `data`: image `i` starts at element `i * batch_stride` (of one image or none, any stride will do).
    ///
    /// # Errors
    /// [`Error::Invalid`] if images would overlap or `data` is too short.
    pub fn new(data: &'a mut [f32], shape: Shape4, batch_stride: usize) -> Result<Self> {
        let batch_stride = check_view(shape, batch_stride, data.len())?;
        Ok(TensorViewMut { data, shape, batch_stride })
    }

    /// The extents.
    pub fn shape(&self) -> Shape4 {
        self.shape
    }

    /// Elements from one image to the next.
    pub fn batch_stride(&self) -> usize {
        self.batch_stride
    }

    /// [`TensorView::joined`].
    pub(crate) fn joined(&mut self) -> Option<TensorViewMut<'_>> {
        let shape = self.as_view().joined()?.shape;
        Some(TensorViewMut { data: self.data, shape, batch_stride: shape.image_len() })
    }

    /// The same view, to be read.
    pub(crate) fn as_view(&self) -> TensorView<'_> {
        TensorView { data: self.data, shape: self.shape, batch_stride: self.batch_stride }
    }

    /// The same view for a shorter time.
    pub fn reborrow(&mut self) -> TensorViewMut<'_> {
        TensorViewMut { data: self.data, shape: self.shape, batch_stride: self.batch_stride }
    }

    /// The channels of `range`, in every image.
    ///
    /// ```
    /// use tilewise_kernels::{Cpu, Shape4, Tensor};
    /// // Two results side by side in one tensor, as a U-Net's skip connection wants them: no copy is made.
    /// let cpu = Cpu::new()?;
    /// let x = Tensor::from_fn(Shape4::new(2, 1, 2, 2), |[n, _, h, w]| (n + h + w) as f32 - 1.0)?;
    /// let mut both = Tensor::zeros(Shape4::new(2, 2, 2, 2))?;
    /// cpu.relu_into(x.view(), both.view_mut().channels(0..1)?)?;
    /// cpu.relu_into(x.view(), both.view_mut().channels(1..2)?)?;
    /// assert_eq!(both.at(1, 0, 1, 1), both.at(1, 1, 1, 1));
    /// # Ok::<(), tilewise_kernels::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] if the range is not within the channels.
    pub fn channels(self, range: Range<usize>) -> Result<Self> {
        let (start, shape) = channel_range(self.shape, &range)?;
        let data = self.data.get_mut(start..).unwrap_or_default();
        Ok(TensorViewMut { data, shape, batch_stride: self.batch_stride })
    }

    /// [`TensorView::reshape`].
    ///
    /// # Errors
    /// As there.
    pub fn reshape(self, shape: Shape4) -> Result<Self> {
        check_reshape(self.shape, self.batch_stride, shape)?;
        Ok(TensorViewMut { data: self.data, shape, batch_stride: shape.image_len() })
    }

    /// All elements of image `n`, to be written; as [`TensorView::image`].
    pub(crate) fn into_image(self, n: usize) -> &'a mut [f32] {
        assert!(n < self.shape.n, "image {n} of {}", self.shape);
        let start = n * self.batch_stride;
        &mut self.data[start..start + self.shape.image_len()]
    }

    /// The first element, for the inner loops that write disjoint parts from several threads.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut f32 {
        self.data.as_mut_ptr()
    }
}
