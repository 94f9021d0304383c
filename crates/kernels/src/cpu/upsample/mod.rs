//! Resizing of planes, by the nearest pixel or bilinear.
//!
//! Where each output column comes from is worked out once for a strip of columns and serves all rows of an item.
//! Nearest: a row that repeats the one before is a copy of it; doubling has a loop of its own. Bilinear: the two rows
//! are mixed first, over the columns that the strip needs, then pairs of columns. The gradients go the same ways back, in
//! [`backward`].

mod backward;

use std::ops::Range;

use crate::cpu::{Cpu, expect_shape, threads};
use crate::error::Result;
use crate::shape::upsample::{Between, nearest};
use crate::shape::{UpsampleMode, UpsampleShape};
use crate::simd::{Simd, SimdOp};
use crate::tensor::{Shape4, Tensor, TensorView, TensorViewMut};

impl Cpu {
    /// Planes of `size` = `[height, width]`, larger or smaller; where the pixels come from is said at [`UpsampleMode`].
    ///
    /// ```
    /// use tilewise_kernels::{Cpu, Shape4, Tensor, UpsampleMode};
    /// let x = Tensor::from_vec(Shape4::new(1, 1, 1, 2), vec![0.0, 4.0])?;
    /// let cpu = Cpu::new()?;
    /// assert_eq!(cpu.upsample(&x, [1, 4], UpsampleMode::Nearest)?.data(), [0.0, 0.0, 4.0, 4.0]);
    /// let bilinear = UpsampleMode::Bilinear { align_corners: false };
    /// assert_eq!(cpu.upsample(&x, [1, 4], bilinear)?.data(), [0.0, 1.0, 3.0, 4.0]);
    /// # Ok::<(), tilewise_kernels::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`UpsampleShape::new`]; [`crate::Error::OutOfMemory`].
    pub fn upsample(&self, x: &Tensor, size: [usize; 2], mode: UpsampleMode) -> Result<Tensor> {
        let mut y = Tensor::zeros(UpsampleShape::new(x.shape(), size, mode)?.output())?;
        self.upsample_into(x.view(), mode, y.view_mut())?;
        Ok(y)
    }

    /// [`Cpu::upsample`] into `y`, whose planes set the size. Allocates nothing.
    ///
    /// # Errors
    /// Those of [`UpsampleShape::new`]; [`crate::Error::Invalid`] if batch or channels of `y` are not those of `x`.
    pub fn upsample_into(&self, x: TensorView<'_>, mode: UpsampleMode, y: TensorViewMut<'_>) -> Result<()> {
        let size = [y.shape().h, y.shape().w];
        let shape = UpsampleShape::new(x.shape(), size, mode)?;
        let (input, output) = (shape.input(), shape.output());
        expect_shape("upsample", "output shape", output, y.shape())?;
        threads::for_each_rows(self, y, |n, first_row, y| {
            let rows = Rows { input, output, x: x.image(n), first_row, y };
            match mode {
                UpsampleMode::Nearest => self.isa.run(Nearest(rows)),
                UpsampleMode::Bilinear { align_corners } => self.isa.run(Bilinear { rows, align_corners }),
            }
        });
        Ok(())
    }
}

/// Some rows of the outputs of one image.
struct Rows<'a> {
    input: Shape4,
    output: Shape4,
    /// The image.
    x: &'a [f32],
    /// The first row of `y` among all output rows of the image.
    first_row: usize,
    /// Whole rows.
    y: &'a mut [f32],
}

impl<'a> Rows<'a> {
    /// The plane under row `i` of `y`, and the row's position in the output plane.
    #[inline(always)]
    fn plane(&self, i: usize) -> (&'a [f32], usize) {
        let (c, oy) = ((self.first_row + i) / self.output.h, (self.first_row + i) % self.output.h);
        let plane = self.input.plane_len();
        (&self.x[c * plane..][..plane], oy)
    }
}

/// Output columns of a strip: what comes from where fits the L1 cache beside the rows.
const STRIP: usize = 256;

struct Nearest<'a>(Rows<'a>);

impl SimdOp for Nearest<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Nearest(mut rows) = self;
        let (from, to) = (rows.input.w, rows.output.w);
        let y = std::mem::take(&mut rows.y);
        let mut sources = [0; STRIP];
        for first in (0..to).step_by(STRIP) {
            let n = STRIP.min(to - first);
            for (o, source) in (first..).zip(&mut sources[..n]) {
                *source = nearest(o, from, to);
            }
            let mut last = None;
            for i in 0..y.len() / to {
                let (plane, oy) = rows.plane(i);
                let row = &plane[nearest(oy, rows.input.h, rows.output.h) * from..][..from];
                let start = i * to + first;
                if last == Some(row.as_ptr()) {
                    y.copy_within(start - to..start - to + n, start);
                } else if to == 2 * from {
                    let row = &row[first / 2..];
                    for (pair, &v) in y[start..start + n].chunks_exact_mut(2).zip(row) {
                        pair.copy_from_slice(&[v, v]);
                    }
                } else {
                    for (y, &source) in y[start..start + n].iter_mut().zip(&sources[..n]) {
                        *y = row[source];
                    }
                }
                last = Some(row.as_ptr());
            }
        }
    }
}

struct Bilinear<'a> {
    rows: Rows<'a>,
    align_corners: bool,
}

/// Input columns of a strip.
const MIXED: usize = 1024;

impl SimdOp for Bilinear<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Bilinear { mut rows, align_corners } = self;
        let (input, output) = (rows.input, rows.output);
        let y = std::mem::take(&mut rows.y);
        let mut mixed = [0.0; MIXED];
        let mut columns = [Between { left: 0, right: 0, weight: 0.0 }; STRIP];
        let mut first = 0;
        while first < output.w {
            let (n, needed) = strip(first, input.w, output.w, align_corners, &mut columns);
            for i in 0..y.len() / output.w {
                let (plane, oy) = rows.plane(i);
                let row = Between::new(oy, input.h, output.h, align_corners);
                let [above, below] = [row.left, row.right].map(|r| &plane[r * input.w..][needed.clone()]);
                for ((m, &a), &b) in mixed.iter_mut().zip(above).zip(below) {
                    *m = row.mix(a, b);
                }
                for (y, column) in y[i * output.w + first..][..n].iter_mut().zip(&columns) {
                    *y = column.mix(mixed[column.left], mixed[column.right]);
                }
            }
            first += n;
        }
    }
}

/// From output column `first` on: as many as fit a strip (at least one), and the input columns they need, at most
/// [`MIXED`]. `columns` then count from the first of those.
#[inline(always)]
fn strip(
    first: usize,
    input: usize,
    output: usize,
    align_corners: bool,
    columns: &mut [Between; STRIP],
) -> (usize, Range<usize>) {
    let start = Between::new(first, input, output, align_corners).left;
    let (mut n, mut end) = (0, start);
    for (o, column) in (first..output).zip(columns) {
        let Between { left, right, weight } = Between::new(o, input, output, align_corners);
        if right - start >= MIXED {
            break;
        }
        *column = Between { left: left - start, right: right - start, weight };
        (n, end) = (n + 1, right + 1);
    }
    (n, start..end)
}
