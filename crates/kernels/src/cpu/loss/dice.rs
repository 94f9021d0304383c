//! The Dice loss of logits (F. Milletari, N. Navab and S.-A. Ahmadi, "V-Net", 2016, with plain sums): for each plane
//! `1 - (2 sum(p t) + smooth) / (sum p + sum t + smooth)` with `p = sigmoid(x)`, then the mean over planes.
//!
//! Planes are shared out where they are many, the elements of each where they are few and large.

use super::write_scalar;
use crate::cpu::sum::{Summands, Sums};
use crate::cpu::threads::{self, SharedOut};
use crate::cpu::{Cpu, expect_shape};
use crate::error::Result;
use crate::shape::Update;
use crate::shape::loss::check_smooth;
use crate::simd::{Simd, SimdOp, math};
use crate::tensor::{Tensor, TensorView, TensorViewMut};

const OP: &str = "dice";

/// Elements from which on a plane is shared out by itself.
const LARGE: usize = 4 * threads::CHUNK;

/// So many planes are enough to be shared out.
const MANY: usize = 64;

impl Cpu {
    /// The mean over images and channels of `1 - (2 sum(p t) + smooth) / (sum p + sum t + smooth)` with `p = sigmoid(x)`
    /// and targets `t` (in 0..=1): 0 where they agree, 1 where they have nothing in common.
    ///
    /// ```
    /// use tilewise_kernels::{Cpu, Shape4, Tensor};
    /// let shape = Shape4::new(1, 1, 1, 4);
    /// // One pixel of two was found, and one more: 1 - 2 * 1 / (2 + 2).
    /// let x = Tensor::from_vec(shape, vec![99.0, 99.0, -99.0, -99.0])?;
    /// let target = Tensor::from_vec(shape, vec![0.0, 1.0, 1.0, 0.0])?;
    /// assert_eq!(Cpu::new()?.dice(&x, &target, 0.0)?, 0.5);
    /// # Ok::<(), tilewise_kernels::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if the shapes differ, or `smooth` is negative or not finite.
    pub fn dice(&self, x: &Tensor, target: &Tensor, smooth: f32) -> Result<f32> {
        self.dice_of(x.view(), target.view(), smooth)
    }

    /// [`Cpu::dice`] into the single element of `y`. Allocates nothing.
    ///
    /// # Errors
    /// As there, or for another shape of `y`.
    pub fn dice_into(
        &self,
        x: TensorView<'_>,
        target: TensorView<'_>,
        smooth: f32,
        y: TensorViewMut<'_>,
    ) -> Result<()> {
        write_scalar(OP, y, || self.dice_of(x, target, smooth))
    }

    fn dice_of(&self, x: TensorView<'_>, target: TensorView<'_>, smooth: f32) -> Result<f32> {
        check_smooth(OP, smooth)?;
        expect_shape(OP, "target shape", x.shape(), target.shape())?;
        let (planes, plane, work) = extents(x);
        let loss = |sums: [f64; 3]| 1.0 - Overlap::new(sums, smooth).ratio();
        let total = if work == 0 {
            // All planes are alike, if there are any.
            planes as f64 * loss([0.0; 3])
        } else if shares_planes(planes, plane) {
            let [total] = threads::sum_of_items(threads::strands(self, work), planes, |i| {
                [loss(self.isa.run(Sums(Overlaps::of_plane(x, target, i))))]
            });
            total
        } else {
            (0..planes).map(|i| loss(self.overlaps(x, target, i))).sum()
        };
        Ok((total / planes as f64) as f32)
    }

    /// The sums over a large plane.
    fn overlaps(&self, x: TensorView<'_>, target: TensorView<'_>, plane: usize) -> [f64; 3] {
        let Overlaps { x, t } = Overlaps::of_plane(x, target, plane);
        let chunks = x.len().div_ceil(threads::CHUNK);
        threads::sum_of_items(threads::strands(self, x.len()), chunks, |i| {
            let range = i * threads::CHUNK..x.len().min((i + 1) * threads::CHUNK);
            self.isa.run(Sums(Overlaps { x: &x[range.clone()], t: &t[range] }))
        })
    }

