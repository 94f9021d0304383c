//! The operators of convolutional networks, on the CPU and (feature `gpu`) on any GPU: f32, NCHW, PyTorch's semantics.
//!
//! # Two levels
//!
//! [`Cpu`] is the device, and every operator is one of its methods: tensors in, a new tensor out.
//!
//! ```
//! use tilewise_kernels::{Conv2dParams, Cpu, Shape4, Tensor};
//!
//! let cpu = Cpu::new()?;
//! let x = Tensor::from_fn(Shape4::new(1, 3, 32, 32), |[_, c, h, w]| (c * h) as f32 - w as f32)?;
//! let weights = Tensor::from_fn(Shape4::new(8, 3, 3, 3), |[o, c, h, w]| (o + c + h + w) as f32 / 100.0)?;
//! let y = cpu.relu(&cpu.conv2d(&x, &weights, None, Conv2dParams::default().padding(1).stride(2))?)?;
//! assert_eq!(y.shape(), Shape4::new(1, 8, 16, 16));
//! # Ok::<(), tilewise_kernels::Error>(())
//! ```
//!
//! Where the same operator runs many times, nothing need be allocated or decided twice. Operators with weights are
//! *planned*: [`Conv2dPlan`], [`ConvTranspose2dPlan`] and [`LinearPlan`] choose the algorithm, pack the weights and size
//! the scratch once; bias and activation are fused into the only store. The others have an `_into` method beside the
//! easy one (but for the losses, whose result is one number). Both take views, so that an output can be a range of
//! channels of a larger tensor, and a concatenation costs no copy:
//!
//! ```
//! use tilewise_kernels::{Activation, Conv2dParams, Conv2dPlan, Conv2dShape, Cpu, Shape4, Tensor};
//!
//! let cpu = Cpu::new()?;
//! let x = Tensor::from_fn(Shape4::new(2, 3, 32, 32), |[n, c, h, w]| (n + c * h) as f32 - w as f32)?;
//! let shape = Conv2dShape::new(x.shape(), 8, [3, 3], Conv2dParams::default().padding(1))?;
//! let plan = Conv2dPlan::new(&cpu, shape, &[0.01; 8 * 3 * 3 * 3], Some(&[0.5; 8]), Activation::Relu, None)?;
//! let mut scratch = plan.scratch()?;
//!
//! // Channels 0..8 are the convolution's, 8..11 a rectified copy of its input.
//! let mut both = Tensor::zeros(Shape4::new(2, 11, 32, 32))?;
//! plan.run(x.view(), both.view_mut().channels(0..8)?, &mut scratch)?;
//! cpu.relu_into(x.view(), both.view_mut().channels(8..11)?)?;
//! println!("{}", plan.describe()); // the algorithm, the instruction set, the tile, and why
//! # Ok::<(), tilewise_kernels::Error>(())
//! ```
//!
//! # Errors
//!
//! Parameters travel in one struct, and become a validated shape ([`Conv2dShape`], [`PoolShape`], ...) before anything
//! is computed or allocated. What does not fit is an [`Error`] that names operator, argument, what was expected and
//! what came; bad input never panics.
//!
//! ```
//! use tilewise_kernels::{Conv2dParams, Conv2dShape, Shape4};
//!
//! let too_small = Conv2dShape::new(Shape4::new(1, 3, 4, 4), 8, [7, 7], Conv2dParams::default());
//! let message = too_small.unwrap_err().to_string();
//! assert_eq!(message, "conv2d: padded input height: expected at least 7, got 4");
//! ```
//!
//! # Instruction sets
//!
//! The fastest [`Isa`] of the machine is found at run time: build with default flags. The environment variable
//! `TILEWISE_ISA` (`portable`, `avx2`, `avx512`) forces one for the process, [`Cpu::with_isa`] for one device. Results of
//! two instruction sets differ in rounding only.
//!
//! # Threads
//!
//! Work runs in the rayon pool that the caller is in, else in the global one, on at most [`Cpu::threads`] threads. Their
//! number never changes a result, bit for bit: it decides who computes a part, never the order of a sum.
//!
//! # GPU
//!
//! [`Backend`] is one vocabulary for both devices: what is written over it runs on [`Cpu`] and on `Gpu`, the same operators with
//! the same shapes and errors. Operators of a GPU are queued, and run in one submission when a result is downloaded.
//!
//! # Training
//!
//! [`Training`] has the gradients of every operator, on both devices, new weights for plans, and the steps of the optimisers
//! ([`Sgd`], [`Adam`]). A gradient is written, or added to what is there ([`Update`]).
//!
//! ```
//! use tilewise_kernels::{Activation, Cpu, Shape4, Tensor, Training};
//!
//! let cpu = Cpu::new()?;
//! let x = Tensor::from_vec(Shape4::new(1, 1, 1, 3), vec![-1.0, 2.0, 3.0])?;
//! let gy = Tensor::from_vec(x.shape(), vec![10.0, 20.0, 30.0])?;
//! assert_eq!(cpu.activation_backward(&x, Activation::Relu, &gy)?.data(), [0.0, 20.0, 30.0]);
//! # Ok::<(), tilewise_kernels::Error>(())
//! ```
//!
//! # Where things live
//!
//! | module | what is there |
//! |---|---|
//! | [`shape`] | parameters and validated shapes; [`shape::window`] has the formulas for the size of a feature map |
//! | [`cpu`] | one file per operator, as methods of [`Cpu`]; `conv2d/` has a file per algorithm and the table that chooses |
//! | [`cpu::gemm`] | the matrix product under convolution, transposed convolution and linear |
//! | `gpu`, `shaders/` | the same operators on a GPU: a file and a WGSL shader each; context, memory, pipelines, recorder |
//! | [`simd`] | one vocabulary for vectors and its backends, the only code that knows instruction sets |
//!
//! An operator has the same stem everywhere: softmax is `shape/softmax.rs` (what may be asked), `cpu/softmax.rs` (how it is
//! computed), `gpu/softmax.rs` with `shaders/softmax.wgsl` (the same on a GPU), and methods of [`Backend`]; its gradient lies
//! beside it, and is a method of [`Training`]. To add one, write
//! those files: a shape whose `new` checks everything, an `impl Cpu` with the easy method and the `_into` method, its inner
//! loop a [`simd::SimdOp`] written once for all instruction sets, an `impl Gpu` and its shader. The repository's
//! `docs/adding-an-operator.md` leads through the rest: the reference that judges it, its cases and its laws.

mod backend;
pub mod cpu;
mod error;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod shape;
pub mod simd;
mod tensor;
mod training;

pub use backend::{Affine, Backend, DeviceTensor, DeviceView, Tracked, View, ViewMut};
pub use cpu::{
    Argmax, BatchNorm, Conv2dBackwardInputPlan, Conv2dBackwardWeightsPlan, Conv2dPlan,
    ConvTranspose2dBackwardInputPlan, ConvTranspose2dBackwardWeightsPlan, ConvTranspose2dPlan, Cpu,
    Description, LinearBackwardInputPlan, LinearBackwardWeightsPlan, LinearPlan, RunningStats, Scratch,
};
pub use error::{Dims, Error, Expected, Got, Result};
#[cfg(feature = "gpu")]
pub use gpu::{Gpu, GpuArgmax, GpuOptions, GpuTensor, GpuView, GpuViewMut};
pub use shape::*;
pub use simd::Isa;
pub use tensor::{Shape4, Tensor, TensorView, TensorViewMut};
pub use training::{BatchNormGradients, Moments, Training};

/// The example of the README, compiled and run with those of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
