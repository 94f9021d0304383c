//! Folders of images: a subfolder for each class; or images and their masks; or images alone.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tilewise_kernels::{Shape4, Tensor};

use super::convert::{self, Filter};
use super::dataset::{Dataset, Targets};
use super::image_file::{self, Colour, Options, read_image};
use crate::error::{Error, Result};

/// What image files end in.
const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];

/// A mask counts where it is brighter than this.
const HALF: f32 = 0.5;

/// Images in class subfolders: the name of a subfolder is that of the class of the images in it. Classes, and the images
/// of each, come in the order of their names, numbers by their value.
///
/// # Errors
/// [`Error::Io`] and [`Error::Format`] with the file or folder: no subfolder has images, an image cannot be read or has
/// another size than the first and `options` gives none.
pub fn read_classes(folder: &Path, options: &Options) -> Result<Dataset> {
    let (mut paths, mut labels, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for subfolder in list(folder)?.folders {
        let images = list(&subfolder)?.images;
        if !images.is_empty() {
            labels.extend(images.iter().map(|_| names.len()));
            names.push(name(&subfolder).into_owned());
            paths.extend(images);
        }
    }
    if paths.is_empty() {
        let message = "expected a subfolder with PNG or JPEG images for each class, got none";
        return Err(Error::format(folder, message));
    }
    Dataset::new(image_file::stack(&paths, options)?, Targets::Labels { labels, names })
}

/// Images and their masks, from two folders: `7.png` goes with `7.png` or `7_mask.png` (or JPEG). What is brighter than
/// half in a mask belongs to the object sought; with [`Options::invert_masks`], what is not.
///
/// # Errors
/// [`Error::Io`] and [`Error::Format`] with the file: an image without a mask, a mask without an image or of another
/// size, masks that are never brighter than half though not black.
pub fn read_pairs(images: &Path, masks: &Path, options: &Options) -> Result<Dataset> {
    let image_paths = list(images)?.images;
    if image_paths.is_empty() {
        return Err(Error::format(images, "expected PNG or JPEG images, got none"));
    }
    let mask_paths = pair(&image_paths, masks)?;
    let tensor = image_file::stack(&image_paths, options)?;
    let shape = Shape4 { c: 1, ..tensor.shape() };
    let plane = shape.h * shape.w;
    let mut all = Tensor::zeros(shape)?;
    let mut brightest = 0.0f32;
    for (path, to) in mask_paths.iter().zip(all.data_mut().chunks_exact_mut(plane)) {
        let mut mask = read_image(path, &Options { colour: Colour::Grey, ..Options::default() })?;
        let (h, w) = (mask.shape().h, mask.shape().w);
        for value in mask.data_mut() {
            brightest = brightest.max(*value);
            *value = f32::from(u8::from((*value > HALF) != options.invert_masks));
        }
        if options.size.is_some() && (h, w) != (shape.h, shape.w) {
            mask = convert::resize(&mask, [shape.h, shape.w], Filter::Nearest)?;
        }
        if mask.data().len() != plane || (mask.shape().h, mask.shape().w) != (shape.h, shape.w) {
            let message =
                format!("expected a mask of {}x{} pixels, as its image has, got {w}x{h}", shape.w, shape.h);
            return Err(Error::format(path, message));
        }
        to.copy_from_slice(mask.data());
    }
    if brightest > 0.0 && brightest <= HALF {
        let message = format!(
            "expected masks in black and white, got nothing brighter than {:.0} of 255",
            f64::from(brightest) * 255.0
        );
        return Err(Error::format(masks, message));
    }
    Dataset::new(tensor, Targets::Masks(all))
}

/// The mask of each image.
fn pair(images: &[PathBuf], masks: &Path) -> Result<Vec<PathBuf>> {
    let stem = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mask_stem = |path: &Path| {
        let stem = stem(path);
        stem.strip_suffix("_mask").map_or(stem.clone(), str::to_owned)
    };
    let mut by_stem = BTreeMap::new();
    for mask in list(masks)?.images {
        if let Some(other) = by_stem.insert(mask_stem(&mask), mask.clone()) {
            let message = format!("expected one mask for each image, got {} too", other.display());
            return Err(Error::format(mask, message));
        }
    }
    let paired = images.iter().map(|image| {
        by_stem.remove(&stem(image)).ok_or_else(|| {
            let message = format!("expected one mask of the name {} in {}", stem(image), masks.display());
            Error::format(image, message)
        })
    });
    let paired = paired.collect::<Result<Vec<_>>>()?;
    match by_stem.into_values().next() {
        Some(left) => Err(Error::format(left, "expected an image of the same name, got a mask alone")),
        None => Ok(paired),
    }
}

/// What lies in a folder, in the order of the names, numbers by their value. Names that start with a dot are left out.
pub(super) struct List {
    pub(super) folders: Vec<PathBuf>,
    pub(super) images: Vec<PathBuf>,
    pub(super) others: Vec<PathBuf>,
}

pub(super) fn list(folder: &Path) -> Result<List> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        if !name(&path).starts_with('.') {
            paths.push(path);
        }
    }
    paths.sort_by(|a, b| natural(&name(a), &name(b)).then_with(|| a.cmp(b)));
    let (folders, files): (Vec<_>, Vec<_>) = paths.into_iter().partition(|path| path.is_dir());
    let (images, others) = files.into_iter().partition(|path| is_image(path));
    Ok(List { folders, images, others })
}

