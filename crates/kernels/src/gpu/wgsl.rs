//! The shaders, and how one text becomes many kernels.
//!
//! A shader is the concatenation of files (WGSL takes declarations in any order) with constants declared in front: the
//! activation, the tile. What WGSL cannot express, an inner loop unrolled over registers, is generated into its place.

use std::fmt::{self, Write};

/// A file of `shaders/` with those that it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Shader {
    /// Its stem.
    pub name: &'static str,
    pub sources: &'static [&'static str],
    /// Storage buffers that it reads, bound from 1 on.
    pub reads: usize,
    /// Storage buffers that it writes, bound behind those.
    pub writes: usize,
}

/// Declares a [`Shader`]: its stem, the counts of its buffers, and the stems of the files that it uses.
macro_rules! shader {
    ($name:literal, $reads:literal, $writes:literal $(, $part:literal)*) => {
        $crate::gpu::wgsl::Shader {
            name: $name,
            sources: &[
                include_str!(concat!("../../shaders/", $name, ".wgsl")),
                $(include_str!(concat!("../../shaders/", $part, ".wgsl")),)*
            ],
            reads: $reads,
            writes: $writes,
        }
    };
}
pub(super) use shader;

/// Constants of a kernel at most.
const MOST: usize = 6;

/// A shader with its constants: what one pipeline is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Kernel {
    pub shader: Shader,
    constants: [(&'static str, u32); MOST],
    count: usize,
}

impl Kernel {
    pub fn new<const N: usize>(shader: Shader, constants: [(&'static str, u32); N]) -> Self {
        const { assert!(N <= MOST) };
        let mut all = [("", 0); MOST];
        all[..N].copy_from_slice(&constants);
        Kernel { shader, constants: all, count: N }
    }

    fn constant(&self, name: &str) -> u32 {
        let found = self.constants[..self.count].iter().find(|(known, _)| *known == name);
        found.map_or(0, |(_, value)| *value)
    }

    /// The text that the driver gets.
    pub fn wgsl(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.constants[..self.count] {
            let _ = writeln!(text, "const {name}: u32 = {value}u;");
        }
        for source in self.shader.sources {
            for line in source.lines() {
                match line.trim().strip_prefix("//@ ") {
                    Some(what) => self.generate(what, &mut text),
                    None => text.push_str(line),
                }
                text.push('\n');
            }
        }
        text
    }

    /// What stands for a line `//@ what`: loops over a register tile of `TILE_M` rows and `TILE_N / 4` vectors, unrolled,
    /// because drivers keep arrays that are indexed by a variable in memory.
    fn generate(&self, what: &str, text: &mut String) {
        let (rows, vectors) = (self.constant("TILE_M"), self.constant("TILE_N") / 4);
        for row in 0..rows {
            for vector in 0..vectors {
                let line = match what {
                    "accumulators" => format!("var acc_{row}_{vector} = vec4<f32>(0.0);"),
                    "products" => format!(
                        "acc_{row}_{vector} = fma(vec4<f32>(a_{}.{}), b_{vector}, acc_{row}_{vector});",
                        row / 4,
                        ["x", "y", "z", "w"][(row % 4) as usize]
                    ),
                    "stores" => format!("store({row}u, {vector}u, acc_{row}_{vector});"),
                    other => format!("// unknown: {other}"),
                };
                let _ = writeln!(text, "    {line}");
            }
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shader.name)?;
        for (name, value) in &self.constants[..self.count] {
            write!(f, " {name}={value}")?;
        }
        Ok(())
    }
}
