//! Damaged data files: cut short, with bits flipped or bytes added, they are errors that name the file, or they are other
//! data; never a panic, and never more memory than files of their size can ask for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use image::{GrayImage, ImageFormat, Luma, Rgb, RgbImage};
use proptest::prelude::*;
use tilewise_model::data;

/// The system's allocator, keeping the largest allocation of each thread.
struct Largest;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

fn note(size: usize) {
    // A thread that is being torn down has nothing left to note it in.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
}

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Largest {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, p: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note(new_size);
        // SAFETY: as above.
        unsafe { System.realloc(p, layout, new_size) }
    }

    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(p, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Largest = Largest;

const MIB: usize = 1 << 20;

/// A data set as files, and the largest allocation that any damage to them may cause.
struct Sample {
    files: Vec<(&'static str, Vec<u8>)>,
    most: usize,
}

/// One of each format.
fn samples() -> Vec<Sample> {
    let idx = |sizes: &[u32], elements: usize| {
        let mut bytes = vec![0, 0, 8, sizes.len() as u8];
        sizes.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
        bytes.extend((0..elements).map(|i| (i * 7 % 10) as u8));
        bytes
    };
    let (images, labels) = (idx(&[3, 5, 4], 60), idx(&[3], 3));
    let gzip = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let encode = |picture: &RgbImage, format| {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    };
    let picture = RgbImage::from_fn(9, 8, |x, y| Rgb([x as u8 * 20, y as u8 * 30, 99]));
    let (png, jpeg) = (encode(&picture, ImageFormat::Png), encode(&picture, ImageFormat::Jpeg));
    let mut mask = Cursor::new(Vec::new());
    GrayImage::from_fn(9, 8, |x, _| Luma([if x < 4 { 255 } else { 0 }]))
        .write_to(&mut mask, ImageFormat::Png)
        .unwrap();
    let cifar = (0..2 * 3073).map(|i| if i % 3073 == 0 { 3 } else { (i % 251) as u8 }).collect();
    let csv = "a,b,c,d,label\n0,1,2,3,0\n16,0,0.5,1e1,7\n".as_bytes().to_vec();
    // What a file of this size can hold, as f32 and with room for growth.
    let small = MIB;
    // An image's header can promise as much as the decoder may use, and that as f32.
    let images_most = 1024 * MIB;
    vec![
        Sample {
            files: vec![("x-images-idx3-ubyte", images.clone()), ("x-labels-idx1-ubyte", labels.clone())],
            most: small,
        },
        Sample {
            files: vec![("x-images-idx3-ubyte.gz", gzip(&images)), ("x-labels-idx1-ubyte.gz", gzip(&labels))],
            most: small,
        },
        Sample { files: vec![("data_batch_1.bin", cifar)], most: small },
        Sample { files: vec![("digits.csv", csv.clone())], most: small },
        Sample { files: vec![("digits.csv.gz", gzip(&csv))], most: small },
        Sample { files: vec![("cat/1.png", png.clone()), ("dog/2.jpg", jpeg.clone())], most: images_most },
        Sample { files: vec![("images/1.jpg", jpeg), ("masks/1.png", mask.into_inner())], most: images_most },
        Sample { files: vec![("1.png", png)], most: images_most },
    ]
}

/// What happens to a file.
#[derive(Debug, Clone)]
enum Damage {
    Cut(prop::sample::Index),
    Flip(Vec<(prop::sample::Index, u8)>),
    Start(Vec<(usize, u8)>),
    Add(Vec<u8>),
    Replace(Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        any::<prop::sample::Index>().prop_map(Damage::Cut),
        prop::collection::vec((any::<prop::sample::Index>(), 0..8u8), 1..5).prop_map(Damage::Flip),
        // The first bytes are where promises are made.
        prop::collection::vec((0..24usize, any::<u8>()), 1..3).prop_map(Damage::Start),
        prop::collection::vec(any::<u8>(), 1..40).prop_map(Damage::Add),
        prop::collection::vec(any::<u8>(), 0..60).prop_map(Damage::Replace),
    ]
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Damage::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Damage::Flip(flips) => {
                for (at, bit) in flips {
                    let at = at.index(bytes.len());
                    bytes[at] ^= 1 << bit;
                }
            }
            Damage::Start(values) => {
                for &(at, value) in values {
                    let at = at % bytes.len();
                    bytes[at] = value;
                }
            }
            Damage::Add(more) => bytes.extend(more),
            Damage::Replace(other) => bytes.clone_from(other),
        }
    }
}

fn write(folder: &Path, files: &[(&str, Vec<u8>)]) {
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn whole_files_are_data() {
    for sample in samples() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &sample.files);
        assert!(!data::open(folder.path()).unwrap().is_empty());
    }
}

#[test]
fn a_header_of_four_gigabytes_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let images = [&[0, 0, 8, 3][..], &[0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0], &[7; 100]].concat();
    write(folder.path(), &[("x-images-idx3-ubyte", images), ("x-labels-idx1-ubyte", vec![])]);
    LARGEST.set(0);
    let message = data::open(folder.path()).unwrap_err().to_string();
    assert!(
        message.contains("expected 4294967312 bytes, as its header [65536, 256, 256] says, got 116"),
        "{message}"
    );
    assert!(LARGEST.get() < MIB, "{} bytes were allocated", LARGEST.get());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_are_errors_by_name_or_other_data(
        sample in any::<prop::sample::Index>(),
        file in any::<prop::sample::Index>(),
        damage in damage(),
    ) {
        let mut samples = samples();
        let Sample { mut files, most } = samples.swap_remove(sample.index(samples.len()));
        let at = file.index(files.len());
        damage.apply(&mut files[at].1);
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &files);
        LARGEST.set(0);
        let result = data::open(folder.path());
        prop_assert!(LARGEST.get() < most, "{} bytes were allocated", LARGEST.get());
        match result {
            Ok(set) => prop_assert!(!set.is_empty() && set.images().data().iter().all(|v| (0.0..=1.0).contains(v))),
            Err(error) => {
                let message = error.to_string();
                prop_assert!(message.starts_with(folder.path().to_str().unwrap()), "{message}");
            }
        }
    }
}