    /// The gradient of [`Cpu::dice`] at `x`, times `gy`. Allocates nothing.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] as there, or for another shape of `gx`.
    pub fn dice_backward_into(
        &self,
        x: TensorView<'_>,
        target: TensorView<'_>,
        smooth: f32,
        gy: f32,
        mut gx: TensorViewMut<'_>,
        update: Update,
    ) -> Result<()> {
        check_smooth(OP, smooth)?;
        expect_shape(OP, "target shape", x.shape(), target.shape())?;
        expect_shape(OP, "gradient shape", x.shape(), gx.shape())?;
        let (planes, plane, work) = extents(x);
        if work == 0 {
            return Ok(());
        }
        let share = f64::from(gy) / planes as f64;
        if !shares_planes(planes, plane) {
            let c = x.shape().c;
            return (0..planes).try_for_each(|i| {
                let [a, b] = Overlap::new(self.overlaps(x, target, i), smooth).slopes(share);
                let Overlaps { x, t } = Overlaps::of_plane(x, target, i);
                let gx = gx.reborrow().into_image(i / c);
                let gx = &mut gx[i % c * plane..][..plane];
                let line = crate::tensor::Shape4::new(1, 1, 1, plane);
                let gx = TensorViewMut::new(gx, line, plane)?;
                threads::for_each_chunk(self, gx, threads::CHUNK, |_, start, gx| {
                    let range = start..start + gx.len();
                    self.isa.run(Slopes { x: &x[range.clone()], t: &t[range], a, b, gx, update });
                });
                Ok(())
            });
        }
        let (c, batch_stride, out) = (x.shape().c, gx.batch_stride(), SharedOut::new(gx.as_mut_ptr()));
        threads::for_each_item(threads::strands(self, work), planes, |_, i| {
            let overlaps = Overlaps::of_plane(x, target, i);
            let (x, t) = (overlaps.x, overlaps.t);
            let [a, b] = Overlap::new(self.isa.run(Sums(overlaps)), smooth).slopes(share);
            // SAFETY: the view holds plane i % c of image i / c at this offset (it has the shape of `x`), and no other item
            // writes it.
            let gx = unsafe {
                std::slice::from_raw_parts_mut(out.get().add(i / c * batch_stride + i % c * plane), plane)
            };
            self.isa.run(Slopes { x, t, a, b, gx, update });
        });
        Ok(())
    }
}

/// The number of planes, the elements of each, and of all.
fn extents(x: TensorView<'_>) -> (usize, usize, usize) {
    let shape = x.shape();
    // Of no elements there may be more planes than could be counted.
    (shape.n.saturating_mul(shape.c), shape.plane_len(), shape.n * shape.image_len())
}

fn shares_planes(planes: usize, plane: usize) -> bool {
    planes >= MANY || plane < LARGE
}

/// The sums over a plane, `smooth` added.
struct Overlap {
    /// `2 sum(p t) + smooth`
    both: f64,
    /// `sum p + sum t + smooth`
    either: f64,
}

impl Overlap {
    fn new([products, p, t]: [f64; 3], smooth: f32) -> Self {
        let smooth = f64::from(smooth);
        Overlap { both: 2.0 * products + smooth, either: p + t + smooth }
    }

    fn ratio(&self) -> f64 {
        self.both / self.either
    }

    /// `a` and `b`, with which the gradient to `p` is `b - a t`.
    fn slopes(&self, share: f64) -> [f32; 2] {
        [share * 2.0 / self.either, share * self.ratio() / self.either].map(|v| v as f32)
    }
}

/// The terms of `sum(p t)`, `sum p` and `sum t`, for slices of one length.
#[derive(Clone, Copy)]
struct Overlaps<'a> {
    x: &'a [f32],
    t: &'a [f32],
}

impl<'a> Overlaps<'a> {
    /// Plane `i` among those of all images.
    fn of_plane(x: TensorView<'a>, target: TensorView<'a>, i: usize) -> Self {
        let (n, c) = (i / x.shape().c, i % x.shape().c);
        Overlaps { x: x.plane(n, c), t: target.plane(n, c) }
    }
}

impl Summands<3> for Overlaps<'_> {
    #[inline(always)]
    fn len(self) -> usize {
        self.x.len().min(self.t.len())
    }

    #[inline(always)]
    unsafe fn lanes<S: Simd>(self, simd: S, i: usize) -> [S::F32; 3] {
        // SAFETY: the caller keeps i + LANES within both slices.
        let (x, t) = unsafe { (simd.load(self.x.as_ptr().add(i)), simd.load(self.t.as_ptr().add(i))) };
        let p = math::sigmoid(simd, x);
        [simd.mul(p, t), p, t]
    }

    #[inline(always)]
    fn terms(self, i: usize) -> [f64; 3] {
        let (x, t) = (f64::from(self.x[i]), f64::from(self.t[i]));
        let p = 1.0 / (1.0 + (-x).exp());
        [p * t, p, t]
    }
}

/// `p (1 - p) (b - a t)`, for slices of one length.
struct Slopes<'a> {
    x: &'a [f32],
    t: &'a [f32],
    a: f32,
    b: f32,
    gx: &'a mut [f32],
    update: Update,
}

impl SimdOp for Slopes<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (a, b) = (simd.splat(-self.a), simd.splat(self.b));
        let parts = self.x.chunks(S::LANES).zip(self.t.chunks(S::LANES));
        for ((x, t), gx) in parts.zip(self.gx.chunks_mut(S::LANES)) {
            // SAFETY: the three chunks hold gx.len() elements.
            unsafe {
                let n = gx.len();
                let (x, t) = (simd.load_up_to(x.as_ptr(), n), simd.load_up_to(t.as_ptr(), n));
                let value = simd.mul(math::sigmoid_slope(simd, x), simd.mul_add(a, t, b));
                self.update.store_up_to(simd, gx.as_mut_ptr(), n, value);
            }
        }
    }
}
