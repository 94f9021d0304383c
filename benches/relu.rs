//! ReLU and its gradient, one thread, on every instruction set, on maps of three sizes. Ids: `relu/vgg1/relu/avx512/t1`,
//! `relu/vgg1/backward/relu/avx512/t1`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tilewise_bench::throughput::{ActivationBackwardCall, ActivationCall, MAPS, Work, Workload};
use tilewise_kernels::{Activation, Cpu, Isa};

fn relu(c: &mut Criterion) {
    for (name, shape) in MAPS {
        let mut group = c.benchmark_group(format!("relu/{name}"));
        for isa in Isa::available() {
            let cpu = Cpu::with_isa(isa).expect("it is available").threads(1);
            let mut call = ActivationCall::new(&cpu, Activation::Relu, shape).expect("a layer of a network");
            if let Work::Bytes(bytes) = call.work() {
                group.throughput(Throughput::Bytes(bytes as u64));
            }
            group.bench_function(format!("relu/{isa}/t1"), |b| b.iter(|| call.call()));
            let mut call =
                ActivationBackwardCall::new(&cpu, Activation::Relu, shape).expect("a layer of a network");
            if let Work::Bytes(bytes) = call.work() {
                group.throughput(Throughput::Bytes(bytes as u64));
            }
            group.bench_function(format!("backward/relu/{isa}/t1"), |b| b.iter(|| call.call()));
        }
        group.finish();
    }
}

criterion_group!(benches, relu);
criterion_main!(benches);
