//! Memory of the GPU: buffers that are used again, and tensors in them.
//!
//! A buffer that is dropped goes into a pool, from which the next one of its size is taken: whatever it holds. The
//! commands that used it are in front of those that will, so that it may be taken while they wait. Only an upload
//! overtakes waiting commands; it takes a buffer that none of them uses.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Gpu;
use super::context::Context;
use super::recorder::Slice;
use crate::backend::{DeviceTensor, DeviceView};
use crate::error::{Dims, Error, Expected, Result};
use crate::tensor::{Shape4, channel_range, check_reshape};

/// Bytes of unused buffers that a pool keeps.
const IDLE_BYTES: u64 = 512 << 20;

/// Buffers by size, waiting to be used again.
#[derive(Default)]
pub(super) struct Pool {
    idle: Mutex<Idle>,
    next_id: AtomicU64,
    /// Whether memory was given back to the driver, which bind groups may still keep.
    evicted: AtomicBool,
}

#[derive(Default)]
struct Idle {
    by_size: HashMap<u64, Vec<Memory>>,
    bytes: u64,
}

/// Memory of the GPU and how it was used last.
struct Memory {
    buffer: wgpu::Buffer,
    id: u64,
    last_used: u64,
}

/// A buffer of the GPU; its memory goes back to the pool when it is dropped.
pub(super) struct Buffer {
    raw: wgpu::Buffer,
    id: u64,
    /// The recording in which a command used it last.
    last_used: AtomicU64,
    pool: Arc<Pool>,
}

/// The size of buffers that serve requests of up to `bytes`: four steps for each doubling, so that few sizes are in use
/// and at most a quarter of each is wasted.
fn size_class(bytes: u64) -> Option<u64> {
    let bytes = bytes.max(256);
    let step = (1u64 << bytes.ilog2()) / 4;
    bytes.checked_next_multiple_of(step)
}

impl Pool {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        // A poisoned pool is a pool: no operation on it can be left half done.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer for `bytes`, in no command of the recording `not_in`.
    pub fn take(
        self: &Arc<Self>,
        context: &Context,
        op: &'static str,
        bytes: u64,
        not_in: Option<u64>,
    ) -> Result<Buffer> {
        context.alive(op)?;
        let limit = context.info.max_buffer;
        let size = size_class(bytes).unwrap_or(u64::MAX).min(limit.max(bytes));
        if bytes > limit {
            let (limit, bytes) = (limit as usize, bytes as usize);
            return Err(Error::invalid(op, "bytes of a buffer of this GPU", Expected::AtMost(limit), bytes));
        }
        if let Some(memory) = self.recycled(size, not_in) {
            return Ok(self.adopt(memory));
        }
        let buffer = context.guarded(op, bytes, || {
            context.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(op),
                size,
                usage: wgpu::BufferUsages::STORAGE
                    | wgpu::BufferUsages::COPY_SRC
                    | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        })?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        Ok(self.adopt(Memory { buffer, id, last_used: 0 }))
    }

    fn adopt(self: &Arc<Self>, memory: Memory) -> Buffer {
        let Memory { buffer, id, last_used } = memory;
        Buffer { raw: buffer, id, last_used: AtomicU64::new(last_used), pool: self.clone() }
    }

    fn recycled(&self, size: u64, not_in: Option<u64>) -> Option<Memory> {
        let mut idle = self.idle();
        let list = idle.by_size.get_mut(&size)?;
        let at = list.iter().rposition(|memory| Some(memory.last_used) != not_in)?;
        let memory = list.swap_remove(at);
        idle.bytes -= size;
        Some(memory)
    }

    fn give_back(&self, memory: Memory) {
        let size = memory.buffer.size();
        let mut idle = self.idle();
        if idle.bytes.saturating_add(size) <= IDLE_BYTES {
            idle.bytes += size;
            idle.by_size.entry(size).or_default().push(memory);
        } else {
            self.evicted.store(true, Ordering::Relaxed);
        }
    }

