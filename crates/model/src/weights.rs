//! The numbers of a network by their names, and the files that hold them: safetensors, with PyTorch's names.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use flate2::Crc;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::error::{Error, Result};
use crate::files;
use crate::graph::Graph;

/// The largest file that is read as weights: more is a mistake, and would fill the memory.
const MAX_BYTES: u64 = 8 << 30;

/// What PyTorch keeps beside each batch normalisation, and nothing needs.
const COUNTER: &str = "num_batches_tracked";

/// Under which key of a file's metadata we keep a checksum of all that it holds, and a note.
const SEAL: &str = "tilewise";

/// One named array.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Its extents, the last one contiguous.
    pub dims: Vec<usize>,
    /// Its elements.
    pub values: Vec<f32>,
}

/// Named arrays, in order of their names.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Weights {
    arrays: BTreeMap<String, Array>,
}

impl Weights {
    /// Adds an array, in place of one of that name.
    ///
    /// # Panics
    /// If there are not as many values as the extents say.
    pub fn insert(&mut self, name: impl Into<String>, dims: Vec<usize>, values: Vec<f32>) {
        assert_eq!(dims.iter().product::<usize>(), values.len(), "extents and number of values");
        self.arrays.insert(name.into(), Array { dims, values });
    }

    /// The array of this name.
    pub fn get(&self, name: &str) -> Option<&Array> {
        self.arrays.get(name)
    }

    /// Takes the array of this name out.
    pub fn remove(&mut self, name: &str) -> Option<Array> {
        self.arrays.remove(name)
    }

    /// All of them, in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Array)> {
        self.arrays.iter().map(|(name, array)| (name.as_str(), array))
    }

    /// Whether they are those of this network: every name, no other, every shape.
    ///
    /// # Errors
    /// [`Error::Weights`], which lists all that differs.
    pub fn check(&self, graph: &Graph) -> Result<()> {
        let parameters = graph.parameters();
        let mut mismatch = Mismatch::default();
        for parameter in &parameters {
            match self.get(&parameter.name) {
                None => mismatch.missing.push(parameter.name.clone()),
                Some(array) if array.dims != parameter.dims => {
                    mismatch.misshapen.push((
                        parameter.name.clone(),
                        parameter.dims.clone(),
                        array.dims.clone(),
                    ));
                }
                Some(_) => {}
            }
        }
        let known: std::collections::BTreeSet<_> = parameters.iter().map(|p| p.name.as_str()).collect();
        mismatch.extra =
            self.iter().map(|(name, _)| name).filter(|name| !known.contains(name)).map(Into::into).collect();
        if mismatch == Mismatch::default() { Ok(()) } else { Err(Error::Weights(mismatch)) }
    }

    /// Reads a safetensors file. Arrays of f16, bf16 and f64 become f32; PyTorch's counters of batches are left out.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] for a damaged file, or an array of integers.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = files::read(path, MAX_BYTES)?;
        Self::from_bytes(&bytes).map_err(|message| Error::format(path, message))
    }

    /// Reads the bytes of a safetensors file; the error says what is wrong with them.
    ///
    /// # Errors
    /// What [`Weights::load`] says of the file.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        Ok(Self::with_note_from_bytes(bytes)?.0)
    }

    /// [`Weights::from_bytes`], and the note that a file of ours has.
    pub(crate) fn with_note_from_bytes(bytes: &[u8]) -> Result<(Self, Option<String>), String> {
        let broken = |e| format!("not a whole safetensors file: {e}");
        let file = SafeTensors::deserialize(bytes).map_err(broken)?;
        let mut weights = Weights::default();
        for (name, view) in file.iter() {
            if !name.ends_with(COUNTER) {
                let values = floats(&view).map_err(|kind| format!("{name}: expected floats, got {kind}"))?;
                weights.insert(name, view.shape().to_vec(), values);
            }
        }
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(broken)?;
        let Some(seal) = metadata.metadata().as_ref().and_then(|metadata| metadata.get(SEAL)) else {
            return Ok((weights, None));
        };
        // Only we write this key, and what we wrote has not changed since.
        let (sum, note) = seal.split_once(' ').unwrap_or((seal, ""));
        if sum != weights.checksum(note) {
            return Err(format!("damaged: expected checksum {sum}, got {}", weights.checksum(note)));
        }
        Ok((weights, Some(note.to_owned())))
    }

    /// The bytes of a safetensors file. Its metadata have a checksum, which [`Weights::from_bytes`] compares.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the format refuses them.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.to_bytes_with_note("")
    }

    /// [`Weights::to_bytes`], with a note in the metadata.
    pub(crate) fn to_bytes_with_note(&self, note: &str) -> Result<Vec<u8>> {
        let refused = |e| Error::invalid("weights", "what a safetensors file can hold", e);
        let views = self.iter().map(|(name, array)| {
            let bytes = bytemuck::cast_slice(&array.values);
            Ok((name, TensorView::new(Dtype::F32, array.dims.clone(), bytes).map_err(refused)?))
        });
        let seal = format!("{} {note}", self.checksum(note));
        let metadata = [(SEAL.to_owned(), seal)].into_iter().collect();
        safetensors::serialize(views.collect::<Result<Vec<_>>>()?, Some(metadata)).map_err(refused)
    }

    /// CRC-32 of a note, and of names, extents and elements.
    fn checksum(&self, note: &str) -> String {
        let mut crc = Crc::new();
        crc.update(note.as_bytes());
        for (name, array) in self.iter() {
            crc.update(format!("{name}{:?}", array.dims).as_bytes());
            crc.update(bytemuck::cast_slice(&array.values));
        }
        format!("{:08x}", crc.sum())
    }

    /// Writes a safetensors file, beside the one that may be there, and then in its place.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        files::write(path.as_ref(), &self.to_bytes()?)
    }
}

