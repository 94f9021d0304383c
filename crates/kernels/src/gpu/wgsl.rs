//! The shaders, and how one text becomes many kernels.
//!
//! A shader is the concatenation of files (WGSL takes declarations in any order) with constants declared in front: the
//! activation, the tile. Loops over registers, which WGSL cannot unroll, are written out when the text is made.

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
                include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $name, ".wgsl")),
                $(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $part, ".wgsl")),)*
            ],
            reads: $reads,
            writes: $writes,
        }
    };
}
pub(super) use shader;

/// Constants of a kernel at most.
const MOST: usize = 5;

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
            let lines: Vec<&str> = source.lines().collect();
            self.expand(&lines, &[], &mut text);
        }
        text
    }

    /// Appends lines, those between `//@ repeat i in NAME` and `//@ end` as many times as the constant NAME says (or
    /// `NAME / 4`), `$i` being the count: loops over registers, unrolled, because drivers keep arrays that are indexed by a
    /// variable in memory.
    fn expand(&self, lines: &[&str], counts: &[(&str, u32)], text: &mut String) {
        let mut at = 0;
        while at < lines.len() {
            let line = lines[at];
            at += 1;
            match line.trim().strip_prefix("//@ repeat ").and_then(|head| head.split_once(" in ")) {
                None => {
                    let counted = counts.iter().fold(line.to_owned(), |line, (name, count)| {
                        line.replace(&format!("${name}"), &count.to_string())
                    });
                    text.push_str(&counted);
                    text.push('\n');
                }
                Some((name, times)) => {
                    let body = &lines[at..at + body_len(&lines[at..])];
                    at += body.len() + 1;
                    let times = match times.split_once(" / ") {
                        Some((constant, by)) => self.constant(constant) / by.parse().unwrap_or(1),
                        None => self.constant(times),
                    };
                    for count in 0..times {
                        let counts: Vec<_> = counts.iter().copied().chain([(name, count)]).collect();
                        self.expand(body, &counts, text);
                    }
                }
            }
        }
    }
}

/// The number of lines before the `//@ end` that ends the repetition they are in.
fn body_len(lines: &[&str]) -> usize {
    let mut depth = 1;
    for (i, line) in lines.iter().enumerate() {
        match line.trim() {
            line if line.starts_with("//@ repeat ") => depth += 1,
            "//@ end" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i;
        }
    }
    lines.len()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_are_written_out() {
        let sources: &[&str] =
            &["a\n//@ repeat i in M / 4\nb$i\n//@ repeat j in N\nc$i$j\n//@ end\n//@ end\nd"];
        let shader = Shader { name: "test", sources, reads: 0, writes: 0 };
        let kernel = Kernel::new(shader, [("M", 8), ("N", 2)]);
        let text = "const M: u32 = 8u;\nconst N: u32 = 2u;\na\nb0\nc00\nc01\nb1\nc10\nc11\nd\n";
        assert_eq!(kernel.wgsl(), text);
        assert_eq!(kernel.to_string(), "test M=8 N=2");
    }
}
