//! What the tests of the operators share: devices that do things differently, and tensors with gaps.

use std::sync::OnceLock;

use super::buffer::{GpuTensor, GpuView, GpuViewMut};
use super::{Gpu, GpuOptions};
use crate::error::{Error, Result};
use crate::shape::Update;
use crate::tensor::{Shape4, Tensor};

/// The default, one that must cut, one that must cut planes, one that must fold, and one that checks. None, said aloud, where
/// there is no GPU, unless the environment asks for one.
pub(super) fn devices() -> &'static [Gpu] {
    static DEVICES: OnceLock<Vec<Gpu>> = OnceLock::new();
    DEVICES.get_or_init(|| {
        let options = GpuOptions::default;
        let all = [
            options(),
            options().max_binding(4096),
            options().max_binding(2560),
            options().max_workgroups(40),
            options().checked(true),
        ];
        match all.into_iter().map(GpuOptions::open).collect() {
            Err(Error::NoAdapter) if std::env::var_os("TILEWISE_REQUIRE_GPU").is_none() => {
                eprintln!("SKIPPED, as there is no GPU: the tests of its operators");
                Vec::new()
            }
            gpus => gpus.unwrap(),
        }
    })
}

/// Numbers that look random, in -1..1.
pub(super) fn noise(shape: Shape4, seed: u32) -> Tensor {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    Tensor::from_fn(shape, |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as i32 as f32 / 2f32.powi(31)
    })
    .unwrap()
}

/// A tensor among NaN: `skip` of them in front, and after each image.
pub(super) struct Gapped {
    tensor: GpuTensor,
    shape: Shape4,
    skip: usize,
}

impl Gapped {
    pub fn new(gpu: &Gpu, x: &Tensor, skip: usize) -> Self {
        let mut gapped = Self::blank(gpu, x.shape(), skip);
        let (image, stride) = (gapped.shape.image_len(), gapped.stride());
        let mut data = vec![f32::NAN; gapped.tensor.shape().w];
        for n in 0..if image == 0 { 0 } else { x.shape().n } {
            data[skip + n * stride..][..image].copy_from_slice(x.view().image(n));
        }
        gapped.tensor = GpuTensor::uploaded(gpu, "x", gapped.tensor.shape(), &data).unwrap();
        gapped
    }

    /// NaN all over.
    pub fn blank(gpu: &Gpu, shape: Shape4, skip: usize) -> Self {
        let len = skip + shape.n * (shape.image_len() + skip);
        let row = Shape4::new(1, 1, 1, len);
        Gapped { tensor: GpuTensor::uploaded(gpu, "y", row, &vec![f32::NAN; len]).unwrap(), shape, skip }
    }

    fn stride(&self) -> usize {
        self.shape.image_len() + self.skip
    }

    pub fn view(&self) -> GpuView<'_> {
        self.tensor.strided(self.skip, self.shape, self.stride()).unwrap()
    }

    pub fn view_mut(&mut self) -> GpuViewMut<'_> {
        let stride = self.stride();
        self.tensor.strided_mut(self.skip, self.shape, stride).unwrap()
    }

    /// The images, if everything between them is still NaN.
    pub fn download(&self, gpu: &Gpu) -> Tensor {
        let all = gpu.download_view(self.tensor.view()).unwrap();
        let (image, stride) = (self.shape.image_len(), self.stride());
        let inside = |i: usize| i >= self.skip && (i - self.skip) % stride.max(1) < image;
        let (kept, gaps): (Vec<_>, Vec<_>) = all.data().iter().enumerate().partition(|(i, _)| inside(*i));
        assert!(gaps.iter().all(|(_, v)| v.is_nan()), "a gap was written");
        Tensor::from_vec(self.shape, kept.into_iter().map(|(_, v)| *v).collect()).unwrap()
    }
}

/// What `write` writes on every device, with gaps and without.
pub(super) fn on_all(
    x: &Tensor,
    output: Shape4,
    write: impl Fn(&Gpu, GpuView<'_>, GpuViewMut<'_>) -> Result<()>,
) -> Vec<Tensor> {
    let mut all = Vec::new();
    for gpu in devices() {
        for skip in [0, 5] {
            let (x, mut y) = (Gapped::new(gpu, x, skip), Gapped::blank(gpu, output, skip));
            write(gpu, x.view(), y.view_mut()).unwrap();
            all.push(y.download(gpu));
        }
    }
    all
}

/// The gradient that `write` gives for these inputs on every device, with gaps and without: every time, and added once to
/// what is there.
pub(super) fn gradients_on_all<const N: usize>(
    inputs: [&Tensor; N],
    shape: Shape4,
    write: impl Fn(&Gpu, [GpuView<'_>; N], GpuViewMut<'_>, Update) -> Result<()>,
) -> Vec<Tensor> {
    let before = noise(shape, 99);
    let mut all = Vec::new();
    for gpu in devices() {
        for skip in [0, 5] {
            let inputs = inputs.map(|x| Gapped::new(gpu, x, skip));
            let run = |mut gx: Gapped, update| {
                write(gpu, inputs.each_ref().map(Gapped::view), gx.view_mut(), update).unwrap();
                gx.download(gpu)
            };
            let written = run(Gapped::blank(gpu, shape, skip), Update::Write);
            assert!(same(&run(Gapped::blank(gpu, shape, skip), Update::Write), written.data()));
            let sum: Vec<f32> = before.data().iter().zip(written.data()).map(|(b, g)| b + g).collect();
            assert!(same(&run(Gapped::new(gpu, &before, skip), Update::Accumulate), &sum));
            all.push(written);
        }
    }
    all
}

/// Whether the elements have these bits, or are NaN where these are.
pub(super) fn same(a: &Tensor, bits: &[f32]) -> bool {
    let pairs = a.data().iter().zip(bits);
    a.data().len() == bits.len()
        && pairs.into_iter().all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan())
}

/// Whether the two differ by no more than `tolerance` times `1 + |b|`, and in no NaN or infinity.
pub(super) fn close(a: &Tensor, b: &Tensor, tolerance: f32) -> bool {
    let near =
        |a: f32, b: f32| a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= tolerance * (1.0 + b.abs());
    a.shape() == b.shape() && a.data().iter().zip(b.data()).all(|(&a, &b)| near(a, b))
}
