//! The command line from outside: exit codes, messages, files.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tilewise_bench::gpu;

fn tilewise(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tilewise"))
        .args(args)
        .current_dir(folder)
        .env_remove("TILEWISE_ISA")
        .output()
        .expect("the binary was built")
}

/// As on a machine without a graphics driver: the loader of Vulkan is told of none.
#[cfg(target_os = "linux")]
fn without_gpu(args: &[&str], required: &str) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tilewise"))
        .args(args)
        .envs([
            ("VK_DRIVER_FILES", "/nowhere"),
            ("VK_ICD_FILENAMES", "/nowhere"),
            ("TILEWISE_REQUIRE_GPU", required),
        ])
        .env_remove("TILEWISE_ISA")
        .output()
        .expect("the binary was built");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).expect("text"))
}

/// Exit code and both outputs.
fn run(folder: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = tilewise(folder, args);
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).expect("text"))
}

const SHAPES: &str = r#"[
    {"name": "first", "n": 1, "c": 8, "h": 12, "w": 12, "k": 16, "r": 3, "s": 1, "p": 1},
    {"name": "second", "n": 2, "c": 3, "h": 11, "w": 17, "k": 5, "r": 5, "s": 2, "p": 2}
]"#;

#[test]
fn bench_writes_the_documented_json_and_a_plot() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("shapes.json"), SHAPES).unwrap();
    let args = ["bench", "conv2d", "--shapes", "shapes.json", "--time", "0.01", "--isa", "portable"];
    let (code, text) = run(
        folder.path(),
        &[&args[..], &["--json", "out.json", "--plot", "out.svg", "--threads", "2"]].concat(),
    );
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("| shapes.json |") && text.contains("portable, 2 threads"), "{text}");

    let rows: Value = serde_json::from_slice(&fs::read(folder.path().join("out.json")).unwrap()).unwrap();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[1]["name"], "second");
    let macs = (2 * 5 * 6 * 9 * 3 * 5 * 5) as f64;
    let number = |field: &str| rows[1][field].as_f64().unwrap();
    assert!((number("gflops") * number("ms") * 1e6 / (2.0 * macs) - 1.0).abs() < 1e-9);
    assert!(number("percent_of_peak") > 0.0 && number("rel_l2_error") < 1e-5);
    assert_eq!(
        (&rows[1]["device"], &rows[1]["isa"], &rows[1]["threads"]),
        (&"cpu".into(), &"portable".into(), &2.into())
    );
    assert!(fs::read_to_string(folder.path().join("out.svg")).unwrap().starts_with("<svg"));
}

#[test]
fn bench_times_the_gradients() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("shapes.json"), SHAPES).unwrap();
    for pass in ["input", "weights"] {
        let args = ["bench", "conv2d", "--shapes", "shapes.json", "--time", "0.01", "--json", "out.json"];
        let (code, text) = run(folder.path(), &[&args[..], &["--pass", pass]].concat());
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains(&format!("Gradient of convolution to its {pass}")), "{text}");
        let rows: Value = serde_json::from_slice(&fs::read(folder.path().join("out.json")).unwrap()).unwrap();
        let row = &rows[1];
        assert_eq!((&row["name"], &row["pass"]), (&"second".into(), &pass.into()));
        let number = |field: &str| row[field].as_f64().unwrap();
        let macs = (2 * 5 * 6 * 9 * 3 * 5 * 5) as f64;
        assert!((number("gflops") * number("ms") * 1e6 / (2.0 * macs) - 1.0).abs() < 1e-9);
        assert!(number("rel_l2_error") < 1e-5);
    }
}

