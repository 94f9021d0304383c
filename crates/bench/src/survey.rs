//! The machine with its roofs, measured: what `tilewise info` prints.

use std::fmt;

use serde::Serialize;
use tilewise_kernels::Isa;

use crate::error::Result;
use crate::gpu::{Adapter, HOW_TO_GET_ONE};
use crate::machine::{Bandwidth, Machine, MemoryProbe, fma_peak};
use crate::team::Team;

/// The machine and what it can do at most.
#[derive(Debug, Clone, Serialize)]
pub struct Survey {
    /// What the system tells.
    pub machine: Machine,
    /// The instruction set that kernels use unless told otherwise.
    pub selected: &'static str,
    /// What one thread and all threads reach.
    pub roofs: Vec<Roofs>,
    /// The GPUs, or what stands for them.
    pub gpus: Vec<Adapter>,
}

/// What a number of threads reaches together.
#[derive(Debug, Clone, Serialize)]
pub struct Roofs {
    /// How many.
    pub threads: usize,
    /// f32 multiply-adds in registers, for each instruction set.
    pub peaks: Vec<Peak>,
    /// Memory beyond all caches, in GB/s.
    pub bandwidth: Bandwidth,
}

/// The FMA peak of an instruction set.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Peak {
    /// Its name.
    pub isa: &'static str,
    /// Multiply-adds, 2 FLOPs each.
    pub gflops: f64,
}

impl Survey {
    /// Measures; takes about a second.
    ///
    /// # Errors
    /// If `TILEWISE_ISA` names what is not there, threads cannot be started, or memory runs out.
    pub fn new() -> Result<Self> {
        let machine = Machine::detect();
        let selected = Isa::selected()?.name();
        let mut memory = MemoryProbe::new(&machine)?;
        let mut counts = vec![1, machine.threads];
        counts.dedup();
        let roofs = counts
            .into_iter()
            .map(|threads| {
                let team = Team::new(threads)?;
                let peak = |isa: Isa| Peak { isa: isa.name(), gflops: fma_peak(isa, &team) };
                Ok(Roofs {
                    threads,
                    peaks: Isa::available().map(peak).collect(),
                    bandwidth: memory.bandwidth(&team),
                })
            })
            .collect::<Result<_>>()?;
        Ok(Survey { machine, selected, roofs, gpus: Adapter::all() })
    }
}

impl fmt::Display for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.machine)?;
        writeln!(f, "instruction set in use: {} (TILEWISE_ISA forces another)", self.selected)?;
        for Roofs { threads, peaks, bandwidth } in &self.roofs {
            let plural = if *threads == 1 { " " } else { "s" };
            write!(f, "{threads} thread{plural}: FMA peak")?;
            for (i, Peak { isa, gflops }) in peaks.iter().enumerate() {
                write!(f, "{} {isa} {gflops:.0}", if i == 0 { "" } else { "," })?;
            }
            writeln!(f, " GFLOP/s; memory read {:.1}, copy {:.1} GB/s", bandwidth.read, bandwidth.copy)?;
        }
        if self.gpus.is_empty() {
            writeln!(f, "{HOW_TO_GET_ONE}")?;
        }
        self.gpus.iter().try_for_each(|gpu| writeln!(f, "{gpu}"))
    }
}
