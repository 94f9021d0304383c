//! Every kernel's WGSL, validated without a GPU: by naga, which wgpu uses, and by tint, which browsers use, where it is
//! installed.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use naga::valid::{Capabilities, ValidationFlags, Validator};
use tilewise_kernels::gpu::shaders;

#[test]
fn naga_accepts_every_kernel() {
    let kernels = shaders();
    assert!(kernels.len() > 20, "{} kernels", kernels.len());
    for (name, wgsl) in kernels {
        let module = naga::front::wgsl::parse_str(&wgsl)
            .unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(&wgsl)));
        // Nothing beyond what every WebGPU has.
        Validator::new(ValidationFlags::all(), Capabilities::default())
            .validate(&module)
            .unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(&wgsl)));
    }
}

#[test]
fn tint_accepts_every_kernel() {
    if Command::new("tint").arg("--help").output().is_err() {
        let _ = writeln!(
            std::io::stderr(),
            "\nSKIPPED: no `tint`, so WGSL was not held against what browsers accept\n"
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kernel.wgsl");
    for (name, wgsl) in shaders() {
        fs::write(&path, &wgsl).unwrap();
        let output = Command::new("tint").args(["--format", "wgsl"]).arg(&path).output().unwrap();
        assert!(output.status.success(), "{name}: {}\n{wgsl}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn names_tell_kernels_apart_and_every_file_is_used() {
    let kernels = shaders();
    let names: HashSet<&str> = kernels.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.len(), kernels.len());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shaders");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        // Some line of the file that is no comment, and not filled in.
        let line =
            text.lines().find(|line| line.contains("fn ") && !line.starts_with("//")).unwrap_or_default();
        assert!(kernels.iter().any(|(_, wgsl)| wgsl.contains(line)), "{} is in no kernel", path.display());
    }
}
