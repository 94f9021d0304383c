//! The gradients of resizing, each written where it is needed: for a row of the input, the rows of gradients that it went
//! into are added up, by their weights; then, along that sum, the columns, from left to right.
//!
//! Doubling, what decoders do, has loops without a table of columns.

use crate::cpu::{Cpu, expect_shape, threads};
use crate::error::Result;
use crate::shape::upsample::{Between, nearest};
use crate::shape::{Update, UpsampleMode, UpsampleShape};
use crate::simd::{MAX_LANES, Simd, SimdOp};
use crate::tensor::{Shape4, TensorView, TensorViewMut};

impl Cpu {
    /// The gradient of [`Cpu::upsample`]: each element of `gy` goes to the pixels that it came from, by its weights.
    /// Allocates nothing.
    ///
    /// ```
    /// use tilewise_kernels::{Cpu, Shape4, Tensor, Update, UpsampleMode};
    /// let gy = Tensor::from_vec(Shape4::new(1, 1, 1, 4), vec![1.0, 2.0, 4.0, 8.0])?;
    /// let (cpu, mut gx) = (Cpu::new()?, Tensor::zeros(Shape4::new(1, 1, 1, 2))?);
    /// cpu.upsample_backward_into(UpsampleMode::Nearest, gy.view(), gx.view_mut(), Update::Write)?;
    /// assert_eq!(gx.data(), [3.0, 12.0]);
    /// let bilinear = UpsampleMode::Bilinear { align_corners: false };
    /// cpu.upsample_backward_into(bilinear, gy.view(), gx.view_mut(), Update::Write)?;
    /// assert_eq!(gx.data(), [3.5, 11.5]);
    /// # Ok::<(), tilewise_kernels::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`UpsampleShape::new`]; [`crate::Error::Invalid`] if `gy` is no upsampling of something of the shape of
    /// `gx`.
    pub fn upsample_backward_into(
        &self,
        mode: UpsampleMode,
        gy: TensorView<'_>,
        gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        let shape = UpsampleShape::new(gx.shape(), [gy.shape().h, gy.shape().w], mode)?;
        let (input, output) = (shape.input(), shape.output());
        expect_shape("upsample_backward", "output gradient shape", output, gy.shape())?;
        let work = output.n * output.image_len();
        let rows = (threads::CHUNK / input.w).max(1);
        threads::for_each_chunk_of_work(self, gx, rows * input.w, work, |n, start, gx| {
            let first_row = start / input.w;
            self.isa.run(RowsBackward { mode, input, output, gy: gy.image(n), first_row, gx, update });
        });
        Ok(())
    }
}

/// Some rows of the gradient to one image.
struct RowsBackward<'a> {
    mode: UpsampleMode,
    input: Shape4,
    output: Shape4,
    /// The gradients to the outputs of the image.
    gy: &'a [f32],
    /// The first row of `gx` among all rows of the image.
    first_row: usize,
    /// Whole rows.
    gx: &'a mut [f32],
    update: Update,
}

/// Output columns of a strip: their sums, and where they came from, fit the L1 cache.
const STRIP: usize = 1024;

impl SimdOp for RowsBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let gx = std::mem::take(&mut self.gx);
        let mut sums = Sums([0.0; STRIP + 2 * MAX_LANES + 2]);
        let doubles = self.output.w == 2 * self.input.w;
        match self.mode {
            UpsampleMode::Nearest if doubles => self.halve(simd, &mut sums, gx, Sums::halve_copies),
            UpsampleMode::Bilinear { align_corners: false } if doubles => {
                self.halve(simd, &mut sums, gx, Sums::halve_mixes);
            }
            _ => self.by_table(simd, &mut sums, gx),
        }
    }
}

