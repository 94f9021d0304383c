//! The GPU beyond what single operators compute: a network is one submission, checked shaders compute the same, and what
//! does not belong is refused.

use proptest::prelude::*;
use tilewise_bench::check::{self, CheckOptions, Devices};
use tilewise_bench::gpu;
use tilewise_kernels::{
    Activation, Affine, AvgPool2dParams, Axis, Backend, Conv2dParams, Conv2dShape, ConvTranspose2dParams,
    Cpu, CrossEntropy, DeviceTensor, Error, Gpu, GpuOptions, GpuTensor, LinearShape, MaxPool2dParams,
    Padding, PoolShape, Result, Shape4, Tensor, Training, UpsampleMode,
};

/// A GPU of its own, so that its counters are its own; `None`, said aloud, where there is none.
fn own(options: GpuOptions) -> Option<Gpu> {
    gpu::of_tests()?;
    Some(options.open().expect("there is one"))
}

const SHAPE: Shape4 = Shape4::new(2, 8, 12, 14);

/// What a network is made of besides its convolution.
struct Statistics<T> {
    gamma: T,
    beta: T,
    mean: T,
    var: T,
}

impl<T: DeviceTensor> Statistics<T> {
    fn new<B: Backend<Tensor = T>>(device: &B) -> Result<Self> {
        let vector = |f: fn(usize) -> f32| {
            device.upload(&Tensor::from_fn(Shape4::new(1, SHAPE.c, 1, 1), |[_, c, _, _]| f(c))?)
        };
        Ok(Statistics {
            gamma: vector(|c| 1.0 + c as f32 / 10.0)?,
            beta: vector(|c| c as f32 / 20.0)?,
            mean: vector(|c| c as f32 / 30.0)?,
            var: vector(|c| 1.0 + c as f32 / 7.0)?,
        })
    }
}

/// Ten blocks of ten operators, from `x` to its own shape.
fn network<B: Backend>(
    device: &B,
    plan: &mut B::Conv2d,
    statistics: &Statistics<B::Tensor>,
    x: &B::Tensor,
) -> Result<B::Tensor> {
    let one = Padding::symmetric(1, 1);
    let mut last = None;
    for _ in 0..10 {
        let x = last.as_ref().unwrap_or(x);
        let mut y = device.empty(SHAPE)?;
        device.conv2d_into(plan, x.view(), y.view_mut())?;
        let Statistics { gamma, beta, mean, var } = statistics;
        let y = device.batch_norm(&y, Affine { gamma, beta, eps: 1e-5 }, mean, var)?;
        let y = device.activation(&y, Activation::Gelu)?;
        let y = device.add(&y, x)?;
        let y = device.max_pool2d(&y, MaxPool2dParams::new(3).stride(1).padding(1))?;
        let y = device.crop(&device.pad(&y, one, 0.5)?, one)?;
        let y = device.upsample(
            &y,
            [2 * SHAPE.h, 2 * SHAPE.w],
            UpsampleMode::Bilinear { align_corners: false },
        )?;
        let y = device.avg_pool2d(&y, AvgPool2dParams::new(2))?;
        last = Some(device.softmax(&y, Axis::C)?);
    }
    Ok(last.expect("ten blocks"))
}

fn weights() -> Vec<f32> {
    (0..SHAPE.c * SHAPE.c * 9).map(|i| ((i * 7) % 13) as f32 / 13.0 - 0.5).collect()
}

fn input() -> Tensor {
    Tensor::from_fn(SHAPE, |[n, c, h, w]| ((n + 3 * c + 5 * h + 7 * w) % 11) as f32 / 11.0 - 0.4).unwrap()
}

fn planned<B: Backend>(device: &B) -> Result<(B::Conv2d, Statistics<B::Tensor>)> {
    let shape = Conv2dShape::new(SHAPE, SHAPE.c, [3, 3], Conv2dParams::default().padding(1))?;
    let plan = device.plan_conv2d(shape, &weights(), Some(&[0.1; SHAPE.c]), Activation::Relu, None)?;
    Ok((plan, Statistics::new(device)?))
}

/// `gpu` computes the network as the CPU does.
fn agrees_with_the_cpu(gpu: &Gpu) {
    fn run<B: Backend>(device: &B) -> Result<Tensor> {
        let (mut plan, statistics) = planned(device)?;
        device.download(&network(device, &mut plan, &statistics, &device.upload(&input())?)?)
    }
    let (want, got) = (run(&Cpu::new().unwrap()).unwrap(), run(gpu).unwrap());
    for (i, (want, got)) in want.data().iter().zip(got.data()).enumerate() {
        assert!((want - got).abs() <= 1e-5, "element {i}: {got}, and {want} on the CPU");
    }
}