pub(super) fn is_image(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    EXTENSIONS.contains(&extension.as_str())
}

/// The last part of a path.
pub(super) fn name(path: &Path) -> Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

/// The order that people expect: `9.png` before `10.png`.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (digits_a, digits_b) = (digits(a), digits(b));
        let order = if digits_a.is_empty() || digits_b.is_empty() {
            match (a.chars().next(), b.chars().next()) {
                (Some(x), Some(y)) if x == y => {
                    (a, b) = (&a[x.len_utf8()..], &b[y.len_utf8()..]);
                    continue;
                }
                (x, y) => x.cmp(&y),
            }
        } else {
            let value = |digits: &str| digits.trim_start_matches('0').to_owned();
            let (x, y) = (value(digits_a), value(digits_b));
            (a, b) = (&a[digits_a.len()..], &b[digits_b.len()..]);
            x.len().cmp(&y.len()).then_with(|| x.cmp(&y))
        };
        if order.is_ne() {
            return order;
        }
        if a.is_empty() && b.is_empty() {
            return Ordering::Equal;
        }
    }
}

/// The digits that a text starts with.
fn digits(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    &text[..end]
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, Luma};

    use super::*;

    fn save(folder: &Path, name: &str, size: [u32; 2], value: u8) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        GrayImage::from_fn(size[1], size[0], |x, _| Luma([if x == 0 { value } else { 0 }]))
            .save(path)
            .unwrap();
    }

    #[test]
    fn numbers_in_names_are_in_their_order() {
        let mut names = ["b", "a10", "a9", "a9b", "a", "", "a010", "10", "9", "é2", "é10", "a1b20", "a1b3"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(
            names,
            ["", "9", "10", "a", "a1b3", "a1b20", "a9", "a9b", "a10", "a010", "b", "é2", "é10"]
        );
    }

    #[test]
    fn each_subfolder_is_a_class() {
        let root = tempfile::tempdir().unwrap();
        for (name, value) in [("cat/1.png", 1), ("cat/10.png", 10), ("cat/2.png", 2), ("dog/x.PNG", 50)] {
            save(root.path(), name, [2, 3], value);
        }
        fs::create_dir(root.path().join("empty")).unwrap();
        save(root.path(), ".hidden/1.png", [9, 9], 0);
        fs::write(root.path().join("cat/notes.txt"), "").unwrap();
        let set = read_classes(root.path(), &Options::default()).unwrap();
        assert_eq!(
            (set.class_names(), set.labels().unwrap()),
            (&["cat".into(), "dog".into()][..], &[0, 0, 0, 1][..])
        );
        let values: Vec<_> = (0..4).map(|n| (set.images().at(n, 0, 0, 0) * 255.0).round()).collect();
        assert_eq!(values, [1.0, 2.0, 10.0, 50.0]);
        let none = read_classes(&root.path().join("cat"), &Options::default()).unwrap_err().to_string();
        assert!(none.contains("cat: expected a subfolder"), "{none}");
    }

    /// Images `0.png`, `2.png`, `10.png` and masks that are white on the left.
    fn pairs() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for n in [0, 2, 10] {
            save(root.path(), &format!("images/{n}.png"), [4, 6], n);
            save(root.path(), &format!("masks/{n}{}.png", if n == 2 { "_mask" } else { "" }), [4, 6], 128);
        }
        root
    }

    fn read(root: &tempfile::TempDir, options: &Options) -> Result<Dataset> {
        read_pairs(&root.path().join("images"), &root.path().join("masks"), options)
    }

    #[test]
    fn masks_go_with_images_of_their_name() {
        let root = pairs();
        let set = read(&root, &Options::default()).unwrap();
        assert_eq!(set.to_string(), "3 images of 1x4x6, with masks");
        assert!((set.images().at(2, 0, 0, 0) * 255.0 - 10.0).abs() < 1e-4);
        assert_eq!(set.masks().unwrap().data()[..6], [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let set =
            read(&root, &Options { invert_masks: true, size: Some([2, 3]), ..Options::default() }).unwrap();
        assert_eq!(set.masks().unwrap().shape(), Shape4::new(3, 1, 2, 3));
        assert_eq!(set.masks().unwrap().data()[1..3], [1.0, 1.0]);
    }

    #[test]
    fn what_does_not_pair_is_refused_by_name() {
        let message = |root: &tempfile::TempDir| read(root, &Options::default()).unwrap_err().to_string();
        let root = pairs();
        save(root.path(), "images/3.png", [4, 6], 0);
        assert!(message(&root).contains("3.png: expected one mask of the name 3 in"), "{}", message(&root));
        save(root.path(), "masks/3.png", [4, 5], 255);
        assert!(message(&root).contains("3.png: expected a mask of 6x4 pixels"), "{}", message(&root));
        save(root.path(), "masks/3.jpg", [4, 6], 255);
        assert!(message(&root).contains("expected one mask for each image"), "{}", message(&root));

        let root = pairs();
        save(root.path(), "masks/4.png", [4, 6], 255);
        assert!(message(&root).contains("4.png: expected an image of the same name"), "{}", message(&root));

        let root = pairs();
        for name in ["0.png", "2_mask.png", "10.png"] {
            save(root.path(), &format!("masks/{name}"), [4, 6], 1);
        }
        assert!(message(&root).contains("nothing brighter than 1 of 255"), "{}", message(&root));
    }
}
