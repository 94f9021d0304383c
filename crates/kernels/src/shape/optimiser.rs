//! Optimisers: their hyper-parameters, and what these must be on any device.

use crate::error::{Error, Expected, Result};
use crate::tensor::Shape4;

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

impl Sgd {
    /// The velocity, if there is momentum, once everything fits.
    pub(crate) fn check<V>(
        &self,
        p: Shape4,
        g: Shape4,
        velocity: Option<V>,
        shape: impl Fn(&V) -> Shape4,
    ) -> Result<Option<V>> {
        const OP: &str = "sgd";
        self.validate()?;
        one_shape(OP, p, &[("gradient shape", g)])?;
        if let Some(velocity) = &velocity {
            one_shape(OP, p, &[("velocity shape", shape(velocity))])?;
        } else if self.momentum != 0.0 {
            return Err(Error::invalid(OP, "velocity", "one, as there is momentum", "none"));
        }
        Ok(velocity.filter(|_| self.momentum != 0.0))
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

impl Adam {
    /// Refuses a step that is none, and tensors that do not fit the parameters.
    pub(crate) fn check(&self, step: u64, p: Shape4, [g, m, v]: [Shape4; 3]) -> Result<()> {
        const OP: &str = "adam";
        self.validate()?;
        one_shape(OP, p, &[("gradient shape", g), ("mean shape", m), ("mean of squares shape", v)])?;
        if step == 0 { Err(Error::invalid(OP, "step", Expected::AtLeast(1), 0)) } else { Ok(()) }
    }

    /// What step number `step` multiplies by.
    pub(crate) fn factors(&self, step: u64) -> AdamFactors {
        let Adam { lr, beta1, beta2, eps, weight_decay, decoupled } = *self;
        let [beta1, beta2, lr, decay] = [beta1, beta2, lr, weight_decay].map(f64::from);
        // 1 - beta^step, of which nothing cancels.
        let correction = |beta: f64| -(beta.ln() * step as f64).exp_m1();
        AdamFactors {
            beta1: beta1 as f32,
            rest1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            rest2: (1.0 - beta2) as f32,
            step: (lr / correction(beta1)) as f32,
            root: (1.0 / correction(beta2).sqrt()) as f32,
            eps,
            decay: if decoupled { 0.0 } else { weight_decay },
            shrink: if decoupled { (lr * decay) as f32 } else { 0.0 },
        }
    }
}

/// A step of [`Adam`]: `g += decay * p`, `p -= shrink * p`, `m = beta1 * m + rest1 * g`, `v = beta2 * v + rest2 * g^2`,
/// `p -= step * m / (root * sqrt(v) + eps)`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamFactors {
    pub(crate) beta1: f32,
    pub(crate) rest1: f32,
    pub(crate) beta2: f32,
    pub(crate) rest2: f32,
    pub(crate) step: f32,
    pub(crate) root: f32,
    pub(crate) eps: f32,
    pub(crate) decay: f32,
    pub(crate) shrink: f32,
}

/// Added to a norm, so that a gradient of zeros is no division by zero; as in `torch.nn.utils.clip_grad_norm_`.
pub(crate) const CLIP_EPS: f32 = 1e-6;

/// Refuses a largest norm that is negative or NaN, and a norm that is not a single number.
pub(crate) fn check_clip_norm(max_norm: f32, norm: Shape4) -> Result<()> {
    const OP: &str = "clip_norm";
    if max_norm.is_nan() || max_norm < 0.0 {
        return Err(Error::invalid(OP, "largest norm", "a number, at least 0", max_norm));
    }
    one_shape(OP, Shape4::new(1, 1, 1, 1), &[("norm shape", norm)])
}

/// What a gradient of this norm is multiplied by.
pub(crate) fn clip_factor(norm: f64, max_norm: f32) -> f32 {
    let factor = f64::from(max_norm) / (norm + f64::from(CLIP_EPS));
    // NaN stays.
    if factor > 1.0 { 1.0 } else { factor as f32 }
}

fn one_shape(op: &'static str, expected: Shape4, args: &[(&'static str, Shape4)]) -> Result<()> {
    match args.iter().find(|(_, shape)| *shape != expected) {
        Some((arg, shape)) => Err(Error::invalid(op, arg, expected, *shape)),
        None => Ok(()),
    }
}

fn at_least_zero(op: &'static str, args: &[(&'static str, f32)]) -> Result<()> {
    match args.iter().find(|(_, v)| !(v.is_finite() && *v >= 0.0)) {
        Some((arg, v)) => Err(Error::invalid(op, arg, "a finite number, at least 0", *v)),
        None => Ok(()),
    }
}
