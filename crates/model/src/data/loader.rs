//! Batches in the order of an epoch.

use std::ops::Range;

use rand::rngs::ChaCha8Rng;
use tilewise_kernels::{Shape4, Tensor};

use super::augment::{self, Augment};
use super::dataset::{Dataset, Targets};
use super::normalise::Normalise;
use super::random::{self, Purpose};
use crate::error::{Error, Result};

/// Images with their targets, as a network takes them. It belongs to the caller and is filled again and again: after the
/// first, filling one allocates nothing.
#[derive(Debug, Clone)]
pub struct Batch {
    images: Tensor,
    masks: Tensor,
    labels: Vec<usize>,
    indices: Vec<usize>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        let empty = || Tensor::zeros(Shape4::new(0, 0, 0, 0)).expect("no memory is needed");
        Batch { images: empty(), masks: empty(), labels: Vec::new(), indices: Vec::new() }
    }

    /// How many images there are.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// The images, `[n, c, h, w]`.
    pub fn images(&self) -> &Tensor {
        &self.images
    }

    /// The class of each image; empty where the data set has none.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// The mask of each image, `[n, 1, h, w]`; of no images where the data set has none.
    pub fn masks(&self) -> &Tensor {
        &self.masks
    }

    /// Where in the data set each image lies.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }
}

impl Default for Batch {
    fn default() -> Self {
        Batch::new()
    }
}

/// Gives the images of a data set in batches: in a random order, changed at random, normalised, as asked.
///
/// The order of an epoch, and what happens to each image in it, depend on the seed and the number of the epoch alone:
/// whoever goes on at an epoch, or within one, gets what an uninterrupted run got.
///
/// ```
/// use tilewise_model::data::{self, Augment, Batch, Loader};
/// let digits = data::digits()?;
/// let mut loader = Loader::shuffled(&digits, 64, 42)?.augment(Augment { shift: 1, ..Augment::default() });
/// let mut batch = Batch::new();
/// for epoch in 0..2 {
///     loader.start(epoch);
///     let mut seen = 0;
///     while loader.next_into(&mut batch)? {
///         seen += batch.len();
///         assert_eq!(batch.images().shape().dims(), [batch.len(), 1, 8, 8]);
///         assert_eq!(batch.labels().len(), batch.len());
///     }
///     assert_eq!(seen, 1797);
/// }
/// # Ok::<(), tilewise_model::Error>(())
/// ```
#[derive(Debug)]
pub struct Loader<'a> {
    data: &'a Dataset,
    batch: usize,
    /// Of an order that is not random there is none.
    seed: Option<u64>,
    augment: Augment,
    normalise: Option<Normalise>,
    drop_last: bool,
    order: Vec<usize>,
    /// How many images of the epoch have been given.
    position: usize,
    /// For [`Augment`], of this epoch.
    changes: ChaCha8Rng,
}

impl<'a> Loader<'a> {
    /// The images in another random order in each epoch. It stands at the start of epoch 0.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a batch has no images, or the data set has none.
    pub fn shuffled(data: &'a Dataset, batch: usize, seed: u64) -> Result<Self> {
        Loader::new(data, batch, Some(seed))
    }

    /// The images in the order of the data set, unchanged: to evaluate.
    ///
    /// # Errors
    /// As [`Loader::shuffled`].
    pub fn in_order(data: &'a Dataset, batch: usize) -> Result<Self> {
        Loader::new(data, batch, None)
    }

    fn new(data: &'a Dataset, batch: usize, seed: Option<u64>) -> Result<Self> {
        if batch == 0 {
            return Err(Error::invalid("batch", "at least 1 image", batch));
        }
        if data.is_empty() {
            return Err(Error::invalid("data set", "at least 1 image", 0));
        }
        let mut loader = Loader {
            data,
            batch,
            seed,
            augment: Augment::default(),
            normalise: None,
            drop_last: false,
            order: (0..data.len()).collect(),
            position: 0,
            changes: augment::stream(0, 0),
        };
        loader.start(0);
        Ok(loader)
    }

    /// Changes images at random; those of [`Loader::in_order`] stay as they are.
    pub fn augment(mut self, augment: Augment) -> Self {
        self.augment = augment;
        self
    }

    /// Normalises the images (after they were changed: what comes in at the edge is black).
    ///
    /// # Errors
    /// [`Error::Invalid`] if it was measured on images of other channels.
    pub fn normalise(mut self, normalise: Normalise) -> Result<Self> {
        normalise.check(self.data.channels())?;
        self.normalise = Some(normalise);
        Ok(self)
    }

