//! Losses, reduced to the mean, and their gradients: cross-entropy over channels, binary cross-entropy with logits, mean
//! squared and mean absolute error, Dice.
//!
//! Workgroups add up pixels or strips of elements, one more their sums (`loss_mean.wgsl`), all in a fixed order. What the
//! host knows, labels and weights, is uploaded.

mod bce;
mod cross_entropy;
mod dice;
mod pairs;

use super::Gpu;
use super::buffer::{GpuView, words};
use super::recorder::{Dispatch, Slice};
use super::reduce::{LANES, lanes};
use super::wgsl::{Kernel, Shader, shader};
use crate::error::Result;
use crate::shape::Update;

const MEAN: Shader = shader!("loss_mean", 1, 1, "index", "reduce", "math");

fn mean(lanes: u32) -> Kernel {
    Kernel::new(MEAN, [("LANES", lanes)])
}

/// The constant ACCUMULATE of gradients.
fn accumulate(update: Update) -> u32 {
    (update == Update::Accumulate).into()
}

const UPDATES: [Update; 2] = [Update::Write, Update::Accumulate];

/// Every kernel of the losses.
pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    let means = LANES.into_iter().map(mean);
    means.chain(pairs::kernels()).chain(bce::kernels()).chain(cross_entropy::kernels()).chain(dice::kernels())
}

impl Gpu {
    /// The sum of the first `parts` of `sums`, over the divisor, which is NaN for nothing.
    fn mean(
        &self,
        op: &'static str,
        sums: Slice<'_>,
        parts: usize,
        divisor: f32,
        y: GpuView<'_>,
    ) -> Result<()> {
        let to = y.per_channel(self);
        self.mean_to(op, sums, parts, divisor, to)
    }

    fn mean_to(
        &self,
        op: &'static str,
        sums: Slice<'_>,
        parts: usize,
        divisor: f32,
        to: Slice<'_>,
    ) -> Result<()> {
        let [parts_word, y_first] = words(op, [parts, to.first])?;
        self.dispatch(&Dispatch {
            op,
            kernel: mean(lanes(parts)),
            params: &[parts_word, divisor.to_bits(), y_first],
            reads: &[sums],
            writes: &[to],
            workgroups: 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cpu;
    use crate::backend::SCALAR;
    use crate::gpu::testing::{Gapped, devices, noise, on_all};
    use crate::shape::CrossEntropy;
    use crate::tensor::{Shape4, Tensor};

    const PLAIN: CrossEntropy<'_> =
        CrossEntropy { class_weights: None, label_smoothing: 0.0, ignore_index: None };
    const INF: f32 = f32::INFINITY;
    const NAN: f32 = f32::NAN;

    fn near(a: f32, b: f32) -> bool {
        a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 6e-7 * b.abs()
    }

    fn scaled(shape: Shape4, seed: u32, factor: f32) -> Tensor {
        let mut x = noise(shape, seed);
        x.data_mut().iter_mut().for_each(|v| *v *= factor);
        x
    }

    #[test]
    fn losses_are_those_of_the_cpu() -> Result<()> {
        let cpu = Cpu::new()?;
        for shape in [
            [2, 3, 4, 5],
            [1, 1, 1, 1],
            [9, 100, 1, 1],
            [3, 70, 1, 2],
            [2, 5, 19, 9],
            [40, 1, 30, 31],
            [0, 2, 3, 3],
        ] {
            let shape = Shape4::from(shape);
            let (x, target) = (scaled(shape, 1, 8.0), noise(shape, 2));
            let labels: Vec<usize> = (0..shape.n * shape.h * shape.w).map(|i| i * 7 % shape.c).collect();
            let (cross, bce, mse) = (
                cpu.cross_entropy(&x, &labels, PLAIN)?,
                cpu.bce_with_logits(&x, &target, None)?,
                cpu.mse(&x, &target)?,
            );
            for y in on_all(&x, SCALAR, |gpu, x, y| gpu.cross_entropy_into(x, &labels, PLAIN, y)) {
                // One class alone leaves rounding errors.
                assert!(
                    near(y.data()[0], cross) || (y.data()[0] - cross).abs() < 3e-7,
                    "{shape} {y:?} {cross}"
                );
            }
            for y in on_all(&x, SCALAR, |gpu, x, y| {
                gpu.bce_with_logits_into(x, Gapped::new(gpu, &target, 7).view(), None, y)
            }) {
                assert!(near(y.data()[0], bce), "{shape} {y:?} {bce}");
            }
            for y in on_all(&x, SCALAR, |gpu, x, y| gpu.mse_into(x, Gapped::new(gpu, &target, 7).view(), y)) {
                assert!(near(y.data()[0], mse), "{shape} {y:?} {mse}");
            }
        }
        Ok(())
    }

    #[test]
    fn limits_are_those_of_pytorch() -> Result<()> {
        let gpu = &devices()[0];
        let tensor = |v: &[f32]| Tensor::from_vec(Shape4::new(1, v.len(), 1, 1), v.to_vec());
        for (x, label, expected) in [
            ([-INF, 1.0], 0, INF),
            ([INF, 1.0], 0, NAN),
            ([NAN, 1.0], 0, NAN),
            ([-INF, -INF], 0, NAN),
            ([1.0, -INF], 0, 0.0),
            ([1e4, -1e4], 1, 2e4),
        ] {
            // Alone, and among classes enough for a workgroup.
            for more in [0, 100] {
                let logits = [&x[..], &vec![-INF; more]].concat();
                let (x, mut y) = (Gapped::new(gpu, &tensor(&logits)?, 0), Gapped::blank(gpu, SCALAR, 0));
                gpu.cross_entropy_into(x.view(), &[label], PLAIN, y.view_mut())?;
                assert!(near(y.download(gpu).data()[0], expected), "{logits:?}");
            }
        }
        for (x, target, expected) in [
            (INF, 1.0, NAN),
            (INF, 0.0, INF),
            (-INF, 0.0, NAN),
            (-INF, 1.0, NAN),
            (NAN, 1.0, NAN),
            (1.0, NAN, NAN),
            (200.0, 0.0, 200.0),
            (40.0, 1.0, 4.248_354e-18),
            (-5.0, 0.01, 0.056_715_35),
        ] {
            let [x, target] = [x, target].map(|v| Gapped::new(gpu, &tensor(&[v]).unwrap(), 0));
            let mut y = Gapped::blank(gpu, SCALAR, 0);
            gpu.bce_with_logits_into(x.view(), target.view(), None, y.view_mut())?;
            let got = y.download(gpu).data()[0];
            assert!(near(got, expected), "{got} {expected}");
        }
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_refused() -> Result<()> {
        let gpu = &devices()[0];
        let x = Gapped::new(gpu, &noise(Shape4::new(2, 3, 1, 1), 1), 0);
        let mut y = Gapped::blank(gpu, SCALAR, 0);
        assert!(gpu.cross_entropy_into(x.view(), &[0, 3], PLAIN, y.view_mut()).is_err());
        assert!(gpu.cross_entropy_into(x.view(), &[0], PLAIN, y.view_mut()).is_err());
        assert!(gpu.mse_into(x.view(), y.view(), Gapped::blank(gpu, SCALAR, 0).view_mut()).is_err());
        let mut large = Gapped::blank(gpu, Shape4::new(1, 1, 1, 2), 0);
        assert!(gpu.mse_into(x.view(), x.view(), large.view_mut()).is_err());
        Ok(())
    }
}
