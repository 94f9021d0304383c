//! 1,797 handwritten digits of 8x8 pixels, embedded.
//!
//! "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998,
//! <https://doi.org/10.24432/C50P49>, licence CC BY 4.0: the test set. 32x32 bitmaps of 13 writers were cut into
//! blocks of 4x4, and the set pixels of each block counted, so that a pixel is 0..=16.
//!
//! The table is parsed while the crate is compiled: a malformed file fails the build and nothing is left to fail
//! at run time.

use tilewise_kernels::{Result, Shape4, Tensor};

use super::dataset::{Dataset, Targets};

const COUNT: usize = 1797;
const SIDE: usize = 8;
const PIXELS: usize = SIDE * SIDE;
/// The largest pixel: all 4x4 bits of a block set.
const MAX: u8 = 16;

/// One handwritten digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digit {
    pixels: [u8; PIXELS],
    label: u8,
}

impl Digit {
    /// Rows and columns.
    pub const SIDE: usize = SIDE;

    /// The pixels, row by row, 0 (paper) to 16 (ink).
    pub const fn pixels(&self) -> &[u8; PIXELS] {
        &self.pixels
    }

    /// Which digit was meant, 0 to 9.
    pub const fn label(&self) -> usize {
        self.label as usize
    }
}

/// All digits, in the order of the data set.
pub static DIGITS: [Digit; COUNT] = parse(include_bytes!("../../data/digits.csv"));

/// Digits as input of a network: `[digits, 1, 8, 8]`, from 0.0 (paper) to 1.0 (ink).
///
/// ```
/// use tilewise_model::data::{DIGITS, digits_tensor};
/// let x = digits_tensor(&DIGITS[..32])?;
/// assert_eq!(x.shape().dims(), [32, 1, 8, 8]);
/// assert_eq!(DIGITS[0].label(), 0);
/// # Ok::<(), tilewise_kernels::Error>(())
/// ```
///
/// # Errors
/// [`tilewise_kernels::Error::OutOfMemory`].
pub fn digits_tensor(digits: &[Digit]) -> Result<Tensor> {
    let shape = Shape4::new(digits.len(), 1, SIDE, SIDE);
    Tensor::from_fn(shape, |[n, _, h, w]| f32::from(digits[n].pixels[h * SIDE + w]) / f32::from(MAX))
}

/// All digits as a data set of ten classes.
///
/// # Errors
/// If memory runs out.
pub fn digits() -> crate::Result<Dataset> {
    let labels = DIGITS.iter().map(Digit::label).collect();
    let names = (0..10).map(|digit: usize| digit.to_string()).collect();
    Dataset::new(digits_tensor(&DIGITS)?, Targets::Labels { labels, names })
}

/// Reads lines of 64 pixels and a label, separated by commas. Runs in the compiler only.
const fn parse(csv: &[u8]) -> [Digit; COUNT] {
    let mut digits = [Digit { pixels: [0; PIXELS], label: 0 }; COUNT];
    let (mut line, mut column, mut value, mut at) = (0, 0, 0, 0);
    while at < csv.len() {
        match csv[at] {
            digit @ b'0'..=b'9' => value = value * 10 + (digit - b'0'),
            b',' => {
                assert!(column < PIXELS, "more than 64 pixels");
                assert!(value <= MAX, "a pixel above 16");
                digits[line].pixels[column] = value;
                (column, value) = (column + 1, 0);
            }
            b'\n' => {
                assert!(column == PIXELS, "not 64 pixels before the label");
                assert!(value <= 9, "a label above 9");
                digits[line].label = value;
                (line, column, value) = (line + 1, 0, 0);
            }
            _ => panic!("neither a digit, nor a comma, nor the end of a line"),
        }
        at += 1;
    }
    assert!(line == COUNT && column == 0, "not 1,797 whole lines");
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_those_of_the_published_test_set() {
        let mut histogram = [0; 10];
        DIGITS.iter().for_each(|d| histogram[d.label()] += 1);
        // optdigits.names of the repository, "Class Distribution", testing set.
        assert_eq!(histogram, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
    }

    #[test]
    fn pixels_fill_their_range() {
        let all = || DIGITS.iter().flat_map(|d| d.pixels);
        assert_eq!((all().min(), all().max()), (Some(0), Some(MAX)));
        // One sum over the whole file: a swapped or lost pixel value would change it.
        assert_eq!(all().map(u64::from).sum::<u64>(), 561_718);
    }

    #[test]
    fn the_first_line_of_the_file_comes_first() {
        assert_eq!(DIGITS[0].pixels[..8], [0, 0, 5, 13, 9, 1, 0, 0]);
        assert_eq!(DIGITS.map(|d| d.label())[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn a_tensor_is_scaled_to_one() {
        let x = digits_tensor(&DIGITS[1..3]).unwrap();
        assert_eq!(x.shape(), Shape4::new(2, 1, 8, 8));
        assert_eq!(x.at(0, 0, 0, 3), 12.0 / 16.0);
        assert_eq!(x.at(1, 0, 7, 7), f32::from(DIGITS[2].pixels[63]) / 16.0);
        assert_eq!(digits_tensor(&[]).unwrap().shape(), Shape4::new(0, 1, 8, 8));
    }
}