#[test]
fn a_bad_request_ends_with_2_and_says_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("shapes.json"), SHAPES).unwrap();
    fs::write(folder.path().join("negative.json"), SHAPES.replace(r#""k": 5"#, r#""k": -5"#)).unwrap();
    fs::write(folder.path().join("vast.json"), SHAPES.replace(r#""w": 17"#, r#""w": 1700000000000000000"#))
        .unwrap();
    fs::write(folder.path().join("text.txt"), "no image").unwrap();
    for (args, parts) in [
        (&["bench", "conv2d", "--suite", "vgg17"][..], &["vgg17", "vgg16"][..]),
        (
            &["bench", "conv2d", "--shapes", "negative.json"],
            &["negative.json", "entry 2 (\"second\")", "\"k\"", "-5"],
        ),
        (&["bench", "conv2d", "--shapes", "vast.json"], &["vast.json", "entry 2", "address space"]),
        (&["bench", "conv2d", "--shapes", "missing.json"], &["missing.json", "cannot read"]),
        (&["bench", "conv2d", "--shapes", "."], &["cannot read"]),
        (&["bench", "conv2d", "--shapes", "shapes.json", "--algo", "depthwise"], &["depthwise", "first"]),
        (&["bench", "conv2d", "--algo", "fft"], &["fft", "im2col"]),
        (&["bench", "conv2d", "--pass", "backward"], &["backward", "input", "weights"]),
        (&["bench", "conv2d", "--pass", "input", "--algo", "direct"], &["--algo", "--pass forward"]),
        (&["bench", "relu", "--pass", "input"], &["input", "backward"]),
        (&["bench", "conv2d", "--threads", "0"], &["--threads"]),
        (&["bench", "relu", "--time", "-1"], &["--time"]),
        (&["bench", "relu", "--isa", "mmx"], &["mmx", "portable"]),
        (&["bench", "fft"], &["fft"]),
        (&["check", "--op", "conv3d"], &["conv3d", "conv2d"]),
        (&["check", "--case", "n1c3"], &["n1c3"]),
        (&["check", "--case", "n1c9h9w9_o4k3x3p100000"], &["elements", "134217728"]),
        (&["check", "--case", "batch_norm:n1c1h3w3_eps-1"], &["eps", "-1"]),
        (&["check", "--golden", "missing.safetensors"], &["missing.safetensors"]),
        (&["check", "--golden", "text.txt"], &["text.txt"]),
        (&["check", "--device", "abacus"], &["abacus"]),
        (&["check", "--adapter", "0"], &["--adapter", "--device gpu"]),
        (&["check", "--device", "gpu", "--isa", "portable"], &["--isa"]),
        (&["bench", "conv2d", "--device", "gpu", "--threads", "2"], &["--threads"]),
        (&["bench", "relu", "--device", "all"], &["all"]),
        (&["feature-maps", "missing.png"], &["missing.png"]),
        (&["feature-maps", "text.txt"], &["text.txt"]),
        (&["feature-maps", "--out", "no/folder/x.png"], &["no/folder/x.png", "cannot write"]),
    ] {
        let (code, text) = run(folder.path(), args);
        assert_eq!(code, Some(2), "{args:?}: {text}");
        assert!(parts.iter().all(|part| text.contains(part)), "{args:?}: {text}");
        assert!(!text.contains("panicked"), "{args:?}: {text}");
    }
}

#[test]
fn check_passes_on_one_operator_and_reports_it() {
    let folder = tempfile::tempdir().unwrap();
    let (code, text) = run(folder.path(), &["check", "--op", "relu", "--json", "out.json"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("| relu") && text.contains("runs are right"), "{text}");
    let report: Value = serde_json::from_slice(&fs::read(folder.path().join("out.json")).unwrap()).unwrap();
    assert_eq!(report["rows"][0]["operator"], "relu");
}

#[test]
fn a_combination_that_nothing_fits_is_no_success() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["check", "--case", "n1c4h8w8_o4k3x3", "--algo", "pointwise"];
    assert_eq!(run(folder.path(), &args).0, Some(2));
}

#[test]
fn the_isa_of_the_environment_is_forced_or_refused() {
    let isa = |name: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_tilewise"))
            .args(["check", "--op", "relu"])
            .env("TILEWISE_ISA", name)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = isa("portable");
    assert_eq!(code, Some(0));
    assert!(text.contains("portable") && !text.contains("avx"), "{text}");
    assert_eq!(isa("mmx").0, Some(2));
}

#[test]
fn feature_maps_writes_the_picture_it_names() {
    let folder = tempfile::tempdir().unwrap();
    let (code, text) = run(folder.path(), &["feature-maps"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("floor((8 + 2*1 - 3)/1) + 1 = 8") && text.contains("feature-maps.png"), "{text}");
    assert!(fs::read(folder.path().join("feature-maps.png")).unwrap().starts_with(b"\x89PNG"));
}

#[test]
fn a_reader_that_leaves_is_no_panic() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tilewise"))
        .args(["check", "--op", "relu"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty());
}

#[cfg(target_os = "linux")]
#[test]
fn a_missing_gpu_is_said_and_fails_where_it_is_needed() {
    const HOW: &str = "mesa-vulkan-drivers";
    let (code, text) = without_gpu(&["check", "--op", "relu", "--device", "gpu"], "0");
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains(HOW) && !text.contains("panicked"), "{text}");
    let (code, text) = without_gpu(&["bench", "conv2d", "--device", "gpu"], "0");
    assert!(code == Some(2) && text.contains(HOW), "{text}");
    let (code, text) = without_gpu(&["check", "--op", "relu", "--device", "all"], "0");
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("THE GPU WAS SKIPPED") && text.contains(HOW) && text.contains("portable"),
        "{text}"
    );
    let (code, text) = without_gpu(&["check", "--op", "relu", "--device", "all"], "1");
    assert!(code == Some(2) && text.contains(HOW), "{text}");
    let (code, text) = without_gpu(&["info"], "0");
    assert!(code == Some(0) && text.contains("no GPU") && text.contains(HOW), "{text}");
}

#[test]
fn the_gpu_is_checked_measured_and_listed() {
    if gpu::of_tests().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("shapes.json"), SHAPES).unwrap();
    let (code, text) =
        run(folder.path(), &["check", "--op", "relu,linear", "--device", "gpu", "--adapter", "0"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("| gpu ") && !text.contains("portable"), "{text}");

    let args = ["bench", "conv2d", "--device", "gpu", "--shapes", "shapes.json", "--time", "0.01"];
    let (code, text) =
        run(folder.path(), &[&args[..], &["--json", "out.json", "--plot", "out.svg"]].concat());
    assert_eq!(code, Some(0), "{text}");
    let read = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(folder.path().join(name)).unwrap()).unwrap()
    };
    let row = &read("out.json")[1];
    assert_eq!(
        (&row["name"], &row["device"], &row["percent_of_peak"]),
        (&"second".into(), &"gpu".into(), &Value::Null)
    );
    let number = |field: &str| row[field].as_f64().unwrap();
    assert!(number("ms") > 0.0 && number("wall_ms") > 0.0 && number("rel_l2_error") < 1e-5);
    let macs = (2 * 5 * 6 * 9 * 3 * 5 * 5) as f64;
    assert!((number("gflops") * number("ms") * 1e6 / (2.0 * macs) - 1.0).abs() < 1e-9);

    let (code, text) = run(folder.path(), &["info", "--json", "info.json"]);
    assert!(code == Some(0) && text.contains("GPU 0: "), "{text}");
    let adapter = &read("info.json")["gpus"][0];
    assert_eq!(adapter["name"], row["isa"]);
    assert!(adapter["max_binding"].as_u64() > Some(0) && adapter["features"].is_array());

    let (code, text) = run(folder.path(), &["check", "--device", "gpu", "--adapter", "no such card"]);
    assert!(code == Some(2) && text.contains("no such card"), "{text}");
}
