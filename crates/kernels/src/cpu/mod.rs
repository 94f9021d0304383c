//! The CPU: one file per operator, all methods of [`Cpu`].
//!
//! Each operator comes twice: the easy call takes tensors and returns a new one; the `_into` call (or the plan, for
//! operators with weights) writes into memory of the caller and allocates nothing of its own (handing work to a pool
//! from outside of it, rayon may).

mod activation;
mod add;
mod backend;
mod batch_norm;
mod bias;
mod concat;
mod conv2d;
mod conv_transpose2d;
pub mod gemm;
mod linear;
mod loss;
mod optimiser;
mod pad;
mod plan;
mod pool;
mod scratch;
mod softmax;
mod sum;
mod threads;
mod training;
mod update;
mod upsample;
mod workspace;

pub use batch_norm::{BatchNorm, RunningStats};
pub use conv_transpose2d::{
    ConvTranspose2dBackwardInputPlan, ConvTranspose2dBackwardWeightsPlan, ConvTranspose2dPlan,
};
pub use conv2d::{Conv2dBackwardInputPlan, Conv2dBackwardWeightsPlan, Conv2dPlan};
pub use linear::{LinearBackwardInputPlan, LinearBackwardWeightsPlan, LinearPlan};
pub use plan::Description;
pub use pool::Argmax;
pub use scratch::Scratch;
pub use workspace::Planned;

pub(crate) use crate::backend::expect_shape;
use crate::error::Result;
use crate::simd::Isa;

/// The device: which instruction set, how many threads. Cheap to make and to copy.
///
/// Work runs in the caller's rayon pool (the global one outside of any). The number of threads never changes a
/// result, bit for bit.
///
/// ```
/// use tilewise_kernels::{Conv2dParams, Cpu, Shape4, Tensor};
/// let cpu = Cpu::new()?;
/// let x = Tensor::from_fn(Shape4::new(1, 1, 4, 4), |[_, _, h, w]| (4 * h + w) as f32)?;
/// let ones = Tensor::from_vec(Shape4::new(1, 1, 3, 3), vec![1.0; 9])?;
/// let y = cpu.conv2d(&x, &ones, None, Conv2dParams::default())?;
/// assert_eq!(y.data(), [45.0, 54.0, 81.0, 90.0]);
/// # Ok::<(), tilewise_kernels::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu {
    isa: Isa,
    threads: Option<usize>,
}

impl Cpu {
    /// The instruction set of [`Isa::selected`], all threads of the current rayon pool.
    ///
    /// # Errors
    /// If `TILEWISE_ISA` names what is not there.
    pub fn new() -> Result<Self> {
        Ok(Cpu { isa: Isa::selected()?, threads: None })
    }

    /// A chosen instruction set.
    ///
    /// # Errors
    /// [`crate::Error::IsaMissing`] if this machine lacks it.
    pub fn with_isa(isa: Isa) -> Result<Self> {
        Ok(Cpu { isa: isa.require()?, threads: None })
    }

    /// At most this many threads (at least one); 1 keeps all work on the calling thread.
    pub fn threads(self, threads: usize) -> Self {
        Cpu { threads: Some(threads.max(1)), ..self }
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// How many threads a call made here and now may use: never more than the pool has.
    pub fn thread_count(&self) -> usize {
        match self.threads {
            // Asks for no pool, so that one thread alone never wakes the global one.
            Some(1) => 1,
            Some(most) => most.min(threads::in_pool()),
            None => threads::in_pool(),
        }
    }
}
