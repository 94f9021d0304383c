//! Images and what is known of them.

use std::fmt;

use tilewise_kernels::{Shape4, Tensor};

use crate::error::{Error, Result};

/// What is known of the images of a data set.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// Nothing: a network may still reconstruct them.
    None,
    /// A class for each image.
    Labels {
        /// Index into `names`, one for each image.
        labels: Vec<usize>,
        /// The names of the classes.
        names: Vec<String>,
    },
    /// What of each image belongs to the object sought: `[n, 1, h, w]`, 1.0 where it does, else 0.0.
    Masks(Tensor),
}

/// Images of one size, `[n, c, h, w]`, usually scaled to 0..=1, with what is known of them.
///
/// Every image has one label or one mask where there are any, labels have names, masks are 0 or 1 and of the size of the
/// images, and all numbers are finite: checked once, in [`Dataset::new`].
///
/// ```
/// use tilewise_model::data;
/// let digits = data::digits()?;
/// assert_eq!(digits.to_string(), "1797 images of 1x8x8, 10 classes");
/// let (train, held_out) = digits.split(5)?;
/// assert_eq!((train.len(), held_out.len()), (1438, 359));
/// assert_eq!(held_out.labels()?[0], digits.labels()?[4]);
/// # Ok::<(), tilewise_model::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    images: Tensor,
    targets: Targets,
}

impl Dataset {
    /// Takes images and their targets.
    ///
    /// # Errors
    /// [`Error::Invalid`] if they do not belong together, or as [`Dataset`] says.
    pub fn new(images: Tensor, targets: Targets) -> Result<Self> {
        let shape = images.shape();
        if shape.c == 0 || shape.h == 0 || shape.w == 0 {
            return Err(Error::invalid("data set: images", "at least 1 channel, row and column", shape));
        }
        if let Some(value) = images.data().iter().find(|value| !value.is_finite()) {
            return Err(Error::invalid("data set: pixels", "finite numbers", value));
        }
        match &targets {
            Targets::None => {}
            Targets::Labels { labels, names } => {
                if labels.len() != shape.n {
                    let expected = format!("one for each of {} images", shape.n);
                    return Err(Error::invalid("data set: labels", expected, labels.len()));
                }
                if let Some(label) = labels.iter().find(|&&label| label >= names.len()) {
                    let expected = format!("less than the number of classes, {}", names.len());
                    return Err(Error::invalid("data set: label", expected, label));
                }
            }
            Targets::Masks(masks) => {
                let expected = Shape4 { c: 1, ..shape };
                if masks.shape() != expected {
                    return Err(Error::invalid("data set: masks", expected, masks.shape()));
                }
                if let Some(value) = masks.data().iter().find(|&&value| value != 0.0 && value != 1.0) {
                    return Err(Error::invalid("data set: masks", "0 or 1", value));
                }
            }
        }
        Ok(Dataset { images, targets })
    }

