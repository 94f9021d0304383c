//! Pipelines: each kernel is compiled once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::context::Context;
use super::wgsl::Kernel;
use crate::error::Result;

/// Bytes of parameters that a dispatch may have: the largest alignment of their offsets.
pub(super) const PARAMS_BYTES: u64 = 256;

/// A kernel as the driver has compiled it.
pub(super) struct Pipeline {
    pub raw: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

/// All pipelines of a device.
#[derive(Default)]
pub(super) struct Pipelines {
    built: Mutex<HashMap<Kernel, Arc<Pipeline>>>,
    layouts: Mutex<HashMap<(usize, usize), wgpu::BindGroupLayout>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pipelines {
    /// How many there are.
    pub fn count(&self) -> usize {
        lock(&self.built).len()
    }

    /// The pipeline of a kernel, built if this is the first time that it is asked for.
    pub fn get(&self, context: &Context, op: &'static str, kernel: &Kernel) -> Result<Arc<Pipeline>> {
        let mut built = lock(&self.built);
        if let Some(pipeline) = built.get(kernel) {
            return Ok(pipeline.clone());
        }
        let pipeline = Arc::new(self.build(context, op, kernel)?);
        built.insert(*kernel, pipeline.clone());
        Ok(pipeline)
    }

    fn build(&self, context: &Context, op: &'static str, kernel: &Kernel) -> Result<Pipeline> {
        let label = kernel.to_string();
        let device = &context.device;
        context.guarded(op, 0, || {
            let source = wgpu::ShaderModuleDescriptor {
                label: Some(&label),
                source: wgpu::ShaderSource::Wgsl(kernel.wgsl().into()),
            };
            let module = if context.checked {
                device.create_shader_module(source)
            } else {
                let checks = wgpu::ShaderRuntimeChecks {
                    force_loop_bounding: false,
                    int_div_checks: false,
                    ..wgpu::ShaderRuntimeChecks::checked()
                };
                // SAFETY: what is not checked is that loops end and that divisors are not 0. Every loop of `shaders/`
                // counts up to a number that it does not change, or halves one down to 0, and every divisor is an extent, a stride or a count of
                // tiles that the host has made sure is at least 1. Indices stay checked.
                unsafe { device.create_shader_module_trusted(source, checks) }
            };
            let layout = self.layout(device, kernel.shader.reads, kernel.shader.writes);
            let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(&label),
                bind_group_layouts: &[Some(&layout)],
                immediate_size: 0,
            });
            let raw = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&label),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    // Every cell of shared memory is written before it is read.
                    zero_initialize_workgroup_memory: context.checked,
                    ..Default::default()
                },
                cache: None,
            });
            Pipeline { raw, layout }
        })
    }

    /// Parameters at binding 0, then the buffers that are read, then those that are written.
    fn layout(&self, device: &wgpu::Device, reads: usize, writes: usize) -> wgpu::BindGroupLayout {
        lock(&self.layouts)
            .entry((reads, writes))
            .or_insert_with(|| {
                let entry = |binding: usize, ty, has_dynamic_offset| wgpu::BindGroupLayoutEntry {
                    binding: binding as u32,
                    visibility: wgpu::ShaderStages::COMPUTE,
                    ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: None },
                    count: None,
                };
                let storage = |binding| {
                    let read_only = binding <= reads;
                    entry(binding, wgpu::BufferBindingType::Storage { read_only }, false)
                };
                let params = entry(0, wgpu::BufferBindingType::Uniform, true);
                let entries: Vec<_> =
                    std::iter::once(params).chain((1..=reads + writes).map(storage)).collect();
                device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                    label: Some("tilewise"),
                    entries: &entries,
                })
            })
            .clone()
    }
}
