//! Which optimiser takes the steps, and what it remembers.

use tilewise_kernels::{Adam, Sgd};

/// An optimiser and its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Optimiser {
    /// Gradient descent, with momentum and weight decay.
    Sgd(Sgd),
    /// Adam (Kingma and Ba, 2015), or AdamW (Loshchilov and Hutter, 2019) where the decay is decoupled.
    Adam(Adam),
}

impl Optimiser {
    /// Adam with PyTorch's defaults.
    pub fn adam(lr: f32) -> Self {
        Optimiser::Adam(Adam { lr, ..Adam::default() })
    }

    /// The learning rate.
    pub const fn lr(&self) -> f32 {
        match self {
            Optimiser::Sgd(sgd) => sgd.lr,
            Optimiser::Adam(adam) => adam.lr,
        }
    }

    /// The same with another learning rate.
    #[must_use]
    pub const fn with_lr(mut self, lr: f32) -> Self {
        match &mut self {
            Optimiser::Sgd(sgd) => sgd.lr = lr,
            Optimiser::Adam(adam) => adam.lr = lr,
        }
        self
    }

    /// How many numbers it remembers for each that is trained.
    pub(crate) const fn moments(&self) -> usize {
        match self {
            Optimiser::Sgd(_) => 1,
            Optimiser::Adam(_) => 2,
        }
    }
}

/// What an optimiser remembers from step to step: to be saved with the weights, and given back.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OptimiserState {
    /// Steps taken.
    pub step: u64,
    /// For each number that is trained, in the order of [`crate::Graph::parameters`]: the velocity of SGD; Adam's running means
    /// of the gradient and of its square.
    pub moments: Vec<Vec<f32>>,
}
