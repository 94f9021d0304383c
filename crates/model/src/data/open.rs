//! One way to all data: a name or a path, recognised by what lies there.

use std::path::{Path, PathBuf};

use super::cells::Cells;
use super::dataset::Dataset;
use super::folder::{self, List, list, name, read_classes, read_pairs};
use super::image_file::{Colour, Options, read_images};
use super::{cifar, csv, digits, idx};
use crate::error::{Error, Result};

/// Names of folders with images, and with their masks.
const IMAGES: [&str; 4] = ["images", "image", "imgs", "img"];
const MASKS: [&str; 4] = ["masks", "mask", "labels", "label"];

/// What [`open`] looks for.
const KNOWN: &str = "IDX images and labels (*-images-idx3-ubyte, *-labels-idx1-ubyte, .gz or not), CIFAR-10 batches (*.bin), \
                     a CSV table (.csv), images/ with masks/ or labels/, a subfolder of PNG or JPEG images for each class, \
                     or such images alone";

/// The data set of a name or at a path.
///
/// | name or path | data set |
/// |---|---|
/// | `digits` | the embedded digits |
/// | `cells` | [`Cells::default`]; `cells:200x128` and `cells:200x128@7`: 200 images of 128x128, of seed 7 |
/// | a file of IDX images, or a folder with some | those and their labels; of several, one behind the other, `train` first |
/// | a `.bin` file of CIFAR-10, or a folder with some | those, training batches first |
/// | a `.csv` file, or a folder with one | [`read_csv`](super::read_csv) |
/// | a folder with `images` (`image`, `imgs`, `img`) and `masks` (`mask`, `labels`, `label`) | [`read_pairs`] |
/// | a folder with subfolders of images | [`read_classes`] |
/// | a folder of images, or one image | those, without targets |
///
/// A folder of the name `digits` is `./digits`.
///
/// ```
/// use tilewise_model::data;
/// assert_eq!(data::open("digits")?.to_string(), "1797 images of 1x8x8, 10 classes");
/// assert_eq!(data::open("cells:3x32@7")?.len(), 3);
/// assert!(data::open("no/such/place").unwrap_err().to_string().starts_with("no/such/place: "));
/// # Ok::<(), tilewise_model::Error>(())
/// ```
///
/// # Errors
/// [`Error::Io`] and [`Error::Format`] with the file; if nothing is recognised, with what was looked for.
pub fn open(spec: impl AsRef<Path>) -> Result<Dataset> {
    open_with(spec, &Options::default())
}

/// [`open`], with images in other colours or of another size.
///
/// # Errors
/// As there.
pub fn open_with(spec: impl AsRef<Path>, options: &Options) -> Result<Dataset> {
    let path = spec.as_ref();
    let set = match path.to_str().map(|spec| (spec, spec.strip_prefix("cells"))) {
        Some(("digits", _)) => digits()?,
        Some((_, Some(""))) => Cells::default().generate()?,
        Some((_, Some(sizes))) if sizes.starts_with(':') => cells(&sizes[1..])?.generate()?,
        _ if path.is_dir() => open_folder(path, options)?,
        _ => open_file(path, options)?,
    };
    // What comes from image files has all this already.
    let set = if options.colour == Colour::Keep { set } else { set.coloured(options.colour)? };
    match options.size {
        Some(size) if size != set.size() => set.resized(size),
        _ => Ok(set),
    }
}

/// `200x128` or `200x128@7`.
fn cells(sizes: &str) -> Result<Cells> {
    let parse = || {
        let (sizes, seed) = sizes.split_once('@').unwrap_or((sizes, "0"));
        let (count, size) = sizes.split_once('x')?;
        Some(Cells { count: count.parse().ok()?, size: size.parse().ok()?, seed: seed.parse().ok()? })
    };
    parse()
        .ok_or_else(|| Error::invalid("cells", "COUNTxSIZE or COUNTxSIZE@SEED, as in cells:200x128@7", sizes))
}

fn open_file(path: &Path, options: &Options) -> Result<Dataset> {
    if !path.exists() {
        let message = "expected a file or folder, or digits or cells, got a name of nothing that exists";
        return Err(Error::format(path, message));
    }
    if is_csv(path) {
        csv::read_csv(path)
    } else if cifar::is_batch(path) {
        cifar::read_cifar10(&[path.to_owned()])
    } else if idx::is_images(path) {
        read_idx(path)
    } else if folder::is_image(path) {
        read_images(&[path.to_owned()], options)
    } else {
        Err(Error::format(path, format!("expected {KNOWN}; got a file of another kind")))
    }
}

