//! An AutoEncoder: convolutions that halve the image, few numbers in the middle, and transposed convolutions back.

use serde::{Deserialize, Serialize};
use tilewise_kernels::{Activation, Conv2dParams, ConvTranspose2dParams, Shape4};

use super::{Nonlinearity, check_depth, check_size};
use crate::error::Result;
use crate::graph::Graph;
use crate::weights::Weights;

/// A network that learns to give back what it sees, through fewer numbers than it sees.
///
/// For each entry of `maps` a 3x3 convolution of stride 2 to that many feature maps, and on the way back a 2x2 transposed
/// convolution of stride 2; the result lies between 0 and 1. With `latent`, a dense layer in the middle leaves that many
/// numbers, and the network belongs to one size; without, it takes images of any size.
///
/// Names of the weights: `enc1`, `enc2` …, `latent`, `expand`, `dec1`, `dec2` ….
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AutoEncoder {
    /// Channels of the images.
    pub in_channels: usize,
    /// Rows and columns of the images.
    pub size: usize,
    /// Feature maps of each convolution.
    pub maps: Vec<usize>,
    /// Numbers in the middle; 0 for none but the feature maps.
    pub latent: usize,
    /// Whether the function of the hidden layers follows the numbers in the middle, too; without, they may have any sign, and
    /// carry more.
    pub latent_activation: bool,
    /// The function behind each hidden layer.
    pub activation: Nonlinearity,
}

impl Default for AutoEncoder {
    fn default() -> Self {
        AutoEncoder {
            in_channels: 1,
            size: 28,
            maps: vec![16, 32],
            latent: 0,
            latent_activation: true,
            activation: Nonlinearity::Relu,
        }
    }
}

impl AutoEncoder {
    /// The network for images of this shape whose feature maps and latent numbers are as many as these weights have.
    pub fn of_weights(weights: &Weights, in_channels: usize, size: usize) -> Self {
        let first = |name: &str| weights.get(name)?.dims.first().copied();
        let maps = (1..).map_while(|i| first(&format!("enc{i}.weight"))).collect();
        let latent = first("latent.weight").unwrap_or(0);
        AutoEncoder { in_channels, size, maps, latent, ..AutoEncoder::default() }
    }

    /// The network: images to images of the same shape, within 0..=1.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for a size or a depth that no network has.
    pub fn graph(&self) -> Result<Graph> {
        check_size("in_channels", self.in_channels)?;
        check_size("size", self.size)?;
        check_depth("maps", self.maps.len(), 1)?;
        self.maps.iter().try_for_each(|maps| check_size("maps", *maps))?;

        let mut net = Graph::new(Shape4::new(1, self.in_channels, self.size, self.size))?;
        let mut x = net.input();
        for (i, &maps) in self.maps.iter().enumerate() {
            x = net.conv2d(
                &format!("enc{}", i + 1),
                x,
                maps,
                3,
                Conv2dParams::default().stride(2).padding(1),
            )?;
            x = net.activation(x, self.activation.into())?;
        }
        if self.latent > 0 {
            check_size("latent", self.latent)?;
            let Shape4 { c, h, w, .. } = net.shape(x);
            x = net.flatten(x)?;
            x = net.linear("latent", x, self.latent)?;
            if self.latent_activation {
                x = net.activation(x, self.activation.into())?;
            }
            x = net.linear("expand", x, c * h * w)?;
            x = net.activation(x, self.activation.into())?;
            x = net.reshape(x, [c, h, w])?;
        }
        let back = self.maps.iter().rev().skip(1).copied().chain([self.in_channels]);
        for (i, maps) in back.enumerate() {
            let last = i + 1 == self.maps.len();
            let params = ConvTranspose2dParams::default().stride(2);
            x = net.conv_transpose2d(&format!("dec{}", i + 1), x, maps, 2, params)?;
            if last {
                // An odd size was rounded up on the way.
                x = net.fit_to(x, net.input())?;
            }
            x = net.activation(x, if last { Activation::Sigmoid } else { self.activation.into() })?;
        }
        Ok(net)
    }
}