    /// Whether memory was given back to the driver since the last call.
    pub fn has_evicted(&self) -> bool {
        self.evicted.swap(false, Ordering::Relaxed)
    }

    /// Gives all unused memory back to the driver.
    pub fn clear(&self) {
        *self.idle() = Idle::default();
    }
}

impl Buffer {
    pub fn raw(&self) -> &wgpu::Buffer {
        &self.raw
    }

    /// A number that no other buffer of this GPU has had.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Marks it as used by a command of the recording.
    pub fn used_in(&self, recording: u64) {
        self.last_used.store(recording, Ordering::Relaxed);
    }

    pub fn last_used(&self) -> u64 {
        self.last_used.load(Ordering::Relaxed)
    }

    pub fn belongs_to(&self, pool: &Arc<Pool>) -> bool {
        Arc::ptr_eq(&self.pool, pool)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let (buffer, last_used) = (self.raw.clone(), self.last_used());
        self.pool.give_back(Memory { buffer, id: self.id, last_used });
    }
}

/// An f32 tensor in the memory of a GPU, NCHW, contiguous.
///
/// Made by [`crate::Backend::upload`] and by every operator of a [`Gpu`]. Dropping it is free: its memory is used again.
pub struct GpuTensor {
    buffer: Buffer,
    shape: Shape4,
}

impl std::fmt::Debug for GpuTensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GpuTensor").field("shape", &self.shape).finish_non_exhaustive()
    }
}

/// A borrowed tensor of a GPU: images of `c*h*w` contiguous elements, `batch_stride` apart.
#[derive(Clone, Copy)]
pub struct GpuView<'a> {
    pub(super) buffer: &'a Buffer,
    /// Elements before the first.
    pub(super) start: usize,
    pub(super) shape: Shape4,
    pub(super) batch_stride: usize,
}

/// A borrowed tensor of a GPU, to be written. What lies between two images is never touched.
pub struct GpuViewMut<'a>(pub(super) GpuView<'a>);

impl GpuTensor {
    pub(super) fn new(gpu: &Gpu, op: &'static str, shape: Shape4) -> Result<Self> {
        let bytes = shape.checked_len(op, "tensor")? as u64 * 4;
        Ok(GpuTensor { buffer: gpu.take_buffer(op, bytes, false)?, shape })
    }

    pub(super) fn uploaded(gpu: &Gpu, op: &'static str, shape: Shape4, data: &[f32]) -> Result<Self> {
        Ok(GpuTensor { buffer: gpu.upload_bytes(op, bytemuck::cast_slice(data))?, shape })
    }

    pub(super) fn all(&self, gpu: &Gpu) -> Slice<'_> {
        Slice::new(gpu, &self.buffer, 0, self.shape.n * self.shape.image_len())
    }

    /// The extents.
    pub fn shape(&self) -> Shape4 {
        self.shape
    }

    /// Borrows all of it.
    pub fn view(&self) -> GpuView<'_> {
        GpuView { buffer: &self.buffer, start: 0, shape: self.shape, batch_stride: self.shape.image_len() }
    }

    /// Borrows all of it, to be written.
    pub fn view_mut(&mut self) -> GpuViewMut<'_> {
        GpuViewMut(self.view())
    }

    /// A view with gaps: images of `shape` that begin `batch_stride` elements apart, the first at element `start`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if images would overlap or the tensor is too short; [`Error::Overflow`].
    pub fn strided(&self, start: usize, shape: Shape4, batch_stride: usize) -> Result<GpuView<'_>> {
        let len = self.shape.n * self.shape.image_len();
        let left = len.checked_sub(start);
        let left = left.ok_or(Error::invalid("view", "first element", Expected::AtMost(len), start))?;
        let batch_stride = crate::tensor::check_view(shape, batch_stride, left)?;
        Ok(GpuView { buffer: &self.buffer, start, shape, batch_stride })
    }

    /// [`GpuTensor::strided`], to be written.
    ///
    /// # Errors
    /// As there.
    pub fn strided_mut(
        &mut self,
        start: usize,
        shape: Shape4,
        batch_stride: usize,
    ) -> Result<GpuViewMut<'_>> {
        self.strided(start, shape, batch_stride).map(GpuViewMut)
    }

    /// The same elements with other extents.
    ///
    /// # Errors
    /// [`Error::Invalid`] if their number differs.
    pub fn reshape(self, shape: Shape4) -> Result<Self> {
        let (have, want) = (self.shape.n * self.shape.image_len(), shape.checked_len("tensor", "shape")?);
        if have != want {
            return Err(Error::invalid("tensor", "data length", want, have));
        }
        Ok(GpuTensor { shape, ..self })
    }
}

