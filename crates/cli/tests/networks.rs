//! `tilewise summary`, `predict` and `sweep` from outside.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tilewise_model::data::{Cells, digits};
use tilewise_model::picture::Tile;

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

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_summary_follows_flags_and_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let (code, text) = run(folder.path(), &["summary", "lenet"]);
    assert!(code == Some(0) && text.contains("107,786 learnt") && text.contains("as an MLP"), "{text}");
    let (code, text) = run(
        folder.path(),
        &[
            "summary",
            "unet",
            "--base",
            "64",
            "--in-channels",
            "3",
            "--classes",
            "2",
            "--size",
            "64",
            "--json",
            "out.json",
        ],
    );
    assert_eq!(code, Some(0), "{text}");
    let summary = json(&folder.path().join("out.json"));
    assert_eq!(summary["trained"], 31_037_698);
    assert_eq!(summary["rows"][0]["output"], serde_json::json!([1, 3, 64, 64]));
    fs::write(folder.path().join("a.toml"), "network = { net = 'autoencoder', latent = 3 }").unwrap();
    let (code, text) = run(folder.path(), &["summary", "--config", "a.toml", "--batch", "5"]);
    assert!(code == Some(0) && text.contains("5 x 3 x 1 x 1"), "{text}");
    let (code, text) = run(folder.path(), &["summary", "cnn", "--size", "2", "--blocks", "4,4"]);
    assert!(code == Some(2) && text.contains("max_pool2d"), "{text}");
    let (code, text) = run(folder.path(), &["summary", "cnn", "--kernel", "4"]);
    assert!(code == Some(2) && text.contains("odd"), "{text}");
}

#[test]
fn a_trained_classifier_names_classes() {
    let folder = tempfile::tempdir().unwrap();
    let args =
        ["train", "cnn", "--blocks", "8", "--dense", "none", "--epochs", "4", "--lr", "0.02", "--out", "net"];
    let (code, text) = run(folder.path(), &args);
    assert_eq!(code, Some(0), "{text}");
    let digits = digits().unwrap();
    for i in [0, 1] {
        let png = Tile::image(digits.images().view(), i).unwrap().png().unwrap();
        fs::write(folder.path().join(format!("{i}.png")), png).unwrap();
    }
    let args = ["predict", "--run", "net", "0.png", "1.png", "--top", "2", "--json", "out.json"];
    let (code, text) = run(folder.path(), &args);
    assert_eq!(code, Some(0), "{text}");
    let answers = json(&folder.path().join("out.json"));
    for i in [0, 1] {
        let label = digits.labels().unwrap()[i].to_string();
        let classes = answers[i]["classes"].as_array().unwrap();
        assert_eq!((&classes[0][0], classes.len()), (&label.into(), 2), "{text}");
        assert!(classes[0][1].as_f64().unwrap() > 0.5);
    }
    let (code, text) = run(folder.path(), &["predict", "--run", "net", "none.png"]);
    assert!(code == Some(2) && text.contains("none.png"), "{text}");
    let (code, text) = run(folder.path(), &["predict", "--run", ".", "0.png"]);
    assert!(code == Some(2) && text.contains("config.toml"), "{text}");
    fs::write(folder.path().join("net/best.safetensors"), b"no weights").unwrap();
    let (code, text) = run(folder.path(), &["predict", "--run", "net", "0.png"]);
    assert!(code == Some(2) && text.contains("best.safetensors"), "{text}");
}

#[test]
fn a_trained_unet_draws_masks_and_an_autoencoder_draws_again() {
    let folder = tempfile::tempdir().unwrap();
    let cells = Cells { count: 1, size: 48, seed: 5 }.generate().unwrap();
    fs::create_dir(folder.path().join("other")).unwrap();
    for path in ["cell.png", "other/cell.png"] {
        fs::write(folder.path().join(path), Tile::image(cells.images().view(), 0).unwrap().png().unwrap())
            .unwrap();
    }
    let small = ["--data", "cells:10x32", "--epochs", "1", "--batch", "4"];
    let unet = ["train", "unet", "--base", "2", "--levels", "2", "--out", "unet"];
    let (code, text) = run(folder.path(), &[&unet[..], &small[..]].concat());
    assert!(code == Some(0) && text.contains("dice") && text.contains("pixel accuracy"), "{text}");
    let (code, text) = run(folder.path(), &["predict", "--run", "unet", "cell.png", "other/cell.png"]);
    assert!(code == Some(0) && text.contains("% of the pixels"), "{text}");
    for name in ["cell-mask.png", "cell-overlay.png", "cell-2-mask.png", "cell-2-overlay.png"] {
        let picture = fs::read(folder.path().join("unet/predictions").join(name)).expect(name);
        assert!(picture.starts_with(b"\x89PNG"), "{name}");
    }
    let autoencoder = ["train", "autoencoder", "--maps", "4", "--out", "ae"];
    let (code, text) = run(folder.path(), &[&autoencoder[..], &small[..]].concat());
    assert!(code == Some(0) && text.contains("psnr"), "{text}");
    let (code, text) = run(folder.path(), &["predict", "--run", "ae", "cell.png", "--out", "here"]);
    assert!(code == Some(0) && text.contains("mean squared error"), "{text}");
    assert!(folder.path().join("here/cell-reconstruction.png").exists());
    assert!(folder.path().join("here/cell-error.png").exists());
}

#[test]
fn a_sweep_ranks_what_it_trains_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[network]\nnet = 'cnn'\nblocks = [[4], [8]]\ndense = []\n\
                  [optimiser]\nname = 'sgd'\nlr = [1e-6, 0.1, 1e30]\n[training]\nepochs = 1";
    fs::write(folder.path().join("sweep.toml"), config).unwrap();
    let args = ["sweep", "--config", "sweep.toml", "--batch", "32", "--json", "out.json"];
    let (code, text) = run(folder.path(), &args);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("| rank | network.blocks | optimiser.lr") && text.contains("diverged"), "{text}");
    let report = json(&folder.path().join("out.json"));
    let ranking = report["ranking"].as_array().unwrap();
    let lr = |i: usize| ranking[i]["choices"][1][1].as_str().unwrap();
    assert_eq!((ranking.len(), lr(0), lr(1)), (6, "0.1", "0.1"), "{text}");
    assert!(ranking[5]["failed"].as_str().unwrap().contains("diverged"));

    let (code, text) = run(folder.path(), &args);
    assert!(code == Some(2) && text.contains("--resume"), "{text}");
    let (code, text) = run(folder.path(), &[&args[..], &["--resume"]].concat());
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(json(&folder.path().join("out.json")), report);

    fs::write(
        folder.path().join("many.toml"),
        config.replace("epochs = 1", &format!("seed = {:?}", Vec::from_iter(0..200))),
    )
    .unwrap();
    let (code, text) = run(folder.path(), &["sweep", "--config", "many.toml"]);
    assert!(code == Some(2) && text.contains("1200") && text.contains("many.toml"), "{text}");
}
