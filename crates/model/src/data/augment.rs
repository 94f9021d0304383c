//! More images from those there are: parts, flips, transposes, shifts; the mask moves with its image.

use rand::rngs::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::random::{self, Purpose};

/// How images are changed at random before each step of training. The default changes nothing.
///
/// Flips and transpose together give all eight symmetries of the square, rotations by 90, 180 and 270 degrees among
/// them. What is not square is flipped and shifted only.
///
/// ```
/// use tilewise_model::data::Augment;
/// let augment = Augment { shift: 2, ..Augment::symmetries() };
/// assert!(augment.transpose && augment.changes());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// A part of so many rows and columns, anywhere in the image, stands for the image; 0 takes the whole, and so does
    /// an image that has no more. For images too large to train on, whose details matter.
    pub crop: usize,
    /// Half of the images: left becomes right.
    pub flip_horizontal: bool,
    /// Half of the images: top becomes bottom.
    pub flip_vertical: bool,
    /// Half of the images, if square: rows become columns.
    pub transpose: bool,
    /// Each image is moved by at most so many pixels, each way.
    pub shift: usize,
    /// What comes in where an image was moved away.
    pub fill: Fill,
}

/// What comes in where an image was moved away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fill {
    /// Black, and what is not of the object.
    #[default]
    Zero,
    /// What lies at the edge of the image (and of the mask), again.
    Edge,
}

impl Augment {
    /// Flips and transposes: the eight symmetries of the square. For images without an up and down, as under a
    /// microscope.
    pub const fn symmetries() -> Self {
        Augment {
            crop: 0,
            flip_horizontal: true,
            flip_vertical: true,
            transpose: true,
            shift: 0,
            fill: Fill::Zero,
        }
    }

    /// Whether any image is changed.
    pub fn changes(&self) -> bool {
        self.crop > 0 || self.flip_horizontal || self.flip_vertical || self.transpose || self.shift > 0
    }

    /// Rows and columns of what an image of this size becomes.
    pub(super) fn size_of(&self, size: [usize; 2]) -> [usize; 2] {
        if self.crop == 0 { size } else { size.map(|extent| extent.min(self.crop)) }
    }

    /// What happens to the image, of this size, that comes at `position` in an epoch, whatever came before it.
    pub(super) fn draw(&self, rng: &mut ChaCha8Rng, position: usize, size: [usize; 2]) -> Change {
        random::seek(rng, position);
        // All are drawn whether they are wanted or not: to allow one does not change what the others do.
        let [horizontal, vertical, transpose] = [0; 3].map(|_| random::below(rng, 2) == 1);
        let [down, right] = [0; 2].map(|_| {
            let places = self.shift.saturating_mul(2).saturating_add(1);
            random::below(rng, places) as isize - self.shift as isize
        });
        let part = self.size_of(size);
        let [top, left] = [0, 1].map(|axis| random::below(rng, size[axis] - part[axis] + 1));
        Change {
            top,
            left,
            flip_horizontal: self.flip_horizontal && horizontal,
            flip_vertical: self.flip_vertical && vertical,
            transpose: self.transpose && transpose,
            down,
            right,
            fill: self.fill,
        }
    }
}

/// The random numbers for [`Augment::draw`] in an epoch.
pub(super) fn stream(seed: u64, epoch: u64) -> ChaCha8Rng {
    random::stream(seed, epoch, Purpose::Augment)
}

/// What happens to one image: a part of it is taken, then come the transpose, the flips, the shift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    /// Where in the image the part begins.
    top: usize,
    left: usize,
    flip_horizontal: bool,
    flip_vertical: bool,
    transpose: bool,
    down: isize,
    right: isize,
    fill: Fill,
}

impl Change {
    /// Writes the changed planes of `from`, of `size` each, to `to`, whose planes are `h` x `w`.
    pub(super) fn apply(&self, from: &[f32], size: [usize; 2], to: &mut [f32], [h, w]: [usize; 2]) {
        let transpose = self.transpose && h == w;
        let pixel = |y, x| (self.top + y) * size[1] + self.left + x;
        for (from, to) in from.chunks_exact(size[0] * size[1]).zip(to.chunks_exact_mut(h * w)) {
            for (y, row) in to.chunks_exact_mut(w).enumerate() {
                let Some(y) = self.source(y, self.down, h, self.flip_vertical) else {
                    row.fill(0.0);
                    continue;
                };
                for (x, to) in row.iter_mut().enumerate() {
                    *to = match self.source(x, self.right, w, self.flip_horizontal) {
                        None => 0.0,
                        Some(x) if transpose => from[pixel(x, y)],
                        Some(x) => from[pixel(y, x)],
                    };
                }
            }
        }
    }

