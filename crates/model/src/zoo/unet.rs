//! U-Net: down by poolings, up again, and on the way up everything that was seen on the way down.

use serde::{Deserialize, Serialize};
use tilewise_kernels::{Conv2dParams, ConvTranspose2dParams, Shape4, UpsampleMode};

use super::{Nonlinearity, check_depth, check_size};
use crate::error::Result;
use crate::graph::{Graph, Op, Value};

/// How a U-Net doubles the size of its feature maps on the way up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Up {
    /// A 2x2 transposed convolution of stride 2, to half as many feature maps.
    #[default]
    Transposed,
    /// Bilinear, the corners aligned; the level below has half as many feature maps then.
    Bilinear,
}

/// A U-Net (Ronneberger et al., 2015): a class, or several, for each pixel.
///
/// Each level has two 3x3 convolutions with batch normalisation; a pooling leads down to the next, with twice as many feature
/// maps. Images of any size: what is odd is padded on the way up. Names of the weights are those of the most used PyTorch
/// U-Net: `inc.double_conv.0` …, `down1.maxpool_conv.1.double_conv.0` …, `up1.up`, `up1.conv.double_conv.0` …, `outc.conv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UNet {
    /// Channels of the images.
    pub in_channels: usize,
    /// Rows and columns of the images that it is planned for; others fit as well.
    pub size: usize,
    /// Channels of the result.
    pub classes: usize,
    /// Feature maps of the first level.
    pub base: usize,
    /// How often it goes down.
    pub levels: usize,
    /// How it comes up again.
    pub up: Up,
    /// Whether the way up sees what the way down has made; without, it is an AutoEncoder of the same size.
    pub skips: bool,
    /// Whether what comes into each pair of convolutions is added, through a 1x1 convolution, to what they make of it (as in
    /// the residual U-Net of Zhang et al., 2018); its weights are named `….shortcut`.
    pub residual: bool,
    /// The function behind each convolution.
    pub activation: Nonlinearity,
}

impl Default for UNet {
    fn default() -> Self {
        UNet {
            in_channels: 1,
            size: 256,
            classes: 1,
            base: 16,
            levels: 4,
            up: Up::Transposed,
            skips: true,
            residual: false,
            activation: Nonlinearity::Relu,
        }
    }
}

impl UNet {
    /// The network: `n x in_channels x h x w` to `n x classes x h x w`, logits.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for a size or a depth that no network has; [`crate::Error::Layer`] where an image is too small to be
    /// halved that often.
    pub fn graph(&self) -> Result<Graph> {
        check_size("in_channels", self.in_channels)?;
        check_size("size", self.size)?;
        check_size("classes", self.classes)?;
        check_size("base", self.base)?;
        check_depth("levels", self.levels, 1)?;
        let deepest = u32::try_from(self.levels)
            .ok()
            .and_then(|levels| self.base.checked_mul(2usize.checked_pow(levels)?));
        check_size("base, doubled at each level,", deepest.unwrap_or(usize::MAX))?;
        if self.up == Up::Bilinear && !self.base.is_multiple_of(2) {
            return Err(crate::Error::invalid(
                "base",
                "an even number, as a bilinear way up halves it",
                self.base,
            ));
        }

        let mut net = Graph::new(Shape4::new(1, self.in_channels, self.size, self.size))?;
        let x = net.input();
        let mut levels = vec![self.double(&mut net, "inc", x, self.base, self.base)?];
        for level in 1..=self.levels {
            let maps = self.base << level;
            let halved = level == self.levels && self.up == Up::Bilinear;
            let maps = if halved { maps / 2 } else { maps };
            let x = net.max_pool(levels[level - 1], 2)?;
            levels.push(self.double(&mut net, &format!("down{level}.maxpool_conv.1"), x, maps, maps)?);
        }

        let mut x = levels[self.levels];
        for level in (0..self.levels).rev() {
            let name = format!("up{}", self.levels - level);
            let (skip, maps) = (levels[level], self.base << level);
            x = match self.up {
                Up::Transposed => {
                    let params = ConvTranspose2dParams::default().stride(2);
                    net.conv_transpose2d(&format!("{name}.up"), x, maps, 2, params)?
                }
                Up::Bilinear => net.upsample(x, 2, UpsampleMode::Bilinear { align_corners: true })?,
            };
            x = net.fit_to(x, skip)?;
            if self.skips {
                x = net.concat(&[skip, x])?;
            }
            let (middle, out) = match self.up {
                Up::Transposed => (maps, maps),
                // Half of what comes in; and half of that for the next level, but for the last.
                Up::Bilinear => (maps, if level == 0 { maps } else { maps / 2 }),
            };
            x = self.double(&mut net, &format!("{name}.conv"), x, middle, out)?;
        }
        net.conv2d("outc.conv", x, self.classes, 1, Conv2dParams::default())?;
        Ok(net)
    }

    /// Two convolutions, each with its batch normalisation.
    fn double(&self, net: &mut Graph, name: &str, input: Value, middle: usize, out: usize) -> Result<Value> {
        let mut x = input;
        for (i, maps) in [middle, out].into_iter().enumerate() {
            let params = Conv2dParams::default().padding(1);
            let op = Op::Conv2d { out_channels: maps, kernel: [3, 3], params, bias: false };
            x = net.push(&format!("{name}.double_conv.{}", 3 * i), op, &[x])?;
            x = net.batch_norm(&format!("{name}.double_conv.{}", 3 * i + 1), x)?;
            if self.residual && i == 1 {
                let shortcut =
                    net.conv2d(&format!("{name}.shortcut"), input, out, 1, Conv2dParams::default())?;
                x = net.add(x, shortcut)?;
            }
            x = net.activation(x, self.activation.into())?;
        }
        Ok(x)
    }
}
