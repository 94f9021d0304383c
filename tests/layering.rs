//! Who may import whom, read from the sources: the plan of the house holds because this fails where it does not.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Which crates of the workspace each of them may depend on.
const CRATES: [(&str, &[&str]); 4] = [
    ("kernels", &[]),
    ("model", &["kernels"]),
    ("bench", &["kernels", "model"]),
    ("cli", &["bench", "kernels", "model"]),
];

/// What each module of the kernels may import beside itself. `cpu` and `gpu` know nothing of each other and meet in
/// `backend`, `simd` knows no tensors; errors name an instruction set and shapes, to print them.
const ROOMS: [(&str, &[&str]); 8] = [
    ("error", &["simd::Isa", "tensor::Shape4"]),
    ("tensor", &["error"]),
    ("shape", &["error", "tensor"]),
    ("simd", &["error"]),
    ("backend", &["error", "tensor", "shape"]),
    ("training", &["backend", "error", "tensor", "shape"]),
    ("cpu", &["backend", "training", "error", "tensor", "shape", "simd"]),
    ("gpu", &["backend", "training", "error", "tensor", "shape"]),
];

/// What only one place of the kernels may touch: the words that give it away, and the place.
const OWNERS: [(&[&str], &str); 4] = [
    (&["rayon::"], "cpu/threads.rs"),
    (&["wgpu::", "pollster::"], "gpu"),
    (&["core::arch", "std::arch", "target_feature", "is_x86_feature_detected"], "simd"),
    (&["wide::"], "simd"),
];

/// What stands in `cpu/` beside the operators.
const CPU_MACHINERY: [&str; 11] = [
    "backend",
    "bias",
    "gemm",
    "mod",
    "plan",
    "scratch",
    "sum",
    "threads",
    "training",
    "update",
    "workspace",
];

/// What stands in `gpu/` beside the operators.
const GPU_MACHINERY: [&str; 15] = [
    "backend",
    "bias",
    "buffer",
    "context",
    "correlation",
    "mod",
    "parts",
    "pipeline",
    "pointwise",
    "recorder",
    "reduce",
    "testing",
    "training",
    "update",
    "wgsl",
];

/// Operators of the GPU that have no shader of their stem, and the one whose shaders compute them.
const BORROWERS: [(&str, &str); 3] =
    [("concat", "activation"), ("conv_transpose2d", "conv2d"), ("linear", "conv2d")];

/// Files of `shaders/` that belong to no single operator.
const SHARED_SHADERS: [&str; 8] =
    ["bias_backward", "bias_backward_total", "epilogue", "index", "math", "order", "reduce", "update"];

#[test]
fn every_operator_has_its_file_in_every_room() {
    let mut operators = stems("crates/kernels/src/cpu");
    operators.retain(|stem| !CPU_MACHINERY.contains(&stem.as_str()));
    assert!(operators.contains("conv2d"), "this is not the room of the operators: {operators:?}");

    let mut gpu = stems("crates/kernels/src/gpu");
    gpu.retain(|stem| !GPU_MACHINERY.contains(&stem.as_str()));
    assert_eq!(gpu, operators, "both devices compute the same");

    let mut reference = stems("crates/bench/src/reference");
    reference.remove("mod");
    assert_eq!(reference, operators, "the reference judges what the kernels compute, no more and no less");

    let properties = fs::read_to_string(root().join("tests/properties.rs")).unwrap();
    let untested: Vec<_> =
        operators.iter().filter(|op| !properties.lines().any(|line| line == format!("mod {op};"))).collect();
    assert!(untested.is_empty(), "no tests/<operator>.rs in tests/properties.rs: {untested:?}");
}

#[test]
fn every_operator_of_the_gpu_has_its_shader() {
    let operators = stems("crates/kernels/src/gpu").into_iter();
    let operators: Vec<String> = operators.filter(|stem| !GPU_MACHINERY.contains(&stem.as_str())).collect();
    let shaders = stems("shaders");
    let of = |shader: &str, operator: &str| {
        shader.strip_prefix(operator).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    };
    for operator in &operators {
        let lender = BORROWERS.iter().find(|(borrower, _)| borrower == operator).map(|(_, lender)| *lender);
        let own = shaders.iter().any(|shader| of(shader, operator));
        assert_eq!(own, lender.is_none(), "shaders/{operator}.wgsl or shaders/{operator}_*.wgsl");
        let stem = lender.unwrap_or(operator);
        assert!(shaders.iter().any(|shader| of(shader, stem)), "no shader of {stem}, for {operator}");
    }
    for shader in shaders.iter().filter(|shader| !SHARED_SHADERS.contains(&shader.as_str())) {
        assert!(
            operators.iter().any(|operator| of(shader, operator)),
            "shaders/{shader}.wgsl is of no operator"
        );
    }
}

/// The one thing that the driver is trusted with: shaders without checks of what the host has made sure of.
#[test]
fn the_gpu_has_one_unsafe_block() {
    for file in rust_files(&root().join("crates/kernels/src/gpu")) {
        let expected = usize::from(file.ends_with("gpu/pipeline.rs"));
        assert_eq!(code(&file).matches("unsafe").count(), expected, "{}", file.display());
    }
}

#[test]
fn crates_depend_on_those_below_them() {
    for (name, may) in CRATES {
        let manifest = fs::read_to_string(root().join("crates").join(name).join("Cargo.toml")).unwrap();
        let mut in_dependencies = false;
        for line in manifest.lines() {
            if line.starts_with('[') {
                in_dependencies = line.contains("dependencies");
            } else if let Some(other) = line.strip_prefix("tilewise-").filter(|_| in_dependencies) {
                let other = other.split(|c: char| !c.is_alphanumeric()).next().unwrap_or("");
                assert!(may.contains(&other), "{name} depends on {other}");
            }
        }
    }
}

