//! The GPU, through `wgpu`: Vulkan, Metal or Direct3D 12, whatever the machine has.
//!
//! [`Gpu`] is the device; it computes what [`crate::Cpu`] does, as a [`crate::Backend`]. Operators only append to the commands
//! that wait (`recorder`): a whole network (of up to 4096 dispatches) is one pass of one submission, which runs when a result is
//! downloaded.
//!
//! An operator is a file here and a shader of the same stem. Here shapes are checked, tensors beyond what a dispatch can
//! reach are cut into `parts`, and sizes become the parameters of the shader.
//!
//! What WGSL does not promise: it lets a driver take NaN and infinities for impossible, and numbers below the normal range for
//! zero. Kernels therefore look for NaN in the bits of a number where its fate matters (maxima, activations), and write
//! their own exponentials; sums and products are left to the hardware, which lets them follow IEEE 754 in the driver tested so
//! far (lavapipe).

mod backend;
mod buffer;
mod context;
mod parts;
mod pipeline;
mod recorder;
mod wgsl;

mod activation;
mod add;
mod batch_norm;
mod bias;
mod concat;
mod conv2d;
mod conv_transpose2d;
mod correlation;
mod linear;
mod loss;
mod optimiser;
mod pad;
mod pointwise;
mod pool;
mod reduce;
mod softmax;
mod training;
mod update;
mod upsample;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use buffer::{GpuTensor, GpuView, GpuViewMut};
pub use context::{AdapterInfo, AdapterKind, GpuOptions, adapters};
pub use conv_transpose2d::{
    GpuConvTranspose2d, GpuConvTranspose2dBackwardInput, GpuConvTranspose2dBackwardWeights,
};
pub use conv2d::{GpuConv2d, GpuConv2dBackwardInput, GpuConv2dBackwardWeights};
pub use linear::{GpuLinear, GpuLinearBackwardInput, GpuLinearBackwardWeights};
pub use pool::GpuArgmax;

use crate::backend::expect_shape;
use crate::error::{Error, Result};
use crate::tensor::{Tensor, TensorView};
use buffer::{Buffer, Pool};
use context::Context;
use pipeline::Pipelines;
use recorder::{Dispatch, Recorder};

/// The text of every shader, as specialised: a name and WGSL. For validators and the curious.
pub fn shaders() -> Vec<(String, String)> {
    let kernels = activation::kernels()
        .chain(add::kernels())
        .chain(batch_norm::kernels())
        .chain(bias::kernels())
        .chain(conv2d::kernels())
        .chain(loss::kernels())
        .chain(optimiser::kernels())
        .chain(pad::kernels())
        .chain(pool::kernels())
        .chain(softmax::kernels())
        .chain(upsample::kernels());
    kernels.map(|kernel| (kernel.to_string(), kernel.wgsl())).collect()
}

/// A device: cheap to copy, and to be shared by threads.
///
/// ```no_run
/// use tilewise_kernels::{Backend, Gpu, Shape4, Tensor};
/// let gpu = Gpu::new()?;
/// let x = gpu.upload(&Tensor::from_vec(Shape4::new(1, 1, 1, 2), vec![-1.0, 2.0])?)?;
/// let y = gpu.relu(&x)?; // queued
/// assert_eq!(gpu.download(&y)?.data(), [0.0, 2.0]); // computed
/// # Ok::<(), tilewise_kernels::Error>(())
/// ```
#[derive(Clone)]
pub struct Gpu(Arc<Inner>);

struct Inner {
    context: Context,
    pool: Arc<Pool>,
    pipelines: Pipelines,
    recorder: Mutex<Recorder>,
    upsample_tables: upsample::Tables,
    counters: Counting,
    /// Bytes written since the last submission of uploads.
    uploaded: Count,
}

/// What a [`Gpu`] has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Command buffers handed to the driver.
    pub submissions: u64,
    /// Compute passes in them.
    pub passes: u64,
    /// Dispatches queued.
    pub dispatches: u64,
    /// Times that something was read back from the device.
    pub read_backs: u64,
    /// Kernels compiled.
    pub pipelines: u64,
}

#[derive(Default)]
struct Counting {
    submissions: Count,
    passes: Count,
    dispatches: Count,
    read_backs: Count,
}

