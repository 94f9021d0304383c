//! `tilewise train` from outside: folders, flags, and what a kill leaves.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tilewise"));
    command.args(args).current_dir(folder).env_remove("TILEWISE_ISA");
    command
}

/// Exit code and both outputs.
fn run(folder: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = command(folder, args).output().expect("the binary was built");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).expect("text"))
}

/// A network that learns something from the digits in some seconds.
const SMALL: [&str; 11] =
    ["train", "cnn", "--blocks", "4,8", "--dense", "none", "--batch", "128", "--lr", "0.01", "--epochs"];

#[test]
fn a_training_has_its_folder_its_report_and_its_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let small = |more: &[&str]| run(folder.path(), &[&SMALL[..], more].concat());
    let (code, text) = small(&["3", "--json", "out.json", "--threads", "1"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("epoch   3/3") && text.contains("accuracy"), "{text}");
    let report: Value = serde_json::from_slice(&fs::read(folder.path().join("out.json")).unwrap()).unwrap();
    assert_eq!((&report["run"], &report["metrics"][0]), (&"runs/cnn".into(), &"accuracy".into()));
    assert!(report["best"]["metrics"][0].as_f64().unwrap() > 0.5, "{text}");
    for file in
        ["config.toml", "data.toml", "metrics.csv", "curves.svg", "best.safetensors", "last.safetensors"]
    {
        assert!(folder.path().join("runs/cnn").join(file).exists(), "{file}");
    }
    // The next one has a folder of its own, and is what the configuration of the first says.
    let (code, text) = run(folder.path(), &["train", "cnn", "--config", "runs/cnn/config.toml"]);
    assert_eq!(code, Some(0), "{text}");
    let read = |file: &str| fs::read(folder.path().join(file)).unwrap();
    assert_eq!(read("runs/cnn/last.safetensors"), read("runs/cnn-2/last.safetensors"));
    assert_eq!(read("runs/cnn/config.toml"), read("runs/cnn-2/config.toml"));
}

#[test]
fn a_bad_request_ends_with_2_and_says_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("bad.toml"), "[network]\nnet = 'unet'\nbsae = 8").unwrap();
    fs::write(folder.path().join("text.toml"), "no table").unwrap();
    for (args, parts) in [
        (&["train"][..], &["NET"][..]),
        (&["train", "cmm"], &["cmm", "autoencoder"]),
        (&["train", "--config", "bad.toml"], &["bad.toml", "network.bsae", "did you mean network.base?"]),
        (&["train", "cnn", "--config", "bad.toml"], &["expected cnn", "unet"]),
        (&["train", "--config", "text.toml"], &["text.toml", "TOML"]),
        (&["train", "--config", "none.toml"], &["none.toml"]),
        (&["train", "cnn", "--base", "8"], &["network.base"]),
        (&["train", "cnn", "--data", "no/such"], &["no/such"]),
        (&["train", "cnn", "--lr", "-1"], &["optimiser.lr"]),
        (&["train", "cnn", "--lrr", "1"], &["--lr"]),
        (&["train", "cnn", "--activation", "rleu"], &["rleu", "relu"]),
        (&["train", "cnn", "--device", "abacus"], &["abacus"]),
        (&["train", "cnn", "--adapter", "0"], &["--adapter"]),
        (&["train", "unet", "--data", "digits"], &["mask"]),
        (&["train", "cnn", "--lr", "1e30", "--optimiser", "sgd", "--out", "x"], &["diverged", "--lr"]),
        (&["train", "--resume"], &["--out"]),
    ] {
        let (code, text) = run(folder.path(), args);
        assert_eq!(code, Some(2), "{args:?}: {text}");
        assert!(parts.iter().all(|part| text.contains(part)), "{args:?}: {text}");
        assert!(!text.contains("panicked"), "{args:?}: {text}");
    }
}

/// Whatever moment it is: no epoch that was over is lost, no file is half there, and the end is the same to the bit.
#[test]
fn a_training_that_is_killed_again_and_again_ends_as_one_that_is_not() {
    let folder = tempfile::tempdir().unwrap();
    const EPOCHS: usize = 10;
    let epochs = EPOCHS.to_string();
    let args = |out| [&SMALL[..], &[&epochs, "--shift", "1", "--resume", "--out", out]].concat();
    let began = Instant::now();
    let (code, text) = run(folder.path(), &args("whole"));
    assert_eq!(code, Some(0), "{text}");
    let whole = began.elapsed();

    let finished = || {
        let csv = fs::read_to_string(folder.path().join("killed/metrics.csv"));
        csv.map_or(0, |csv| csv.lines().count().saturating_sub(1))
    };
    let (mut kills, mut before) = (0, 0);
    // Times that no two runs of the test share; each is long enough for an epoch or two, so that there is an end.
    let mut seed = std::process::id();
    loop {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let share = 0.1 + 0.3 * f64::from(seed >> 8) / f64::from(1 << 24);
        let mut child = command(folder.path(), &args("killed"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary was built");
        let until =
            Instant::now() + Duration::from_secs_f64(whole.as_secs_f64() * share * f64::from(kills / 8 + 1));
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if Instant::now() > until {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            thread::sleep(Duration::from_millis(1));
        };
        let now = finished();
        assert!(now >= before, "an epoch was lost: {before}, then {now}");
        before = now;
        match status {
            Some(status) => {
                let mut text = String::new();
                std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut text).unwrap();
                assert!(status.success(), "{text}");
                break;
            }
            None => kills += 1,
        }
    }
    assert!(kills > 0, "the training was faster than the first kill");
    assert_eq!(finished(), EPOCHS);
    for file in ["last.safetensors", "best.safetensors"] {
        let [whole, killed] =
            ["whole", "killed"].map(|run| fs::read(folder.path().join(run).join(file)).unwrap());
        assert_eq!(whole, killed, "{file} after {kills} kills");
    }
}

#[test]
fn a_gpu_trains_as_well() {
    if tilewise_bench::gpu::of_tests().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let args = [&SMALL[..], &["2", "--device", "gpu", "--adapter", "0", "--json", "out.json"]].concat();
    let (code, text) = run(folder.path(), &args);
    assert_eq!(code, Some(0), "{text}");
    let report: Value = serde_json::from_slice(&fs::read(folder.path().join("out.json")).unwrap()).unwrap();
    let cpu = [&SMALL[..], &["2", "--json", "cpu.json"]].concat();
    assert_eq!(run(folder.path(), &cpu).0, Some(0));
    let cpu: Value = serde_json::from_slice(&fs::read(folder.path().join("cpu.json")).unwrap()).unwrap();
    let loss = |report: &Value| report["epochs"][0]["train_loss"].as_f64().unwrap();
    assert!((loss(&report) / loss(&cpu) - 1.0).abs() < 1e-2, "{} and {}", loss(&report), loss(&cpu));
}