    /// How many images there are.
    pub fn len(&self) -> usize {
        self.images.shape().n
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Channels of an image: 1 is grey, 3 are red, green and blue.
    pub fn channels(&self) -> usize {
        self.images.shape().c
    }

    /// Rows and columns of an image.
    pub fn size(&self) -> [usize; 2] {
        let shape = self.images.shape();
        [shape.h, shape.w]
    }

    /// All images, `[n, c, h, w]`.
    pub fn images(&self) -> &Tensor {
        &self.images
    }

    /// What is known of them.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// The class of each image.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the data set has none.
    pub fn labels(&self) -> Result<&[usize]> {
        match &self.targets {
            Targets::Labels { labels, .. } => Ok(labels),
            other => Err(Error::invalid("data set", "a class for each image", other.describe())),
        }
    }

    /// The names of the classes; none where the images have no classes.
    pub fn class_names(&self) -> &[String] {
        match &self.targets {
            Targets::Labels { names, .. } => names,
            _ => &[],
        }
    }

    /// The mask of each image, `[n, 1, h, w]`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the data set has none.
    pub fn masks(&self) -> Result<&Tensor> {
        match &self.targets {
            Targets::Masks(masks) => Ok(masks),
            other => Err(Error::invalid("data set", "a mask for each image", other.describe())),
        }
    }

    /// The images at `indices`, in that order; an image may come more than once.
    ///
    /// # Errors
    /// [`Error::Invalid`] if an index is not below [`Dataset::len`]; [`Error::Kernel`] if memory runs out.
    pub fn subset(&self, indices: &[usize]) -> Result<Self> {
        if let Some(index) = indices.iter().find(|&&index| index >= self.len()) {
            return Err(Error::invalid("data set: index", format!("less than {}", self.len()), index));
        }
        let targets = match &self.targets {
            Targets::None => Targets::None,
            Targets::Labels { labels, names } => Targets::Labels {
                labels: indices.iter().map(|&index| labels[index]).collect(),
                names: names.clone(),
            },
            Targets::Masks(masks) => Targets::Masks(gather(masks, indices)?),
        };
        Ok(Dataset { images: gather(&self.images, indices)?, targets })
    }

    /// Several data sets one behind the other. Classes go by their numbers; the longest list of names holds for all.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there are none, or images or targets are not of the same kind; [`Error::Kernel`] if memory
    /// runs out.
    pub fn concatenated(mut sets: Vec<Self>) -> Result<Self> {
        if sets.len() <= 1 {
            return sets.pop().ok_or_else(|| Error::invalid("data sets", "at least one", 0));
        }
        let images = append(sets.iter().map(|set| &set.images))?;
        let targets = match &sets[0].targets {
            Targets::None => match sets.iter().find(|set| set.targets != Targets::None) {
                None => Targets::None,
                Some(other) => {
                    let expected = Targets::None.describe();
                    return Err(Error::invalid("data sets: targets", expected, other.targets.describe()));
                }
            },
            Targets::Masks(_) => {
                let masks = sets.iter().map(Dataset::masks).collect::<Result<Vec<_>>>()?;
                Targets::Masks(append(masks.into_iter())?)
            }
            Targets::Labels { .. } => {
                let labels = sets.iter().map(Dataset::labels).collect::<Result<Vec<_>>>()?.concat();
                let names = sets.iter().map(Dataset::class_names).max_by_key(|names| names.len());
                Targets::Labels { labels, names: names.unwrap_or_default().to_vec() }
            }
        };
        Dataset::new(images, targets)
    }

    /// The images to train on, and those held out: every `holdout`-th, those where `index % holdout == holdout - 1`.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless `holdout` is at least 2 and at most the number of images (both parts have some then).
    pub fn split(&self, holdout: usize) -> Result<(Self, Self)> {
        let [train, held_out] = split_indices(self.len(), holdout)?;
        Ok((self.subset(&train)?, self.subset(&held_out)?))
    }

    /// The indices of the images of a class, in order.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no such class.
    pub fn of_class(&self, class: usize) -> Result<Vec<usize>> {
        let labels = self.labels()?;
        let classes = self.class_names().len();
        if class >= classes {
            return Err(Error::invalid("data set: class", format!("less than {classes}"), class));
        }
        Ok((0..labels.len()).filter(|&index| labels[index] == class).collect())
    }

    /// The class of that name; of classes named `0`, `1`, …, the number.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the names there are.
    pub fn class(&self, name: &str) -> Result<usize> {
        let names = self.class_names();
        names.iter().position(|known| known == name).ok_or_else(|| {
            let known = if names.is_empty() { "(none)".to_owned() } else { names.join(", ") };
            Error::invalid("class", format!("one of {known}"), name)
        })
    }

    /// The same targets for other images, as many as there are: resized, normalised. Masks are replaced with the images.
    pub(super) fn with_images(&self, images: Tensor, masks: Option<Tensor>) -> Result<Self> {
        Dataset::new(images, masks.map_or_else(|| self.targets.clone(), Targets::Masks))
    }
}

impl fmt::Display for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [h, w] = self.size();
        write!(f, "{} images of {}x{h}x{w}, {}", self.len(), self.channels(), self.targets.describe())
    }
}

impl Targets {
    /// What there is, for messages.
    fn describe(&self) -> String {
        match self {
            Targets::None => "without classes or masks".to_owned(),
            Targets::Labels { names, .. } if names.len() == 1 => "1 class".to_owned(),
            Targets::Labels { names, .. } => format!("{} classes", names.len()),
            Targets::Masks(_) => "with masks".to_owned(),
        }
    }
}

/// The indices of `len` images to train on, and of those held out: `index % holdout == holdout - 1`.
///
/// ```
/// use tilewise_model::data::split_indices;
/// assert_eq!(split_indices(7, 3)?, [vec![0, 1, 3, 4, 6], vec![2, 5]]);
/// # Ok::<(), tilewise_model::Error>(())
/// ```
///
/// # Errors
/// As [`Dataset::split`].
pub fn split_indices(len: usize, holdout: usize) -> Result<[Vec<usize>; 2]> {
    if holdout < 2 || holdout > len {
        return Err(Error::invalid("holdout", format!("2 to the number of images, {len}"), holdout));
    }
    let (held_out, train) = (0..len).partition(|index| index % holdout == holdout - 1);
    Ok([train, held_out])
}

/// All images one behind the other.
fn append<'a>(parts: impl Iterator<Item = &'a Tensor> + Clone) -> Result<Tensor> {
    let mut shape = Shape4::new(0, 0, 0, 0);
    for part in parts.clone().map(Tensor::shape) {
        if shape.n > 0 && (Shape4 { n: part.n, ..shape }) != part {
            return Err(Error::invalid("data sets: images", Shape4 { n: part.n, ..shape }, part));
        }
        shape = Shape4 { n: shape.n + part.n, ..part };
    }
    let mut all = Tensor::zeros(shape)?;
    let mut rest = all.data_mut();
    for part in parts {
        let (to, behind) = rest.split_at_mut(part.data().len());
        to.copy_from_slice(part.data());
        rest = behind;
    }
    Ok(all)
}