#[derive(Default)]
struct Count(AtomicU64);

impl Count {
    /// Adds, and gives the sum.
    fn add(&self, n: u64) -> u64 {
        self.0.fetch_add(n, Ordering::Relaxed) + n
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Gpu {
    /// The most capable adapter of this machine; see [`GpuOptions`] for another.
    ///
    /// # Errors
    /// [`Error::NoAdapter`], or [`Error::Gpu`] if the driver gives no device.
    pub fn new() -> Result<Self> {
        GpuOptions::default().open()
    }

    fn open(options: GpuOptions) -> Result<Self> {
        Ok(Gpu(Arc::new(Inner {
            context: Context::open(options)?,
            pool: Arc::default(),
            pipelines: Pipelines::default(),
            recorder: Mutex::default(),
            upsample_tables: upsample::Tables::default(),
            counters: Counting::default(),
            uploaded: Count::default(),
        })))
    }

    /// The adapter.
    pub fn adapter(&self) -> &AdapterInfo {
        &self.0.context.info
    }

    /// What has been done so far.
    pub fn counted(&self) -> Counters {
        let counters = &self.0.counters;
        Counters {
            submissions: counters.submissions.get(),
            passes: counters.passes.get(),
            dispatches: counters.dispatches.get(),
            read_backs: counters.read_backs.get(),
            pipelines: self.0.pipelines.count() as u64,
        }
    }

    /// Submits what waits, uploads included, and waits for its end.
    ///
    /// # Errors
    /// Whatever went wrong in what was queued; [`Error::DeviceLost`].
    pub fn finish(&self) -> Result<()> {
        {
            let mut recorder = self.recorder();
            if recorder.is_open() {
                recorder.submit(self, "finish")?;
            } else {
                self.submit_uploads("finish")?;
            }
        }
        self.0.context.wait("finish")
    }

    /// Runs what `f` queues, in a submission of its own, and tells how long it took on the device, by timestamps of the
    /// device. Other threads must not use the device meanwhile.
    ///
    /// # Errors
    /// Those of `f`; [`Error::Invalid`] if the adapter has no timestamps, or if `f` takes more than one submission (it reads
    /// something back, or queues thousands of operators); [`Error::DeviceLost`].
    pub fn timed(&self, f: impl FnOnce() -> Result<()>) -> Result<Duration> {
        if !self.adapter().timestamps {
            return Err(Error::invalid("timing", "adapter", "one with timestamps", "one without"));
        }
        self.recorder().start_timing(self)?;
        let outcome = f();
        if outcome.is_err() {
            self.recorder().cancel_timing();
        }
        outcome?;
        self.recorder().stop_timing(self)
    }

    /// Gives unused memory back to the driver.
    pub fn trim(&self) {
        self.recorder().trim();
        self.0.upsample_tables.clear();
        self.0.pool.clear();
    }

    /// Gives the device up: every later call is [`Error::DeviceLost`], on every copy of this handle.
    pub fn destroy(&self) {
        // First the flag: whatever fails on another thread from here on fails for this reason.
        self.0.context.give_up();
        self.0.context.device.destroy();
        // What was submitted ends in a poll; its outcome is the loss.
        let _ = self.0.context.wait("destroy");
    }

    fn context(&self) -> &Context {
        &self.0.context
    }

    fn pool(&self) -> &Pool {
        &self.0.pool
    }

    fn pipelines(&self) -> &Pipelines {
        &self.0.pipelines
    }

    fn upsample_tables(&self) -> &upsample::Tables {
        &self.0.upsample_tables
    }

    fn counters(&self) -> &Counting {
        &self.0.counters
    }

    fn owns(&self, buffer: &Buffer) -> bool {
        buffer.belongs_to(&self.0.pool)
    }

    fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.0.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dispatch(&self, dispatch: &Dispatch<'_>) -> Result<()> {
        self.recorder().dispatch(self, dispatch)
    }

    /// A buffer with any contents. One that is to be written by the host is in no command that waits: a write overtakes
    /// them.
    fn take_buffer(&self, op: &'static str, bytes: u64, for_host: bool) -> Result<Buffer> {
        let take = || {
            let recorder = self.recorder();
            let not_in = for_host.then(|| recorder.number());
            self.0.pool.take(&self.0.context, op, bytes, not_in)
        };
        match take() {
            Err(Error::OutOfMemory { .. }) => {
                // What lies idle may be what is missing; some of it is only free once the waiting commands have run.
                self.finish()?;
                self.trim();
                self.finish()?;
                take()
            }
            other => other,
        }
    }

    /// A buffer that holds `bytes`, whose number four divides.
    fn upload_bytes(&self, op: &'static str, bytes: &[u8]) -> Result<Buffer> {
        let buffer = self.take_buffer(op, bytes.len() as u64, true)?;
        self.write_bytes(op, &buffer, 0, bytes)?;
        Ok(buffer)
    }

    /// Writes to a buffer that no command that waits uses: writes may be submitted before them.
    fn write_bytes(&self, op: &'static str, buffer: &Buffer, offset: u64, bytes: &[u8]) -> Result<()> {
        // What is written is copied, and the copy kept until it is submitted: so in pieces, and not too many of them.
        const PIECE: usize = 64 << 20;
        let context = &self.0.context;
        for (i, piece) in bytes.chunks(PIECE).enumerate() {
            context.guarded(op, piece.len() as u64, || {
                context.queue.write_buffer(buffer.raw(), offset + (i * PIECE) as u64, piece);
            })?;
            if self.0.uploaded.add(piece.len() as u64) >= PIECE as u64 {
                self.submit_uploads(op)?;
            }
        }
        Ok(())
    }

    /// Writes a tensor of the host to a view of its shape, behind all that was queued before.
    ///
    /// # Errors
    /// [`Error::Invalid`] for another shape, [`Error::OutOfMemory`], [`Error::DeviceLost`], [`Error::Gpu`].
    pub fn upload_into(&self, x: TensorView<'_>, y: GpuViewMut<'_>) -> Result<()> {
        const OP: &str = "upload";
        expect_shape(OP, "output shape", x.shape(), y.0.shape)?;
        recorder::check_owner(self, OP, y.0.buffer)?;
        {
            // A write overtakes the commands that wait.
            let mut recorder = self.recorder();
            if y.0.buffer.last_used() == recorder.number() {
                recorder.submit(self, OP)?;
            }
        }
        for n in 0..x.shape().n {
            let start = y.0.start + n * y.0.batch_stride;
            self.write_bytes(OP, y.0.buffer, start as u64 * 4, bytemuck::cast_slice(x.image(n)))?;
        }
        Ok(())
    }

    /// Waits for all that was queued, and reads a view into a tensor of its shape.
    ///
    /// # Errors
    /// [`Error::Invalid`] for another shape, [`Error::OutOfMemory`], [`Error::DeviceLost`], [`Error::Gpu`].
    pub fn download_into(&self, x: GpuView<'_>, y: &mut Tensor) -> Result<()> {
        const OP: &str = "download";
        expect_shape(OP, "output shape", x.shape, y.shape())?;
        self.recorder().download(self, OP, x, y.data_mut())
    }

    /// Hands what was uploaded to the driver, which frees the copies once it is done.
    fn submit_uploads(&self, op: &'static str) -> Result<()> {
        let context = &self.0.context;
        self.0.uploaded.0.store(0, Ordering::Relaxed);
        context.guarded(op, 0, || {
            context.queue.submit([]);
        })
    }

    /// A contiguous copy of a view; waits for all that it depends on.
    ///
    /// # Errors
    /// As [`crate::Backend::download`].
    pub fn download_view(&self, x: GpuView<'_>) -> Result<Tensor> {
        let mut y = Tensor::zeros(x.shape())?;
        self.recorder().download(self, "download", x, y.data_mut())?;
        Ok(y)
    }

    /// Elements that one dispatch can reach, whatever the alignment, with one more on either side; at least one.
    fn reach(&self) -> usize {
        let context = &self.0.context;
        let elements = context.max_binding.saturating_sub(context.alignment) / 4;
        usize::try_from(elements.saturating_sub(1)).unwrap_or(usize::MAX).max(1)
    }
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gpu").field("adapter", &self.0.context.info).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod testing;
