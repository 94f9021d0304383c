//! Adapters, and a device on one of them: its limits, and what goes wrong with it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Expected, Result};

/// What kind of device an adapter is; tiles are chosen by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AdapterKind {
    /// A GPU with memory of its own.
    Discrete,
    /// A GPU that shares the memory of the CPU.
    Integrated,
    /// A GPU of a virtual machine.
    Virtual,
    /// A software driver.
    Cpu,
    /// Not told.
    Other,
}

impl AdapterKind {
    /// In one word.
    pub const fn name(self) -> &'static str {
        match self {
            AdapterKind::Discrete => "discrete",
            AdapterKind::Integrated => "integrated",
            AdapterKind::Virtual => "virtual",
            AdapterKind::Cpu => "cpu",
            AdapterKind::Other => "other",
        }
    }

    /// The lower, the rather it is chosen.
    const fn rank(self) -> usize {
        match self {
            AdapterKind::Discrete => 0,
            AdapterKind::Integrated => 1,
            AdapterKind::Virtual => 2,
            AdapterKind::Other => 3,
            AdapterKind::Cpu => 4,
        }
    }
}

/// A GPU (or a software driver) that can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterInfo {
    /// Its position in [`adapters`].
    pub index: usize,
    /// As the driver names it.
    pub name: String,
    /// The driver and its version.
    pub driver: String,
    /// `vulkan`, `metal` or `dx12`.
    pub backend: &'static str,
    /// What kind of device it is.
    pub kind: AdapterKind,
    /// Bytes of the largest buffer.
    pub max_buffer: u64,
    /// Bytes of a buffer that one dispatch can reach; larger tensors are computed in parts.
    pub max_binding: u64,
    /// Bytes of memory shared by a workgroup.
    pub workgroup_memory: u32,
    /// Invocations of a workgroup.
    pub workgroup_size: u32,
    /// Workgroups along one dimension of a dispatch; larger grids are folded.
    pub max_workgroups: u32,
    /// Whether kernels can be timed on the device itself.
    pub timestamps: bool,
    /// Optional abilities, as WebGPU spells them.
    pub features: Vec<&'static str>,
}

impl AdapterInfo {
    fn new(index: usize, adapter: &wgpu::Adapter) -> Self {
        let (info, limits) = (adapter.get_info(), adapter.limits());
        AdapterInfo {
            index,
            name: info.name,
            driver: [info.driver, info.driver_info].join(" ").trim().to_owned(),
            backend: info.backend.to_str(),
            kind: match info.device_type {
                wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
                wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
                wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
                wgpu::DeviceType::Cpu => AdapterKind::Cpu,
                wgpu::DeviceType::Other => AdapterKind::Other,
            },
            max_buffer: limits.max_buffer_size,
            max_binding: limits.max_storage_buffer_binding_size,
            workgroup_memory: limits.max_compute_workgroup_storage_size,
            workgroup_size: limits.max_compute_invocations_per_workgroup,
            max_workgroups: limits.max_compute_workgroups_per_dimension,
            timestamps: adapter.features().contains(wgpu::Features::TIMESTAMP_QUERY),
            features: FEATURES
                .into_iter()
                .filter(|(feature, _)| adapter.features().contains(*feature))
                .map(|(_, name)| name)
                .collect(),
        }
    }
}

/// The features that matter to kernels.
const FEATURES: [(wgpu::Features, &str); 5] = [
    (wgpu::Features::TIMESTAMP_QUERY, "timestamp-query"),
    (wgpu::Features::SUBGROUP, "subgroups"),
    (wgpu::Features::SHADER_F16, "shader-f16"),
    (wgpu::Features::IMMEDIATES, "immediates"),
    (wgpu::Features::PIPELINE_CACHE, "pipeline-cache"),
];

impl fmt::Display for AdapterInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {}, {})", self.name, self.kind.name(), self.backend, self.driver)
    }
}

/// How a GPU is opened; the default is the most capable adapter, with the checks that wgpu inserts into shaders left out
/// where this crate has made sure of what they check, unless the environment says `TILEWISE_GPU_CHECKED=1`.
///
/// ```
/// use tilewise_kernels::{Error, GpuOptions};
/// // Parts of names do, as do indices of `tilewise_kernels::gpu::adapters`.
/// let gpu = GpuOptions::default().adapter("no such card").open();
/// assert!(matches!(gpu, Err(Error::AdapterUnknown { .. } | Error::NoAdapter)));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuOptions {
    adapter: Option<String>,
    checked: bool,
    max_binding: Option<u64>,
    max_workgroups: Option<u32>,
}

