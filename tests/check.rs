//! The check checked: it passes on right kernels, says so in full, and does not pass for having done nothing.

use tilewise_bench::case::{Case, Inputs, Numbers, Op};
use tilewise_bench::check::{self, CheckOptions, kernels, oracle};
use tilewise_kernels::{Conv2dAlgo, Cpu, Isa};

#[test]
fn the_quick_suite_passes_on_everything_this_machine_has() {
    let report = check::run(&CheckOptions::default(), &|_, _, _| {});
    assert!(report.passed(), "{:#?}", report.failures().collect::<Vec<_>>());
    for isa in Isa::available() {
        for op in Op::ALL {
            let ran = |r: &&check::Row| r.operator == op.name() && r.isa == isa.name() && r.cases > 0;
            assert!(report.rows.iter().any(|r| ran(&r)), "{op} on {isa}");
        }
        for algo in Conv2dAlgo::ALL {
            assert!(report.rows.iter().any(|r| r.algo == algo.name() && r.isa == isa.name()), "{algo}");
        }
    }
    assert!(serde_json::to_string(&report).is_ok());
}

/// Every element of every case of the suite, when it is off by a little more than rounding can explain, is seen.
#[test]
fn an_error_in_any_element_is_seen() {
    let cpu = Cpu::with_isa(Isa::Portable).unwrap();
    for text in ["n1c5h3w7_o4k3x3p1", "n1c5h3w7_o4k3x3p1+ints", "avg_pool2d:n1c2h6w6_k2x2", "gelu:n1c1h3w5"] {
        let case: Case = text.parse().unwrap();
        let inputs = Inputs::generate(&case).unwrap();
        let targets = oracle::targets(&case.problem, &inputs, case.numbers);
        let right = kernels::solve(&cpu, &case.problem, &inputs, None).unwrap().remove(0);
        assert!(targets[0].compare(&right).passed());
        for i in 0..right.data().len() {
            let mut wrong = right.clone();
            let v = &mut wrong.data_mut()[i];
            *v += if case.numbers == Numbers::Integer { 1.0 } else { 1e-5 * (v.abs() + 1.0) };
            let comparison = targets[0].compare(&wrong);
            assert_eq!((comparison.wrong, comparison.first.len()), (1, 1), "{text}, element {i}");
            assert!(comparison.worst > 1.0);
        }
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
fn a_problem_too_large_for_memory_is_a_failure_in_words() {
    let case: Case = "relu:n1000000c1000000h1000w1".parse().unwrap();
    let report = check::run(&CheckOptions { case: Some(case), ..CheckOptions::default() }, &|_, _, _| {});
    assert!(!report.passed());
    assert!(report.failures().all(|f| f.message.contains("out of memory")), "{report:?}");
}