impl RowsBackward<'_> {
    /// Where output `o` of `output` came from, along either dimension.
    #[inline(always)]
    fn between(&self, o: usize, input: usize, output: usize) -> Between {
        match self.mode {
            UpsampleMode::Nearest => {
                let copied = nearest(o, input, output);
                Between { left: copied, right: copied, weight: 0.0 }
            }
            UpsampleMode::Bilinear { align_corners } => Between::new(o, input, output, align_corners),
        }
    }

    #[inline(always)]
    fn between_rows(&self, o: usize) -> Between {
        self.between(o, self.input.h, self.output.h)
    }

    /// Calls `f` for each row of `gx`, with what that row of the input went into.
    #[inline(always)]
    fn each_row(&self, gx: &mut [f32], mut f: impl FnMut(RowOutputs<'_>, &mut [f32])) {
        let (input, output) = (self.input, self.output);
        // The first output that comes from a row at `row` or behind: from there on, row after row.
        let mut first = 0;
        for (i, gx) in gx.chunks_exact_mut(input.w).enumerate() {
            let (plane, row) = ((self.first_row + i) / input.h, (self.first_row + i) % input.h);
            if i == 0 {
                let mut end = output.h;
                while first < end {
                    let o = first + (end - first) / 2;
                    if self.between_rows(o).right < row { first = o + 1 } else { end = o }
                }
            } else if row == 0 {
                first = 0;
            }
            while first < output.h && self.between_rows(first).right < row {
                first += 1;
            }
            let gy = &self.gy[plane * output.plane_len()..][..output.plane_len()];
            f(RowOutputs { of: self, gy, row, first }, gx);
        }
    }

    /// Where the outputs are twice as wide as the inputs.
    #[inline(always)]
    fn halve<S: Simd>(
        &self,
        simd: S,
        sums: &mut Sums,
        gx: &mut [f32],
        halve: impl Fn(&Sums, S, &mut [f32], Update),
    ) {
        let width = self.output.w;
        self.each_row(gx, |outputs, gx| {
            for (part, gx) in gx.chunks_mut(STRIP / 2).enumerate() {
                // With one more output at either end; the outermost ones count twice instead.
                let (first, n) = (part * STRIP, 2 * gx.len());
                let (left, right) = (usize::from(first > 0), usize::from(first + n < width));
                outputs.add_up(simd, first - left, left + n + right, &mut sums.0[1 - left..]);
                if left == 0 {
                    sums.0[0] = sums.0[1];
                }
                if right == 0 {
                    sums.0[n + 1] = sums.0[n];
                }
                halve(sums, simd, gx, self.update);
            }
        });
    }

    /// Any widths.
    #[inline(always)]
    fn by_table<S: Simd>(&self, simd: S, sums: &mut Sums, gx: &mut [f32]) {
        let width = self.output.w;
        let mut columns = [Between { left: 0, right: 0, weight: 0.0 }; STRIP];
        let mut known = None;
        self.each_row(gx, |outputs, gx| {
            let mut along = Along { gx, update: self.update, at: 0, here: 0.0, next: 0.0 };
            for first in (0..width).step_by(STRIP) {
                let n = STRIP.min(width - first);
                if known != Some(first) {
                    known = Some(first);
                    for (o, column) in (first..).zip(&mut columns[..n]) {
                        *column = self.between(o, self.input.w, width);
                    }
                }
                outputs.add_up(simd, first, n, &mut sums.0);
                let sums = &sums.0[..n];
                match self.mode {
                    UpsampleMode::Nearest => along.copies(&columns[..n], sums),
                    UpsampleMode::Bilinear { .. } => along.mixes(&columns[..n], sums),
                }
            }
            along.finish();
        });
    }
}

/// The rows of outputs that one row of the input went into.
struct RowOutputs<'a> {
    of: &'a RowsBackward<'a>,
    /// The plane of the outputs.
    gy: &'a [f32],
    row: usize,
    /// The first that came from this row, if any did.
    first: usize,
}

