//! What convolution, ReLU and pooling do to an image, to look at.
//!
//! Eight kernels of 3x3 (five that people designed to see edges, to blur and to sharpen, three of random numbers, as
//! every network starts with), then `max(x, 0)`, then the largest of every 2x2: the three steps of a convolutional
//! network's layer, on the kernels of this project.

mod picture;

use std::fmt;
use std::fs;
use std::path::Path;

use image::imageops::FilterType;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tilewise_kernels::{Conv2dParams, Cpu, MaxPool2dParams, Shape4, Tensor};
use tilewise_model::data::{DIGITS, digits_tensor};

use crate::error::{Error, Result};

/// A kernel of 3x3, the same for each channel of the image.
struct Kernel {
    name: &'static str,
    /// Row by row, each divided by `divisor`.
    taps: [f32; 9],
    divisor: f32,
}

/// Those with a meaning. Three random ones follow.
const DESIGNED: [Kernel; 5] = [
    Kernel { name: "sobel x", taps: [-1.0, 0.0, 1.0, -2.0, 0.0, 2.0, -1.0, 0.0, 1.0], divisor: 1.0 },
    Kernel { name: "sobel y", taps: [-1.0, -2.0, -1.0, 0.0, 0.0, 0.0, 1.0, 2.0, 1.0], divisor: 1.0 },
    Kernel { name: "laplacian", taps: [0.0, 1.0, 0.0, 1.0, -4.0, 1.0, 0.0, 1.0, 0.0], divisor: 1.0 },
    Kernel { name: "blur", taps: [1.0, 2.0, 1.0, 2.0, 4.0, 2.0, 1.0, 2.0, 1.0], divisor: 16.0 },
    Kernel { name: "sharpen", taps: [0.0, -1.0, 0.0, -1.0, 5.0, -1.0, 0.0, -1.0, 0.0], divisor: 1.0 },
];
const RANDOM: [&str; 3] = ["random 1", "random 2", "random 3"];

/// Kernel, stride and padding of the convolution; window and stride of the pooling.
const KERNEL: usize = 3;
const STRIDE: usize = 1;
const PADDING: usize = 1;
const POOL: usize = 2;

/// Larger images are shrunk to this many rows and columns at most, so that the picture can show every pixel of a map.
const MAX_SIDE: u32 = 256;

/// The embedded digit that is shown where no image is given: a 5, with strokes in every direction.
const DIGIT: usize = 32;

/// An image and what became of it.
pub struct FeatureMaps {
    source: String,
    kernels: Vec<Kernel>,
    /// `[1, 1 or 3, h, w]`, 0 to 1.
    image: Tensor,
    conv: Tensor,
    relu: Tensor,
    pool: Tensor,
}

impl FeatureMaps {
    /// Of an image file (PNG or JPEG, grey or colour), or of one of the embedded handwritten digits.
    ///
    /// # Errors
    /// If the file cannot be read, is no image, or is smaller than 2x2 pixels.
    pub fn new(cpu: &Cpu, file: Option<&Path>) -> Result<Self> {
        let (source, image) = match file {
            Some(path) => read_image(path)?,
            None => {
                let digit = &DIGITS[DIGIT];
                (format!("a handwritten {}", digit.label()), digits_tensor(std::slice::from_ref(digit))?)
            }
        };
        let channels = image.shape().c;
        let kernels: Vec<_> = DESIGNED.into_iter().chain(random_kernels()).collect();
        // Every channel counts the same, and a colour image is as bright as a grey one.
        let weights =
            Tensor::from_fn(Shape4::new(kernels.len(), channels, KERNEL, KERNEL), |[o, _, p, q]| {
                let kernel = &kernels[o];
                kernel.taps[p * KERNEL + q] / (kernel.divisor * channels as f32)
            })?;
        let params = Conv2dParams::default().stride(STRIDE).padding(PADDING);
        let conv = cpu.conv2d(&image, &weights, None, params)?;
        let relu = cpu.relu(&conv)?;
        let pool = cpu.max_pool2d(&relu, MaxPool2dParams::new(POOL))?;
        Ok(FeatureMaps { source, kernels, image, conv, relu, pool })
    }

