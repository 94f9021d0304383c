//! Golden networks from PyTorch, and files that are none.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde_json::Value;
use tilewise_bench::case::Op;
use tilewise_bench::check::{CheckOptions, CheckReport};
use tilewise_bench::golden::network::{INFER, TRAIN};
use tilewise_bench::golden::{self, GoldenError};
use tilewise_kernels::Isa;

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/networks.safetensors")
}

/// On one instruction set: what is wrong with a file is so on all.
fn check(paths: &[&Path]) -> Result<CheckReport, GoldenError> {
    let options = CheckOptions { isas: vec![Isa::Portable], ..CheckOptions::default() };
    let paths: Vec<_> = paths.iter().map(|path| path.to_path_buf()).collect();
    golden::run(&paths, &options, &|_, _, _| {})
}

#[test]
fn pytorch_agrees_on_networks() {
    let report = golden::run(&[committed()], &CheckOptions::of_tests(), &|_, _, _| {}).unwrap();
    let failures: Vec<_> = report.failures().collect();
    assert!(report.passed(), "{failures:#?}");
    let devices = Isa::available().map(Isa::name).chain(report.gpu.is_some().then_some("gpu"));
    for device in devices {
        for (net, cases) in [("unet", 4), ("cnn", 2), ("autoencoder", 1)] {
            for algo in [INFER, TRAIN] {
                let same = |r: &&tilewise_bench::check::Row| {
                    (r.operator.as_str(), r.isa.as_str(), r.algo.as_str()) == (net, device, algo)
                };
                assert_eq!(
                    report.rows.iter().find(same).map(|r| r.cases),
                    Some(cases),
                    "{net} {device} {algo}"
                );
            }
        }
    }
}