impl RowOutputs<'_> {
    /// The sums of `n` of their columns from `column` on, each row by its weight. One row after the other, as they lie in
    /// memory: side by side they take three times as long to come. `sums` goes on for MAX_LANES.
    #[inline(always)]
    fn add_up<S: Simd>(&self, simd: S, column: usize, n: usize, sums: &mut [f32]) {
        let sums = &mut sums[..n + MAX_LANES];
        sums[..n].fill(0.0);
        for o in self.first..self.of.output.h {
            let Between { left, right, weight } = self.of.between_rows(o);
            if left > self.row {
                break;
            }
            let share = simd.splat(match (left == self.row, right == self.row) {
                (true, true) => 1.0,
                (true, false) => 1.0 - weight,
                (false, _) => weight,
            });
            let row = &self.gy[o * self.of.output.w + column..][..n];
            for i in (0..n).step_by(S::LANES) {
                // SAFETY: i < n, of which `row` holds as many elements, and `sums` MAX_LANES more.
                unsafe {
                    let g = simd.load_up_to(row.as_ptr().add(i), n - i);
                    let sum = sums.as_mut_ptr().add(i);
                    simd.store(sum, simd.mul_add(g, share, simd.load(sum)));
                }
            }
        }
    }
}

/// Sums over rows, and room that the last vectors reach into.
struct Sums([f32; STRIP + 2 * MAX_LANES + 2]);

impl Sums {
    /// Each pixel was copied to two outputs, those of pixel 0 from position 1 on.
    #[inline(always)]
    fn halve_copies<S: Simd>(&self, simd: S, gx: &mut [f32], update: Update) {
        assert!(gx.len() <= STRIP / 2);
        for i in (0..gx.len()).step_by(S::LANES) {
            // SAFETY: 2 i < STRIP, and 2 * MAX_LANES + 2 elements follow those; of `gx` only its own are touched.
            unsafe {
                let p = self.0.as_ptr().add(2 * i + 1);
                let (even, odd) = simd.deinterleave(simd.load(p), simd.load(p.add(S::LANES)));
                update.store_up_to(simd, gx.as_mut_ptr().add(i), gx.len() - i, simd.add(even, odd));
            }
        }
    }

    /// Each pixel went into four outputs, from that at position 0 on: the middle ones lie a quarter of a pixel away, the
    /// others three quarters.
    #[inline(always)]
    fn halve_mixes<S: Simd>(&self, simd: S, gx: &mut [f32], update: Update) {
        assert!(gx.len() <= STRIP / 2);
        for i in (0..gx.len()).step_by(S::LANES) {
            // SAFETY: as above; the furthest read ends 2 * LANES + 2 after 2 i.
            unsafe {
                let p = self.0.as_ptr().add(2 * i);
                let (far_left, left) = simd.deinterleave(simd.load(p), simd.load(p.add(S::LANES)));
                let p = p.add(2);
                let (right, far_right) = simd.deinterleave(simd.load(p), simd.load(p.add(S::LANES)));
                let near = simd.mul(simd.add(left, right), simd.splat(0.75));
                let gradient = simd.mul_add(simd.add(far_left, far_right), simd.splat(0.25), near);
                update.store_up_to(simd, gx.as_mut_ptr().add(i), gx.len() - i, gradient);
            }
        }
    }
}

/// A row of `gx` that is written from left to right: a pixel when the outputs have passed it.
struct Along<'a> {
    gx: &'a mut [f32],
    update: Update,
    at: usize,
    /// What has come for the pixel at `at`, and for the next one.
    here: f32,
    next: f32,
}

