//! Convolution, pooling and activation kernels: f32, NCHW.

pub mod cpu;
mod error;
pub mod shape;
pub mod simd;
mod tensor;

pub use cpu::{
    BatchNorm, Conv2dAlgo, Conv2dPlan, ConvTranspose2dPlan, Cpu, Description, LinearPlan, RunningStats,
    Scratch,
};
pub use error::{Dims, Error, Expected, Got, Result};
pub use shape::*;
pub use simd::Isa;
pub use tensor::{Shape4, Tensor, TensorView, TensorViewMut};
