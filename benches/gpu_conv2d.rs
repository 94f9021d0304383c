//! Convolution + bias + ReLU on the GPU: two layers by the kernel that the plan chooses, and by a plain one of one output an
//! invocation (`plain_conv2d.wgsl`). Each iteration is a submission that is waited for. Ids:
//! `conv2d/vgg3_2/implicit_gemm/gpu` and `conv2d/vgg3_2/plain/gpu`. Both are checked against the reference. Where there is
//! no GPU, nothing is measured, and that is said.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tilewise_bench::gpu;
use tilewise_bench::suites::networks::{CORE, suite};
use tilewise_bench::throughput::{ConvCall, Sample, Workload, filled, sample};
use tilewise_kernels::{Conv2dAlgo, Conv2dShape, Gpu, Shape4, Tensor};
use wgpu::util::{BufferInitDescriptor, DeviceExt};

fn gpu_conv2d(c: &mut Criterion) {
    let Some(gpu) = gpu::find(None).expect("a GPU that can be opened") else {
        return println!("{}", gpu::HOW_TO_GET_ONE);
    };
    println!("{}", gpu.adapter());
    let layers = suite(CORE).expect("it exists");
    for layer in layers.iter().filter(|layer| ["vgg3_2", "unet_mid"].contains(&layer.name.as_str())) {
        let mut group = c.benchmark_group(format!("conv2d/{}", layer.name));
        group.throughput(Throughput::Elements((2.0 * layer.shape.macs()) as u64)).sample_size(10);

        let mut ours = ConvCall::new(&gpu, &layer.shape, None).expect("a layer of a network");
        let algo = ours.algo();
        let mut run = || ours.call().and_then(|()| gpu.finish()).expect("it computes");
        run();
        group.bench_function(format!("{algo}/gpu"), |b| b.iter(&mut run));
        check(ours.sample().expect("an output").expect("samples of it"));

        let plain = Plain::new(&gpu, &layer.shape);
        plain.run();
        group.bench_function("plain/gpu", |b| b.iter(|| plain.run()));
        check(plain.sample());
        group.finish();
    }
}

/// What was timed must be right.
fn check((target, got): Sample) {
    let comparison = target.compare(&Tensor::from_vec(target.shape, got).expect("one for each target"));
    assert!(comparison.passed(), "{comparison}");
}

/// The plain kernel on a device of its own; wgpu's checks of loops and divisors are left out, as in ours.
struct Plain {
    shape: Conv2dShape,
    inputs: [Tensor; 3],
    device: wgpu::Device,
    queue: wgpu::Queue,
    pipeline: wgpu::ComputePipeline,
    bindings: wgpu::BindGroup,
    y: wgpu::Buffer,
    workgroups: [u32; 2],
}

impl Plain {
    fn new(gpu: &Gpu, shape: &Conv2dShape) -> Self {
        let (device, queue) = open(gpu.adapter().index);
        let (x, w, y) = (shape.input(), shape.weights(), shape.output());
        let inputs = [(x, 1), (w, 2), (Shape4::new(1, y.c, 1, 1), 3)]
            .map(|(shape, seed)| filled(shape, seed).expect("memory"));
        let (p, count) = (shape.params(), y.n * y.c * y.h * y.w);
        let [top, left] = [p.padding.top, p.padding.left];
        let words = [x.c, x.h, x.w, y.c, w.h, w.w, y.h, y.w, p.stride[0], top, left, count]
            .map(|word| u32::try_from(word).expect("a layer of a network is smaller"));
        let count = words[words.len() - 1];
        let buffer = |contents: &[u8], usage| {
            device.create_buffer_init(&BufferInitDescriptor { label: None, contents, usage })
        };
        let params = buffer(bytemuck::cast_slice(&words), wgpu::BufferUsages::UNIFORM);
        let read =
            inputs.each_ref().map(|t| buffer(bytemuck::cast_slice(t.data()), wgpu::BufferUsages::STORAGE));
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        let size = u64::from(count) * 4;
        let y = device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size,
            usage,
            mapped_at_creation: false,
        });

        let source = wgpu::ShaderModuleDescriptor {
            label: Some("plain"),
            source: wgpu::ShaderSource::Wgsl(include_str!("plain_conv2d.wgsl").into()),
        };
        let checks = wgpu::ShaderRuntimeChecks {
            force_loop_bounding: false,
            int_div_checks: false,
            ..wgpu::ShaderRuntimeChecks::checked()
        };
        // SAFETY: its loops count up to a parameter, and its divisors are extents of a shape whose output is not empty.
        let module = unsafe { device.create_shader_module_trusted(source, checks) };
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some("plain"),
            layout: None,
            module: &module,
            entry_point: Some("main"),
            compilation_options: Default::default(),
            cache: None,
        });
        let buffers = [&params, &read[0], &read[1], &read[2], &y];
        let entries: Vec<_> = buffers
            .iter()
            .zip(0..)
            .map(|(buffer, binding)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let layout = &pipeline.get_bind_group_layout(0);
        let bindings =
            device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries });
        let groups = count.div_ceil(64);
        let workgroups = [groups.min(65535), groups.div_ceil(65535)];
        Plain { shape: *shape, inputs, device, queue, pipeline, bindings, y, workgroups }
    }

    fn run(&self) {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bindings, &[]);
        pass.dispatch_workgroups(self.workgroups[0], self.workgroups[1], 1);
        drop(pass);
        self.queue.submit([encoder.finish()]);
        self.device.poll(wgpu::PollType::wait_indefinitely()).expect("it ends");
    }

    fn sample(&self) -> Sample {
        let (size, usage) = (self.y.size(), wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
        let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        let staging = self.device.create_buffer(&descriptor);
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(&self.y, 0, &staging, 0, size);
        self.queue.submit([encoder.finish()]);
        staging.map_async(wgpu::MapMode::Read, .., |outcome| outcome.expect("mapped"));
        self.device.poll(wgpu::PollType::wait_indefinitely()).expect("it ends");
        let data = bytemuck::cast_slice(&staging.get_mapped_range(..).expect("mapped")).to_vec();
        let y = Tensor::from_vec(self.shape.output(), data).expect("as many as it has");
        let [x, weights, bias] = &self.inputs;
        sample(&self.shape, Conv2dAlgo::Direct, x, weights, bias.data(), &y)
    }
}

/// A device on the adapter that has this index among all.
fn open(index: usize) -> (wgpu::Device, wgpu::Queue) {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::PRIMARY;
    let instance = wgpu::Instance::new(descriptor);
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
    let request = wgpu::DeviceDescriptor { required_limits: adapters[index].limits(), ..Default::default() };
    pollster::block_on(adapters[index].request_device(&request)).expect("a device")
}

criterion_group!(benches, gpu_conv2d);
criterion_main!(benches);
