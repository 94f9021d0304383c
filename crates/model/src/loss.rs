//! What training makes small: the losses, and what they compare with.

use tilewise_kernels::{CrossEntropy, Training, Update, View, ViewMut};

use crate::error::{Error, Result};

/// A loss: one number, a mean over the batch; as the kernels of these names compute it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Loss {
    /// Of the softmax over the channels, to a label for each image (or pixel).
    CrossEntropy {
        /// A factor for each class; none is 1 everywhere.
        class_weights: Option<Vec<f32>>,
        /// How much of the target is spread over all classes.
        label_smoothing: f32,
        /// The label of what does not count.
        ignore_index: Option<usize>,
    },
    /// Binary cross-entropy of the sigmoid, to targets between 0 and 1.
    BceWithLogits {
        /// How much more a target of 1 weighs than one of 0, for each channel; none is 1.
        pos_weight: Option<Vec<f32>>,
    },
    /// The mean of squared differences.
    Mse,
    /// The mean of absolute differences.
    L1,
    /// 1 minus the Dice coefficient of the sigmoid.
    Dice {
        /// Added above and below.
        smooth: f32,
    },
    /// The sum of [`Loss::BceWithLogits`] and [`Loss::Dice`].
    BceDice {
        /// Added above and below the Dice coefficient's fraction.
        smooth: f32,
    },
}

impl Loss {
    /// [`Loss::CrossEntropy`] without weights, smoothing or an ignored label.
    pub const fn cross_entropy() -> Self {
        Loss::CrossEntropy { class_weights: None, label_smoothing: 0.0, ignore_index: None }
    }

    /// [`Loss::BceWithLogits`] without a weight.
    pub const fn bce_with_logits() -> Self {
        Loss::BceWithLogits { pos_weight: None }
    }

    /// Its name, as in configurations.
    pub const fn name(&self) -> &'static str {
        match self {
            Loss::CrossEntropy { .. } => "cross_entropy",
            Loss::BceWithLogits { .. } => "bce_with_logits",
            Loss::Mse => "mse",
            Loss::L1 => "l1",
            Loss::Dice { .. } => "dice",
            Loss::BceDice { .. } => "bce_dice",
        }
    }

    /// Whether it compares with labels, rather than with images.
    pub const fn wants_labels(&self) -> bool {
        matches!(self, Loss::CrossEntropy { .. })
    }
}

/// What the result of a network is compared with, on the host.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// A class for each image, or for each pixel, row by row.
    Labels(&'a [usize]),
    /// An image for each image, of the shape of the result.
    Images(tilewise_kernels::TensorView<'a>),
}

/// The same, on the device.
pub(crate) enum DeviceTarget<'a, B: Training> {
    Labels(&'a [usize]),
    Images(View<'a, B>),
}

impl Loss {
    /// Refuses a target of the wrong kind or shape.
    pub(crate) fn check(&self, target: &Target<'_>, result: tilewise_kernels::Shape4) -> Result<()> {
        match (self.wants_labels(), target) {
            (true, Target::Labels(_)) => Ok(()),
            (false, Target::Images(images)) if images.shape() == result => Ok(()),
            (false, Target::Images(images)) => {
                Err(Error::invalid(format!("{}: target", self.name()), result, images.shape()))
            }
            (true, _) => Err(Error::invalid(format!("{}: target", self.name()), "labels", "images")),
            (false, _) => Err(Error::invalid(format!("{}: target", self.name()), "images", "labels")),
        }
    }

    /// What it is the sum of.
    pub(crate) fn terms(&self) -> impl Iterator<Item = Term<'_>> {
        let (first, second) = match self {
            Loss::CrossEntropy { class_weights, label_smoothing, ignore_index } => {
                let class_weights = class_weights.as_deref();
                let params = CrossEntropy {
                    class_weights,
                    label_smoothing: *label_smoothing,
                    ignore_index: *ignore_index,
                };
                (Term::CrossEntropy(params), None)
            }
            Loss::BceWithLogits { pos_weight } => (Term::Bce(pos_weight.as_deref()), None),
            Loss::Mse => (Term::Mse, None),
            Loss::L1 => (Term::L1, None),
            Loss::Dice { smooth } => (Term::Dice(*smooth), None),
            Loss::BceDice { smooth } => (Term::Bce(None), Some(Term::Dice(*smooth))),
        };
        std::iter::once(first).chain(second)
    }
}

/// The most terms that a loss has.
pub(crate) const MAX_TERMS: usize = 2;

/// One of the numbers that a loss is the sum of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Term<'a> {
    CrossEntropy(CrossEntropy<'a>),
    Bce(Option<&'a [f32]>),
    Mse,
    L1,
    Dice(f32),
}

impl Term<'_> {
    /// Writes its value to `y`.
    pub fn forward<B: Training>(
        self,
        device: &B,
        x: View<'_, B>,
        target: &DeviceTarget<'_, B>,
        y: ViewMut<'_, B>,
    ) -> tilewise_kernels::Result<()> {
        match (self, target) {
            (Term::CrossEntropy(params), DeviceTarget::Labels(labels)) => {
                device.cross_entropy_into(x, labels, params, y)
            }
            (Term::Bce(pos_weight), DeviceTarget::Images(t)) => {
                device.bce_with_logits_into(x, *t, pos_weight, y)
            }
            (Term::Mse, DeviceTarget::Images(t)) => device.mse_into(x, *t, y),
            (Term::L1, DeviceTarget::Images(t)) => device.l1_into(x, *t, y),
            (Term::Dice(smooth), DeviceTarget::Images(t)) => device.dice_into(x, *t, smooth, y),
            _ => unreachable!("the kind of the target was checked with the loss"),
        }
    }

    /// Writes its gradient to `gx`, or adds it there.
    pub fn backward<B: Training>(
        self,
        device: &B,
        x: View<'_, B>,
        target: &DeviceTarget<'_, B>,
        gx: ViewMut<'_, B>,
        update: Update,
    ) -> tilewise_kernels::Result<()> {
        match (self, target) {
            (Term::CrossEntropy(params), DeviceTarget::Labels(labels)) => {
                device.cross_entropy_backward_into(x, labels, params, 1.0, gx, update)
            }
            (Term::Bce(pos_weight), DeviceTarget::Images(t)) => {
                device.bce_with_logits_backward_into(x, *t, pos_weight, 1.0, gx, update)
            }
            (Term::Mse, DeviceTarget::Images(t)) => device.mse_backward_into(x, *t, 1.0, gx, update),
            (Term::L1, DeviceTarget::Images(t)) => device.l1_backward_into(x, *t, 1.0, gx, update),
            (Term::Dice(smooth), DeviceTarget::Images(t)) => {
                device.dice_backward_into(x, *t, smooth, 1.0, gx, update)
            }
            _ => unreachable!("the kind of the target was checked with the loss"),
        }
    }
}
