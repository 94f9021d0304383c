//! The numbers of a network by their names.

use std::fmt;

/// How weights differ from what a network has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mismatch {
    /// Names that the network has and the weights lack.
    pub missing: Vec<String>,
    /// Names that the weights have and the network lacks.
    pub extra: Vec<String>,
    /// Names whose shapes differ: name, the network's shape, the weights' shape.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut part = |label: &str, names: &[String]| {
            if names.is_empty() { Ok(()) } else { write!(f, "{label}: {}; ", names.join(", ")) }
        };
        part("missing", &self.missing)?;
        part("not of this network", &self.extra)?;
        let shapes: Vec<_> = self
            .misshapen
            .iter()
            .map(|(name, expected, got)| format!("{name} (expected {expected:?}, got {got:?})"))
            .collect();
        part("of another shape", &shapes)
    }
}