    /// Where along an axis of `extent` pixels the pixel at `at` comes from; nowhere if from outside.
    fn source(&self, at: usize, shift: isize, extent: usize, flip: bool) -> Option<usize> {
        let at = match (at.checked_add_signed(-shift), self.fill) {
            (Some(at), _) if at < extent => at,
            (_, Fill::Zero) => return None,
            (Some(_), Fill::Edge) => extent - 1,
            (None, Fill::Edge) => 0,
        };
        Some(if flip { extent - 1 - at } else { at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAME: Change = Change {
        top: 0,
        left: 0,
        flip_horizontal: false,
        flip_vertical: false,
        transpose: false,
        down: 0,
        right: 0,
        fill: Fill::Zero,
    };

    fn apply(change: Change, from: &[f32], size: [usize; 2]) -> Vec<f32> {
        let mut to = vec![f32::NAN; from.len()];
        change.apply(from, size, &mut to, size);
        to
    }

    #[test]
    fn each_change_does_what_it_says() {
        let image = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
        let of = |change| apply(change, &image, [3, 3]);
        assert_eq!(of(SAME), image);
        let horizontal = Change { flip_horizontal: true, ..SAME };
        assert_eq!(of(horizontal), [3.0, 2.0, 1.0, 6.0, 5.0, 4.0, 9.0, 8.0, 7.0]);
        let vertical = Change { flip_vertical: true, ..SAME };
        assert_eq!(of(vertical), [7.0, 8.0, 9.0, 4.0, 5.0, 6.0, 1.0, 2.0, 3.0]);
        let transpose = Change { transpose: true, ..SAME };
        assert_eq!(of(transpose), [1.0, 4.0, 7.0, 2.0, 5.0, 8.0, 3.0, 6.0, 9.0]);
        let clockwise = Change { transpose: true, flip_horizontal: true, ..SAME };
        assert_eq!(of(clockwise), [7.0, 4.0, 1.0, 8.0, 5.0, 2.0, 9.0, 6.0, 3.0]);
        let moved = Change { down: 1, right: -1, ..SAME };
        assert_eq!(of(moved), [0.0, 0.0, 0.0, 2.0, 3.0, 0.0, 5.0, 6.0, 0.0]);
        let edge = Change { fill: Fill::Edge, ..moved };
        assert_eq!(of(edge), [2.0, 3.0, 3.0, 2.0, 3.0, 3.0, 5.0, 6.0, 6.0]);
        assert_eq!(of(Change { down: 3, ..SAME }), [0.0; 9]);
        assert_eq!(of(Change { right: -300, fill: Fill::Edge, ..SAME })[..3], [3.0; 3]);
    }

    #[test]
    fn a_part_of_an_image_is_taken_from_everywhere_and_then_changed() {
        let image = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0];
        let part = Change { top: 1, left: 2, ..SAME };
        let of = |change: Change| {
            let mut to = vec![f32::NAN; 4];
            change.apply(&image, [3, 4], &mut to, [2, 2]);
            to
        };
        assert_eq!(of(part), [7.0, 8.0, 11.0, 12.0]);
        assert_eq!(of(Change { transpose: true, flip_vertical: true, ..part }), [8.0, 12.0, 7.0, 11.0]);

        let augment = Augment { crop: 2, ..Augment::default() };
        assert_eq!((augment.size_of([3, 4]), augment.size_of([1, 9])), ([2, 2], [1, 2]));
        let mut rng = stream(1, 0);
        let mut places = [[0; 3]; 2];
        for position in 0..1200 {
            let change = augment.draw(&mut rng, position, [3, 4]);
            places[change.top][change.left] += 1;
        }
        assert!(places.as_flattened().iter().all(|count| (150..250).contains(count)), "{places:?}");
    }

    #[test]
    fn images_that_are_not_square_are_not_transposed() {
        let image = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let change = Change { transpose: true, flip_horizontal: true, ..SAME };
        assert_eq!(apply(change, &image, [2, 3]), [3.0, 2.0, 1.0, 6.0, 5.0, 4.0]);
        // Two planes, each for itself.
        assert_eq!(apply(change, &image, [1, 3]), [3.0, 2.0, 1.0, 6.0, 5.0, 4.0]);
    }

    #[test]
    fn all_changes_come_about_equally_often_and_none_is_too_far() {
        let augment = Augment { shift: 2, ..Augment::symmetries() };
        let mut rng = stream(3, 0);
        let changes: Vec<_> = (0..4000).map(|position| augment.draw(&mut rng, position, [9, 9])).collect();
        let share = |of: fn(&Change) -> bool| changes.iter().filter(|change| of(change)).count();
        for count in [share(|c| c.flip_horizontal), share(|c| c.flip_vertical), share(|c| c.transpose)] {
            assert!((1850..2150).contains(&count), "{count}");
        }
        for shift in -2..=2 {
            let count = changes.iter().filter(|change| change.down == shift).count();
            assert!((650..950).contains(&count), "{count} shifts by {shift}");
        }
        assert!(changes.iter().all(|change| change.right.abs() <= 2));
        // Drawing again at a place gives the same, in any order.
        assert_eq!(augment.draw(&mut rng, 17, [9, 9]), changes[17]);
        assert!(!Augment::default().changes());
    }

    #[test]
    fn what_is_not_allowed_never_happens() {
        let mut rng = stream(5, 2);
        for position in 0..100 {
            assert_eq!(Augment::default().draw(&mut rng, position, [9, 9]), SAME);
        }
    }
}
