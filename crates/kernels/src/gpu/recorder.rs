//! Commands that wait: operators append dispatches to one compute pass, and the whole pass is submitted when a result is
//! wanted. Within a pass wgpu orders dispatches by the buffers that they share.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Gpu;
use super::buffer::{Buffer, GpuView};
use super::pipeline::{PARAMS_BYTES, Pipeline};
use super::wgsl::Kernel;
use crate::error::{Error, Expected, Result};

/// Dispatches of one submission at most.
const MOST_DISPATCHES: usize = 4096;

/// Bind groups kept for dispatches that come again; beyond that all are forgotten.
const MOST_BIND_GROUPS: usize = 8192;

/// Invocations of a workgroup, for kernels of one invocation per element; as in `shaders/index.wgsl`.
pub(super) const WORKGROUP: usize = 64;

/// Elements of a buffer that one dispatch reads or writes.
#[derive(Clone, Copy)]
pub(super) struct Slice<'a> {
    pub buffer: &'a Buffer,
    /// In bytes, aligned as bindings must be.
    offset: u64,
    /// In bytes.
    size: u64,
    /// The wanted first element, counted from the offset.
    pub first: usize,
}

impl<'a> Slice<'a> {
    /// `len` elements from `start` on.
    pub fn new(gpu: &Gpu, buffer: &'a Buffer, start: usize, len: usize) -> Self {
        // Nothing may lie at the very end of a buffer, where nothing can be bound.
        let start = if len == 0 { 0 } else { start };
        let start_bytes = start as u64 * 4;
        let offset = start_bytes - start_bytes % gpu.context().alignment;
        let first = ((start_bytes - offset) / 4) as usize;
        Slice { buffer, offset, size: ((first + len) as u64 * 4).max(16), first }
    }

    fn key(&self) -> (u64, u64, u64) {
        (self.buffer.id(), self.offset, self.size)
    }
}

/// One dispatch.
pub(super) struct Dispatch<'a> {
    pub op: &'static str,
    pub kernel: Kernel,
    /// The words of the shader's `Params`.
    pub params: &'a [u32],
    pub reads: &'a [Slice<'a>],
    pub writes: &'a [Slice<'a>],
    pub workgroups: usize,
}

type BindKey = (usize, Vec<(u64, u64, u64)>);

/// The commands that wait.
pub(super) struct Recorder {
    open: Option<Open>,
    /// The parameters of the dispatches so far, [`PARAMS_BYTES`] each.
    params: Vec<u8>,
    params_buffer: Option<wgpu::Buffer>,
    bind_groups: HashMap<BindKey, wgpu::BindGroup>,
    /// Counts recordings, from 1 on.
    number: u64,
    timestamps: Option<wgpu::QuerySet>,
    /// The recording that is timed.
    timed: u64,
    staging: Option<wgpu::Buffer>,
}

/// Dropped in this order: the pass ends before its encoder does.
struct Open {
    pass: wgpu::ComputePass<'static>,
    encoder: wgpu::CommandEncoder,
}

impl Default for Recorder {
    fn default() -> Self {
        Recorder {
            open: None,
            params: Vec::new(),
            params_buffer: None,
            bind_groups: HashMap::new(),
            number: 1,
            timestamps: None,
            timed: 0,
            staging: None,
        }
    }
}