type Tensors = HashMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// A file of one network alone, after `change` of its metadata and tensors.
fn file(
    name: &str,
    change: impl FnOnce(&mut HashMap<String, String>, &mut Tensors),
) -> tempfile::NamedTempFile {
    let bytes = std::fs::read(committed()).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let list: Vec<Value> = serde_json::from_str(&header.metadata().as_ref().unwrap()["networks"]).unwrap();
    let entry = list.iter().find(|entry| entry["name"] == name).unwrap();
    let text = |key: &str| entry[key].as_str().unwrap().to_owned();
    let mut metadata = HashMap::from([
        ("net".to_owned(), text("net")),
        ("loss".to_owned(), text("loss")),
        ("config".to_owned(), entry["config"].to_string()),
    ]);
    let prefix = format!("{name}/");
    let all = SafeTensors::deserialize(&bytes).unwrap();
    let own = all.iter().filter_map(|(full, view)| {
        let name = full.strip_prefix(&prefix)?.to_owned();
        Some((name, (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
    });
    let mut tensors: Tensors = own.collect();
    change(&mut metadata, &mut tensors);
    write(metadata, &tensors)
}

fn write(metadata: HashMap<String, String>, tensors: &Tensors) -> tempfile::NamedTempFile {
    let views = tensors
        .iter()
        .map(|(name, (dtype, dims, bytes))| (name, TensorView::new(*dtype, dims.clone(), bytes).unwrap()));
    let file = tempfile::Builder::new().suffix(".safetensors").tempfile().unwrap();
    std::fs::write(file.path(), serialize(views, Some(metadata)).unwrap()).unwrap();
    file
}

#[test]
fn a_file_of_one_network_is_one_too_and_so_is_a_folder() {
    let one = file("cnn", |_, tensors| {
        // What PyTorch keeps beside a batch norm does not matter.
        tensors.insert("bn.num_batches_tracked".into(), (Dtype::I64, vec![], vec![0; 8]));
    });
    let report = check(&[one.path()]).unwrap();
    assert!(report.passed(), "{report:?}");
    assert_eq!(report.cases(), 2);

    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(check(&[folder.path()]), Err(GoldenError::Malformed { .. })), "an empty folder");
    for name in ["b.safetensors", "a.safetensors", "notes.txt"] {
        std::fs::copy(one.path(), folder.path().join(name)).unwrap();
    }
    assert_eq!(check(&[folder.path(), one.path()]).unwrap().cases(), 3 * 2);
}

/// The failures of a file, all of its rows.
fn failures(file: tempfile::NamedTempFile) -> Vec<String> {
    let report = check(&[file.path()]).unwrap();
    assert!(!report.passed());
    report.failures().map(|failure| failure.message.clone()).collect()
}

#[test]
fn a_wrong_number_fails() {
    let halve = |tensors: &mut Tensors, name: &str| {
        let bytes = &mut tensors.get_mut(name).unwrap().2;
        let value = f32::from_le_bytes(bytes[..4].try_into().unwrap()) * 0.5;
        bytes[..4].copy_from_slice(&value.to_le_bytes());
    };
    let wrong = failures(file("cnn", |_, tensors| halve(tensors, "golden/y")));
    assert!(wrong.len() == 1 && wrong[0].contains("1 of 60 elements wrong"), "{wrong:?}");
    let wrong = failures(file("cnn", |_, tensors| halve(tensors, "golden/losses")));
    assert!(wrong.len() == 1 && wrong[0].starts_with("losses: 1 of 5 elements wrong"), "{wrong:?}");
    // A wrong weight changes the output, and the losses.
    let wrong = failures(file("cnn", |_, tensors| halve(tensors, "fc2.bias")));
    assert_eq!(wrong.len(), 2, "{wrong:?}");
}

#[test]
fn what_is_not_understood_says_so() {
    let message = |change: &dyn Fn(&mut HashMap<String, String>, &mut Tensors)| {
        let messages = failures(file("cnn", change));
        assert_eq!(messages.len(), 1, "{messages:?}");
        messages[0].clone()
    };
    let with = |key: &'static str, value: &'static str| {
        message(&|metadata, _| drop(metadata.insert(key.into(), value.into())))
    };
    assert!(with("net", "transformer").contains("expected unet, cnn or autoencoder, got \"transformer\""));
    assert!(with("loss", "hinge").contains("got \"hinge\""));
    assert!(with("config", "[1, 2").starts_with("config: "));
    assert!(
        with("config", "{\"in_channels\": 1, \"size\": 12}").contains("classes: expected a number for cnn")
    );
    let other = with("config", "{\"in_channels\": 1, \"size\": 16, \"classes\": 10}");
    assert!(other.contains("fc1.weight (expected [24, 256], got [24, 144])"), "{other}");

    let without = |name: &'static str| message(&|_, tensors| drop(tensors.remove(name)));
    assert!(without("conv2.bias").contains("missing: conv2.bias"));
    assert!(without("golden/x").contains("golden/x: expected in the file"));
    assert!(without("golden/losses").contains("golden/losses: expected in the file"));
    let extra = message(&|_, tensors| {
        let bias = tensors["fc1.bias"].clone();
        tensors.insert("extra.bias".into(), bias);
    });
    assert!(extra.contains("not of this network: extra.bias"), "{extra}");
    let label = message(&|_, tensors| tensors.get_mut("golden/target").unwrap().2[0] = 10);
    assert!(label.contains("tensor target: expected 0 to 9, got 10"), "{label}");
    let labels = message(&|_, tensors| {
        let floats = tensors["golden/y"].clone();
        tensors.insert("golden/target".into(), floats);
    });
    assert!(labels.contains("tensor target: expected 6 I64, got 60 F32"), "{labels}");
    let shape = message(&|_, tensors| tensors.get_mut("golden/y").unwrap().1 = vec![10, 6]);
    assert!(shape.contains("tensor y: expected 6x10x1x1, got 10x6x1x1"), "{shape}");
}

#[test]
fn metadata_that_are_not_whole_are_errors() {
    let malformed = |file: tempfile::NamedTempFile| match check(&[file.path()]) {
        Err(GoldenError::Malformed { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    let what = malformed(file("cnn", |metadata, _| drop(metadata.remove("loss"))));
    assert!(what.contains("`loss`: expected beside `net`"), "{what}");
    assert!(malformed(file("cnn", |metadata, _| metadata.clear())).contains("`networks`"));
    let networks = |list: &str| HashMap::from([("networks".to_owned(), list.to_owned())]);
    assert!(malformed(write(networks("[]"), &Tensors::new())).contains("at least one entry"));
    assert!(malformed(write(networks("[{\"name\": 1}]"), &Tensors::new())).contains("`networks`"));
}

#[test]
fn operators_and_algorithms_asked_for_leave_networks_out() {
    let options = CheckOptions { ops: vec![Op::Relu], isas: vec![Isa::Portable], ..CheckOptions::default() };
    let report = golden::run(&[committed()], &options, &|_, _, _| {}).unwrap();
    assert!(report.rows.is_empty() && !report.passed());
}
