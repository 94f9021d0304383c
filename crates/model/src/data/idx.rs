//! IDX: the format of MNIST and its family (Fashion-MNIST, KMNIST, …), gzip or not.
//!
//! Big-endian: two zero bytes, the type of an element (8 = unsigned byte), the number of dimensions, each dimension as
//! u32, then the elements. <http://yann.lecun.com/exdb/mnist/>. Images are `n x rows x columns`, labels `n`.

use std::path::{Path, PathBuf};

use tilewise_kernels::Shape4;

use super::bytes;
use super::dataset::{Dataset, Targets};
use crate::error::{Error, Result};

/// An element of one unsigned byte.
const UNSIGNED_BYTE: u8 = 8;

/// Images and their labels from two IDX files. Classes are named by their numbers.
///
/// # Errors
/// [`Error::Io`] and [`Error::Format`] with the file; [`Error::Invalid`] if it is not one label to each image.
pub fn read_idx(images: &Path, labels: &Path) -> Result<Dataset> {
    let pixels = Idx::read(images)?;
    let [n, h, w] = pixels.dims(images, "images x rows x columns")?;
    let targets = Idx::read(labels)?;
    let [count] = targets.dims(labels, "labels")?;
    if count != n {
        let message = format!("expected {n} labels, one for each image of {}, got {count}", images.display());
        return Err(Error::format(labels, message));
    }
    if n == 0 || h == 0 || w == 0 {
        return Err(Error::format(images, format!("expected images with pixels, got {n}x{h}x{w}")));
    }
    let pixels = bytes::to_tensor(Shape4::new(n, 1, h, w), pixels.elements())?;
    let labels: Vec<usize> = targets.elements().iter().map(|&label| label.into()).collect();
    let names = bytes::numbered(&labels);
    Dataset::new(pixels, Targets::Labels { labels, names })
}

/// Whether a file starts as IDX images do.
pub(super) fn is_images(path: &Path) -> bool {
    bytes::read_start(path, 4).is_ok_and(|start| start == [0, 0, UNSIGNED_BYTE, 3])
}

/// The labels that go with images: `train-images-idx3-ubyte.gz` and `train-labels-idx1-ubyte.gz`, one of them perhaps
/// unpacked.
pub(super) fn labels_of(images: &Path) -> Option<PathBuf> {
    let name = images.file_name()?.to_str()?;
    let stem = name.strip_suffix(".gz").unwrap_or(name);
    let labels = stem.replacen("images", "labels", 1).replacen("idx3", "idx1", 1);
    let found = [labels.clone(), format!("{labels}.gz")].map(|name| images.with_file_name(name));
    found.into_iter().find(|path| path.is_file() && path != images)
}

/// A file whose promises were found to be kept.
struct Idx {
    dims: Vec<usize>,
    /// The whole file; the elements follow the header.
    bytes: Vec<u8>,
}

impl Idx {
    fn read(path: &Path) -> Result<Self> {
        let bytes = bytes::read(path)?;
        let &[0, 0, element, rank, ..] = &bytes[..] else {
            let message = format!("expected an IDX file, which starts with 0, 0, got {}", start(&bytes));
            return Err(Error::format(path, message));
        };
        if element != UNSIGNED_BYTE {
            let message = format!("expected IDX elements of type 8 (unsigned byte), got type {element}");
            return Err(Error::format(path, message));
        }
        let header = 4 + 4 * usize::from(rank);
        let Some(sizes) = bytes.get(4..header) else {
            let message = format!("expected an IDX header of {header} bytes, got a file of {}", bytes.len());
            return Err(Error::format(path, message));
        };
        let sizes = sizes.as_chunks().0.iter().map(|&size| u32::from_be_bytes(size) as usize);
        let dims: Vec<usize> = sizes.collect();
        // A product too large to be counted is larger than the file, too.
        let elements = dims.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        let promised = elements.and_then(|elements| elements.checked_add(header));
        if promised != Some(bytes.len()) {
            let promised =
                promised.map_or("more bytes than can be counted".to_owned(), |n| format!("{n} bytes"));
            let message = format!("expected {promised}, as its header {dims:?} says, got {}", bytes.len());
            return Err(Error::format(path, message));
        }
        Ok(Idx { dims, bytes })
    }