impl Recorder {
    /// The number of the recording that is going on.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Appends a dispatch. Nothing is done for no workgroups.
    pub fn dispatch(&mut self, gpu: &Gpu, dispatch: &Dispatch<'_>) -> Result<()> {
        let Dispatch { op, ref kernel, params, reads, writes, workgroups } = *dispatch;
        let context = gpu.context();
        context.alive(op)?;
        if workgroups == 0 {
            return Ok(());
        }
        debug_assert_eq!(
            (reads.len(), writes.len()),
            (kernel.shader.reads, kernel.shader.writes),
            "{kernel}"
        );
        debug_assert!(params.len() as u64 * 4 <= PARAMS_BYTES);
        check_slices(gpu, dispatch)?;
        let [x, y] = fold(op, workgroups, context.max_workgroups)?;
        let pipeline = gpu.pipelines().get(context, op, kernel)?;
        if self.params.len() as u64 >= MOST_DISPATCHES as u64 * PARAMS_BYTES {
            self.submit(gpu, op)?;
        }
        let bind_group = self.bind_group(gpu, op, &pipeline, reads, writes)?;
        self.begin(gpu, op)?;
        let offset = self.params.len();
        self.params.extend_from_slice(bytemuck::cast_slice(params));
        self.params.resize(offset + PARAMS_BYTES as usize, 0);
        if let Some(open) = &mut self.open {
            open.pass.set_pipeline(&pipeline.raw);
            open.pass.set_bind_group(0, &bind_group, &[offset as u32]);
            open.pass.dispatch_workgroups(x, y, 1);
        }
        reads.iter().chain(writes).for_each(|slice| slice.buffer.used_in(self.number));
        gpu.counters().dispatches.add(1);
        Ok(())
    }

    fn begin(&mut self, gpu: &Gpu, op: &'static str) -> Result<()> {
        if self.open.is_some() {
            return Ok(());
        }
        let context = gpu.context();
        let timestamp_writes = self.timestamps.as_ref().map(|query_set| wgpu::ComputePassTimestampWrites {
            query_set,
            beginning_of_pass_write_index: Some(0),
            end_of_pass_write_index: Some(1),
        });
        self.open = Some(context.guarded(op, 0, || {
            let mut encoder = context.device.create_command_encoder(&Default::default());
            let descriptor = wgpu::ComputePassDescriptor { label: Some("tilewise"), timestamp_writes };
            Open { pass: encoder.begin_compute_pass(&descriptor).forget_lifetime(), encoder }
        })?);
        Ok(())
    }

    fn bind_group(
        &mut self,
        gpu: &Gpu,
        op: &'static str,
        pipeline: &Arc<Pipeline>,
        reads: &[Slice<'_>],
        writes: &[Slice<'_>],
    ) -> Result<wgpu::BindGroup> {
        let params = self.params_buffer(gpu, op)?;
        let key = (reads.len(), reads.iter().chain(writes).map(Slice::key).collect());
        if let Some(known) = self.bind_groups.get(&key) {
            return Ok(known.clone());
        }
        let binding = |buffer, offset, size| {
            wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer,
                offset,
                size: std::num::NonZeroU64::new(size),
            })
        };
        let buffers = reads.iter().chain(writes).map(|s| binding(s.buffer.raw(), s.offset, s.size));
        let entries: Vec<_> = std::iter::once(binding(&params, 0, PARAMS_BYTES))
            .chain(buffers)
            .zip(0..)
            .map(|(resource, binding)| wgpu::BindGroupEntry { binding, resource })
            .collect();
        let context = gpu.context();
        let made = context.guarded(op, 0, || {
            let layout = &pipeline.layout;
            let descriptor = wgpu::BindGroupDescriptor { label: Some(op), layout, entries: &entries };
            context.device.create_bind_group(&descriptor)
        })?;
        if self.bind_groups.len() >= MOST_BIND_GROUPS {
            self.bind_groups.clear();
        }
        self.bind_groups.insert(key, made.clone());
        Ok(made)
    }

    fn params_buffer(&mut self, gpu: &Gpu, op: &'static str) -> Result<wgpu::Buffer> {
        if let Some(buffer) = &self.params_buffer {
            return Ok(buffer.clone());
        }
        let size = MOST_DISPATCHES as u64 * PARAMS_BYTES;
        let context = gpu.context();
        let buffer = context.guarded(op, size, || {
            context.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("params"),
                size,
                usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        })?;
        Ok(self.params_buffer.insert(buffer).clone())
    }

    /// Forgets which buffers were bound together, and with it the memory that only this kept.
    fn forget_bind_groups(&mut self) {
        self.bind_groups.clear();
    }

    /// Gives up all memory that is only kept to be used again.
    pub fn trim(&mut self) {
        self.forget_bind_groups();
        self.staging = None;
    }

