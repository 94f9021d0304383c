//! The safetensors file: its list of cases, its tensors by name and extents.

use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde_json::{Map, Value};
use tilewise_kernels::{Shape4, Tensor};

use super::problem;

/// One entry of the list of cases.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct CaseEntry {
    /// `conv2d_003`; the prefix of its tensors.
    pub name: String,
    /// The operator.
    pub op: String,
    /// Its parameters; which ones depends on the operator.
    pub params: Map<String, Value>,
    /// Names of the inputs, `gy` among them where there are gradients.
    pub inputs: Vec<String>,
    /// Names of the outputs.
    pub outputs: Vec<String>,
    /// Names of the gradients.
    #[serde(default)]
    pub grads: Vec<String>,
}

/// A file in memory, its header validated.
pub(super) struct GoldenFile {
    bytes: Vec<u8>,
    metadata: Metadata,
    /// Where the tensors begin: behind the length of the header (8 bytes) and the header.
    data_start: usize,
    pub cases: Vec<CaseEntry>,
}

impl GoldenFile {
    /// Validates the header and the list of cases.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, String> {
        let (header_len, metadata) =
            SafeTensors::read_metadata(&bytes).map_err(|e| format!("expected a safetensors file: {e}"))?;
        let list = metadata
            .metadata()
            .as_ref()
            .and_then(|m| m.get("cases"))
            .ok_or("expected the metadata key `cases`, a JSON list; got none")?;
        let cases: Vec<CaseEntry> =
            serde_json::from_str(list).map_err(|e| format!("metadata key `cases`: {e}"))?;
        if cases.is_empty() {
            return Err("metadata key `cases`: expected at least one case, got an empty list".to_owned());
        }
        Ok(GoldenFile { bytes, metadata, data_start: 8 + header_len, cases })
    }

    /// The extents of tensor `case/name` as four, ones behind those that are stored.
    pub fn shape(&self, case: &str, name: &str) -> Result<Shape4, String> {
        self.with(case, name, |_, shape, _| Ok(shape))
    }

    /// The f32 tensor `case/name`, which must have these extents.
    pub fn tensor(&self, case: &str, name: &str, expected: Shape4) -> Result<Tensor, String> {
        self.with(case, name, |dtype, shape, bytes| {
            if shape != expected {
                return Err(format!("tensor {name}: expected {expected}, got {shape}"));
            }
            if dtype != Dtype::F32 {
                return Err(format!("tensor {name}: expected F32, got {dtype:?}"));
            }
            let data = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            Tensor::from_vec(shape, data).map_err(|e| format!("tensor {name}: {e}"))
        })
    }

    /// The class of each sample of `logits`, in the order n, h, w, or what stands for the label that is ignored
    /// ([`problem::ignored`]).
    pub fn labels(&self, case: &str, logits: Shape4, ignored: Option<i64>) -> Result<Vec<usize>, String> {
        let samples = logits.n * logits.h * logits.w;
        self.with(case, "labels", |dtype, _, bytes| {
            if dtype != Dtype::I64 || bytes.len() / 8 != samples {
                return Err(format!(
                    "tensor labels: expected {samples} I64, got {} {dtype:?}",
                    bytes.len() / 8
                ));
            }
            let class = |b: &[u8; 8]| {
                let label = i64::from_le_bytes(*b);
                if let Some(stands_for_it) = problem::ignored(ignored.filter(|&i| i == label), logits.c) {
                    return Ok(stands_for_it);
                }
                usize::try_from(label)
                    .ok()
                    .filter(|&l| l < logits.c)
                    .ok_or_else(|| format!("tensor labels: expected 0 to {}, got {label}", logits.c - 1))
            };
            bytes.as_chunks().0.iter().map(class).collect()
        })
    }

    fn with<T>(
        &self,
        case: &str,
        name: &str,
        read: impl FnOnce(Dtype, Shape4, &[u8]) -> Result<T, String>,
    ) -> Result<T, String> {
        let missing = || format!("tensor {case}/{name}: expected in the file, got none");
        let info = self.metadata.info(&format!("{case}/{name}")).ok_or_else(missing)?;
        let (start, end) = info.data_offsets;
        let bytes = self.bytes[self.data_start..].get(start..end).ok_or_else(missing)?;
        let mut dims = [1; 4];
        match dims.get_mut(..info.shape.len()) {
            Some(first) => first.copy_from_slice(&info.shape),
            None => return Err(format!("tensor {name}: expected up to 4 dimensions, got {:?}", info.shape)),
        }
        let shape = Shape4::from(dims);
        shape.checked_len("golden", "tensor").map_err(|e| format!("tensor {name}: {e}"))?;
        read(info.dtype, shape, bytes)
    }
}