#[test]
fn rooms_of_the_kernels_import_those_below_them() {
    let src = root().join("crates/kernels/src");
    for file in rust_files(&src) {
        let module = module_path(file.strip_prefix(&src).unwrap());
        let Some(room) = module.first() else { continue }; // lib.rs re-exports them all
        if module.last().is_some_and(|file| file == "tests") {
            continue; // tests compare the rooms
        }
        let (_, may) = ROOMS
            .iter()
            .find(|(name, _)| name == room)
            .unwrap_or_else(|| panic!("{room} is a room without a line in ROOMS"));
        let code = code(&file);
        for path in paths(&code, "crate") {
            let own = within(&path, room);
            assert!(own || may.iter().any(|m| within(&path, m)), "{}: imports crate::{path}", file.display());
        }
        assert!(
            !code.contains(&"super::".repeat(module.len())),
            "{}: leaves its room through `super`",
            file.display()
        );
    }
}

#[test]
fn the_reference_shares_only_shapes_and_tensors_with_what_it_judges() {
    let public = public_items(&["crates/kernels/src/shape", "crates/kernels/src/tensor.rs"]);
    for file in rust_files(&root().join("crates/bench/src/reference")) {
        let code = code(&file);
        for path in paths(&code, "tilewise_kernels") {
            let first = path.split("::").next().unwrap_or("");
            assert!(first == "shape" || public.contains(first), "{}: uses {path}", file.display());
        }
        for path in paths(&code, "crate") {
            assert!(within(&path, "reference"), "{}: uses crate::{path}", file.display());
        }
        assert!(!code.contains("tilewise_kernels as"), "{}: renames the kernels", file.display());
    }
}

#[test]
fn each_means_has_one_owner() {
    let src = root().join("crates/kernels/src");
    for file in rust_files(&src) {
        let code = code(&file);
        for (words, owner) in OWNERS.iter().filter(|(_, owner)| !file.starts_with(src.join(owner))) {
            let found = words.iter().find(|word| code.contains(*word));
            assert_eq!(found, None, "{}: belongs to {owner}", file.display());
        }
    }
}

#[test]
fn paths_are_read_from_use_trees_and_expressions() {
    let code = "use crate::{a::{b, c::D}, e::*};\nlet x = crate::f::g(mycrate::h);";
    assert_eq!(paths(code, "crate"), ["a::b", "a::c::D", "e::*", "f::g"]);
    assert!(within("a::b", "a") && within("a", "a") && !within("ab::c", "a") && !within("a", "a::b"));
}

/// The names of what lies in a folder, without their endings.
fn stems(room: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(root().join(room)).unwrap();
    entries.map(|e| e.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// All Rust sources at or below `path`.
fn rust_files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_path_buf()];
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())) {
        let entry = entry.unwrap().path();
        if entry.is_dir() || entry.extension().is_some_and(|e| e == "rs") {
            files.extend(rust_files(&entry));
        }
    }
    files
}

/// The modules that lead to a file below `src`: `cpu/conv2d/mod.rs` is `cpu::conv2d`, `lib.rs` is the root.
fn module_path(file: &Path) -> Vec<String> {
    let mut parts: Vec<String> =
        file.with_extension("").iter().map(|p| p.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod" || last == "lib") {
        parts.pop();
    }
    parts
}

/// A file without its comments (and so without the examples in them) and without its unit tests.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or("");
    text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// What follows `root::` wherever it stands in the code, with the braces of `use` multiplied out.
fn paths(code: &str, root: &str) -> Vec<String> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let start = format!("{root}::");
    let mut found = Vec::new();
    for (at, _) in code.match_indices(&start) {
        if !code[..at].ends_with(is_name) {
            expand(&mut code[at + start.len()..].chars().peekable(), "", &mut found);
        }
    }
    found
}

/// Reads one use tree, adding each of its leaves behind `prefix`.
fn expand(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, prefix: &str, found: &mut Vec<String>) {
    let mut path = prefix.to_string();
    while let Some(c) = rest.next_if(|c| c.is_alphanumeric() || "_:*".contains(*c)) {
        path.push(c);
    }
    if rest.next_if_eq(&'{').is_none() {
        let path = path.trim_end_matches(':');
        if !path.is_empty() {
            found.push(path.to_string());
        }
        return;
    }
    loop {
        while rest.next_if(|c| c.is_whitespace() || *c == ',').is_some() {}
        match rest.peek() {
            None => return,
            Some('}') => {
                rest.next();
                return;
            }
            Some(_) => expand(rest, &path, found),
        }
        // `as name` and what else may stand behind a leaf.
        while rest.next_if(|c| !",}".contains(*c)).is_some() {}
    }
}

/// Whether `path` is `ancestor` or lies below it.
fn within(path: &str, ancestor: &str) -> bool {
    path.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The names of all public types, traits and functions declared at or below the given places.
fn public_items(places: &[&str]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in places.iter().flat_map(|place| rust_files(&root().join(place))) {
        for line in code(&file).lines() {
            let declared = ["pub struct ", "pub enum ", "pub trait ", "pub const fn ", "pub fn "]
                .iter()
                .find_map(|keyword| line.strip_prefix(keyword));
            if let Some(rest) = declared {
                names.extend(
                    rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().map(str::to_string),
                );
            }
        }
    }
    names
}
