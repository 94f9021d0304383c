//! Images as under a microscope, with masks that are right by construction: a data set for segmentation without a file.
//!
//! What makes it a task: cells are as bright as what surrounds them, on average. What tells them apart is their membrane
//! (a thin line, bright on one side of the cell and dark on the other, as in phase contrast), their grain, finer than the
//! background's, and their shape. The light is uneven, lines and specks are there that belong to no cell, and noise lies
//! over all. No threshold comes close: see the tests.

use std::f32::consts::{PI, TAU};
use std::ops::RangeInclusive;

use rand::rngs::ChaCha8Rng;
use tilewise_kernels::{Shape4, Tensor};

use super::dataset::{Dataset, Targets};
use super::random::{self, Purpose, unit};
use crate::error::{Error, Result};

/// A set of images of cells and the masks of the cells. Each image depends on the seed and its number alone: a larger set
/// begins with the smaller one.
///
/// ```
/// use tilewise_model::data::Cells;
/// let set = Cells { count: 4, size: 48, seed: 1 }.generate()?;
/// assert_eq!(set.to_string(), "4 images of 1x48x48, with masks");
/// # Ok::<(), tilewise_model::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cells {
    /// How many images.
    pub count: usize,
    /// Rows and columns of each.
    pub size: usize,
    /// Which images.
    pub seed: u64,
}

impl Default for Cells {
    fn default() -> Self {
        Cells { count: 100, size: 96, seed: 0 }
    }
}

/// Below this, no cell fits; above, an image would take gigabytes.
const SIZES: RangeInclusive<usize> = 16..=8192;

impl Cells {
    /// Draws the images.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there are no images or their size is not within 16 and 8192; [`Error::Kernel`] if memory
    /// runs out.
    pub fn generate(&self) -> Result<Dataset> {
        if self.count == 0 {
            return Err(Error::invalid("cells: count", "at least 1 image", 0));
        }
        if !SIZES.contains(&self.size) {
            let expected = format!("{} to {} rows and columns", SIZES.start(), SIZES.end());
            return Err(Error::invalid("cells: size", expected, self.size));
        }
        let shape = Shape4::new(self.count, 1, self.size, self.size);
        let (mut images, mut masks) = (Tensor::zeros(shape)?, Tensor::zeros(shape)?);
        let plane = self.size * self.size;
        let planes = images.data_mut().chunks_exact_mut(plane).zip(masks.data_mut().chunks_exact_mut(plane));
        for (number, (image, mask)) in planes.enumerate() {
            let mut rng = random::stream(self.seed, number as u64, Purpose::Cells);
            Scene::new(&mut rng, self.size).draw(&mut rng, image, mask);
        }
        Dataset::new(images, Targets::Masks(masks))
    }
}

/// One image before it is drawn. Lengths are in pixels.
struct Scene {
    size: usize,
    cells: Vec<Cell>,
    lines: Vec<Line>,
    specks: Vec<Speck>,
    background: Texture,
    grain: Texture,
    light: Light,
}

/// A closed curve around a centre: its radius is `radius * (1 + sum of a * cos(k * angle + phase))`.
struct Cell {
    centre: [f32; 2],
    radius: f32,
    /// Amplitude and phase for k = 2, 3, 4: long, pear-shaped, cornered.
    waves: [(f32, f32); 3],
    /// How much brighter than what surrounds it, or darker.
    tone: f32,
    nucleus: f32,
}

/// A fibre that bends: as bright as a membrane, and no cell.
struct Line {
    from: [f32; 2],
    angle: f32,
    bend: f32,
    length: f32,
    tone: f32,
}

/// A round speck of dirt, out of focus.
struct Speck {
    centre: [f32; 2],
    radius: f32,
    tone: f32,
}

/// Random values on a grid, linear between them: noise whose spots are as wide as a cell of the grid.
struct Texture {
    pitch: f32,
    columns: usize,
    values: Vec<f32>,
}

/// Brighter on one side, darker towards the corners.
struct Light {
    slope: [f32; 2],
    vignette: f32,
}