    /// A picture of the image, the kernels and all maps, as PNG.
    ///
    /// # Errors
    /// [`Error::Image`] with `path` (where the picture is to go) if it cannot be encoded.
    pub fn png(&self, path: &Path) -> Result<Vec<u8>> {
        picture::png(self).map_err(|source| Error::Image { path: path.to_owned(), source })
    }
}

/// The steps, with the formula for the size of a map filled in.
impl fmt::Display for FeatureMaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (x, y, z) = (self.image.shape(), self.conv.shape(), self.pool.shape());
        let maps = |s: Shape4| format!("{} maps of {}x{}", s.c, s.h, s.w);
        let colours = if x.c == 3 { "red, green and blue" } else { "grey" };
        writeln!(f, "input          {}, {colours}: {} x {}x{}", self.source, x.c, x.h, x.w)?;
        write!(f, "conv {KERNEL}x{KERNEL} s{STRIDE} p{PADDING}: ")?;
        write_sizes(f, [x.h, x.w], [y.h, y.w], KERNEL, STRIDE, Some(PADDING))?;
        writeln!(f, "; {} kernels -> {}", y.c, maps(y))?;
        writeln!(f, "relu:          max(x, 0), sizes stay -> {}", maps(self.relu.shape()))?;
        write!(f, "max pool {POOL}x{POOL} s{POOL}: ")?;
        write_sizes(f, [y.h, y.w], [z.h, z.w], POOL, POOL, None)?;
        writeln!(f, " -> {}", maps(z))
    }
}

/// `floor((8 + 2*1 - 3)/1) + 1 = 8`, once for a square, else for height and width.
fn write_sizes(
    f: &mut fmt::Formatter<'_>,
    from: [usize; 2],
    to: [usize; 2],
    window: usize,
    stride: usize,
    padding: Option<usize>,
) -> fmt::Result {
    let padding = padding.map_or(String::new(), |p| format!(" + 2*{p}"));
    let formula = |i: usize| format!("floor(({}{padding} - {window})/{stride}) + 1 = {}", from[i], to[i]);
    match from[0] == from[1] {
        true => write!(f, "{}", formula(0)),
        false => write!(f, "height {}, width {}", formula(0), formula(1)),
    }
}

/// Multiples of 0.1 between -1 and 1, the same in every run. The seed is one whose kernels sum to about 0, as those of a
/// fresh network do on average: ReLU leaves about half of their maps.
fn random_kernels() -> impl Iterator<Item = Kernel> {
    let mut rng = StdRng::seed_from_u64(86);
    RANDOM.into_iter().map(move |name| {
        let taps = std::array::from_fn(|_| rng.random_range(-9..=9i8).into());
        Kernel { name, taps, divisor: 10.0 }
    })
}

