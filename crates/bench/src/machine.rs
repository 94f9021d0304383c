//! What the measurements are held against: the machine's name, its caches, and its two roofs, measured: f32
//! multiply-adds per second, and bytes from and to memory per second.

use std::fmt;
use std::fs;
use std::hint::black_box;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;
use tilewise_kernels::Isa;
use tilewise_kernels::simd::{Simd, SimdOp};

use crate::error::Result;
use crate::team::Team;

/// The processor, as far as the system tells.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// The name that the vendor gave it.
    pub cpu: String,
    /// Threads that it runs at once and that this process may use.
    pub threads: usize,
    /// Instruction sets that it has, slowest first, by name.
    pub isas: Vec<&'static str>,
    /// Data caches of one core, nearest first; empty where the system does not tell.
    pub caches: Vec<Cache>,
}

/// One data cache.
#[derive(Debug, Clone, Serialize)]
pub struct Cache {
    /// 1 is nearest to the core.
    pub level: u8,
    /// Its size.
    pub kib: usize,
}

impl Machine {
    /// Asks the system.
    pub fn detect() -> Self {
        Machine {
            cpu: cpu_name().unwrap_or_else(|| format!("unnamed {} processor", std::env::consts::ARCH)),
            threads: std::thread::available_parallelism().map_or(1, |n| n.get()),
            isas: Isa::available().map(Isa::name).collect(),
            caches: caches(),
        }
    }
}

/// One line: `AMD EPYC, 2 threads, portable avx2 avx512, L1 32K, L2 1M, L3 32M`.
impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.threads == 1 { "" } else { "s" };
        write!(f, "{}, {} thread{plural}, {}", self.cpu, self.threads, self.isas.join(" "))?;
        for Cache { level, kib } in &self.caches {
            match kib {
                kib if kib % 1024 == 0 => write!(f, ", L{level} {}M", kib / 1024)?,
                kib => write!(f, ", L{level} {kib}K")?,
            }
        }
        Ok(())
    }
}

/// Linux on x86 has a `model name`; other systems keep the name elsewhere or nowhere.
fn cpu_name() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// From Linux's `/sys`.
fn caches() -> Vec<Cache> {
    let read = |index: usize, field: &str| {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{field}");
        fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
    };
    let cache = |index| {
        Some(Cache {
            level: read(index, "level")?.parse().ok()?,
            kib: read(index, "size")?.strip_suffix('K')?.parse().ok()?,
        })
    };
    (0..8)
        .filter(|&index| read(index, "type").is_some_and(|kind| kind != "Instruction"))
        .filter_map(cache)
        .collect()
}

/// The most bytes of memory that this process has had so far; `None` where the system (other than Linux) does not tell.
pub fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Lets [`peak_memory`] begin anew, from what the process has now; `false` where the system cannot.
pub fn forget_peak_memory() -> bool {
    fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// The instruction set whose FMA peak a measurement is held against: its own, but the machine's best for
/// [`Isa::Portable`], which has no fused multiply-add on x86-64.
pub fn peak_isa(isa: Isa) -> Isa {
    match isa {
        Isa::Portable => Isa::available().last().unwrap_or(isa),
        fused => fused,
    }
}

/// FLOPs of one burst per thread: 2.4 ms at 112 GFLOP/s, less than a scheduler's slice of time.
const BURST: usize = 1 << 28;

/// Bursts, of which the median counts.
const BURSTS: usize = 7;

/// The most f32 multiply-adds that the team can do in registers, in GFLOP/s (a multiply-add is 2 FLOPs). The median of
/// seven bursts of a few milliseconds, as every time that is held against it is a median: the ratio of the two does
/// not take a changing clock or a busy neighbour for a slow kernel.
pub fn fma_peak(isa: Isa, team: &Team) -> f64 {
    let burst = |_: usize| {
        let start = Instant::now();
        team.broadcast(|_| isa.run(FmaChains));
        (team.threads() * BURST) as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    let mut rates: [f64; BURSTS] = std::array::from_fn(burst);
    rates.sort_by(f64::total_cmp);
    rates[BURSTS / 2]
}

/// Independent chains of `x = x * k + k`, as many as a kernel has accumulators: more than the 8 to 10 that two units
/// of 4 to 5 cycles' latency need, except on [`Isa::Portable`], where 6 vectors of two registers do the same.
struct FmaChains;

impl SimdOp for FmaChains {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match S::ISA {
            Isa::Portable => fma_chains::<S, 6>(simd),
            Isa::Avx2 | Isa::Avx512 => fma_chains::<S, 12>(simd),
        }
    }
}

#[inline(always)]
fn fma_chains<S: Simd, const CHAINS: usize>(simd: S) {
    // Towards 1 from different starts, so that no value is denormal and no two chains are one to the compiler.
    let k = simd.splat(black_box(0.5));
    let mut chains: [S::F32; CHAINS] = std::array::from_fn(|i| simd.splat(black_box(i as f32)));
    for _ in 0..BURST / (2 * S::LANES * CHAINS) {
        for x in &mut chains {
            *x = simd.mul_add(*x, k, k);
        }
    }
    black_box(chains.map(|x| simd.reduce_add(x)));
}

/// What memory gives to a team, in GB/s.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Bandwidth {
    /// Reading alone.
    pub read: f64,
    /// Copying: bytes read plus bytes written, as STREAM counts.
    pub copy: f64,
}