    /// Submits what waits.
    pub fn submit(&mut self, gpu: &Gpu, op: &'static str) -> Result<()> {
        self.submit_with(gpu, op, |_| {})
    }

    /// Submits what waits, and behind it what `append` adds.
    fn submit_with(
        &mut self,
        gpu: &Gpu,
        op: &'static str,
        append: impl FnOnce(&mut wgpu::CommandEncoder),
    ) -> Result<()> {
        let context = gpu.context();
        let (open, params) = (self.open.take(), std::mem::take(&mut self.params));
        self.number += 1;
        if open.is_some() {
            gpu.counters().passes.add(1);
        }
        gpu.counters().submissions.add(1);
        let outcome = context.guarded(op, 0, || {
            let mut encoder = match open {
                Some(Open { pass, encoder }) => {
                    drop(pass);
                    encoder
                }
                None => context.device.create_command_encoder(&Default::default()),
            };
            append(&mut encoder);
            let commands = encoder.finish();
            if let Some(buffer) = self.params_buffer.as_ref().filter(|_| !params.is_empty()) {
                context.queue.write_buffer(buffer, 0, &params);
            }
            context.queue.submit([commands]);
        });
        if gpu.pool().has_evicted() {
            self.forget_bind_groups();
        }
        // Its memory serves the next recording.
        self.params = params;
        self.params.clear();
        outcome
    }

    /// Whether commands wait.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Submits what waits, and reads the bytes of a view's images into `into`, which is as long as they are.
    pub fn download(&mut self, gpu: &Gpu, op: &'static str, x: GpuView<'_>, into: &mut [f32]) -> Result<()> {
        gpu.context().alive(op)?;
        check_owner(gpu, op, x.buffer)?;
        let (image, stride) = (x.shape.image_len(), x.batch_stride);
        if into.is_empty() {
            return Ok(());
        }
        let bytes = ((x.shape.n - 1) * stride + image) as u64 * 4;
        let start = x.start as u64 * 4;
        let staging = self.read_back(gpu, op, bytes, |encoder, staging| {
            encoder.copy_buffer_to_buffer(x.buffer.raw(), start, staging, 0, bytes);
        })?;
        let read = |mapped: &[u8]| {
            for (n, image) in into.chunks_exact_mut(image).enumerate() {
                let from = n * stride * 4;
                let to: &mut [u8] = bytemuck::cast_slice_mut(image);
                to.copy_from_slice(&mapped[from..from + to.len()]);
            }
        };
        self.map(gpu, op, staging, bytes, read)
    }