/// Half of the width of a membrane; what a membrane adds on its lit side, and takes away on the other.
const MEMBRANE: f32 = 1.1;
const MEMBRANE_TONE: f32 = 0.22;
const NOISE: f32 = 0.045;

impl Scene {
    fn new(rng: &mut ChaCha8Rng, size: usize) -> Self {
        let extent = size as f32;
        // About a third of the image is of cells, of a radius of 5 pixels at least.
        let typical = (extent / 9.0).clamp(5.0, 14.0);
        let wanted = (0.34 * extent * extent / (PI * typical * typical)).ceil() as usize;
        let mut cells: Vec<Cell> = Vec::new();
        // Not all find a place; some touch, none lies on another.
        for _ in 0..4 * wanted {
            let cell = Cell::new(rng, extent, typical);
            let free = cells.iter().all(|other| {
                let distance = (cell.centre[0] - other.centre[0]).hypot(cell.centre[1] - other.centre[1]);
                distance > cell.radius + other.radius
            });
            if free && cells.len() < wanted {
                cells.push(cell);
            }
        }
        let lines = (0..3 + size / 48).map(|_| Line::new(rng, extent, typical)).collect();
        let specks = (0..4 + size / 32).map(|_| Speck::new(rng, extent, typical)).collect();
        Scene {
            size,
            cells,
            lines,
            specks,
            background: Texture::new(rng, size, typical * 1.1),
            grain: Texture::new(rng, size, 2.0),
            light: Light::new(rng),
        }
    }

    fn draw(&self, rng: &mut ChaCha8Rng, image: &mut [f32], mask: &mut [f32]) {
        let place = |i: usize| middle(i % self.size, i / self.size);
        for (i, tone) in image.iter_mut().enumerate() {
            *tone = 0.5 + 0.16 * self.background.at(place(i));
        }
        for cell in &self.cells {
            for (i, at) in self.around(cell.centre, cell.reach()) {
                if cell.contains(at) {
                    mask[i] = 1.0;
                    image[i] =
                        0.5 + 0.05 * self.background.at(at) + 0.12 * self.grain.at(at) + cell.inside(at);
                }
            }
        }
        // Over the bodies of all cells, so that a membrane shows where two touch.
        for cell in &self.cells {
            self.around(cell.centre, cell.reach()).for_each(|(i, at)| image[i] += cell.membrane(at));
        }
        for line in &self.lines {
            self.around(line.from, line.length + 4.0 * MEMBRANE).for_each(|(i, at)| image[i] += line.at(at));
        }
        for speck in &self.specks {
            self.around(speck.centre, 3.0 * speck.radius).for_each(|(i, at)| image[i] += speck.at(at));
        }
        for (i, tone) in image.iter_mut().enumerate() {
            let light = self.light.at(place(i).map(|v| v / self.size as f32));
            *tone = (*tone * light + NOISE * normal(rng)).clamp(0.0, 1.0);
        }
    }

    /// The pixels up to `reach` away from a place, along either axis: number and middle.
    fn around(&self, [x, y]: [f32; 2], reach: f32) -> impl Iterator<Item = (usize, [f32; 2])> {
        let size = self.size;
        // `as` saturates: at 0, for what lies outside.
        let range = |v: f32| (v - reach) as usize..((v + reach).ceil() as usize).min(size);
        let columns = range(x);
        range(y).flat_map(move |row| {
            columns.clone().map(move |column| (row * size + column, middle(column, row)))
        })
    }
}

fn middle(column: usize, row: usize) -> [f32; 2] {
    [column as f32 + 0.5, row as f32 + 0.5]
}

impl Cell {
    fn new(rng: &mut ChaCha8Rng, extent: f32, typical: f32) -> Self {
        let wave = |rng: &mut ChaCha8Rng, most: f32| (most * unit(rng), TAU * unit(rng));
        Cell {
            centre: [extent * unit(rng), extent * unit(rng)],
            radius: typical * between(rng, 0.7, 1.3),
            waves: [wave(rng, 0.22), wave(rng, 0.1), wave(rng, 0.06)],
            tone: between(rng, -0.07, 0.07),
            nucleus: between(rng, -0.14, 0.14),
        }
    }