/// The elements as f32; or the name of another kind.
fn floats(view: &TensorView<'_>) -> Result<Vec<f32>, String> {
    fn each<const N: usize>(bytes: &[u8], f: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        bytes.as_chunks::<N>().0.iter().map(|&bytes| f(bytes)).collect()
    }
    let bytes = view.data();
    match view.dtype() {
        Dtype::F32 => Ok(each(bytes, f32::from_le_bytes)),
        Dtype::F64 => Ok(each(bytes, |b| f64::from_le_bytes(b) as f32)),
        Dtype::BF16 => Ok(each(bytes, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16))),
        Dtype::F16 => Ok(each(bytes, |b| half(u16::from_le_bytes(b)))),
        kind => Err(format!("{kind:?}")),
    }
}

/// IEEE 754 half precision.
fn half(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    sign * match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1024.0 + fraction) * 2f32.powi(exponent - 25),
    }
}

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
        let shapes: Vec<_> = self
            .misshapen
            .iter()
            .map(|(name, expected, got)| format!("{name} (expected {expected:?}, got {got:?})"))
            .collect();
        let parts =
            [("missing", &self.missing), ("not of this network", &self.extra), ("of another shape", &shapes)];
        let parts = parts.iter().filter(|(_, names)| !names.is_empty());
        for (i, (label, names)) in parts.enumerate() {
            write!(f, "{}{label}: {}", if i == 0 { "" } else { "; " }, names.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewise_kernels::Shape4;

    fn net() -> Graph {
        let mut net = Graph::new(Shape4::new(1, 2, 4, 4)).unwrap();
        let x = net.conv2d("a", net.input(), 3, 1, Default::default()).unwrap();
        net.batch_norm("b.0", x).unwrap();
        net
    }

    #[test]
    fn a_file_gives_back_what_was_saved() {
        let weights = net().init(3);
        let again = Weights::from_bytes(&weights.to_bytes().unwrap()).unwrap();
        assert_eq!(again, weights);
        again.check(&net()).unwrap();
    }

    #[test]
    fn all_that_differs_is_listed() {
        let mut weights = net().init(3);
        weights.remove("a.bias");
        weights.insert("a.weight", vec![3, 2], vec![0.0; 6]);
        weights.insert("c.weight", vec![1], vec![0.0]);
        let error = weights.check(&net()).unwrap_err().to_string();
        assert_eq!(
            error,
            "weights: missing: a.bias; not of this network: c.weight; of another shape: a.weight (expected \
             [3, 2, 1, 1], got [3, 2])"
        );
    }

    #[test]
    fn halves_are_read() {
        for (bits, value) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x0001, 2f32.powi(-24)),
            (0x7bff, 65504.0),
            (0x3555, 0.333_251_95),
        ] {
            assert_eq!(half(bits), value);
        }
        assert!(half(0x7e00).is_nan() && half(0xfc00) == f32::NEG_INFINITY);
    }

    #[test]
    fn a_damaged_file_is_refused_or_read_whole() {
        let bytes = net().init(3).to_bytes().unwrap();
        for end in 0..bytes.len() {
            Weights::from_bytes(&bytes[..end]).unwrap_err();
        }
        let weights = net().init(3);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            // Either refused, or no number is another: what was hit is the checksum's own name.
            if let Ok(read) = Weights::from_bytes(&damaged) {
                assert_eq!(read, weights, "bit of byte {at}");
            }
        }
    }
}
