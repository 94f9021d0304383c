//! Convolution + bias + ReLU and the gradients of convolution, planned, one thread: the layers of the core suite on every
//! instruction set, by the algorithm that the plan chooses. Ids: `conv2d/unet_in/direct/avx512/t1` and, of the gradients,
//! `conv2d/unet_in/input/implicit_gemm/avx512/t1` and `conv2d/unet_in/weights/gemm/avx512/t1`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tilewise_bench::suites::networks::{CORE, suite};
use tilewise_bench::throughput::{ConvCall, ConvInputCall, ConvWeightsCall, Workload};
use tilewise_kernels::{Cpu, Isa};

fn conv2d(c: &mut Criterion) {
    for layer in suite(CORE).expect("it exists") {
        let mut group = c.benchmark_group(format!("conv2d/{}", layer.name));
        group.throughput(Throughput::Elements((2.0 * layer.shape.macs()) as u64));
        for isa in Isa::available() {
            let cpu = Cpu::with_isa(isa).expect("it is available").threads(1);
            let mut call = ConvCall::new(&cpu, &layer.shape, None).expect("a layer of a network");
            group.bench_function(format!("{}/{isa}/t1", call.algo()), |b| b.iter(|| call.call()));
            let mut call = ConvInputCall::new(&cpu, &layer.shape).expect("a layer of a network");
            group.bench_function(format!("input/{}/{isa}/t1", call.algo()), |b| b.iter(|| call.call()));
            let mut call = ConvWeightsCall::new(&cpu, &layer.shape).expect("a layer of a network");
            group.bench_function(format!("weights/{}/{isa}/t1", call.algo()), |b| b.iter(|| call.call()));
        }
        group.finish();
    }
}

criterion_group!(benches, conv2d);
criterion_main!(benches);