impl Default for GpuOptions {
    fn default() -> Self {
        let checked = std::env::var_os("TILEWISE_GPU_CHECKED").is_some_and(|value| value == "1");
        GpuOptions { adapter: None, checked, max_binding: None, max_workgroups: None }
    }
}

impl GpuOptions {
    /// The adapter whose index this is, or whose name contains it (whatever the case of its letters).
    pub fn adapter(mut self, name_or_index: &str) -> Self {
        self.adapter = Some(name_or_index.to_owned());
        self
    }

    /// Whether shaders check every loop and division as they run, as those of a web page must. Inner loops are slower by it.
    pub fn checked(mut self, checked: bool) -> Self {
        self.checked = checked;
        self
    }

    /// Reach at most this many bytes of a buffer in one dispatch, though the device could more. For tests of what happens
    /// to tensors beyond the limit.
    pub fn max_binding(mut self, bytes: u64) -> Self {
        self.max_binding = Some(bytes);
        self
    }

    /// Use at most this many workgroups along one dimension of a dispatch, though the device could more. For tests of what
    /// happens to grids beyond the limit.
    pub fn max_workgroups(mut self, groups: u32) -> Self {
        self.max_workgroups = Some(groups);
        self
    }

    /// Opens it.
    ///
    /// # Errors
    /// [`Error::NoAdapter`], [`Error::AdapterUnknown`], or [`Error::Gpu`] if the driver gives no device.
    pub fn open(self) -> Result<super::Gpu> {
        super::Gpu::open(self)
    }
}

/// All adapters of this machine.
///
/// An empty list where there is no graphics driver.
pub fn adapters() -> Vec<AdapterInfo> {
    enumerate().iter().enumerate().map(|(i, adapter)| AdapterInfo::new(i, adapter)).collect()
}

fn enumerate() -> Vec<wgpu::Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::PRIMARY;
    // Set by the environment, as wgpu documents; no validation layers even in a debug build, where they are far slower
    // than the kernels.
    descriptor.flags = wgpu::InstanceFlags::empty().with_env();
    // A driver that fails to load is a driver that is not there.
    catch_unwind(AssertUnwindSafe(|| {
        let instance = wgpu::Instance::new(descriptor);
        pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY))
    }))
    .unwrap_or_default()
}

/// A device and its queue.
pub(super) struct Context {
    pub info: AdapterInfo,
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub checked: bool,
    /// Bytes that one binding may reach.
    pub max_binding: u64,
    /// Bytes that the offset of a binding must be a multiple of.
    pub alignment: u64,
    /// Workgroups along one dimension.
    pub max_workgroups: u32,
    lost: Arc<AtomicBool>,
}

