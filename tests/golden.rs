//! Golden cases from PyTorch, and files that are none.

mod golden_networks;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::{Value, json};
use tilewise_bench::case::Op;
use tilewise_bench::check::{CheckOptions, CheckReport};
use tilewise_bench::golden::{self, GoldenError};
use tilewise_kernels::Conv2dAlgo;

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/operators.safetensors")
}

fn check(path: &Path) -> Result<CheckReport, GoldenError> {
    golden::run(&[path.to_owned()], &CheckOptions::of_tests(), &|_, _, _| {})
}

#[test]
fn pytorch_agrees() {
    let report = check(&committed()).unwrap();
    let failures: Vec<_> = report.failures().collect();
    assert!(report.passed(), "{failures:#?}");
    for op in Op::ALL.into_iter().filter(|&op| op != Op::Identity) {
        let rows: Vec<_> = report.rows.iter().filter(|r| r.operator == op.name()).collect();
        assert!(
            rows.iter().any(|r| r.isa == "reference" && r.algo == "f64" && r.cases > 0),
            "the oracle of {op} was not judged"
        );
        assert!(
            op.is_step() || rows.iter().any(|r| r.isa == "reference" && r.algo == "gradients" && r.cases > 0),
            "the gradients of {op} were not judged"
        );
        assert!(
            op.is_step() || rows.iter().any(|r| r.isa == "portable" && r.algo == "gradients" && r.cases > 0),
            "the gradients of {op} did not run"
        );
        assert!(rows.iter().any(|r| r.isa == "portable" && r.cases > 0), "{op} did not run");
        let on_gpu = rows.iter().any(|r| r.isa == "gpu" && r.cases > 0);
        assert_eq!(on_gpu, report.gpu.is_some(), "{op} did not run on the GPU");
    }
    for algo in Conv2dAlgo::ALL {
        assert!(report.rows.iter().any(|r| r.algo == algo.name() && r.cases > 0), "{algo} did not run");
    }
}

/// A file with one case of ReLU on `[1, -1]`, after `change`.
fn file(
    change: impl FnOnce(&mut Value, &mut HashMap<String, (Dtype, Vec<usize>, Vec<u8>)>),
) -> tempfile::NamedTempFile {
    let mut case = json!({
        "name": "relu_000", "op": "relu", "params": {}, "inputs": ["x"], "outputs": ["y"], "grads": []
    });
    let floats = |v: &[f32]| v.iter().flat_map(|f| f.to_le_bytes()).collect::<Vec<u8>>();
    let mut tensors = HashMap::from([
        ("relu_000/x".to_owned(), (Dtype::F32, vec![1, 1, 1, 2], floats(&[1.0, -1.0]))),
        ("relu_000/y".to_owned(), (Dtype::F32, vec![1, 1, 1, 2], floats(&[1.0, 0.0]))),
    ]);
    change(&mut case, &mut tensors);
    let cases = if case.is_null() { json!([]) } else { json!([case]) };
    let views: HashMap<&str, TensorView> = tensors
        .iter()
        .map(|(name, (dtype, shape, bytes))| {
            (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
        })
        .collect();
    let metadata = HashMap::from([("cases".to_owned(), cases.to_string())]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), serialize(views, Some(metadata)).unwrap()).unwrap();
    file
}

#[test]
fn a_right_file_passes_and_a_wrong_value_fails() {
    let report = check(file(|_, _| {}).path()).unwrap();
    assert!(report.passed(), "{report:?}");
    let wrong = file(|_, tensors| tensors.get_mut("relu_000/y").unwrap().2[0] ^= 1);
    let report = check(wrong.path()).unwrap();
    assert!(!report.passed());
    // The oracle and every device disagree with the file.
    assert_eq!(report.failures().count(), report.rows.len());
    assert!(report.failures().next().unwrap().repro.contains("tilewise check --op relu"));
}

/// Checks the case of [`file`] with a gradient beside it, which is called `name`, after `change`.
fn with_gradient(
    name: &str,
    gx: [f32; 2],
    change: impl FnOnce(&mut HashMap<String, (Dtype, Vec<usize>, Vec<u8>)>),
) -> CheckReport {
    let gradients = file(|case, tensors| {
        (case["inputs"], case["grads"]) = (json!(["x", "gy"]), json!([name]));
        let mut add = |name: &str, values: [f32; 2]| {
            let bytes = values.map(f32::to_le_bytes).concat();
            tensors.insert(format!("relu_000/{name}"), (Dtype::F32, vec![1, 1, 1, 2], bytes));
        };
        add("gy", [3.0, 5.0]);
        add(name, gx);
        change(tensors);
    });
    check(gradients.path()).unwrap()
}