    /// The dimensions, if there are `N`.
    fn dims<const N: usize>(&self, path: &Path, what: &str) -> Result<[usize; N]> {
        self.dims.as_slice().try_into().map_err(|_| {
            let message =
                format!("expected {N} dimensions ({what}), got {}: {:?}", self.dims.len(), self.dims);
            Error::format(path, message)
        })
    }

    fn elements(&self) -> &[u8] {
        &self.bytes[4 + 4 * self.dims.len()..]
    }
}

/// The first bytes of a file, for messages.
fn start(bytes: &[u8]) -> String {
    match bytes {
        [] => "an empty file".to_owned(),
        _ => format!("{:?}", &bytes[..bytes.len().min(4)]),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn idx(rank: &[u32], elements: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, rank.len() as u8];
        rank.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
        bytes.extend(elements);
        bytes
    }

    fn read(images: &[u8], labels: &[u8]) -> Result<Dataset> {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"].map(|name| folder.path().join(name));
        fs::write(&paths[0], images).unwrap();
        fs::write(&paths[1], labels).unwrap();
        assert_eq!(labels_of(&paths[0]).as_ref(), Some(&paths[1]));
        read_idx(&paths[0], &paths[1])
    }

    #[test]
    fn images_are_scaled_to_one_and_have_their_labels() {
        let set = read(&idx(&[2, 1, 3], &[0, 51, 255, 1, 2, 3]), &idx(&[2], &[0, 3])).unwrap();
        assert_eq!(set.images().shape(), Shape4::new(2, 1, 1, 3));
        assert_eq!(set.images().data()[..4], [0.0, 0.2, 1.0, 1.0 / 255.0]);
        assert_eq!((set.labels().unwrap(), set.class_names().len()), (&[0, 3][..], 4));
    }

    #[test]
    fn broken_files_are_refused_with_what_was_expected() {
        let (images, labels) = (idx(&[2, 1, 3], &[0; 6]), idx(&[2], &[0, 3]));
        for (images, labels, expected) in [
            (
                images[..21].to_vec(),
                labels.clone(),
                "expected 22 bytes, as its header [2, 1, 3] says, got 21",
            ),
            ([&images[..], &[0]].concat(), labels.clone(), "expected 22 bytes"),
            (images[..9].to_vec(), labels.clone(), "expected an IDX header of 16 bytes, got a file of 9"),
            (Vec::new(), labels.clone(), "starts with 0, 0, got an empty file"),
            (b"PNG!".to_vec(), labels.clone(), "starts with 0, 0, got [80, 78, 71, 33]"),
            (vec![0, 0, 13, 1, 0, 0, 0, 0], labels.clone(), "type 8 (unsigned byte), got type 13"),
            (idx(&[u32::MAX; 3], &[]), labels.clone(), "more bytes than can be counted"),
            (idx(&[u32::MAX, 1, 1], &[7]), labels.clone(), "expected 4294967311 bytes"),
            (labels.clone(), labels.clone(), "expected 3 dimensions (images x rows x columns), got 1: [2]"),
            (images.clone(), images.clone(), "expected 1 dimensions (labels), got 3"),
            (images.clone(), idx(&[1], &[0]), "expected 2 labels, one for each image of"),
            (idx(&[0, 28, 28], &[]), idx(&[0], &[]), "expected images with pixels, got 0x28x28"),
        ] {
            let message = read(&images, &labels).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}\ninstead of {expected}");
            assert!(message.contains("t10k-"), "{message}");
        }
    }
}
