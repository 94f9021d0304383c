//! Where networks run.

use std::error::Error;

use clap::{ValueEnum, value_parser};
use tilewise_bench::gpu;
use tilewise_kernels::{Cpu, Gpu};

use crate::args::AdapterArg;

#[derive(clap::Args)]
pub struct DeviceArgs {
    /// Where the network runs
    #[arg(long, value_enum, default_value_t = Kind::Cpu)]
    device: Kind,
    #[command(flatten)]
    adapter: AdapterArg,
    /// The most threads of the CPU; they change no bit of the result [default: all]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=1024), allow_negative_numbers = true)]
    threads: Option<u16>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Cpu,
    Gpu,
}

/// A device, opened.
pub enum Device {
    Cpu(Cpu),
    Gpu(Gpu),
}

impl DeviceArgs {
    pub fn open(&self) -> Result<Device, Box<dyn Error>> {
        match self.device {
            Kind::Cpu => {
                self.adapter.refuse()?;
                let cpu = Cpu::new()?;
                Ok(Device::Cpu(self.threads.map_or(cpu, |threads| cpu.threads(threads.into()))))
            }
            Kind::Gpu if self.threads.is_some() => {
                Err("--threads: are of the CPU, which --device gpu leaves out".into())
            }
            Kind::Gpu => Ok(Device::Gpu(gpu::open(self.adapter.as_deref())?)),
        }
    }
}