/// What to call the image, and its pixels from 0 to 1.
fn read_image(path: &Path) -> Result<(String, Tensor)> {
    let bytes = fs::read(path).map_err(Error::read(path))?;
    let undecodable = |source| Error::Image { path: path.to_owned(), source };
    let mut image = image::load_from_memory(&bytes).map_err(undecodable)?;
    let (width, height) = (image.width(), image.height());
    let mut source = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    if width.max(height) > MAX_SIDE {
        image = image.resize(MAX_SIDE, MAX_SIDE, FilterType::Triangle);
        source.push_str(&format!(" ({width}x{height}, shrunk)"));
    }
    let (width, height) = (image.width(), image.height());
    let min = POOL as u32;
    if width < min || height < min {
        return Err(Error::ImageTooSmall { path: path.to_owned(), min, width, height });
    }
    let (channels, pixels) = match image.color().has_color() {
        true => (3, image.into_rgb8().into_raw()),
        false => (1, image.into_luma8().into_raw()),
    };
    let (height, width) = (height as usize, width as usize);
    let tensor = Tensor::from_fn(Shape4::new(1, channels, height, width), |[_, c, h, w]| {
        f32::from(pixels[(h * width + w) * channels + c]) / 255.0
    })?;
    Ok((source, tensor))
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, Luma, Rgb, RgbImage};

    use super::*;

    fn of_file(path: &Path) -> Result<FeatureMaps> {
        FeatureMaps::new(&Cpu::new()?, Some(path))
    }

    #[test]
    fn the_digit_is_explained_with_the_formulas_filled_in() {
        let maps = FeatureMaps::new(&Cpu::new().unwrap(), None).unwrap();
        let text = maps.to_string();
        assert!(text.contains("a handwritten 5"), "{text}");
        assert!(
            text.contains("conv 3x3 s1 p1: floor((8 + 2*1 - 3)/1) + 1 = 8; 8 kernels -> 8 maps of 8x8"),
            "{text}"
        );
        assert!(text.contains("max pool 2x2 s2: floor((8 - 2)/2) + 1 = 4 -> 8 maps of 4x4"), "{text}");
        let png = image::load_from_memory(&maps.png(Path::new("x.png")).unwrap()).unwrap();
        assert!(png.width() > 8 * 160 && png.height() > 4 * 160);
    }

    #[test]
    fn sobel_x_sees_a_vertical_edge_and_sobel_y_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edge.png");
        GrayImage::from_fn(7, 5, |x, _| Luma([if x < 3 { 0 } else { 255 }])).save(&path).unwrap();
        let maps = of_file(&path).unwrap();
        assert_eq!(maps.conv.shape(), Shape4::new(1, 8, 5, 7));
        assert_eq!((maps.conv.at(0, 0, 2, 3), maps.conv.at(0, 1, 2, 3)), (4.0, 0.0));
        let text = maps.to_string();
        assert!(text.contains("height floor((5 - 2)/2) + 1 = 2, width floor((7 - 2)/2) + 1 = 3"), "{text}");
    }

    #[test]
    fn a_colour_image_of_one_grey_gives_the_maps_of_that_grey() {
        let folder = tempfile::tempdir().unwrap();
        let (grey, colour) = (folder.path().join("grey.png"), folder.path().join("colour.png"));
        let value = |x: u32, y: u32| (x * 20 + y * 9) as u8;
        GrayImage::from_fn(9, 9, |x, y| Luma([value(x, y)])).save(&grey).unwrap();
        RgbImage::from_fn(9, 9, |x, y| Rgb([value(x, y); 3])).save(&colour).unwrap();
        let (grey, colour) = (of_file(&grey).unwrap(), of_file(&colour).unwrap());
        assert_eq!((grey.image.shape().c, colour.image.shape().c), (1, 3));
        for (a, b) in grey.pool.data().iter().zip(colour.pool.data()) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }

    #[test]
    fn a_large_image_is_shrunk_and_its_picture_stays_readable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wide.jpg");
        RgbImage::from_fn(2048, 16, |x, _| Rgb([x as u8, 0, 0])).save(&path).unwrap();
        let maps = of_file(&path).unwrap();
        assert_eq!(maps.image.shape(), Shape4::new(1, 3, 2, 256));
        assert!(maps.to_string().contains("wide.jpg (2048x16, shrunk)"));
        let png = image::load_from_memory(&maps.png(Path::new("x.png")).unwrap()).unwrap();
        assert!((2000..3000).contains(&png.width()) && (1000..1500).contains(&png.height()));
    }

    #[test]
    fn what_is_no_image_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.png");
        let message = |path: &Path| of_file(path).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(message(&path).contains("x.png: cannot read"));
        fs::write(&path, "not an image").unwrap();
        assert!(message(&path).contains("x.png: "), "{}", message(&path));
        GrayImage::new(1, 9).save(&path).unwrap();
        assert!(message(&path).contains("at least 2x2 pixels, got 1x9"), "{}", message(&path));
    }
}
