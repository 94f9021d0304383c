//! The examples, run.

#[path = "../examples/unet.rs"]
mod unet;

#[test]
fn unet() {
    unet::main().unwrap();
}
