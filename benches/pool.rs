//! Pooling and its gradient, one thread, on every instruction set. Ids: `pool/res_pool1/max_pool2d/avx512/t1`,
//! `pool/res_pool1/backward/max_pool2d/avx512/t1`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tilewise_bench::throughput::{POOLINGS, PoolBackwardCall, PoolCall, Work, Workload};
use tilewise_kernels::{Cpu, Isa};

fn pool(c: &mut Criterion) {
    for (_, name, pooling, input) in POOLINGS {
        let mut group = c.benchmark_group(format!("pool/{name}"));
        for isa in Isa::available() {
            let cpu = Cpu::with_isa(isa).expect("it is available").threads(1);
            let mut call = PoolCall::new(&cpu, pooling, input).expect("a layer of a network");
            if let Work::Bytes(bytes) = call.work() {
                group.throughput(Throughput::Bytes(bytes as u64));
            }
            group.bench_function(format!("{}/{isa}/t1", pooling.name()), |b| b.iter(|| call.call()));
            let mut call = PoolBackwardCall::new(&cpu, pooling, input).expect("a layer of a network");
            if let Work::Bytes(bytes) = call.work() {
                group.throughput(Throughput::Bytes(bytes as u64));
            }
            group.bench_function(format!("backward/{}/{isa}/t1", pooling.name()), |b| b.iter(|| call.call()));
        }
        group.finish();
    }
}

criterion_group!(benches, pool);
criterion_main!(benches);