impl Context {
    pub fn open(options: GpuOptions) -> Result<Self> {
        let adapters = enumerate();
        let infos: Vec<_> = adapters.iter().enumerate().map(|(i, a)| AdapterInfo::new(i, a)).collect();
        let info = choose(&infos, options.adapter.as_deref())?.clone();
        let adapter = &adapters[info.index];
        require(&adapter.limits())?;
        let wanted = wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::SUBGROUP;
        let request = adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("tilewise"),
            required_features: wanted & adapter.features(),
            required_limits: adapter.limits(),
            experimental_features: wgpu::ExperimentalFeatures::disabled(),
            memory_hints: wgpu::MemoryHints::Performance,
            trace: wgpu::Trace::Off,
        });
        let refused =
            |error: wgpu::RequestDeviceError| Error::Gpu { op: "gpu", message: error.to_string().into() };
        let (device, queue) = pollster::block_on(request).map_err(refused)?;
        let lost = Arc::new(AtomicBool::new(false));
        let flag = lost.clone();
        device.set_device_lost_callback(move |_, _| flag.store(true, Ordering::Release));
        // The default handler panics. What no scope has caught is either caught by the next one, or the device is lost.
        device.on_uncaptured_error(Arc::new(|_| {}));
        let limits = device.limits();
        Ok(Context {
            // Some drivers bind more, but shaders count in signed words.
            max_binding: options.max_binding.unwrap_or(u64::MAX).min(info.max_binding).min(i32::MAX as u64),
            // At least the smallest binding, four vectors' lanes, so that one fits wherever a buffer ends.
            alignment: u64::from(limits.min_storage_buffer_offset_alignment).max(16),
            max_workgroups: options.max_workgroups.unwrap_or(u32::MAX).min(info.max_workgroups).max(1),
            checked: options.checked,
            info,
            device,
            queue,
            lost,
        })
    }

    /// Marks the device as lost.
    pub fn give_up(&self) {
        self.lost.store(true, Ordering::Release);
    }

    /// Refuses to go on once the device is lost.
    pub fn alive(&self, op: &'static str) -> Result<()> {
        if self.lost.load(Ordering::Acquire) { Err(Error::DeviceLost { op }) } else { Ok(()) }
    }

    /// What to say of a failure that no scope reports.
    pub fn failure(&self, op: &'static str, cause: impl fmt::Display) -> Error {
        match self.alive(op) {
            Ok(()) => Error::Gpu { op, message: cause.to_string().into() },
            Err(lost) => lost,
        }
    }

    /// Runs `f` and turns into an error whatever the device says against it; `bytes` is what `f` allocates.
    pub fn guarded<T>(&self, op: &'static str, bytes: u64, f: impl FnOnce() -> T) -> Result<T> {
        self.alive(op)?;
        let scopes =
            [wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::OutOfMemory]
                .map(|filter| self.device.push_error_scope(filter));
        // naga and drivers have been seen to panic on what they do not expect.
        let result = catch_unwind(AssertUnwindSafe(f));
        let mut refused = None;
        // Scopes are popped in the order opposite to that of their making.
        for scope in scopes.into_iter().rev() {
            refused = pollster::block_on(scope.pop()).or(refused);
        }
        self.alive(op)?;
        match (result, refused) {
            (_, Some(wgpu::Error::OutOfMemory { .. })) => {
                Err(Error::OutOfMemory { op, bytes: usize::try_from(bytes).unwrap_or(usize::MAX) })
            }
            (_, Some(error)) => Err(Error::Gpu { op, message: error.to_string().into() }),
            (Err(panic), None) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic of the driver");
                Err(Error::Gpu { op, message: text.into() })
            }
            (Ok(value), None) => Ok(value),
        }
    }

    /// Waits for all that was submitted.
    pub fn wait(&self, op: &'static str) -> Result<()> {
        let outcome = self.device.poll(wgpu::PollType::wait_indefinitely());
        self.alive(op)?;
        outcome.map(|_| ()).map_err(|error| self.failure(op, error))
    }
}

/// What the kernels count on, which is what WebGPU promises of every device; a driver may offer less.
fn require(limits: &wgpu::Limits) -> Result<()> {
    let needs = [
        ("storage buffers of a shader", 8, limits.max_storage_buffers_per_shader_stage),
        ("invocations of a workgroup", 256, limits.max_compute_invocations_per_workgroup),
        ("bytes that a workgroup shares", 16 << 10, limits.max_compute_workgroup_storage_size),
    ];
    match needs.iter().find(|(_, needed, got)| got < needed) {
        None => Ok(()),
        Some(&(arg, needed, got)) => {
            Err(Error::invalid("gpu", arg, Expected::AtLeast(needed as usize), got as usize))
        }
    }
}

/// The adapter asked for, or the most capable one.
fn choose<'a>(adapters: &'a [AdapterInfo], asked: Option<&str>) -> Result<&'a AdapterInfo> {
    if adapters.is_empty() {
        return Err(Error::NoAdapter);
    }
    let found = match asked {
        None => adapters.iter().min_by_key(|adapter| adapter.kind.rank()),
        Some(asked) => {
            let by_name = || {
                let part = asked.to_lowercase();
                adapters.iter().find(|a| !part.is_empty() && a.name.to_lowercase().contains(&part))
            };
            asked.parse().ok().and_then(|i: usize| adapters.get(i)).or_else(by_name)
        }
    };
    found.ok_or_else(|| Error::AdapterUnknown {
        asked: asked.unwrap_or_default().into(),
        count: adapters.len(),
    })
}