impl Along<'_> {
    #[inline(always)]
    fn go_to(&mut self, pixel: usize) {
        while self.at < pixel {
            let gx = &mut self.gx[self.at];
            *gx = self.update.of(*gx, self.here);
            (self.at, self.here, self.next) = (self.at + 1, self.next, 0.0);
        }
    }

    #[inline(always)]
    fn copies(&mut self, columns: &[Between], sums: &[f32]) {
        for (column, sum) in columns.iter().zip(sums) {
            self.go_to(column.left);
            self.here += sum;
        }
    }

    #[inline(always)]
    fn mixes(&mut self, columns: &[Between], sums: &[f32]) {
        for (column, sum) in columns.iter().zip(sums) {
            self.go_to(column.left);
            self.here += (1.0 - column.weight) * sum;
            self.next += column.weight * sum;
        }
    }

    /// The rest of the row. The neighbour of the last pixel is that pixel itself.
    #[inline(always)]
    fn finish(mut self) {
        let last = self.gx.len() - 1;
        self.go_to(last);
        self.gx[last] = self.update.of(self.gx[last], self.here + self.next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::simd::Isa;
    use crate::tensor::Tensor;

    const MODES: [UpsampleMode; 3] = [
        UpsampleMode::Nearest,
        UpsampleMode::Bilinear { align_corners: false },
        UpsampleMode::Bilinear { align_corners: true },
    ];

    /// By the definition, in f64: what goes from output to input along one dimension.
    fn shares(mode: UpsampleMode, o: usize, input: usize, output: usize) -> [(usize, f64); 2] {
        match mode {
            UpsampleMode::Nearest => [(nearest(o, input, output), 1.0), (0, 0.0)],
            UpsampleMode::Bilinear { align_corners } => {
                let Between { left, right, weight } = Between::new(o, input, output, align_corners);
                [(left, 1.0 - f64::from(weight)), (right, f64::from(weight))]
            }
        }
    }

    fn check(mode: UpsampleMode, input: Shape4, size: [usize; 2]) -> Result<()> {
        let output = Shape4 { h: size[0], w: size[1], ..input };
        let gy = Tensor::from_fn(output, |[n, c, h, w]| ((n * 5 + c * 3 + h * 7 + w * 2) % 11) as f32 - 5.0)?;
        let mut exact = vec![0.0; input.n * input.image_len()];
        for (i, &g) in gy.data().iter().enumerate() {
            let (plane, oy, ox) = (i / output.plane_len(), i / output.w % output.h, i % output.w);
            for (row, of_row) in shares(mode, oy, input.h, output.h) {
                for (column, of_column) in shares(mode, ox, input.w, output.w) {
                    exact[(plane * input.h + row) * input.w + column] += of_row * of_column * f64::from(g);
                }
            }
        }
        for isa in Isa::available() {
            let cpu = Cpu::with_isa(isa)?;
            let case = format!("{isa} {mode:?} {input} to {size:?}");
            let mut written = Tensor::from_fn(input, |_| f32::NAN)?;
            cpu.upsample_backward_into(mode, gy.view(), written.view_mut(), Update::Write)?;
            for (&g, &e) in written.data().iter().zip(&exact) {
                assert!((f64::from(g) - e).abs() <= 1e-4 * (1.0 + e.abs()), "{case}: {g} for {e}");
            }
            let mut sum = Tensor::from_fn(input, |_| 0.7)?;
            cpu.upsample_backward_into(mode, gy.view(), sum.view_mut(), Update::Accumulate)?;
            assert!(sum.data().iter().zip(written.data()).all(|(&s, &w)| s == 0.7 + w), "{case}");
        }
        Ok(())
    }

    #[test]
    fn larger_and_smaller() -> Result<()> {
        for mode in MODES {
            for (h, w) in [(1, 1), (2, 3), (7, 5), (20, 19)] {
                for size in
                    [[1, 1], [h, w], [2 * h, 2 * w], [3 * h, 4 * w], [h + 1, w + 5], [2, 7], [50, 2 * w]]
                {
                    check(mode, Shape4::new(2, 3, h, w), size)?;
                }
            }
        }
        Ok(())
    }

    #[test]
    fn rows_wider_than_strips_and_planes_larger_than_items() -> Result<()> {
        for mode in MODES {
            for (w, to) in
                [(STRIP + 5, 2 * STRIP + 10), (5, 3 * STRIP + 7), (3 * STRIP, 7), (STRIP, STRIP + 1)]
            {
                check(mode, Shape4::new(1, 1, 2, w), [3, to])?;
            }
            check(mode, Shape4::new(1, 2, 100, 101), [133, 202])?;
        }
        Ok(())
    }

    #[test]
    fn other_shapes_are_refused() -> Result<()> {
        let (gy, mut gx) = (Tensor::zeros(Shape4::new(1, 2, 4, 4))?, Tensor::zeros(Shape4::new(1, 3, 2, 2))?);
        let refused = Cpu::new()?.upsample_backward_into(
            UpsampleMode::Nearest,
            gy.view(),
            gx.view_mut(),
            Update::Write,
        );
        assert!(matches!(refused, Err(Error::Invalid { op: "upsample_backward", .. })), "{refused:?}");
        Ok(())
    }
}
