//! The picture: the image at the top left, the kernels beside it, below each kernel what it made of the image.

use std::io::Cursor;

use font8x8::legacy::BASIC_LEGACY;
use image::{ImageFormat, ImageResult, Rgb, RgbImage};
use tilewise_kernels::Tensor;

use super::{FeatureMaps, KERNEL, Kernel, PADDING, POOL, STRIDE};

/// Pixels between cells, and around all of them.
const GAP: u32 = 14;
const MARGIN: u32 = 24;
/// The least side of a cell.
const CELL: usize = 160;
/// The title, and a row of names.
const TITLE: u32 = 56;
const NAMES: u32 = 24;
const LEGEND: u32 = 52;
/// A character of the 8x8 font.
const GLYPH: u32 = 8;

const PAPER: Rgb<u8> = Rgb([255, 255, 255]);
const INK: Rgb<u8> = Rgb([33, 37, 41]);
const MUTED: Rgb<u8> = Rgb([108, 117, 125]);
const FRAME: Rgb<u8> = Rgb([173, 181, 189]);
/// The ends of the scale, on both sides of white.
const NEGATIVE: [f32; 3] = [33.0, 102.0, 172.0];
const POSITIVE: [f32; 3] = [178.0, 24.0, 43.0];

pub(super) fn png(maps: &FeatureMaps) -> ImageResult<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    draw(maps).write_to(&mut bytes, ImageFormat::Png)?;
    Ok(bytes.into_inner())
}

fn draw(maps: &FeatureMaps) -> RgbImage {
    let shape = maps.image.shape();
    // Whole pixels of the picture for each pixel of the image.
    let longest = shape.h.max(shape.w);
    let side = (longest * CELL.div_ceil(longest)) as u32;
    let left = |column: usize| MARGIN + column as u32 * (side + GAP);
    let top = |row: usize| MARGIN + TITLE + NAMES + row as u32 * (side + GAP);
    let columns = maps.kernels.len() + 1;
    let size = (left(columns) - GAP + MARGIN, top(4) - GAP + LEGEND + MARGIN);
    let mut canvas = Canvas(RgbImage::from_pixel(size.0, size.1, PAPER));

    canvas.text(&format!("feature maps of {}", maps.source), (MARGIN, MARGIN), 3, INK);

    canvas.text("input", (left(0), top(0) - NAMES), 2, INK);
    canvas.cell((left(0), top(0)), side, [shape.h, shape.w], |h, w| pixel(&maps.image, h, w));
    let captions = captions(maps);
    for (row, [heading, lines @ ..]) in captions.iter().enumerate() {
        canvas.text(heading, (left(0), top(row + 1) + side / 4), 2, INK);
        for (line, y) in lines.iter().zip((top(row + 1) + side / 4 + 28..).step_by(16)) {
            canvas.text(line, (left(0), y), 1, MUTED);
        }
    }

    for (i, kernel) in maps.kernels.iter().enumerate() {
        let x = left(i + 1);
        canvas.text(kernel.name, (x, top(0) - NAMES), 2, INK);
        canvas.kernel(kernel, (x, top(0)), side);
        // One scale for the column, so that what ReLU and pooling keep looks the same before and after.
        let scale = scale(plane(&maps.conv, i));
        for (row, tensor) in [&maps.conv, &maps.relu, &maps.pool].into_iter().enumerate() {
            let shape = tensor.shape();
            let values = plane(tensor, i);
            canvas.cell((x, top(row + 1)), side, [shape.h, shape.w], |h, w| {
                diverging(values[h * shape.w + w] / scale)
            });
        }
    }
    canvas.legend((left(1), top(4) - GAP + 18));
    canvas.0
}

/// What stands left of each row of maps: heading and lines.
fn captions(maps: &FeatureMaps) -> [[String; 4]; 3] {
    let (x, y, z) = (maps.image.shape(), maps.conv.shape(), maps.pool.shape());
    let size = |s: tilewise_kernels::Shape4| format!("{} maps of {}x{}", s.c, s.h, s.w);
    [
        [
            format!("conv {KERNEL}x{KERNEL}"),
            format!("stride {STRIDE}, padding {PADDING}"),
            format!("({}+2*{PADDING}-{KERNEL})/{STRIDE}+1 = {}", x.w, y.w),
            size(y),
        ],
        ["relu".into(), "max(x, 0):".into(), "the blue goes".into(), size(maps.relu.shape())],
        [
            format!("max {POOL}x{POOL}"),
            format!("stride {POOL}"),
            format!("({}-{POOL})/{POOL}+1 = {}", y.w, z.w),
            size(z),
        ],
    ]
}

/// The absolute value that gets the full colour: that below which 98.5% lie. The zeros around an image are an edge, too,
/// and would leave little colour to those within it; of a digit's 64 values it is the largest.
fn scale(values: &[f32]) -> f32 {
    let mut sizes: Vec<f32> = values.iter().map(|v| v.abs()).collect();
    sizes.sort_by(f32::total_cmp);
    let last = sizes.len().saturating_sub(1);
    sizes.get((0.985 * last as f64).ceil() as usize).copied().unwrap_or(0.0)
}