#[test]
fn a_hundred_operators_are_one_submission() {
    let Some(gpu) = own(GpuOptions::default()) else { return };
    agrees_with_the_cpu(&gpu);
    let (mut plan, statistics) = planned(&gpu).unwrap();
    let x = gpu.upload(&input()).unwrap();
    gpu.finish().unwrap();
    let before = gpu.counted();
    let y = network(&gpu, &mut plan, &statistics, &x).unwrap();
    let queued = gpu.counted();
    assert_eq!(
        (queued.submissions, queued.passes, queued.read_backs),
        (before.submissions, before.passes, before.read_backs)
    );
    assert!(queued.dispatches - before.dispatches >= 100, "{queued:?} after {before:?}");
    gpu.download(&y).unwrap();
    let after = gpu.counted();
    assert_eq!(after.submissions - before.submissions, 1);
    assert_eq!(after.passes - before.passes, 1);
    assert_eq!(after.read_backs - before.read_backs, 1);
    assert_eq!(after.pipelines, before.pipelines, "it ran before: all kernels were there");
}

#[test]
fn threads_share_a_gpu() {
    let Some(gpu) = own(GpuOptions::default()) else { return };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| agrees_with_the_cpu(&gpu));
        }
    });
}

#[test]
fn checked_shaders_pass_the_quick_suite() {
    let Some(gpu) = own(GpuOptions::default().checked(true)) else { return };
    let options = CheckOptions { devices: Devices::Gpu(gpu), ..CheckOptions::default() };
    let report = check::run(&options, &|_, _, _| {});
    assert!(report.passed(), "{report}");
}

#[test]
fn tensors_of_another_gpu_are_refused() {
    let (Some(gpu), Some(other)) = (own(GpuOptions::default()), own(GpuOptions::default())) else { return };
    let foreign = other.upload(&input()).unwrap();
    let mine = gpu.upload(&input()).unwrap();
    let refused = |result: Result<()>| assert!(matches!(result, Err(Error::Invalid { .. })), "{result:?}");
    refused(gpu.relu(&foreign).map(drop));
    refused(gpu.add(&mine, &foreign).map(drop));
    refused(gpu.concat(&[&mine, &foreign]).map(drop));
    refused(gpu.download(&foreign).map(drop));
    // Nothing was queued that spoils what follows, on either.
    assert_eq!(gpu.download(&mine).unwrap(), other.download(&foreign).unwrap());
}

#[test]
fn an_unknown_adapter_is_an_error_that_names_it() {
    if gpu::of_tests().is_some() {
        let error = GpuOptions::default().adapter("no such card").open().unwrap_err();
        assert!(error.to_string().contains("no such card"), "{error}");
    }
}

