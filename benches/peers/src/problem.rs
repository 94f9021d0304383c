//! A convolution: its shape, and the folder with its data.

use std::path::PathBuf;

use serde::Deserialize;

use crate::Result;

/// What of a convolution is to be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pass {
    /// Convolution + bias + ReLU.
    Forward,
    /// The gradient to the input.
    Input,
    /// The gradient to the weights.
    Weights,
}

/// What a library is to compute, and from what.
#[derive(Debug, Clone, Deserialize)]
pub struct Problem {
    /// Where `x`, `w`, `b` and `gy` lie: f32, little-endian, row-major; and `model.onnx`, the forward pass.
    folder: PathBuf,
    pub pass: Pass,
    /// Images, channels, rows, columns.
    pub input: [usize; 4],
    /// Filters, channels, rows, columns.
    pub weights: [usize; 4],
    pub stride: usize,
    pub padding: usize,
    /// Positions of the result that are to be told.
    pub at: Vec<usize>,
}

impl Problem {
    /// Where a file of it lies.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The numbers of `x`, `w`, `b` or `gy`.
    pub fn data(&self, name: &str) -> Result<Vec<f32>> {
        let bytes = std::fs::read(self.file(name))?;
        let (numbers, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(format!("{name} does not consist of f32").into());
        }
        Ok(numbers.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
    }
}
