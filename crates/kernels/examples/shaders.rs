//! Writes every shader, as specialised, to a folder: for validators that this crate does not know.
//!
//! `cargo run --release -p tilewise-kernels --features gpu --example shaders -- FOLDER`

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, io};

fn main() -> ExitCode {
    let Some(folder) = env::args_os().nth(1) else {
        eprintln!("shaders: expected a folder to write to");
        return ExitCode::from(2);
    };
    match write_all(Path::new(&folder)) {
        Ok(count) => {
            println!("{count} shaders in {}", folder.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("shaders: {}: {error}", folder.display());
            ExitCode::from(2)
        }
    }
}

fn write_all(folder: &Path) -> io::Result<usize> {
    fs::create_dir_all(folder)?;
    let shaders = tilewise_kernels::gpu::shaders();
    for (name, text) in &shaders {
        fs::write(folder.join(format!("{}.wgsl", name.replace(' ', "_"))), text)?;
    }
    Ok(shaders.len())
}