/// Map `c` of the only image.
fn plane(tensor: &Tensor, c: usize) -> &[f32] {
    tensor.view().plane(0, c)
}

/// A pixel of the image itself, of one or three channels.
fn pixel(image: &Tensor, h: usize, w: usize) -> [f32; 3] {
    let last = image.shape().c - 1;
    [0, 1, 2].map(|c| 255.0 * image.at(0, c.min(last), h, w))
}

/// -1 is blue, 0 white, 1 red.
fn diverging(value: f32) -> [f32; 3] {
    let end = if value < 0.0 { NEGATIVE } else { POSITIVE };
    // An all-zero map divides 0 by 0.
    let t = if value.is_nan() { 0.0 } else { value.abs().min(1.0) };
    end.map(|channel| 255.0 + (channel - 255.0) * t)
}

fn rgb(colour: [f32; 3]) -> Rgb<u8> {
    // `as` saturates.
    Rgb(colour.map(|channel| channel.round() as u8))
}

struct Canvas(RgbImage);

impl Canvas {
    fn set(&mut self, x: u32, y: u32, colour: Rgb<u8>) {
        // What does not fit is cut off: a long file name in the title.
        if let Some(pixel) = self.0.get_pixel_mut_checked(x, y) {
            *pixel = colour;
        }
    }

    /// `scale` pixels for each dot of the font.
    fn text(&mut self, text: &str, at: (u32, u32), scale: u32, colour: Rgb<u8>) {
        for (char, x) in text.chars().zip((at.0..).step_by((GLYPH * scale) as usize)) {
            let glyph = BASIC_LEGACY.get(char as usize).unwrap_or(&BASIC_LEGACY[usize::from(b'?')]);
            for dy in 0..GLYPH * scale {
                for dx in 0..GLYPH * scale {
                    if glyph[(dy / scale) as usize] >> (dx / scale) & 1 == 1 {
                        self.set(x + dx, at.1 + dy, colour);
                    }
                }
            }
        }
    }

    /// A frame, and in it `h` x `w` values, enlarged as far as they fit.
    fn cell(
        &mut self,
        at: (u32, u32),
        side: u32,
        [h, w]: [usize; 2],
        colour: impl Fn(usize, usize) -> [f32; 3],
    ) {
        let fit = |extent: usize| (side as usize * extent / h.max(w)).max(1);
        let (height, width) = (fit(h), fit(w));
        let origin = (at.0 + (side - width as u32) / 2, at.1 + (side - height as u32) / 2);
        for y in 0..height {
            for x in 0..width {
                let value = colour(y * h / height, x * w / width);
                self.set(origin.0 + x as u32, origin.1 + y as u32, rgb(value));
            }
        }
        self.frame(origin, (width as u32, height as u32));
    }

    /// One pixel outside of the rectangle.
    fn frame(&mut self, (x, y): (u32, u32), (width, height): (u32, u32)) {
        for dx in 0..width + 2 {
            self.set(x + dx - 1, y - 1, FRAME);
            self.set(x + dx - 1, y + height, FRAME);
        }
        for dy in 0..height + 2 {
            self.set(x - 1, y + dy - 1, FRAME);
            self.set(x + width, y + dy - 1, FRAME);
        }
    }

    /// The taps as colours, with their numbers.
    fn kernel(&mut self, kernel: &Kernel, at: (u32, u32), side: u32) {
        let largest = kernel.taps.iter().fold(0.0, |m: f32, tap| m.max(tap.abs()));
        self.cell(at, side, [KERNEL, KERNEL], |p, q| diverging(kernel.taps[p * KERNEL + q] / largest));
        let tap_side = side / KERNEL as u32;
        for (i, tap) in kernel.taps.iter().enumerate() {
            let number = format!("{tap}");
            let width = number.len() as u32 * GLYPH * 2;
            let (row, column) = ((i / KERNEL) as u32, (i % KERNEL) as u32);
            let x = at.0 + column * tap_side + tap_side.saturating_sub(width) / 2;
            let y = at.1 + row * tap_side + (tap_side - 2 * GLYPH) / 2;
            let dark = (tap / largest).abs() > 0.6;
            self.text(&number, (x, y), 2, if dark { PAPER } else { INK });
        }
    }

    /// The scale of colours.
    fn legend(&mut self, at: (u32, u32)) {
        const WIDTH: u32 = 240;
        for dx in 0..WIDTH {
            let value = 2.0 * dx as f32 / (WIDTH - 1) as f32 - 1.0;
            (0..16).for_each(|dy| self.set(at.0 + dx, at.1 + dy, rgb(diverging(value))));
        }
        self.frame(at, (WIDTH, 16));
        let words = "negative, zero, positive; every column on a scale of its own. The numbers are weights (blur: /16, random: /10).";
        self.text(words, (at.0 + WIDTH + 16, at.1 + 4), 1, MUTED);
    }
}
