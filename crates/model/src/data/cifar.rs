//! CIFAR-10, the binary version: a label and 32x32 pixels, red, then green, then blue, per record of 3,073 bytes.
//! <https://www.cs.toronto.edu/~kriz/cifar.html>.

use std::fs;
use std::path::{Path, PathBuf};

use tilewise_kernels::Shape4;

use super::bytes;
use super::dataset::{Dataset, Targets};
use crate::error::{Error, Result};

const SIDE: usize = 32;
const PIXELS: usize = 3 * SIDE * SIDE;
const RECORD: usize = 1 + PIXELS;

/// The classes, in the order of their labels.
const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Images and classes from binary batches of CIFAR-10, one behind the other.
///
/// # Errors
/// [`Error::Io`] and [`Error::Format`] with the file.
pub fn read_cifar10(batches: &[PathBuf]) -> Result<Dataset> {
    let (mut labels, mut pixels) = (Vec::new(), Vec::new());
    for path in batches {
        let bytes = bytes::read(path)?;
        if bytes.is_empty() || !bytes.len().is_multiple_of(RECORD) {
            let message = format!("expected records of {RECORD} bytes, got a file of {} bytes", bytes.len());
            return Err(Error::format(path, message));
        }
        for (i, record) in bytes.chunks_exact(RECORD).enumerate() {
            let label = usize::from(record[0]);
            if label >= CLASSES.len() {
                let message = format!("record {i}: expected a label of 0 to 9, got {label}");
                return Err(Error::format(path, message));
            }
            labels.push(label);
            pixels.extend_from_slice(&record[1..]);
        }
    }
    let images = bytes::to_tensor(Shape4::new(labels.len(), 3, SIDE, SIDE), &pixels)?;
    Dataset::new(images, Targets::Labels { labels, names: CLASSES.map(str::to_owned).to_vec() })
}

/// Whether a file has the size of records.
pub(super) fn is_batch(path: &Path) -> bool {
    let extension = path.extension().is_some_and(|extension| extension == "bin");
    let records = |len: u64| len > 0 && len.is_multiple_of(RECORD as u64);
    extension && fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && records(metadata.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_a_label_and_three_planes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data_batch_1.bin");
        let mut bytes = vec![0; 2 * RECORD];
        (bytes[0], bytes[RECORD]) = (9, 3);
        bytes[1 + 2 * 1024 + 33] = 51;
        fs::write(&path, &bytes).unwrap();
        assert!(is_batch(&path));
        let set = read_cifar10(&[path.clone(), path.clone()]).unwrap();
        assert_eq!(set.to_string(), "4 images of 3x32x32, 10 classes");
        assert_eq!((set.labels().unwrap(), &set.class_names()[3]), (&[9, 3, 9, 3][..], &"cat".to_owned()));
        assert_eq!((set.images().at(2, 2, 1, 1), set.images().at(3, 2, 1, 1)), (0.2, 0.0));

        fs::write(&path, &bytes[..RECORD + 1]).unwrap();
        let message = |path: &PathBuf| read_cifar10(std::slice::from_ref(path)).unwrap_err().to_string();
        assert!(message(&path).contains("expected records of 3073 bytes, got a file of 3074 bytes"));
        assert!(!is_batch(&path));
        bytes[RECORD] = 10;
        fs::write(&path, &bytes).unwrap();
        assert!(message(&path).contains("record 1: expected a label of 0 to 9, got 10"));
    }
}
