//! The kernels as others get them: linked by path from a project outside this workspace, and packed for a registry.
//!
//! Both build in a target folder of their own below that of this workspace, so only the first run is slow.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// Prints the instruction set, and a sum that tells whether it was used: with `e = 2^-12`,
/// `-(1 + 2e) * 1 + (1 + e) * (1 + e)` is `e^2` where product and sum are fused (AVX2 and AVX-512, both with FMA);
/// where the product is rounded before the sum (SSE2), `e^2` is lost and 0 remains.
const STRANGER: &str = r#"
use tilewise_kernels::{Conv2dParams, Cpu, Shape4, Tensor};

fn main() -> Result<(), tilewise_kernels::Error> {
    let cpu = Cpu::new()?;

    let x = Tensor::from_fn(Shape4::new(1, 1, 4, 4), |[_, _, h, w]| (4 * h + w) as f32)?;
    let ones = Tensor::from_vec(Shape4::new(1, 1, 3, 3), vec![1.0; 9])?;
    let y = cpu.conv2d(&x, &ones, None, Conv2dParams::default())?;

    let e = (-12f32).exp2();
    let plane = Shape4::new(1, 2, 1, 32);
    let x = Tensor::from_fn(plane, |[_, c, _, _]| if c == 0 { -(1.0 + 2.0 * e) } else { 1.0 + e })?;
    let w = Tensor::from_fn(Shape4::new(32, 2, 1, 1), |[_, c, _, _]| if c == 0 { 1.0 } else { 1.0 + e })?;
    let z = cpu.conv2d(&x, &w, None, Conv2dParams::default())?;
    let fused = z.data().iter().all(|&v| v == e * e);

    println!("{} fused={fused} {:?}", cpu.isa(), y.data());
    Ok(())
}
"#;

#[test]
fn a_project_outside_the_workspace_gets_the_best_instructions_at_default_flags() {
    let out = cargo(stranger("stranger", STRANGER).path(), &["run", "--quiet"]);
    let (isa, fused) = best_of_this_machine();
    let expected = format!("{isa} fused={fused} [45.0, 54.0, 81.0, 90.0]");
    assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), expected);
}

#[test]
fn the_example_of_the_readme_prints_what_it_says() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let code = readme.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let print = code.lines().find(|line| line.contains("println!")).unwrap();
    let (_, expected) = print.split_once("// ").unwrap();
    let out = cargo(stranger("readme", code).path(), &["run", "--quiet"]);
    assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), expected);
}

#[test]
fn the_package_builds_from_its_own_tarball() {
    let list = cargo(&root(), &["package", "-p", "tilewise-kernels", "--list", "--allow-dirty"]);
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    for needed in ["LICENSE-APACHE", "LICENSE-MIT", "README.md", "src/lib.rs"] {
        assert!(list.lines().any(|file| file == needed), "{needed} is not in the package:\n{list}");
    }
    for shader in fs::read_dir(root().join("shaders")).unwrap() {
        let name = shader.unwrap().file_name().into_string().unwrap();
        assert!(
            list.lines().any(|file| file == format!("shaders/{name}")),
            "no {name} in the package:\n{list}"
        );
    }
    // Unpacks the tarball and compiles what was in it. A dirty tree is packed as it stands.
    cargo(&root(), &["package", "-p", "tilewise-kernels", "--locked", "--allow-dirty"]);
}

#[test]
fn only_the_feature_gpu_brings_wgpu() {
    let tree = |features: &[&str]| {
        let args = ["tree", "-p", "tilewise-kernels", "--edges", "normal", "--prefix", "none", "--locked"];
        let out = cargo(&root(), &[&args[..], features].concat());
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let gpu = ["wgpu", "wgpu-core", "naga", "pollster"];
    let has = |tree: &str, name: &str| tree.lines().any(|line| line.split(' ').next() == Some(name));
    let (without, with) = (tree(&[]), tree(&["--features", "gpu"]));
    for name in gpu {
        assert!(!has(&without, name) && has(&with, name), "{name}\n{without}\n{with}");
    }
    assert!(has(&without, "rayon"));
}

/// A project of one file, in a folder of its own, that links the kernels by path. Names differ, as the target folder
/// is shared.
fn stranger(name: &str, main: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let manifest = format!(
        "[package]\nname = {name:?}\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [dependencies]\ntilewise-kernels = {{ path = {:?} }}\n\n[workspace]\n",
        root().join("crates/kernels")
    );
    fs::create_dir(dir.path().join("src")).unwrap();
    fs::write(dir.path().join("Cargo.toml"), manifest).unwrap();
    fs::write(dir.path().join("src/main.rs"), main).unwrap();
    // The same versions as here: nothing to resolve, and nothing to fetch where this workspace was built.
    fs::copy(root().join("Cargo.lock"), dir.path().join("Cargo.lock")).unwrap();
    dir
}

/// What a project at default flags should get here, asked of the processor and not of the kernels.
fn best_of_this_machine() -> (&'static str, bool) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx512f") && has!("avx512vl") && has!("avx512dq") && has!("avx512bw") {
            return ("avx512", true);
        }
        if has!("avx2") && has!("fma") {
            return ("avx2", true);
        }
    }
    ("portable", cfg!(target_arch = "aarch64"))
}

/// Runs cargo in `dir` as somebody else's shell would: none of the variables that choose flags or instructions.
/// Without the network first; a machine that has not fetched the dependencies gets a second try with it.
fn cargo(dir: &Path, args: &[&str]) -> Output {
    let run = |offline: Option<&str>| {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(dir).args(args).args(offline);
        for (name, _) in std::env::vars_os() {
            let leaks = name.to_str().is_some_and(|n| n.ends_with("RUSTFLAGS") || n == "TILEWISE_ISA");
            if leaks {
                command.env_remove(&name);
            }
        }
        command.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("packaging"));
        command.output().unwrap()
    };
    let mut out = run(Some("--offline"));
    if !out.status.success() {
        out = run(None);
    }
    assert!(out.status.success(), "cargo {args:?} failed:\n{}", String::from_utf8_lossy(&out.stderr));
    out
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}