    /// The radius in a direction from the centre.
    fn radius_at(&self, angle: f32) -> f32 {
        let waves = self.waves.iter().zip([2.0, 3.0, 4.0]);
        self.radius * (1.0 + waves.map(|((a, phase), k)| a * (k * angle + phase).cos()).sum::<f32>())
    }

    /// Farther from the centre than this, along either axis, nothing of the cell is seen. The waves add 0.38 at most.
    fn reach(&self) -> f32 {
        1.38 * self.radius + 4.0 * MEMBRANE
    }

    /// Distance and direction from the centre.
    fn polar(&self, at: [f32; 2]) -> (f32, f32) {
        let (x, y) = (at[0] - self.centre[0], at[1] - self.centre[1]);
        (x.hypot(y), y.atan2(x))
    }

    fn contains(&self, at: [f32; 2]) -> bool {
        let (distance, angle) = self.polar(at);
        distance < self.radius_at(angle)
    }

    /// What the cell's body adds: its tone, and the blurred spot of its nucleus.
    fn inside(&self, at: [f32; 2]) -> f32 {
        let (distance, _) = self.polar(at);
        self.tone + self.nucleus * bump(distance / (0.45 * self.radius))
    }

    /// What the membrane adds, lit from the upper left.
    fn membrane(&self, at: [f32; 2]) -> f32 {
        let (distance, angle) = self.polar(at);
        let lit = (angle + 0.75 * PI).cos();
        MEMBRANE_TONE * lit * bump((distance - self.radius_at(angle)) / MEMBRANE)
    }
}

impl Line {
    fn new(rng: &mut ChaCha8Rng, extent: f32, typical: f32) -> Self {
        Line {
            from: [extent * unit(rng), extent * unit(rng)],
            angle: TAU * unit(rng),
            bend: between(rng, -0.03, 0.03),
            length: typical * between(rng, 2.0, 5.0),
            tone: MEMBRANE_TONE * between(rng, -1.0, 1.0),
        }
    }

    fn at(&self, at: [f32; 2]) -> f32 {
        let (x, y) = (at[0] - self.from[0], at[1] - self.from[1]);
        let (sin, cos) = self.angle.sin_cos();
        let (along, across) = (x * cos + y * sin, y * cos - x * sin);
        if !(0.0..self.length).contains(&along) {
            return 0.0;
        }
        // A parabola, whose distance is about that along the axis.
        self.tone * bump((across - self.bend * along * (along - self.length)) / MEMBRANE)
    }
}

impl Speck {
    fn new(rng: &mut ChaCha8Rng, extent: f32, typical: f32) -> Self {
        Speck {
            centre: [extent * unit(rng), extent * unit(rng)],
            radius: typical * between(rng, 0.15, 0.5),
            tone: between(rng, -0.2, 0.2),
        }
    }

    fn at(&self, at: [f32; 2]) -> f32 {
        self.tone * bump((at[0] - self.centre[0]).hypot(at[1] - self.centre[1]) / self.radius)
    }
}

impl Texture {
    fn new(rng: &mut ChaCha8Rng, size: usize, pitch: f32) -> Self {
        let columns = (size as f32 / pitch).ceil() as usize + 2;
        Texture { pitch, columns, values: (0..columns * columns).map(|_| normal(rng)).collect() }
    }

    fn at(&self, at: [f32; 2]) -> f32 {
        let [x, y] = at.map(|v| v / self.pitch);
        let (column, row) = (x as usize, y as usize);
        // Smooth at the grid lines, too.
        let [u, v] = [x.fract(), y.fract()].map(|t| t * t * (3.0 - 2.0 * t));
        let value = |dx: usize, dy: usize| self.values[(row + dy) * self.columns + column + dx];
        let line = |dy| value(0, dy) + u * (value(1, dy) - value(0, dy));
        line(0) + v * (line(1) - line(0))
    }
}

impl Light {
    fn new(rng: &mut ChaCha8Rng) -> Self {
        let angle = TAU * unit(rng);
        let slope = between(rng, 0.2, 0.6);
        Light { slope: [slope * angle.cos(), slope * angle.sin()], vignette: between(rng, 0.1, 0.5) }
    }

