//! The examples, run.

#[path = "../examples/unet.rs"]
mod unet;

#[test]
fn unet() {
    unet::main().unwrap();
}

#[test]
fn the_readme_shows_it() {
    let example = include_str!("../examples/unet.rs");
    let (_, code) = example.split_once("\n\n").unwrap();
    let readme = include_str!("../../../README.md");
    assert!(
        readme.contains(code.replace("pub(crate) fn main", "fn main").trim()),
        "README.md shows another U-Net"
    );
}