    /// Leaves out the last batch of an epoch if it would be smaller than the others.
    pub fn drop_last(mut self, drop: bool) -> Self {
        self.drop_last = drop;
        self
    }

    /// How many batches an epoch has.
    pub fn batches(&self) -> usize {
        if self.drop_last { self.order.len() / self.batch } else { self.order.len().div_ceil(self.batch) }
    }

    /// Goes to the start of an epoch.
    pub fn start(&mut self, epoch: u64) {
        self.position = 0;
        if let Some(seed) = self.seed {
            // From the order of the data set, not from that of the last epoch.
            self.order.iter_mut().enumerate().for_each(|(i, index)| *index = i);
            random::shuffle(&mut random::stream(seed, epoch, Purpose::Order), &mut self.order);
            self.changes = augment::stream(seed, epoch);
        }
    }

    /// Fills the next batch of the epoch; `false`, with the batch as it was, if there is none.
    ///
    /// # Errors
    /// [`Error::Kernel`] if memory runs out.
    pub fn next_into(&mut self, batch: &mut Batch) -> Result<bool> {
        let left = self.order.len() - self.position;
        if left == 0 || (self.drop_last && left < self.batch) {
            return Ok(false);
        }
        let range = self.position..self.position + left.min(self.batch);
        self.position = range.end;
        batch.indices.clear();
        batch.indices.extend_from_slice(&self.order[range.clone()]);
        self.fill(batch, range)?;
        Ok(true)
    }

    /// Reads what `batch.indices` names; they come at the positions `at` of the epoch.
    fn fill(&mut self, batch: &mut Batch, at: Range<usize>) -> Result<()> {
        let augments = self.seed.is_some() && self.augment.changes();
        let size = self.data.size();
        let [h, w] = if augments { self.augment.size_of(size) } else { size };
        let shape = Shape4 { n: at.len(), h, w, ..self.data.images().shape() };
        resize(&mut batch.images, shape)?;
        let masks = match self.data.targets() {
            Targets::Masks(masks) => Some(masks),
            _ => None,
        };
        if masks.is_some() {
            resize(&mut batch.masks, Shape4 { c: 1, ..shape })?;
        }
        let (image, plane) = (shape.c * shape.h * shape.w, shape.h * shape.w);
        for (i, (&index, position)) in batch.indices.iter().zip(at).enumerate() {
            let change = augments.then(|| self.augment.draw(&mut self.changes, position, size));
            let copy = |from: &[f32], to: &mut [f32]| match &change {
                Some(change) => change.apply(from, size, to, [h, w]),
                None => to.copy_from_slice(from),
            };
            copy(self.data.images().view().image(index), &mut batch.images.data_mut()[i * image..][..image]);
            if let Some(masks) = masks {
                copy(masks.view().image(index), &mut batch.masks.data_mut()[i * plane..][..plane]);
            }
        }
        if let Some(normalise) = &self.normalise {
            normalise.apply(&mut batch.images)?;
        }
        batch.labels.clear();
        if let Targets::Labels { labels, .. } = self.data.targets() {
            batch.labels.extend(batch.indices.iter().map(|&index| labels[index]));
        }
        Ok(())
    }
}

