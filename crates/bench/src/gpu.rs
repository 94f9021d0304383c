//! The GPU of a run: opened once, and missed aloud where there is none.

use std::fmt;
use std::io::Write;
use std::sync::OnceLock;

use serde::Serialize;
use tilewise_kernels::gpu::{AdapterInfo, adapters};
use tilewise_kernels::{Error, Gpu, GpuOptions, Result};

/// Set to 1 where a missing GPU is a failure and nothing to pass over.
pub const REQUIRED: &str = "TILEWISE_REQUIRE_GPU";

/// How to get a GPU, in one line.
pub const HOW_TO_GET_ONE: &str = "no GPU: one comes with its graphics driver (Vulkan, Metal or Direct3D 12); without the \
     hardware, with Mesa's software driver (Debian: apt-get install mesa-vulkan-drivers)";

/// Whether a missing GPU is a failure.
pub fn is_required() -> bool {
    std::env::var_os(REQUIRED).is_some_and(|value| !value.is_empty() && value != "0")
}

/// Opens the adapter of this name or index, or else the most capable one.
///
/// # Errors
/// [`Error::NoAdapter`], [`Error::AdapterUnknown`], or [`Error::Gpu`] if the driver gives no device.
pub fn open(adapter: Option<&str>) -> Result<Gpu> {
    let options = GpuOptions::default();
    match adapter {
        Some(name_or_index) => options.adapter(name_or_index).open(),
        None => options.open(),
    }
}

/// As [`open`], but where there is none, and none was asked for by name or [`is_required`], that is no error.
///
/// # Errors
/// As there.
pub fn find(adapter: Option<&str>) -> Result<Option<Gpu>> {
    match open(adapter) {
        Err(Error::NoAdapter) if adapter.is_none() && !is_required() => Ok(None),
        other => other.map(Some),
    }
}

/// The GPU that the tests of this process share; where there is none, says so, once, on standard error.
///
/// # Panics
/// If there is none though [`is_required`], or it cannot be opened.
pub fn of_tests() -> Option<&'static Gpu> {
    static GPU: OnceLock<Option<Gpu>> = OnceLock::new();
    let open = || {
        let found = find(None).unwrap_or_else(|error| panic!("{REQUIRED} is set, but {error}"));
        if found.is_none() {
            // Past the test harness, which keeps what a passing test prints to itself.
            let _ = writeln!(std::io::stderr(), "\nGPU TESTS ARE SKIPPED: {HOW_TO_GET_ONE}\n");
        }
        found
    };
    GPU.get_or_init(open).as_ref()
}

/// An adapter as reports have it.
#[derive(Debug, Clone, Serialize)]
pub struct Adapter {
    /// Its number, for `--adapter`.
    pub index: usize,
    /// As its driver calls it.
    pub name: String,
    /// `discrete`, `integrated`, `virtual`, `cpu` or `other`.
    pub kind: &'static str,
    /// `vulkan`, `metal` or `dx12`.
    pub backend: &'static str,
    /// The driver and its version.
    pub driver: String,
    /// Bytes of the largest buffer.
    pub max_buffer: u64,
    /// Bytes of a buffer that one dispatch can reach.
    pub max_binding: u64,
    /// Bytes of memory shared by a workgroup.
    pub workgroup_memory: u32,
    /// Invocations of a workgroup.
    pub workgroup_size: u32,
    /// Workgroups along one dimension of a dispatch.
    pub max_workgroups: u32,
    /// Optional abilities, as WebGPU spells them.
    pub features: Vec<&'static str>,
}

impl Adapter {
    /// All of this machine.
    pub fn all() -> Vec<Self> {
        adapters().into_iter().map(Adapter::from).collect()
    }
}

impl From<AdapterInfo> for Adapter {
    fn from(info: AdapterInfo) -> Self {
        Adapter {
            index: info.index,
            name: info.name,
            kind: info.kind.name(),
            backend: info.backend,
            driver: info.driver,
            max_buffer: info.max_buffer,
            max_binding: info.max_binding,
            workgroup_memory: info.workgroup_memory,
            workgroup_size: info.workgroup_size,
            max_workgroups: info.max_workgroups,
            features: info.features,
        }
    }
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes >> 20;
        writeln!(f, "GPU {}: {} ({}, {}, {})", self.index, self.name, self.kind, self.backend, self.driver)?;
        writeln!(
            f,
            "  buffers up to {} MiB, {} MiB at once; workgroups of {} invocations with {} KiB, {} along a dimension",
            mib(self.max_buffer),
            mib(self.max_binding),
            self.workgroup_size,
            self.workgroup_memory >> 10,
            self.max_workgroups
        )?;
        write!(f, "  features: {}", self.features.join(", "))
    }
}