fn open_folder(path: &Path, options: &Options) -> Result<Dataset> {
    let List { folders, images, others } = list(path)?;
    let named = |names: [&str; 4]| {
        names
            .iter()
            .find_map(|&wanted| folders.iter().find(|folder| name(folder).eq_ignore_ascii_case(wanted)))
    };
    let files = |is: fn(&Path) -> bool| {
        let mut files: Vec<&PathBuf> = others.iter().filter(|path| is(path)).collect();
        // A stable order: training data first, the rest by name.
        files.sort_by_key(|path| !["train", "data_batch"].iter().any(|part| name(path).contains(part)));
        files.into_iter().cloned().collect::<Vec<_>>()
    };
    let (idx, batches, tables) = (files(idx::is_images), files(cifar::is_batch), files(is_csv));
    if !idx.is_empty() {
        Dataset::concatenated(idx.iter().map(|images| read_idx(images)).collect::<Result<_>>()?)
    } else if !batches.is_empty() {
        cifar::read_cifar10(&batches)
    } else if let [table] = &tables[..] {
        csv::read_csv(table)
    } else if let (Some(images), Some(masks)) = (named(IMAGES), named(MASKS)) {
        read_pairs(images, masks, options)
    } else if folders.iter().any(|folder| list(folder).is_ok_and(|list| !list.images.is_empty())) {
        if let Some(image) = images.first() {
            let message = "expected images in subfolders of classes, or alone, got both";
            return Err(Error::format(image, message));
        }
        read_classes(path, options)
    } else if !images.is_empty() {
        read_images(&images, options)
    } else {
        let names: Vec<_> = folders.iter().chain(&others).take(6).map(|path| name(path)).collect();
        let got = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
        Err(Error::format(path, format!("expected {KNOWN}; got {got}")))
    }
}

fn read_idx(images: &Path) -> Result<Dataset> {
    let labels = idx::labels_of(images).ok_or_else(|| {
        let message = "expected its labels beside it (the same name with labels-idx1), got none";
        Error::format(images, message)
    })?;
    idx::read_idx(images, &labels)
}

fn is_csv(path: &Path) -> bool {
    let name = name(path).to_lowercase();
    name.ends_with(".csv") || name.ends_with(".csv.gz")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::{GrayImage, Luma};

    use super::*;

    fn tree(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        root
    }

    fn png(value: u8) -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        GrayImage::from_pixel(4, 4, Luma([value])).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    /// IDX of one image of one pixel, and its label.
    fn idx(value: u8) -> (Vec<u8>, Vec<u8>) {
        let images = [&[0, 0, 8, 3][..], &[0, 0, 0, 1].repeat(3), &[value]].concat();
        (images, vec![0, 0, 8, 1, 0, 0, 0, 1, value])
    }

    fn say(root: &tempfile::TempDir, path: &str) -> String {
        match open(root.path().join(path)) {
            Ok(set) => set.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_lies_there_is_recognised() {
        let (images, labels) = idx(3);
        let cifar = vec![0; 3073];
        for (files, expected) in [
            (
                vec![("t10k-images-idx3-ubyte", images), ("t10k-labels-idx1-ubyte", labels)],
                "1 images of 1x1x1, 4 classes",
            ),
            (
                vec![("data_batch_1.bin", cifar.clone()), ("readme.html", vec![])],
                "1 images of 3x32x32, 10 classes",
            ),
            (vec![("digits.csv", b"0,1,2,16,5".to_vec())], "1 images of 1x2x2, 6 classes"),
            (vec![("image/1.png", png(9)), ("label/1.png", png(255))], "1 images of 1x4x4, with masks"),
            (vec![("cat/1.png", png(0)), ("dog/1.png", png(1))], "2 images of 1x4x4, 2 classes"),
            (vec![("1.png", png(0)), ("notes.txt", vec![])], "1 images of 1x4x4, without classes or masks"),
        ] {
            let root = tree(&files);
            assert_eq!(say(&root, ""), expected);
            // A file by itself, where it is a data set by itself.
            if !files[0].0.contains('/') {
                assert_eq!(say(&root, files[0].0), expected);
            }
        }
    }

    #[test]
    fn training_data_comes_first() {
        let ((test, test_label), (train, train_label)) = (idx(1), idx(2));
        let root = tree(&[
            ("t10k-images-idx3-ubyte", test),
            ("t10k-labels-idx1-ubyte", test_label),
            ("train-images-idx3-ubyte", train),
            ("train-labels-idx1-ubyte", train_label),
        ]);
        let set = open(root.path()).unwrap();
        assert_eq!((set.labels().unwrap(), set.class_names().len()), (&[2, 1][..], 3));
    }

    #[test]
    fn what_is_not_recognised_says_what_was_looked_for() {
        let (images, labels) = idx(3);
        let root = tree(&[
            ("empty/.keep", vec![]),
            ("text.md", b"hello".to_vec()),
            ("alone/train-images-idx3-ubyte", images),
            ("labels", labels),
        ]);
        let message = say(&root, "");
        assert!(message.contains("a CSV table (.csv)"), "{message}");
        assert!(message.ends_with("got alone, empty, labels, text.md"), "{message}");
        assert!(say(&root, "empty").ends_with("got nothing"));
        assert!(say(&root, "text.md").ends_with("got a file of another kind"));
        let both = tree(&[("1.png", png(0)), ("cat/1.png", png(0))]);
        assert!(
            say(&both, "").contains("1.png: expected images in subfolders of classes, or alone, got both")
        );
        assert!(say(&root, "alone").contains("expected its labels beside it"));
        assert!(say(&root, "nothing").contains("nothing: expected a file or folder"));
        for spec in ["cells:", "cells:3", "cells:3x", "cells:3x32@", "cells:-1x32", "cells:3x8"] {
            assert!(open(spec).unwrap_err().to_string().contains("expected"), "{spec}");
        }
    }

    #[test]
    fn options_hold_for_what_comes_from_no_image_file() {
        let options = Options { colour: Colour::Rgb, size: Some([10, 12]), ..Options::default() };
        let set = open_with("digits", &options).unwrap();
        assert_eq!(set.images().shape().dims(), [1797, 3, 10, 12]);
    }
}
