//! What people do with networks, on the command line: exit codes, messages, files.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Exit code and both outputs.
fn run(folder: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tilewise"))
        .args(args)
        .current_dir(folder)
        .env_remove("TILEWISE_ISA")
        .output()
        .expect("the binary was built");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).expect("text"))
}

fn json(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn bench_model_tells_time_rate_and_memory() {
    let folder = tempfile::tempdir().unwrap();
    for mode in ["infer", "train"] {
        let flags = ["--base", "2", "--size", "16", "--batch", "2", "--mode", mode, "--time", "0.01"];
        let args = [&["bench", "model", "unet", "--json", "row.json"], &flags[..]].concat();
        let (code, text) = run(folder.path(), &args);
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("2x3x16x16") && text.contains("| unet2"), "{text}");
        let row = &json(folder.path().join("row.json"))[0];
        for key in ["median_ms", "images_per_s", "gflops"] {
            assert!(row[key].as_f64().unwrap() > 0.0, "{key}: {row}");
        }
        assert!(!cfg!(target_os = "linux") || row["peak_memory_bytes"].as_u64().unwrap() > 1 << 20, "{row}");
    }
    let (code, text) = run(folder.path(), &["bench", "model", "lenet", "--base", "8"]);
    assert!(code == Some(2) && text.contains("--base"), "{text}");
    let (code, text) = run(folder.path(), &["bench", "model", "unet", "--size", "8", "--time", "0.01"]);
    assert!(code == Some(2) && text.contains("max_pool2d"), "{text}");
}

#[test]
fn detect_finds_and_draws_and_takes_weights_back() {
    let folder = tempfile::tempdir().unwrap();
    let saved = ["--save", "zero.safetensors", "--json", "first.json", "--epochs", "3", "--batch", "16"];
    let (code, text) = run(folder.path(), &[&["detect"], &saved[..]].concat());
    assert_eq!(code, Some(0), "{text}");
    let first = &json(folder.path().join("first.json"))["detectors"][0];
    assert!(first["auroc"].as_f64().unwrap() > 0.5, "{first}");
    let svg = fs::read_to_string(folder.path().join("detect/histogram.svg")).unwrap();
    assert!(svg.contains("threshold"));
    assert_eq!(&fs::read(folder.path().join("detect/worst.png")).unwrap()[1..4], b"PNG");

    let loaded =
        ["--weights", "zero.safetensors", "--json", "again.json", "--percentile", "90", "--out", "again"];
    let (code, text) = run(folder.path(), &[&["detect"], &loaded[..]].concat());
    assert_eq!(code, Some(0), "{text}");
    let again = &json(folder.path().join("again.json"))["detectors"][0];
    assert_eq!(again["auroc"], first["auroc"]);
    assert_ne!(again["threshold"], first["threshold"]);
}

#[test]
fn detect_with_each_class_normal_has_a_mean() {
    let folder = tempfile::tempdir().unwrap();
    let args =
        ["detect", "--normal", "all", "--epochs", "1", "--maps", "4", "--latent", "2", "--json", "all.json"];
    let (code, text) = run(folder.path(), &args);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("Mean AUROC: ") && text.contains("20 pictures in detect"), "{text}");
    let report = json(folder.path().join("all.json"));
    let rows = report["detectors"].as_array().unwrap();
    let mean = rows.iter().map(|row| row["auroc"].as_f64().unwrap()).sum::<f64>() / 10.0;
    assert!(rows.len() == 10 && (report["mean_auroc"].as_f64().unwrap() - mean).abs() < 1e-12);
    assert!(folder.path().join("detect/worst-9.png").exists());
}

#[test]
fn detect_takes_folders_of_normal_and_abnormal_images() {
    let folder = tempfile::tempdir().unwrap();
    // Images of the repository would do; those that it has drawn are at hand.
    let args =
        ["detect", "--normal", "all", "--epochs", "1", "--maps", "4", "--latent", "2", "--out", "pictures"];
    assert_eq!(run(folder.path(), &args).0, Some(0));
    for (name, digits) in [("good", 0..6), ("bad", 6..10)] {
        let to = folder.path().join(name);
        fs::create_dir(&to).unwrap();
        for digit in digits {
            let file = format!("worst-{digit}.png");
            fs::copy(folder.path().join("pictures").join(&file), to.join(&file)).unwrap();
        }
    }
    let small = ["--size", "16", "--holdout", "2", "--epochs", "1", "--maps", "4", "--latent", "2"];
    let args =
        [&["detect", "--normal", "good", "--abnormal", "bad", "--json", "x.json"], &small[..]].concat();
    let (code, text) = run(folder.path(), &args);
    assert_eq!(code, Some(0), "{text}");
    let row = &json(folder.path().join("x.json"))["detectors"][0];
    assert_eq!([&row["trained_on"], &row["normal_held_out"], &row["abnormal"]], [3, 3, 4]);

    // Without abnormal ones there is nothing to detect.
    let (code, text) = run(folder.path(), &[&["detect", "--normal", "good"], &small[..]].concat());
    assert!(code == Some(0) && text.contains("|        - |"), "{text}");
}

#[test]
fn compare_ranks_three_networks() {
    let folder = tempfile::tempdir().unwrap();
    for (task, data, quality) in [
        ("segment", "cells:8x16", "Dice"),
        ("reconstruct", "cells:8x16", "PSNR, dB"),
        ("anomaly", "digits", "AUROC"),
    ] {
        let small = ["--epochs", "1", "--base", "2", "--latent", "2", "--json", "x.json", "--out", "x.png"];
        let (code, text) =
            run(folder.path(), &[&["compare", "--task", task, "--data", data], &small[..]].concat());
        assert_eq!(code, Some(0), "{text}");
        let report = json(folder.path().join("x.json"));
        let names: Vec<_> =
            report["networks"].as_array().unwrap().iter().map(|network| network["name"].clone()).collect();
        assert_eq!(names, ["AutoEncoder", "U-Net", "residual U-Net"]);
        assert_eq!(report["networks"][0]["quality"][0][0], quality);
        assert_eq!(&fs::read(folder.path().join("x.png")).unwrap()[1..4], b"PNG");
    }
}

#[test]
fn requests_that_cannot_be_met_say_why() {
    let folder = tempfile::tempdir().unwrap();
    for (args, why) in [
        (&["detect", "--normal", "11"][..], "one of 0, 1, 2"),
        (&["detect", "--data", "cells:8x16"], "a class for each image"),
        (&["detect", "--data", "nowhere"], "nowhere"),
        (&["detect", "--weights", "nowhere"], "nowhere"),
        (&["detect", "--run", "nowhere"], "nowhere"),
        (&["detect", "--normal", "all", "--save", "x"], "--normal all"),
        (&["detect", "--epochs", "1", "--percentile", "101"], "0 to 100"),
        (&["detect", "--batch", "0"], "batch"),
        (&["compare", "--data", "digits"], "a mask for each image"),
        (&["compare", "--holdout", "1"], "holdout"),
        (&["compare", "--levels", "9", "--data", "cells:8x16"], "max_pool2d"),
        (&["compare", "--task", "count"], "possible values"),
    ] {
        let (code, text) = run(folder.path(), args);
        assert!(code == Some(2) && text.contains(why), "{args:?}: {text}");
    }
}
