//! Convolution + bias + ReLU, planned, one thread: the layers of the core suite on every instruction set, by the algorithm
//! that the plan chooses. Ids: `conv2d/unet_in/direct/avx512/t1`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tilewise_bench::suites::networks::{CORE, suite};
use tilewise_bench::throughput::{ConvCall, Workload};
use tilewise_kernels::{Cpu, Isa};

fn conv2d(c: &mut Criterion) {
    for layer in suite(CORE).expect("it exists") {
        let mut group = c.benchmark_group(format!("conv2d/{}", layer.name));
        group.throughput(Throughput::Elements((2.0 * layer.shape.macs()) as u64));
        for isa in Isa::available() {
            let cpu = Cpu::with_isa(isa).expect("it is available").threads(1);
            let mut call = ConvCall::new(&cpu, &layer.shape, None).expect("a layer of a network");
            group.bench_function(format!("{}/{isa}/t1", call.algo()), |b| b.iter(|| call.call()));
        }
        group.finish();
    }
}

criterion_group!(benches, conv2d);
criterion_main!(benches);
