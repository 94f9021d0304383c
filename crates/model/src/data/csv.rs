//! Digits and the like as text: an image a line, its pixels row by row and its label, separated by commas.

use std::path::Path;

use tilewise_kernels::{Shape4, Tensor};

use super::bytes;
use super::dataset::{Dataset, Targets};
use crate::error::{Error, Result};

/// What white may be, in ascending order: 1 (scaled already), 16 (the digits of 8x8), 255 (a byte).
const WHITE: [f32; 3] = [1.0, 16.0, 255.0];

/// A label above this is more likely a pixel, or damage.
const MAX_LABEL: usize = 9_999;

/// Square grey images from lines of numbers. The label comes last; or first, if a line of names heads the table and its
/// first name is `label`. White is 1, 16 or 255: the least of these that no pixel exceeds.
///
/// # Errors
/// [`Error::Io`] and [`Error::Format`] with the file, the line and the field.
pub fn read_csv(path: &Path) -> Result<Dataset> {
    let bytes = bytes::read(path)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|e| Error::format(path, format!("expected text in UTF-8, got another byte: {e}")))?;
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).peekable();
    let mut label_first = false;
    if let Some((_, head)) = lines.peek()
        && head.split(',').any(|field| field.trim().parse::<f32>().is_err() && !field.trim().is_empty())
    {
        let first = head.split(',').next().unwrap_or_default();
        label_first = first.trim().trim_matches('"').eq_ignore_ascii_case("label");
        lines.next();
    }
    let (mut pixels, mut labels, mut fields) = (Vec::new(), Vec::new(), None);
    for (i, line) in lines {
        let at = |message: String| Error::format(path, format!("line {}: {message}", i + 1));
        let count = line.split(',').count();
        let expected = *fields.get_or_insert(count);
        if count != expected {
            return Err(at(format!("expected {expected} fields, as the first line has, got {count}")));
        }
        let label_at = if label_first { 0 } else { count - 1 };
        for (j, field) in line.split(',').map(str::trim).enumerate() {
            if j == label_at {
                let label = field.parse().ok().filter(|&label: &usize| label <= MAX_LABEL);
                labels.push(label.ok_or_else(|| {
                    at(format!("field {}: expected a label of 0 to {MAX_LABEL}, got {field:?}", j + 1))
                })?);
            } else {
                let white = WHITE[WHITE.len() - 1];
                let pixel = field.parse().ok().filter(|pixel| (0.0..=white).contains(pixel));
                pixels.push(pixel.ok_or_else(|| {
                    at(format!("field {}: expected a pixel of 0 to {white}, got {field:?}", j + 1))
                })?);
            }
        }
    }
    let count = fields.unwrap_or(0).saturating_sub(1);
    let side = count.isqrt();
    if count == 0 || side * side != count {
        let message = format!("expected lines of a square number of pixels and a label, got {count} pixels");
        return Err(Error::format(path, message));
    }
    let brightest = pixels.iter().copied().fold(0.0, f32::max);
    let white = WHITE.into_iter().find(|&white| brightest <= white).unwrap_or(brightest);
    pixels.iter_mut().for_each(|pixel| *pixel /= white);
    let images = Tensor::from_vec(Shape4::new(labels.len(), 1, side, side), pixels)?;
    let names = bytes::numbered(&labels);
    Dataset::new(images, Targets::Labels { labels, names })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::data;

    fn read(text: impl AsRef<[u8]>) -> Result<Dataset> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("digits.csv");
        fs::write(&path, text).unwrap();
        read_csv(&path)
    }

    #[test]
    fn the_embedded_digits_come_out_of_their_file() {
        let set = read_csv(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/data/digits.csv"))).unwrap();
        assert_eq!(set, data::digits().unwrap());
    }

    #[test]
    fn a_heading_says_where_the_label_is() {
        let expected = (vec![1, 0], vec![0.0, 0.2, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
        for text in [
            "0,51,255,0,1\n255,255,255,255,0\n",
            "a,b,c,d,class\r\n0,51,255,0,1\r\n\r\n255,255,255,255,0",
            "label,a,b,c,d\n1,0,51,255,0\n0, 255, 255, 255, 255",
        ] {
            let set = read(text).unwrap();
            assert_eq!((set.labels().unwrap().to_vec(), set.images().data().to_vec()), expected);
        }
        assert_eq!(read("0.5,1").unwrap().images().data(), [0.5]);
        assert_eq!(read("8,1").unwrap().images().data(), [0.5]);
    }

    #[test]
    fn what_is_no_table_of_images_is_refused_with_its_line() {
        for (text, expected) in [
            ("", "got 0 pixels"),
            ("a,b,c\n", "got 0 pixels"),
            ("1,2,3\n", "expected lines of a square number of pixels and a label, got 2 pixels"),
            ("1,2\n1,2,3\n", "line 2: expected 2 fields, as the first line has, got 3"),
            ("1,2\n1,x\n", "line 2: field 2: expected a label of 0 to 9999, got \"x\""),
            ("1,2\nx,1\n", "line 2: field 1: expected a pixel of 0 to 255, got \"x\""),
            ("1,2\n256,1\n", "field 1: expected a pixel of 0 to 255, got \"256\""),
            ("1,2\nNaN,1\n", "got \"NaN\""),
            ("1,2\n-1,1\n", "got \"-1\""),
            ("1,2\n1,4294967296\n", "got \"4294967296\""),
        ] {
            let message = read(text).unwrap_err().to_string();
            assert!(message.contains("digits.csv: ") && message.contains(expected), "{message}");
        }
        assert!(read([b'1', b',', 0xff]).unwrap_err().to_string().contains("UTF-8"));
    }
}