/// The images at `indices`.
fn gather(from: &Tensor, indices: &[usize]) -> Result<Tensor> {
    let shape = Shape4 { n: indices.len(), ..from.shape() };
    let mut to = Tensor::zeros(shape)?;
    let image = shape.c * shape.h * shape.w;
    for (to, &index) in to.data_mut().chunks_exact_mut(image).zip(indices) {
        to.copy_from_slice(from.view().image(index));
    }
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(n: usize) -> Tensor {
        Tensor::from_fn(Shape4::new(n, 2, 2, 3), |[n, c, h, w]| (n * 100 + c * 10 + h * 3 + w) as f32)
            .unwrap()
    }

    fn labelled(labels: &[usize], classes: usize) -> Result<Dataset> {
        let names = (0..classes).map(|class| format!("class {class}")).collect();
        Dataset::new(images(3), Targets::Labels { labels: labels.to_vec(), names })
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        assert!(labelled(&[0, 1, 0], 2).is_ok());
        let message = |result: Result<Dataset>| result.unwrap_err().to_string();
        assert_eq!(
            message(labelled(&[0, 1], 2)),
            "data set: labels: expected one for each of 3 images, got 2"
        );
        assert_eq!(
            message(labelled(&[0, 1, 2], 2)),
            "data set: label: expected less than the number of classes, 2, got 2"
        );
        let masks = |shape, value| {
            let masks = Tensor::from_fn(shape, |_| value).unwrap();
            Dataset::new(images(3), Targets::Masks(masks))
        };
        assert!(masks(Shape4::new(3, 1, 2, 3), 1.0).is_ok());
        assert_eq!(
            message(masks(Shape4::new(3, 2, 2, 3), 1.0)),
            "data set: masks: expected 3x1x2x3, got 3x2x2x3"
        );
        assert_eq!(message(masks(Shape4::new(3, 1, 2, 3), 0.5)), "data set: masks: expected 0 or 1, got 0.5");
        let nan = Tensor::from_fn(Shape4::new(1, 1, 1, 1), |_| f32::NAN).unwrap();
        assert!(Dataset::new(nan, Targets::None).is_err());
        assert!(Dataset::new(Tensor::zeros(Shape4::new(1, 0, 1, 1)).unwrap(), Targets::None).is_err());
    }

    #[test]
    fn a_subset_takes_images_with_their_targets() {
        let set = labelled(&[0, 1, 1], 2).unwrap();
        let subset = set.subset(&[2, 0, 2]).unwrap();
        assert_eq!(subset.labels().unwrap(), [1, 0, 1]);
        assert_eq!(subset.images().at(0, 1, 1, 2), 215.0);
        assert_eq!(subset.images().at(1, 0, 0, 1), 1.0);
        assert_eq!(set.of_class(1).unwrap(), [1, 2]);
        assert_eq!(set.class("class 1").unwrap(), 1);
        assert!(set.subset(&[3]).is_err() && set.of_class(2).is_err() && set.masks().is_err());
        assert!(set.class("cat").unwrap_err().to_string().contains("class 0, class 1"));
        assert!(set.subset(&[]).unwrap().is_empty());
    }

    #[test]
    fn sets_are_joined_if_they_are_of_one_kind() {
        let set = labelled(&[0, 1, 1], 2).unwrap();
        let all = Dataset::concatenated(vec![set.clone(), labelled(&[2, 0, 0], 3).unwrap()]).unwrap();
        assert_eq!((all.labels().unwrap(), all.class_names().len()), (&[0, 1, 1, 2, 0, 0][..], 3));
        assert_eq!(all.images().at(4, 1, 0, 2), 112.0);
        assert_eq!(Dataset::concatenated(vec![set.clone()]).unwrap(), set);
        let unlabelled = Dataset::new(images(3), Targets::None).unwrap();
        let smaller = Dataset::new(Tensor::zeros(Shape4::new(1, 2, 2, 2)).unwrap(), Targets::None).unwrap();
        for sets in [
            vec![],
            vec![set.clone(), unlabelled.clone()],
            vec![unlabelled.clone(), set],
            vec![unlabelled, smaller],
        ] {
            assert!(Dataset::concatenated(sets).is_err());
        }
    }

    #[test]
    fn every_kth_image_is_held_out() {
        assert_eq!(split_indices(5, 5).unwrap(), [vec![0, 1, 2, 3], vec![4]]);
        assert_eq!(split_indices(4, 2).unwrap(), [vec![0, 2], vec![1, 3]]);
        for holdout in [0, 1, 6] {
            assert!(split_indices(5, holdout).is_err());
        }
    }
}