impl<'a> GpuView<'a> {
    /// The extents.
    pub fn shape(&self) -> Shape4 {
        self.shape
    }

    /// The channels of `range`, in every image.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the range is not within the channels.
    pub fn channels(self, range: Range<usize>) -> Result<Self> {
        let (start, shape) = channel_range(self.shape, &range)?;
        Ok(GpuView { start: self.start + start, shape, ..self })
    }

    /// The same elements as one image of many channels, where nothing lies between the images.
    pub(super) fn joined(self) -> Option<Self> {
        let s = self.shape;
        let shape = Shape4::new(1, s.n * s.c, s.h, s.w);
        (self.batch_stride == s.image_len() && s.n > 1).then_some(GpuView {
            shape,
            batch_stride: shape.c * shape.plane_len(),
            ..self
        })
    }
}

impl GpuViewMut<'_> {
    /// The extents.
    pub fn shape(&self) -> Shape4 {
        self.0.shape
    }

    /// The channels of `range`, in every image.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the range is not within the channels.
    pub fn channels(self, range: Range<usize>) -> Result<Self> {
        self.0.channels(range).map(GpuViewMut)
    }
}

impl DeviceTensor for GpuTensor {
    type View<'a> = GpuView<'a>;
    type ViewMut<'a> = GpuViewMut<'a>;

    fn shape(&self) -> Shape4 {
        self.shape()
    }

    fn view(&self) -> GpuView<'_> {
        self.view()
    }

    fn view_mut(&mut self) -> GpuViewMut<'_> {
        self.view_mut()
    }

    fn reshape(self, shape: Shape4) -> Result<Self> {
        self.reshape(shape)
    }
}

impl DeviceView for GpuView<'_> {
    fn shape(&self) -> Shape4 {
        self.shape()
    }

    fn channels(self, range: Range<usize>) -> Result<Self> {
        self.channels(range)
    }

    fn reshape(self, shape: Shape4) -> Result<Self> {
        check_reshape(self.shape, self.batch_stride, shape)?;
        Ok(GpuView { shape, batch_stride: shape.image_len(), ..self })
    }
}

impl DeviceView for GpuViewMut<'_> {
    fn shape(&self) -> Shape4 {
        self.shape()
    }

    fn channels(self, range: Range<usize>) -> Result<Self> {
        self.channels(range)
    }

    fn reshape(self, shape: Shape4) -> Result<Self> {
        self.0.reshape(shape).map(GpuViewMut)
    }
}

/// Sizes for a shader: each must fit a `u32`.
pub(super) fn words<const N: usize>(op: &'static str, sizes: [usize; N]) -> Result<[u32; N]> {
    let mut words = [0; N];
    for (word, size) in words.iter_mut().zip(sizes) {
        let overflow = Error::Overflow { op, arg: "a size for the GPU", dims: Dims::new(&[size]) };
        *word = u32::try_from(size).map_err(|_| overflow)?;
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_class_wastes_at_most_a_quarter() {
        for bytes in (0..100_000).chain([(1 << 40) + 1]) {
            let class = size_class(bytes).unwrap();
            assert!(
                class >= bytes && class.is_multiple_of(4) && class <= bytes.max(256) + bytes.max(256) / 4
            );
            assert_eq!(size_class(class), Some(class));
        }
        assert_eq!(size_class(u64::MAX), None);
    }
}
