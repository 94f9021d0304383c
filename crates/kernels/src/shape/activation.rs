//! The pointwise activations, alone or as the epilogue of a convolution.

use crate::error::{Error, Result};

/// A pointwise function. NaN stays NaN in every one.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Activation {
    /// `x`
    #[default]
    Identity,
    /// `max(x, 0)`
    Relu,
    /// `x` where `x > 0`, else `slope * x`
    LeakyRelu {
        /// The slope of the negative half (PyTorch's default is 0.01).
        slope: f32,
    },
    /// `min(max(x, 0), 6)`
    Relu6,
    /// `x` where `x > 0`, else `alpha * (exp(x) - 1)` (Clevert et al., 2015)
    Elu {
        /// The negated limit at minus infinity.
        alpha: f32,
    },
    /// `x * Phi(x)`, exact: `x/2 * (1 + erf(x / sqrt 2))` (Hendrycks and Gimpel, 2016)
    Gelu,
    /// `x / (1 + exp(-x))`, also called swish
    Silu,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// the hyperbolic tangent
    Tanh,
}

impl Activation {
    /// One of each, the parameters at PyTorch's defaults: what the suites run over.
    pub const ALL: [Activation; 9] = [
        Activation::Identity,
        Activation::Relu,
        Activation::LeakyRelu { slope: 0.01 },
        Activation::Relu6,
        Activation::Elu { alpha: 1.0 },
        Activation::Gelu,
        Activation::Silu,
        Activation::Sigmoid,
        Activation::Tanh,
    ];

    /// The operator's name, as PyTorch's functional interface spells it.
    pub const fn name(&self) -> &'static str {
        match self {
            Activation::Identity => "identity",
            Activation::Relu => "relu",
            Activation::LeakyRelu { .. } => "leaky_relu",
            Activation::Relu6 => "relu6",
            Activation::Elu { .. } => "elu",
            Activation::Gelu => "gelu",
            Activation::Silu => "silu",
            Activation::Sigmoid => "sigmoid",
            Activation::Tanh => "tanh",
        }
    }

    /// Refuses parameters that are no finite number.
    pub(crate) fn validate(&self) -> Result<()> {
        let (arg, value) = match *self {
            Activation::LeakyRelu { slope } => ("slope", slope),
            Activation::Elu { alpha } => ("alpha", alpha),
            _ => return Ok(()),
        };
        if value.is_finite() {
            Ok(())
        } else {
            Err(Error::invalid(self.name(), arg, "a finite number", value))
        }
    }
}