    /// Submits what waits, with a copy into a staging buffer behind it.
    fn read_back(
        &mut self,
        gpu: &Gpu,
        op: &'static str,
        bytes: u64,
        copy: impl FnOnce(&mut wgpu::CommandEncoder, &wgpu::Buffer),
    ) -> Result<wgpu::Buffer> {
        let context = gpu.context();
        let staging = match self.staging.take().filter(|buffer| buffer.size() >= bytes) {
            Some(buffer) => buffer,
            None => context.guarded(op, bytes, || {
                context.device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some("staging"),
                    size: bytes,
                    usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                    mapped_at_creation: false,
                })
            })?,
        };
        gpu.counters().read_backs.add(1);
        self.submit_with(gpu, op, |encoder| copy(encoder, &staging))?;
        Ok(staging)
    }

    /// Waits for the staging buffer and shows its bytes.
    fn map(
        &mut self,
        gpu: &Gpu,
        op: &'static str,
        staging: wgpu::Buffer,
        bytes: u64,
        read: impl FnOnce(&[u8]),
    ) -> Result<()> {
        let context = gpu.context();
        let (sender, receiver) = std::sync::mpsc::channel();
        staging.map_async(wgpu::MapMode::Read, 0..bytes, move |outcome| {
            // Nobody listens any more only if waiting has failed, which is reported.
            let _ = sender.send(outcome);
        });
        context.wait(op)?;
        receiver.recv().map_err(|e| context.failure(op, e))?.map_err(|e| context.failure(op, e))?;
        let mapped = staging.get_mapped_range(0..bytes).map_err(|e| context.failure(op, e))?;
        read(&mapped);
        drop(mapped);
        staging.unmap();
        self.staging = Some(staging);
        Ok(())
    }

    /// Starts a recording whose pass is timed by the device.
    pub fn start_timing(&mut self, gpu: &Gpu) -> Result<()> {
        const OP: &str = "timing";
        let context = gpu.context();
        if self.open.is_some() {
            self.submit(gpu, OP)?;
        }
        self.timestamps = Some(context.guarded(OP, 16, || {
            context.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some(OP),
                ty: wgpu::QueryType::Timestamp,
                count: 2,
            })
        })?);
        self.timed = self.number;
        Ok(())
    }

    /// Ends that recording: how long its pass took on the device, if there was one.
    pub fn stop_timing(&mut self, gpu: &Gpu) -> Result<Duration> {
        const OP: &str = "timing";
        let context = gpu.context();
        if self.timed != self.number {
            self.timestamps = None;
            return Err(Error::invalid(OP, "work", "one submission", "several"));
        }
        let Some(queries) = self.timestamps.take().filter(|_| self.open.is_some()) else {
            return Ok(Duration::ZERO);
        };
        let resolved = context.guarded(OP, 16, || {
            context.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(OP),
                size: 16,
                usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            })
        })?;
        let staging = self.read_back(gpu, OP, 16, |encoder, staging| {
            encoder.resolve_query_set(&queries, 0..2, &resolved, 0);
            encoder.copy_buffer_to_buffer(&resolved, 0, staging, 0, 16);
        })?;
        let mut ticks = [0u64; 2];
        self.map(gpu, OP, staging, 16, |bytes| {
            bytemuck::bytes_of_mut(&mut ticks).copy_from_slice(&bytes[..16]);
        })?;
        let nanoseconds =
            ticks[1].saturating_sub(ticks[0]) as f64 * f64::from(context.queue.get_timestamp_period());
        Ok(Duration::from_secs_f64(nanoseconds * 1e-9))
    }

    /// Forgets that a recording was to be timed.
    pub fn cancel_timing(&mut self) {
        self.timestamps = None;
    }
}

/// Workgroups in two dimensions, neither beyond the limit; the shader finds its number by [`WORKGROUP`]s of rows.
fn fold(op: &'static str, workgroups: usize, limit: u32) -> Result<[u32; 2]> {
    let limit = limit as usize;
    let x = workgroups.min(limit);
    let y = workgroups.div_ceil(x);
    if y > limit {
        let most = Expected::AtMost(limit.saturating_mul(limit));
        return Err(Error::invalid(op, "workgroups", most, workgroups));
    }
    Ok([x as u32, y as u32])
}

/// Tensors of another GPU, and memory that is read and written at once, are refused.
fn check_slices(gpu: &Gpu, dispatch: &Dispatch<'_>) -> Result<()> {
    let op = dispatch.op;
    for slice in dispatch.reads.iter().chain(dispatch.writes) {
        check_owner(gpu, op, slice.buffer)?;
        if slice.size > gpu.context().max_binding {
            let (limit, size) = (gpu.context().max_binding as usize, slice.size as usize);
            return Err(Error::invalid(op, "bytes that one dispatch reaches", Expected::AtMost(limit), size));
        }
    }
    for (i, write) in dispatch.writes.iter().enumerate() {
        let others = dispatch.reads.iter().chain(&dispatch.writes[i + 1..]);
        if others.into_iter().any(|other| other.buffer.id() == write.buffer.id()) {
            return Err(Error::invalid(op, "output", "a tensor that is no input", "one of the inputs"));
        }
    }
    Ok(())
}

pub(super) fn check_owner(gpu: &Gpu, op: &'static str, buffer: &Buffer) -> Result<()> {
    if gpu.owns(buffer) {
        Ok(())
    } else {
        Err(Error::invalid(op, "tensor", "one of this GPU", "one of another"))
    }
}
