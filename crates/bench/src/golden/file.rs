//! The safetensors file: its lists of cases and of networks, its tensors by name and extents.

use safetensors::tensor::{Metadata, TensorView};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde_json::{Map, Value};
use tilewise_kernels::{Shape4, Tensor};
use tilewise_model::Weights;

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

/// One network of a file.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct NetworkEntry {
    /// What rows and failures call it; with a slash, the prefix of its tensors in a file of several.
    pub name: String,
    /// `unet`, `cnn` or `autoencoder`.
    pub net: String,
    /// Its extents; which ones depends on the network. JSON, or a string of it.
    pub config: Value,
    /// `bce_with_logits`, `cross_entropy` or `mse`.
    pub loss: String,
    /// What its tensors' names begin with.
    #[serde(skip)]
    pub prefix: String,
}

/// A file in memory, its header validated.
pub(super) struct GoldenFile {
    bytes: Vec<u8>,
    metadata: Metadata,
    /// Where the tensors begin: behind the length of the header (8 bytes) and the header.
    data_start: usize,
    pub cases: Vec<CaseEntry>,
    pub networks: Vec<NetworkEntry>,
}

impl GoldenFile {
    /// Validates the header and the lists. `name` is what to call the only network of a file.
    pub fn parse(bytes: Vec<u8>, name: &str) -> Result<Self, String> {
        let (header_len, metadata) =
            SafeTensors::read_metadata(&bytes).map_err(|e| format!("expected a safetensors file: {e}"))?;
        let key = |key: &str| metadata.metadata().as_ref()?.get(key).cloned();
        let cases: Vec<CaseEntry> = key("cases").map_or(Ok(Vec::new()), |text| list("cases", &text))?;
        let mut networks: Vec<NetworkEntry> =
            key("networks").map_or(Ok(Vec::new()), |text| list("networks", &text))?;
        networks.iter_mut().for_each(|network| network.prefix = format!("{}/", network.name));
        if let Some(net) = key("net") {
            let expected = |which: &str| {
                key(which).ok_or(format!("metadata key `{which}`: expected beside `net`, got none"))
            };
            let config = Value::String(expected("config")?);
            let (name, prefix) = (name.to_owned(), String::new());
            networks.push(NetworkEntry { name, net, config, loss: expected("loss")?, prefix });
        }
        if cases.is_empty() && networks.is_empty() {
            return Err("expected the metadata key `cases` (a JSON list of operators), `networks` (of networks) or `net` \
                        (of one); got none"
                .to_owned());
        }
        Ok(GoldenFile { bytes, metadata, data_start: 8 + header_len, cases, networks })
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
    /// ([`problem::ignored`]): the tensor `case/name`.
    pub fn labels(
        &self,
        case: &str,
        name: &str,
        logits: Shape4,
        ignored: Option<i64>,
    ) -> Result<Vec<usize>, String> {
        let samples = logits.n * logits.h * logits.w;
        self.with(case, name, |dtype, shape, bytes| {
            let labels = shape.n * shape.image_len();
            if dtype != Dtype::I64 || labels != samples {
                return Err(format!("tensor {name}: expected {samples} I64, got {labels} {dtype:?}"));
            }
            let class = |b: &[u8; 8]| {
                let label = i64::from_le_bytes(*b);
                if let Some(stands_for_it) = problem::ignored(ignored.filter(|&i| i == label), logits.c) {
                    return Ok(stands_for_it);
                }
                usize::try_from(label)
                    .ok()
                    .filter(|&l| l < logits.c)
                    .ok_or_else(|| format!("tensor {name}: expected 0 to {}, got {label}", logits.c - 1))
            };
            bytes.as_chunks().0.iter().map(class).collect()
        })
    }

    /// The weights among the tensors of this prefix, under their names without it.
    pub fn weights(&self, prefix: &str) -> Result<Weights, String> {
        let mut views = Vec::new();
        for (full, info) in self.metadata.tensors() {
            let Some(name) = full.strip_prefix(prefix).filter(|name| !name.starts_with("golden/")) else {
                continue;
            };
            let (start, end) = info.data_offsets;
            let bytes = self.bytes[self.data_start..].get(start..end).unwrap_or_default();
            let view = TensorView::new(info.dtype, info.shape.clone(), bytes);
            views.push((name.to_owned(), view.map_err(|e| format!("tensor {full}: {e}"))?));
        }
        // As if they had been in a file of their own.
        Weights::from_bytes(&safetensors::serialize(views, None).map_err(|e| e.to_string())?)
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

/// A list in the metadata, with at least one entry.
fn list<T: serde::de::DeserializeOwned>(key: &str, text: &str) -> Result<Vec<T>, String> {
    let entries: Vec<T> = serde_json::from_str(text).map_err(|e| format!("metadata key `{key}`: {e}"))?;
    if entries.is_empty() {
        return Err(format!("metadata key `{key}`: expected at least one entry, got an empty list"));
    }
    Ok(entries)
}
