//! The check checked: it passes on right kernels, says so in full, and does not pass for having done nothing.

use tilewise_bench::case::{Case, Inputs, Op};
use tilewise_bench::check::{self, CheckOptions, kernels, oracle};
use tilewise_kernels::{Conv2dAlgo, Cpu, Isa};

#[test]
fn the_quick_suite_passes_on_everything_this_machine_has() {
    let options = CheckOptions::of_tests();
    let report = check::run(&options, &|_, _, _| {});
    assert!(report.passed(), "{:#?}", report.failures().collect::<Vec<_>>());
    let gpu = options.devices.gpu().map(|_| "gpu");
    for device in Isa::available().map(Isa::name).chain(gpu) {
        for op in Op::ALL {
            let ran = |r: &&check::Row| r.operator == op.name() && r.isa == device && r.cases > 0;
            assert!(report.rows.iter().any(|r| ran(&r)), "{op} on {device}");
        }
        for algo in Conv2dAlgo::ALL.into_iter().filter(|&algo| device != "gpu" || is_on_gpu(algo)) {
            assert!(
                report.rows.iter().any(|r| r.algo == algo.name() && r.isa == device),
                "{algo} on {device}"
            );
        }
    }
    assert_eq!(report.gpu.is_some(), gpu.is_some());
    assert!(serde_json::to_string(&report).is_ok());
}

/// Whether a GPU has an algorithm.
fn is_on_gpu(algo: Conv2dAlgo) -> bool {
    use Conv2dAlgo::{Depthwise, Direct, ImplicitGemm, Pointwise};
    matches!(algo, Depthwise | Direct | ImplicitGemm | Pointwise)
}

/// In sums of reals, too, losing any single term of 45 is seen; and so is any element that is off.
#[test]
fn a_lost_term_is_seen() {
    let cpu = Cpu::with_isa(Isa::Portable).unwrap();
    let case: Case = "n1c5h3w7_o4k3x3p1".parse().unwrap();
    let right = Inputs::generate(&case).unwrap();
    let target = oracle::targets(&case.problem, &right, case.numbers, None).remove(0);
    let solve = |inputs: &Inputs| kernels::solve(&cpu, &case.problem, inputs, None).unwrap().remove(0);
    assert!(target.compare(&solve(&right)).passed());
    for weight in 0..right.tensors[1].data().len() {
        let mut wrong = right.clone();
        wrong.tensors[1].data_mut()[weight] = 0.0;
        let comparison = target.compare(&solve(&wrong));
        assert!(!comparison.passed() && comparison.worst > 10.0, "weight {weight}: {comparison}");
    }
    for i in 0..target.value.len() {
        let mut wrong = solve(&right);
        wrong.data_mut()[i] += 1e-3;
        let comparison = target.compare(&wrong);
        assert_eq!((comparison.wrong, comparison.first.len()), (1, 1), "element {i}");
    }
}

#[test]
fn nothing_run_is_not_passed() {
    let case: Case = "n1c3h5w5_o4k3x3".parse().unwrap();
    let options =
        CheckOptions { algos: vec![Conv2dAlgo::Pointwise], case: Some(case), ..CheckOptions::default() };
    assert!(!check::run(&options, &|_, _, _| {}).passed());
}

#[test]
fn options_choose() {
    let options = CheckOptions {
        ops: vec![Op::Conv2d],
        isas: vec![Isa::Portable],
        algos: vec![Conv2dAlgo::Direct],
        ..CheckOptions::default()
    };
    let report = check::run(&options, &|_, _, _| {});
    assert!(report.passed());
    assert_eq!(report.rows.len(), 1);
    let row = &report.rows[0];
    assert_eq!((&*row.operator, &*row.isa, &*row.algo), ("conv2d", "portable", "direct"));
    assert!(row.cases > 20 && row.worst_error > 0.0 && row.worst_error <= 1.0 && row.tolerance > 0.0);
}

#[test]
fn a_problem_too_large_for_memory_is_refused_in_words() {
    let refused = "relu:n1000000c1000000h1000w1".parse::<Case>().unwrap_err().to_string();
    assert!(refused.contains("elements of inputs and outputs: expected at most"), "{refused}");
}