    /// At a place within 0..1.
    fn at(&self, at: [f32; 2]) -> f32 {
        let [x, y] = at.map(|v| v - 0.5);
        1.0 + self.slope[0] * x + self.slope[1] * y - self.vignette * (x * x + y * y)
    }
}

/// 1 at 0, falling to nothing on both sides.
fn bump(x: f32) -> f32 {
    (-x * x).exp()
}

fn between(rng: &mut ChaCha8Rng, low: f32, high: f32) -> f32 {
    low + (high - low) * unit(rng)
}

/// Of mean 0 and variance 1, near enough to the normal distribution: a sum of four uniform numbers.
fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let sum: f32 = (0..4).map(|_| unit(rng)).sum();
    (sum - 2.0) * 3f32.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_number_give_one_image() {
        let cells = Cells { count: 3, size: 40, seed: 9 };
        let set = cells.generate().unwrap();
        assert_eq!(set, cells.generate().unwrap());
        let more = Cells { count: 5, ..cells }.generate().unwrap();
        assert_eq!(more.subset(&[0, 1, 2]).unwrap(), set);
        assert_ne!(Cells { seed: 10, ..cells }.generate().unwrap(), set);
        assert_ne!(set.images().view().image(0), set.images().view().image(1));
        assert!(set.images().data().iter().all(|v| (0.0..=1.0).contains(v)));
        for (count, size) in [(0, 40), (1, 15), (1, 8193)] {
            assert!(Cells { count, size, seed: 0 }.generate().is_err());
        }
    }

    #[test]
    fn the_mask_has_the_area_of_the_curves() {
        let mut rng = random::stream(4, 0, Purpose::Cells);
        let mut scene = Scene::new(&mut rng, 96);
        // Those that lie wholly within: no part of their area is cut off.
        scene.cells.retain(|cell| {
            cell.centre.iter().all(|&v| v > 1.4 * cell.radius && v + 1.4 * cell.radius < 96.0)
        });
        assert!(scene.cells.len() > 3);
        let (mut image, mut mask) = (vec![0.0; 96 * 96], vec![0.0; 96 * 96]);
        scene.draw(&mut rng, &mut image, &mut mask);
        for cell in &scene.cells {
            // Half of the integral of r^2 over all directions.
            let steps = 3600;
            let squares = (0..steps).map(|i| cell.radius_at(TAU * i as f32 / steps as f32).powi(2));
            let area = squares.sum::<f32>() * PI / steps as f32;
            let count = (0..96 * 96)
                .filter(|i| cell.contains([(i % 96) as f32 + 0.5, (i / 96) as f32 + 0.5]))
                .inspect(|&i| assert_eq!(mask[i], 1.0))
                .count() as f32;
            // A pixel's edge at most along a part of the outline.
            assert!((area - count).abs() < 0.06 * area + 4.0, "{area} {count}");
        }
    }

    #[test]
    fn no_threshold_finds_the_cells() {
        let set = Cells { count: 20, size: 96, seed: 0 }.generate().unwrap();
        let (images, masks) = (set.images().data(), set.masks().unwrap().data());
        let share = masks.iter().sum::<f32>() / masks.len() as f32;
        assert!((0.2..0.5).contains(&share), "{share} of all pixels are of cells");
        // Dice of the best threshold, and of the best band of grey values. All pixels as cells would have this:
        let all = 2.0 * share / (1.0 + share);
        let levels = 32;
        let mut counts = vec![[0.0f32; 2]; levels];
        for (&value, &mask) in images.iter().zip(masks) {
            counts[((value * levels as f32) as usize).min(levels - 1)][mask as usize] += 1.0;
        }
        let cells = masks.iter().sum::<f32>();
        for from in 0..levels {
            for to in from..levels {
                let band = counts[from..=to].iter().fold([0.0; 2], |sum, c| [sum[0] + c[0], sum[1] + c[1]]);
                let dice = 2.0 * band[1] / (band[0] + band[1] + cells);
                assert!(
                    dice < all + 0.06,
                    "grey values {from} to {to} of {levels}: Dice {dice}, all pixels {all}"
                );
            }
        }
    }
}
