//! The three networks, each from a configuration: CNN, AutoEncoder, U-Net.

mod autoencoder;
mod cnn;
mod unet;

use serde::{Deserialize, Serialize};
use tilewise_kernels::Activation;

pub use autoencoder::AutoEncoder;
pub use cnn::Cnn;
pub use unet::{UNet, Up};

use crate::error::{Error, Result};
use crate::graph::Graph;

/// The most layers, levels or blocks of a kind that a configuration may ask for.
const MAX_DEPTH: usize = 64;

/// The most feature maps, features or pixels of a side that a configuration may ask for.
const MAX_SIZE: usize = 1 << 20;

/// A network of the zoo, as configured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "net", rename_all = "lowercase")]
pub enum Network {
    /// Classes of images.
    Cnn(Cnn),
    /// Images from few numbers.
    AutoEncoder(AutoEncoder),
    /// Classes of pixels.
    UNet(UNet),
}

impl Network {
    /// Its name, as on the command line.
    pub const fn name(&self) -> &'static str {
        match self {
            Network::Cnn(_) => "cnn",
            Network::AutoEncoder(_) => "autoencoder",
            Network::UNet(_) => "unet",
        }
    }

    /// The network.
    ///
    /// # Errors
    /// Those of [`Cnn::graph`], [`AutoEncoder::graph`], [`UNet::graph`].
    pub fn graph(&self) -> Result<Graph> {
        match self {
            Network::Cnn(cnn) => cnn.graph(),
            Network::AutoEncoder(autoencoder) => autoencoder.graph(),
            Network::UNet(unet) => unet.graph(),
        }
    }
}

/// The function behind each hidden layer, in a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Nonlinearity {
    /// `max(x, 0)`
    #[default]
    Relu,
    /// `x` where positive, else a hundredth of it.
    LeakyRelu,
    /// `max(x, 0)`, at most 6.
    Relu6,
    /// Exponential below 0.
    Elu,
    /// `x` times the normal distribution's share below it.
    Gelu,
    /// `x` times its logistic function.
    Silu,
}

impl Nonlinearity {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Relu, Self::LeakyRelu, Self::Relu6, Self::Elu, Self::Gelu, Self::Silu];

    /// Its name in configurations.
    pub const fn name(self) -> &'static str {
        match self {
            Nonlinearity::Relu => "relu",
            Nonlinearity::LeakyRelu => "leaky_relu",
            Nonlinearity::Relu6 => "relu6",
            Nonlinearity::Elu => "elu",
            Nonlinearity::Gelu => "gelu",
            Nonlinearity::Silu => "silu",
        }
    }
}

impl From<Nonlinearity> for Activation {
    fn from(f: Nonlinearity) -> Self {
        match f {
            Nonlinearity::Relu => Activation::Relu,
            Nonlinearity::LeakyRelu => Activation::LeakyRelu { slope: 0.01 },
            Nonlinearity::Relu6 => Activation::Relu6,
            Nonlinearity::Elu => Activation::Elu { alpha: 1.0 },
            Nonlinearity::Gelu => Activation::Gelu,
            Nonlinearity::Silu => Activation::Silu,
        }
    }
}

/// Refuses a size that no network has.
fn check_size(what: &str, size: usize) -> Result<()> {
    if (1..=MAX_SIZE).contains(&size) {
        return Ok(());
    }
    Err(Error::invalid(what, format!("a number from 1 to {MAX_SIZE}"), size))
}

/// Refuses a number of layers that no network has.
fn check_depth(what: &str, depth: usize, least: usize) -> Result<()> {
    if (least..=MAX_DEPTH).contains(&depth) {
        return Ok(());
    }
    Err(Error::invalid(what, format!("a number from {least} to {MAX_DEPTH}"), depth))
}