/// Sizes as no caller should give them: small ones, or such that no memory holds a row.
fn garbage() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 0..5usize, 1 => prop::sample::select(vec![1 << 46, 1 << 62, usize::MAX])]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The GPU refuses what the CPU refuses, and never panics. (What memory could hold is not asked for.)
    #[test]
    fn garbage_never_panics(
        pair in prop::array::uniform2(garbage()), other in prop::array::uniform2(garbage()),
        sides in prop::array::uniform4(garbage()), groups in garbage(),
        shape in prop::array::uniform4(0..4usize), flags in any::<(bool, bool)>(),
    ) {
        let Some(gpu) = gpu::of_tests() else { return Ok(()) };
        let cpu = Cpu::new().unwrap();
        let on_cpu = Tensor::from_fn(shape.into(), |[n, c, h, w]| (n + c + h + w) as f32).unwrap();
        let x = gpu.upload(&on_cpu).unwrap();
        let weights = Tensor::zeros(Shape4::new(2, shape[1], 2, 2)).unwrap();
        let [top, bottom, left, right] = sides;
        let padding = Padding { top, bottom, left, right };
        let same = |gpu: Result<Shape4>, cpu: Result<Shape4>| {
            // A GPU counts in 32 bits, and binds a part of its memory at a time: what does not fit is refused, in words.
            // A plan of the CPU has scratch for a plane, even if there is none.
            let beyond = match (&gpu, &cpu) {
                (Err(Error::Overflow { .. }), cpu) => cpu.is_ok(),
                (Err(Error::Invalid { arg, .. }), cpu) => cpu.is_ok() && arg.ends_with("this GPU"),
                (Ok(y), Err(Error::OutOfMemory { .. })) => y.n == 0,
                _ => false,
            };
            prop_assert!(beyond || gpu.is_ok() == cpu.is_ok(), "{:?} on the GPU, {:?} on the CPU", gpu, cpu);
            Ok(())
        };
        let conv = Conv2dParams { stride: pair, padding, dilation: other, groups, ..Default::default() };
        same(
            gpu.conv2d(&x, &weights, None, conv).map(|y| y.shape()),
            cpu.conv2d(&on_cpu, &weights, None, conv).map(|y| y.shape()),
        )?;
        let transposed = ConvTranspose2dParams { stride: pair, padding, dilation: other, groups, ..Default::default() };
        same(
            gpu.conv_transpose2d(&x, &weights, None, transposed).map(|y| y.shape()),
            cpu.conv_transpose2d(&on_cpu, &weights, None, transposed).map(|y| y.shape()),
        )?;
        let avg = AvgPool2dParams {
            kernel: pair, stride: other, padding: [top, left], ceil_mode: flags.0, count_include_pad: flags.1,
        };
        let max = MaxPool2dParams { kernel: pair, stride: other, padding: [top, left], ceil_mode: flags.0 };
        same(gpu.avg_pool2d(&x, avg).map(|y| y.shape()), cpu.avg_pool2d(&on_cpu, avg).map(|y| y.shape()))?;
        same(gpu.max_pool2d(&x, max).map(|y| y.shape()), cpu.max_pool2d(&on_cpu, max).map(|y| y.shape()))?;
        same(gpu.crop(&x, padding).map(|y| y.shape()), cpu.crop(&on_cpu, padding).map(|y| y.shape()))?;
        same(gpu.pad(&x, padding, 1.0).map(|y| y.shape()), cpu.pad(&on_cpu, padding, 1.0).map(|y| y.shape()))?;
        let nearest = UpsampleMode::Nearest;
        same(
            gpu.upsample(&x, pair, nearest).map(|y| y.shape()),
            cpu.upsample(&on_cpu, pair, nearest).map(|y| y.shape()),
        )?;
        // Gradients to a tensor of that shape, from one of that shape.
        let input = Shape4::new(shape[0], shape[1], groups.min(4), shape[3]);
        let of = |y: Tensor| y.shape();
        let on_gpu = |y: Result<GpuTensor>| y.map(|y| y.shape());
        same(on_gpu(gpu.avg_pool2d_backward(input, avg, &x)), cpu.avg_pool2d_backward(input, avg, &on_cpu).map(of))?;
        same(on_gpu(gpu.global_avg_pool_backward(input, &x)), cpu.global_avg_pool_backward(input, &on_cpu).map(of))?;
        same(on_gpu(gpu.crop_backward(input, padding, &x)), cpu.crop_backward(input, padding, &on_cpu).map(of))?;
        same(on_gpu(gpu.pad_backward(input, padding, &x)), cpu.pad_backward(input, padding, &on_cpu).map(of))?;
        same(on_gpu(gpu.upsample_backward(input, nearest, &x)), cpu.upsample_backward(input, nearest, &on_cpu).map(of))?;
        for parts in [[Shape4 { c: groups, ..input }, input], [input, Shape4 { c: groups, ..input }]] {
            prop_assert_eq!(
                gpu.concat_backward(&parts, &x).is_ok(),
                cpu.concat_backward(&parts, &on_cpu).is_ok()
            );
        }
        if let Ok(pooling) = PoolShape::max(input, max) {
            let (on_cpu_too, on_gpu_too) = (cpu.empty_argmax(pooling), gpu.empty_argmax(pooling));
            if let (Ok(of_cpu), Ok(of_gpu)) = (on_cpu_too, on_gpu_too) {
                same(
                    on_gpu(gpu.max_pool2d_backward(input, &of_gpu, &x)),
                    cpu.max_pool2d_backward(input, &of_cpu, &on_cpu).map(of),
                )?;
            }
        }
        prop_assert_eq!(
            gpu.cross_entropy(&x, &other, CrossEntropy::default()).is_ok(),
            cpu.cross_entropy(&on_cpu, &other, CrossEntropy::default()).is_ok()
        );
        if let Ok(shape) = LinearShape::new(on_cpu.shape(), pair[0]) {
            prop_assert!(gpu.plan_linear(shape, &[0.0; 3], Some(&[0.0; 7]), Activation::Relu).is_err());
        }
        gpu.finish().unwrap();
    }
}
