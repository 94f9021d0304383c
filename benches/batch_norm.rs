//! Batch normalisation in training and its gradients, one thread, on every instruction set. Ids:
//! `batch_norm/unet_enc1/forward/avx512/t1`, `batch_norm/unet_enc1/backward/avx512/t1`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tilewise_bench::throughput::{BatchNormCall, NORMS, Pass, Work, Workload};
use tilewise_kernels::{Cpu, Isa};

fn batch_norm(c: &mut Criterion) {
    for (_, name, shape) in NORMS {
        let mut group = c.benchmark_group(format!("batch_norm/{name}"));
        for isa in Isa::available() {
            let cpu = Cpu::with_isa(isa).expect("it is available").threads(1);
            for pass in [Pass::Forward, Pass::Backward] {
                let mut call = BatchNormCall::new(&cpu, shape, pass).expect("a layer of a network");
                if let Work::Bytes(bytes) = call.work() {
                    group.throughput(Throughput::Bytes(bytes as u64));
                }
                group.bench_function(format!("{}/{isa}/t1", pass.name()), |b| b.iter(|| call.call()));
            }
        }
        group.finish();
    }
}

criterion_group!(benches, batch_norm);
criterion_main!(benches);
