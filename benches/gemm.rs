//! The matrix product (fully connected layer), planned, one thread, on every instruction set. Ids:
//! `gemm/gemm_512/gemm/avx512/t1`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tilewise_bench::throughput::{GemmCall, PRODUCTS, Workload};
use tilewise_kernels::{Cpu, Isa};

fn gemm(c: &mut Criterion) {
    for (_, name, size) in PRODUCTS {
        let mut group = c.benchmark_group(format!("gemm/{name}"));
        let [m, k, n] = size.map(|extent| extent as u64);
        group.throughput(Throughput::Elements(2 * m * k * n));
        for isa in Isa::available() {
            let cpu = Cpu::with_isa(isa).expect("it is available").threads(1);
            let mut call = GemmCall::new(&cpu, size).expect("a layer of a network");
            group.bench_function(format!("gemm/{isa}/t1"), |b| b.iter(|| call.call()));
        }
        group.finish();
    }
}

criterion_group!(benches, gemm);
criterion_main!(benches);