#[test]
fn gradients_are_judged() {
    let report = with_gradient("gx", [3.0, 0.0], |_| {});
    assert!(report.passed(), "{report:?}");
    assert!(report.rows.iter().any(|r| r.isa == "reference" && r.algo == "gradients" && r.cases == 1));

    let failure = |report: CheckReport| {
        assert!(!report.passed());
        let failures: Vec<_> = report.failures().cloned().collect();
        // The oracle's row and that of every device: none of the outputs.
        let rows = report.rows.iter().filter(|r| r.algo == "gradients").count();
        assert_eq!(failures.len(), rows, "{failures:?}");
        assert!(failures.iter().all(|f| f.case.starts_with("relu_000/g")), "{failures:?}");
        failures[0].message.clone()
    };
    let message = failure(with_gradient("gx", [3.0f32.next_up(), 0.0], |_| {}));
    assert!(message.contains("1 of 2 elements wrong"), "{message}");
    let message = failure(with_gradient("gw", [3.0, 0.0], |_| {}));
    assert!(message.contains("gw is the gradient of no operand"), "{message}");
    let message = failure(with_gradient("gx", [3.0, 0.0], |t| drop(t.remove("relu_000/gy"))));
    assert!(message.contains("relu_000/gy: expected in the file"), "{message}");
    let message = failure(with_gradient("gx", [3.0, 0.0], |t| drop(t.remove("relu_000/gx"))));
    assert!(message.contains("relu_000/gx: expected in the file"), "{message}");
    let message = failure(with_gradient("gx", [3.0, 0.0], |t| t.get_mut("relu_000/gx").unwrap().1 = vec![2]));
    assert!(message.contains("expected 1x1x1x2, got 2x1x1x1"), "{message}");
}

#[test]
fn what_is_not_understood_is_a_failure() {
    let failure = |file: tempfile::NamedTempFile| {
        let report = check(file.path()).unwrap();
        assert!(!report.passed());
        let failure = report.failures().next().unwrap().clone();
        failure.message
    };
    let message = failure(file(|case, _| case["op"] = json!("relu7")));
    assert!(message.contains("expected one of") && message.contains("`relu7`"), "{message}");
    let message = failure(file(|case, _| case["params"] = json!({"inplace": true})));
    assert!(message.contains("unknown field `inplace`"), "{message}");
    let message = failure(file(|case, _| case["op"] = json!("softmax")));
    assert!(message.contains("missing field `axis`"), "{message}");
    let message = failure(file(|case, _| {
        case["op"] = json!("softmax");
        case["params"] = json!({"axis": -1});
    }));
    assert!(message.contains("params of softmax"), "{message}");
    let message = failure(file(|case, _| case["inputs"] = json!(["x", "z"])));
    assert!(message.contains("z is no operand"), "{message}");
    let message = failure(file(|_, tensors| drop(tensors.remove("relu_000/y"))));
    assert!(message.contains("relu_000/y: expected in the file"), "{message}");
    let message = failure(file(|_, tensors| tensors.get_mut("relu_000/y").unwrap().1 = vec![1, 1, 2, 1]));
    assert!(message.contains("expected 1x1x1x2, got 1x1x2x1"), "{message}");
    let message = failure(file(|_, tensors| tensors.get_mut("relu_000/x").unwrap().1 = vec![1, 1, 1, 1, 2]));
    assert!(message.contains("up to 4 dimensions"), "{message}");
    let message = failure(file(|_, tensors| tensors.get_mut("relu_000/y").unwrap().0 = Dtype::I32));
    assert!(message.contains("expected F32"), "{message}");
    let message = failure(file(|case, tensors| {
        case["op"] = json!("cross_entropy");
        case["params"] = json!({"reduction": "mean"});
        case["inputs"] = json!(["x", "labels"]);
        tensors.insert("relu_000/y".into(), (Dtype::F32, vec![], vec![0; 4]));
        tensors.insert(
            "relu_000/labels".into(),
            (Dtype::I64, vec![2], [1i64, 0].map(i64::to_le_bytes).concat()),
        );
    }));
    assert!(message.contains("labels: expected 0 to 0, got 1"), "{message}");
    let message = failure(file(|case, _| {
        case["op"] = json!("pad");
        case["params"] = json!({"padding": [0, u64::MAX, 0, 1], "value": 0});
    }));
    assert!(message.contains("pad: output"), "{message}");
}

#[test]
fn files_that_are_none_are_errors() {
    let malformed = |path: &Path| match check(path) {
        Err(GoldenError::Malformed { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert!(malformed(file(|case, _| *case = Value::Null).path()).contains("at least one entry"));
    assert!(
        malformed(file(|case, _| drop(case.as_object_mut().unwrap().remove("op"))).path()).contains("`op`")
    );
    let garbage = tempfile::NamedTempFile::new().unwrap();
    for bytes in [&b""[..], b"12345678", b"\xff\xff\xff\xff\xff\xff\xff\xff{}", b"\x02\0\0\0\0\0\0\0{}"] {
        std::fs::write(garbage.path(), bytes).unwrap();
        malformed(garbage.path());
    }
    // Every way to cut the committed file short.
    let whole = std::fs::read(committed()).unwrap();
    for len in [9, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(garbage.path(), &whole[..len]).unwrap();
        malformed(garbage.path());
    }
    assert!(matches!(check(Path::new("no/such/file")), Err(GoldenError::Read { .. })));
}

#[test]
fn an_operator_that_is_not_asked_for_is_not_run() {
    let options = CheckOptions { ops: vec![Op::Softmax], ..CheckOptions::default() };
    let report = golden::run(&[committed()], &options, &|_, _, _| {}).unwrap();
    assert!(report.passed() && report.rows.iter().all(|r| r.operator == "softmax"));
    let report = golden::run(&[file(|_, _| {}).path().to_owned()], &options, &|_, _, _| {}).unwrap();
    assert!(!report.passed(), "nothing ran, and that is no success");
}
