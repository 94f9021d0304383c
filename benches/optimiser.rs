//! Steps of the optimisers, one thread, on every instruction set. Ids: `optimiser/resnet50/adam/avx512/t1`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tilewise_bench::throughput::{COUNTS, OptimiserCall, STEPS, Work, Workload};
use tilewise_kernels::{Cpu, Isa};

fn optimiser(c: &mut Criterion) {
    for (_, network, count) in COUNTS {
        let mut group = c.benchmark_group(format!("optimiser/{network}"));
        for isa in Isa::available() {
            let cpu = Cpu::with_isa(isa).expect("it is available").threads(1);
            for (name, step) in STEPS {
                let mut call = OptimiserCall::new(&cpu, step, count).expect("memory");
                if let Work::Bytes(bytes) = call.work() {
                    group.throughput(Throughput::Bytes(bytes as u64));
                }
                group.bench_function(format!("{name}/{isa}/t1"), |b| b.iter(|| call.call()));
            }
        }
        group.finish();
    }
}

criterion_group!(benches, optimiser);
criterion_main!(benches);
