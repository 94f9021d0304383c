//! Batch normalisation in training, with running statistics, and its gradients: limited by memory, for each has to know all
//! of a channel before it can write any of it.

use tilewise_kernels::{
    Affine, BatchNormGradients, DeviceTensor, Moments, Result as Kernels, Shape4, Tensor, Tracked, Update,
};

use super::{
    CpuMeter, GpuMeter, Label, Measured, Meter, Options, Pass, Progress, Sample, Work, Workload, bytes,
    filled,
};
use crate::compare::Target;
use crate::error::Result;
use crate::reference;
use crate::report::Report;

/// A batch normalisation with its memory, on any device.
pub struct BatchNormCall<B: Measured> {
    device: B,
    pass: Pass,
    x: B::Tensor,
    gy: B::Tensor,
    /// `y` or `gx`.
    result: B::Tensor,
    /// Gamma and beta, the moments of the batch, the running statistics, the gradients of gamma and beta.
    vectors: Vectors<B::Tensor>,
}

/// Tensors of one value per channel.
struct Vectors<T> {
    affine: [T; 2],
    moments: [T; 2],
    running: [T; 2],
    gradients: [T; 2],
}

/// PyTorch's defaults.
const EPS: f32 = 1e-5;
const MOMENTUM: f32 = 0.1;

impl<B: Measured> BatchNormCall<B> {
    /// Allocates everything, and takes the moments.
    ///
    /// # Errors
    /// If there is no variance, or memory runs out.
    pub fn new(device: &B, shape: Shape4, pass: Pass) -> Kernels<Self> {
        let upload = |shape, seed| device.upload(&filled(shape, seed)?);
        let one = Shape4::new(1, shape.c, 1, 1);
        let pair = |seed| Ok::<_, tilewise_kernels::Error>([upload(one, seed)?, upload(one, seed + 1)?]);
        let vectors =
            Vectors { affine: pair(2)?, moments: pair(6)?, running: pair(8)?, gradients: pair(10)? };
        let (x, gy, result) = (upload(shape, 1)?, upload(shape, 5)?, device.empty(shape)?);
        let mut call = BatchNormCall { device: device.clone(), pass, x, gy, result, vectors };
        call.forward()?;
        Ok(call)
    }

    fn forward(&mut self) -> Kernels<()> {
        let Vectors { affine: [gamma, beta], moments: [mean, inv_std], running, .. } = &mut self.vectors;
        let [running_mean, running_var] = running;
        self.device.batch_norm_moments_into(
            self.x.view(),
            Affine { gamma: gamma.view(), beta: beta.view(), eps: EPS },
            Some(Tracked { mean: running_mean.view_mut(), var: running_var.view_mut(), momentum: MOMENTUM }),
            Moments { mean: mean.view_mut(), inv_std: inv_std.view_mut() },
            self.result.view_mut(),
        )
    }

    fn backward(&mut self) -> Kernels<()> {
        let Vectors { affine: [gamma, _], moments: [mean, inv_std], gradients, .. } = &mut self.vectors;
        let [ggamma, gbeta] = gradients;
        self.device.batch_norm_train_backward_into(
            self.x.view(),
            gamma.view(),
            Moments { mean: mean.view(), inv_std: inv_std.view() },
            self.gy.view(),
            BatchNormGradients {
                x: self.result.view_mut(),
                gamma: ggamma.view_mut(),
                beta: gbeta.view_mut(),
            },
            Update::Write,
        )
    }
}

impl<B: Measured> Workload for BatchNormCall<B> {
    fn call(&mut self) -> Kernels<()> {
        match self.pass {
            Pass::Forward => self.forward(),
            _ => self.backward(),
        }
    }

    /// The first and the last channel.
    fn sample(&self) -> Kernels<Option<Sample>> {
        let shape = self.x.shape();
        let channels = [0, shape.c - 1];
        let two = Shape4 { c: 2, ..shape };
        let of_both = |t: &B::Tensor| {
            let t: Tensor = self.device.download(t)?;
            Tensor::from_fn(Shape4 { c: 2, ..t.shape() }, |[n, c, h, w]| t.at(n, channels[c], h, w))
        };
        let [gamma, beta] = &self.vectors.affine;
        let (x, gy, gamma, beta) = (of_both(&self.x)?, of_both(&self.gy)?, of_both(gamma)?, of_both(beta)?);
        let answer = match self.pass {
            Pass::Forward => {
                let affine = [gamma.data(), beta.data()];
                reference::batch_norm_train(two, x.data(), affine, EPS, None).y
            }
            _ => {
                let gamma = gamma.data();
                reference::batch_norm_train_backward(two, x.data(), gamma, EPS, gy.data()).gx
            }
        };
        Ok(Some((Target::rounded(answer), of_both(&self.result)?.into_vec())))
    }

    fn work(&self) -> Work {
        let tensors = if self.pass == Pass::Forward { 2.0 } else { 3.0 };
        Work::Bytes(tensors * bytes(self.x.shape()))
    }
}

/// Where a normalisation comes from, its name and its input.
pub type NormLayer = (&'static str, &'static str, Shape4);

/// From channels that fit a core's own cache to those that fit none.
pub const NORMS: [NormLayer; 4] = [
    ("ResNet-50", "res3_b8", Shape4::new(8, 128, 28, 28)),
    ("ResNet-50", "res2_b32", Shape4::new(32, 256, 56, 56)),
    ("U-Net", "unet_enc1", Shape4::new(1, 64, 256, 256)),
    ("U-Net", "unet_enc1_b8", Shape4::new(8, 64, 256, 256)),
];

/// Measures batch normalisations of networks in training, or their gradients.
///
/// # Errors
/// If memory or the instruction set is missing.
pub fn batch_norm(pass: Pass, options: &Options, progress: Progress<'_>) -> Result<Report> {
    match &options.gpu {
        None => measure(CpuMeter::new(options)?, pass, progress),
        Some(gpu) => measure(GpuMeter::new(gpu.clone(), options), pass, progress),
    }
}

fn measure(mut meter: impl Meter, pass: Pass, progress: Progress<'_>) -> Result<Report> {
    let rows = meter.rows(
        progress,
        &NORMS,
        |layer| layer.1.to_owned(),
        |meter, &(group, name, shape)| {
            let label = Label {
                group: group.to_owned(),
                name: name.to_owned(),
                shape: format!("{} x {},{}x{}", shape.n, shape.c, shape.h, shape.w),
                algo: "batch_norm".to_owned(),
                pass,
            };
            let call = BatchNormCall::new(&meter.device(), shape, pass)?;
            meter.measure(label, call)
        },
    )?;
    let title = match pass {
        Pass::Forward => "Batch normalisation in training",
        _ => "Gradients of batch normalisation in training",
    };
    let mut report = Report::new(title, rows);
    report.notes.push(super::CACHE_NOTE.into());
    report.notes.push(
        "What is read twice counts once, too: a channel that fits no cache comes from memory for its moments (or sums), and again."
            .into(),
    );
    Ok(report)
}
