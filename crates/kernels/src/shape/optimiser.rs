//! Optimisers: their hyper-parameters, and what these must be on any device.

use crate::error::{Error, Result};

/// Stochastic gradient descent, as `torch.optim.SGD` without dampening.
///
/// With `g` the gradient plus `weight_decay * p`: without momentum `p -= lr * g`; with it `v = momentum * v + g`, then
/// `p -= lr * v`, or with `nesterov` `p -= lr * (g + momentum * v)` (Sutskever et al., 2013).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    /// The learning rate.
    pub lr: f32,
    /// The share of the velocity that is kept.
    pub momentum: f32,
    /// The L2 penalty: this times the parameter is added to its gradient.
    pub weight_decay: f32,
    /// Whether the gradient is taken ahead of the step.
    pub nesterov: bool,
}

/// Adam (Kingma and Ba, 2014), or AdamW (Loshchilov and Hutter, 2017), as `torch.optim.Adam` and `AdamW`.
///
/// At step `t` (from 1): `m = beta1 * m + (1 - beta1) * g`, `v = beta2 * v + (1 - beta2) * g^2`, and
/// `p -= lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)`. The weight decay is added to the gradient (Adam), or
/// taken from the parameter directly, `p -= lr * weight_decay * p` before the step (`decoupled`: AdamW).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    /// The learning rate.
    pub lr: f32,
    /// The decay of the mean of the gradients.
    pub beta1: f32,
    /// The decay of the mean of their squares.
    pub beta2: f32,
    /// Added to the root, so that a gradient of zeros is no division by zero.
    pub eps: f32,
    /// The weight decay.
    pub weight_decay: f32,
    /// Whether the decay bypasses the gradient.
    pub decoupled: bool,
}

impl Default for Sgd {
    /// `lr = 0.01`, nothing else.
    fn default() -> Self {
        Sgd { lr: 0.01, momentum: 0.0, weight_decay: 0.0, nesterov: false }
    }
}

impl Default for Adam {
    /// PyTorch's: `lr = 0.001`, `betas = (0.9, 0.999)`, `eps = 1e-8`, no decay.
    fn default() -> Self {
        Adam { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, decoupled: false }
    }
}

impl Sgd {
    /// Refuses what makes no step.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a negative or infinite value, or `nesterov` without momentum.
    pub fn validate(&self) -> Result<()> {
        const OP: &str = "sgd";
        let Sgd { lr, momentum, weight_decay, nesterov } = *self;
        at_least_zero(OP, &[("lr", lr), ("momentum", momentum), ("weight decay", weight_decay)])?;
        if nesterov && momentum == 0.0 {
            return Err(Error::invalid(OP, "momentum", "more than 0 with nesterov", momentum));
        }
        Ok(())
    }
}

impl Adam {
    /// Refuses what makes no step.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a negative or infinite value, or a beta that is not below 1.
    pub fn validate(&self) -> Result<()> {
        const OP: &str = "adam";
        let Adam { lr, beta1, beta2, eps, weight_decay, decoupled: _ } = *self;
        at_least_zero(
            OP,
            &[("lr", lr), ("beta1", beta1), ("beta2", beta2), ("eps", eps), ("weight decay", weight_decay)],
        )?;
        match [("beta1", beta1), ("beta2", beta2)].into_iter().find(|(_, beta)| *beta >= 1.0) {
            Some((arg, beta)) => Err(Error::invalid(OP, arg, "a number below 1", beta)),
            None => Ok(()),
        }
    }
}

fn at_least_zero(op: &'static str, args: &[(&'static str, f32)]) -> Result<()> {
    match args.iter().find(|(_, v)| !(v.is_finite() && *v >= 0.0)) {
        Some((arg, v)) => Err(Error::invalid(op, arg, "a finite number, at least 0", *v)),
        None => Ok(()),
    }
}