/// Gives a tensor another shape, in its own memory if it is enough. What it holds afterwards is to be overwritten.
fn resize(tensor: &mut Tensor, shape: Shape4) -> Result<()> {
    if tensor.shape() == shape {
        return Ok(());
    }
    let len = shape.checked_len("batch", "shape")?;
    let mut data = std::mem::replace(tensor, Batch::new().images).into_vec();
    if data.capacity() < len {
        *tensor = Tensor::zeros(shape)?;
        return Ok(());
    }
    data.resize(len, 0.0);
    *tensor = Tensor::from_vec(shape, data)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Image `n` is filled with `n`; its label is `n % 3`, or its mask 1 in the first `n` pixels.
    fn set(n: usize, masks: bool) -> Dataset {
        let images = Tensor::from_fn(Shape4::new(n, 1, 3, 3), |[n, ..]| n as f32).unwrap();
        let targets = if masks {
            let mask = |[n, _, h, w]: [usize; 4]| f32::from(u8::from(h * 3 + w < n));
            Targets::Masks(Tensor::from_fn(Shape4::new(n, 1, 3, 3), mask).unwrap())
        } else {
            Targets::Labels {
                labels: (0..n).map(|n| n % 3).collect(),
                names: ["a", "b", "c"].map(str::to_owned).to_vec(),
            }
        };
        Dataset::new(images, targets).unwrap()
    }

    fn epoch(loader: &mut Loader<'_>, epoch: u64) -> Vec<usize> {
        let (mut batch, mut order) = (Batch::new(), Vec::new());
        loader.start(epoch);
        while loader.next_into(&mut batch).unwrap() {
            order.extend_from_slice(batch.indices());
        }
        order
    }

    #[test]
    fn every_image_comes_once_in_an_epoch_in_an_order_of_its_own() {
        let set = set(10, false);
        let mut loader = Loader::shuffled(&set, 4, 1).unwrap();
        assert_eq!(loader.batches(), 3);
        let (first, second) = (epoch(&mut loader, 0), epoch(&mut loader, 1));
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..10).collect::<Vec<_>>());
        assert_ne!(first, second);
        // Going back, or starting late, or starting with other batches gives the same.
        assert_eq!(epoch(&mut loader, 0), first);
        assert_eq!(epoch(&mut Loader::shuffled(&set, 7, 1).unwrap(), 1), second);
        assert_ne!(epoch(&mut Loader::shuffled(&set, 4, 2).unwrap(), 0), first);
        assert_eq!(epoch(&mut Loader::in_order(&set, 4).unwrap(), 3), (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn targets_come_with_their_images_and_the_last_batch_is_what_is_left() {
        let labelled = set(10, false);
        let mut loader = Loader::shuffled(&labelled, 4, 5).unwrap();
        let mut batch = Batch::new();
        for n in [4, 4, 2] {
            assert!(loader.next_into(&mut batch).unwrap());
            assert_eq!(batch.images().shape(), Shape4::new(n, 1, 3, 3));
            for (i, &index) in batch.indices().iter().enumerate() {
                assert_eq!((batch.images().at(i, 0, 1, 2), batch.labels()[i]), (index as f32, index % 3));
            }
            assert!(batch.masks().data().is_empty());
        }
        assert!(!loader.next_into(&mut batch).unwrap());
        let mut loader = Loader::shuffled(&labelled, 4, 5).unwrap().drop_last(true);
        assert_eq!((loader.batches(), epoch(&mut loader, 0).len()), (2, 8));

        let masked = set(10, true);
        let mut loader = Loader::shuffled(&masked, 4, 5).unwrap().augment(Augment::symmetries());
        let mut batch = Batch::new();
        while loader.next_into(&mut batch).unwrap() {
            for (i, &index) in batch.indices().iter().enumerate() {
                let sum: f32 = batch.masks().view().image(i).iter().sum();
                assert_eq!(sum, index.min(9) as f32, "the mask of another image");
            }
        }
    }

    #[test]
    fn image_and_mask_are_changed_alike_and_batches_do_not_matter() {
        let pattern = |[_, _, h, w]: [usize; 4]| f32::from(u8::from((h * 5 + w * 3) % 7 < 3));
        let shape = Shape4::new(6, 1, 8, 8);
        let images = Tensor::from_fn(shape, pattern).unwrap();
        let set = Dataset::new(images.clone(), Targets::Masks(images)).unwrap();
        let augment = Augment { shift: 3, ..Augment::symmetries() };
        let collect = |size| {
            let mut loader = Loader::shuffled(&set, size, 11).unwrap().augment(augment);
            let (mut batch, mut all) = (Batch::new(), Vec::new());
            while loader.next_into(&mut batch).unwrap() {
                assert_eq!(batch.images(), batch.masks());
                all.extend_from_slice(batch.images().data());
            }
            all
        };
        assert_eq!(collect(6), collect(4));
        assert!(collect(6).chunks_exact(64).any(|image| image != set.images().view().image(0)));
    }

    #[test]
    fn normalised_images_are_those_of_the_data_set_normalised() {
        let set = set(4, false);
        let normalise = Normalise::of(&set).unwrap();
        let mut expected = set.images().clone();
        normalise.apply(&mut expected).unwrap();
        let mut loader = Loader::in_order(&set, 4).unwrap().normalise(normalise).unwrap();
        let mut batch = Batch::new();
        loader.next_into(&mut batch).unwrap();
        assert_eq!(batch.images(), &expected);
    }

    #[test]
    fn nothing_to_give_is_an_error() {
        let set = set(4, false);
        assert!(Loader::shuffled(&set, 0, 0).is_err());
        assert!(Loader::in_order(&set.subset(&[]).unwrap(), 1).is_err());
    }
}