/// How much larger than the outermost cache a buffer is, so that what is read has left it.
const CACHES_PER_BUFFER: usize = 4;

/// Passes over the buffers, of which the best counts.
const PASSES: usize = 5;

/// Two buffers far larger than any cache, to measure [`Bandwidth`] with.
pub struct MemoryProbe {
    from: Vec<u64>,
    to: Vec<u64>,
}

impl MemoryProbe {
    /// Allocates and touches both: four times the outermost cache each, at least 128 MiB.
    ///
    /// # Errors
    /// [`tilewise_kernels::Error::OutOfMemory`].
    pub fn new(machine: &Machine) -> Result<Self> {
        let outermost = machine.caches.iter().map(|cache| cache.kib).max().unwrap_or(0) * 1024;
        let bytes = (CACHES_PER_BUFFER * outermost).max(128 << 20);
        let buffer = || -> Result<Vec<u64>> {
            let mut v = Vec::new();
            let refused = |_| tilewise_kernels::Error::OutOfMemory { op: "bandwidth", bytes };
            v.try_reserve_exact(bytes / size_of::<u64>()).map_err(refused)?;
            // Not zero: fresh zeros may all be one physical page.
            v.resize(bytes / size_of::<u64>(), 1);
            Ok(v)
        };
        Ok(MemoryProbe { from: buffer()?, to: buffer()? })
    }

    /// The best of five passes, each thread of the team in a part of its own.
    pub fn bandwidth(&mut self, team: &Team) -> Bandwidth {
        let MemoryProbe { from, to } = self;
        let bytes = size_of_val(from.as_slice());
        let part = from.len().div_ceil(team.threads());
        let read = best_rate(bytes, || {
            team.broadcast(|i| {
                let mine = from.chunks(part).nth(i).unwrap_or_default();
                black_box(mine.iter().fold(0u64, |sum, x| sum.wrapping_add(*x)));
            });
        });
        let copy = best_rate(2 * bytes, || {
            // Each thread locks the part of its own index: no lock is contended.
            let parts: Vec<_> = to.chunks_mut(part).map(Mutex::new).collect();
            team.broadcast(|i| {
                if let (Some(to), Some(from)) = (parts.get(i), from.chunks(part).nth(i)) {
                    to.lock().unwrap_or_else(PoisonError::into_inner).copy_from_slice(from);
                }
            });
        });
        black_box(to);
        Bandwidth { read, copy }
    }
}

/// The best rate of all passes, in GB/s.
fn best_rate(bytes: usize, mut pass: impl FnMut()) -> f64 {
    let once = |_| {
        let start = Instant::now();
        pass();
        bytes as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    (0..PASSES).map(once).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_line_names_every_isa() {
        let machine = Machine::detect();
        assert!(machine.threads >= 1);
        for isa in Isa::available() {
            assert!(machine.to_string().contains(isa.name()));
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_peak_of_memory_is_above_what_was_just_used() {
        let used = black_box(vec![1u8; 32 << 20]);
        assert!(peak_memory().unwrap() > used.len() as u64);
    }

    #[test]
    fn cache_sizes_are_printed_in_the_larger_unit() {
        let caches = vec![Cache { level: 1, kib: 48 }, Cache { level: 2, kib: 2048 }];
        let machine = Machine { cpu: "X".into(), threads: 1, isas: vec!["portable"], caches };
        assert_eq!(machine.to_string(), "X, 1 thread, portable, L1 48K, L2 2M");
    }

    #[test]
    fn portable_is_held_against_the_best_isa() {
        assert_eq!(Some(peak_isa(Isa::Portable)), Isa::available().last());
        assert_eq!(peak_isa(Isa::Avx2), Isa::Avx2);
    }
}
