//! A classifier: blocks of convolutions, each halved by a pooling, and a dense head.

use serde::{Deserialize, Serialize};
use tilewise_kernels::{Conv2dParams, Shape4};

use super::{Nonlinearity, check_depth, check_size};
use crate::error::Result;
use crate::graph::{Graph, Op, Value};

/// A convolutional network that tells classes of images apart.
///
/// For each entry of `blocks`, `convs` convolutions to that many feature maps, and a pooling that halves the image; then dense
/// layers, and one number for each class. The default is the classic small one: 32 and 64 feature maps, 128 dense features.
///
/// Names of the weights: `conv1`, `conv2` …, `fc1` … where a block has one convolution; with several, `conv1_1`. With batch
/// normalisation, `bn1` …, and no bias before it; a shortcut that has weights is `shortcut1` ….
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cnn {
    /// Channels of the images.
    pub in_channels: usize,
    /// Rows and columns of the images.
    pub size: usize,
    /// How many classes there are.
    pub classes: usize,
    /// Feature maps of each block.
    pub blocks: Vec<usize>,
    /// Convolutions in each block (VGG has two or three; Simonyan and Zisserman, 2015).
    pub convs: usize,
    /// Rows and columns of the kernels; odd.
    pub kernel: usize,
    /// Features of the dense layers before the last one.
    pub dense: Vec<usize>,
    /// Whether a batch normalisation follows each convolution.
    pub batch_norm: bool,
    /// Whether what comes into a block is added to what its convolutions make of it (He et al., 2016).
    pub residual: bool,
    /// Whether the dense layers see the mean of each feature map, rather than all of it.
    pub global_pool: bool,
    /// The function behind each hidden layer.
    pub activation: Nonlinearity,
}

impl Default for Cnn {
    fn default() -> Self {
        Cnn {
            in_channels: 1,
            size: 28,
            classes: 10,
            blocks: vec![32, 64],
            convs: 1,
            kernel: 3,
            dense: vec![128],
            batch_norm: false,
            residual: false,
            global_pool: false,
            activation: Nonlinearity::Relu,
        }
    }
}

impl Cnn {
    /// LeNet's proportions (LeCun et al., 1998), with today's functions: 5x5 kernels, 6 and 16 feature maps, 120 and 84 features.
    pub fn lenet() -> Self {
        Cnn { blocks: vec![6, 16], kernel: 5, dense: vec![120, 84], ..Cnn::default() }
    }

    /// Two 3x3 convolutions with batch normalisation in each of three blocks.
    pub fn vgg() -> Self {
        Cnn { blocks: vec![32, 64, 128], convs: 2, batch_norm: true, ..Cnn::default() }
    }

    /// The same with shortcuts, and a mean of each feature map instead of a dense layer.
    pub fn resnet() -> Self {
        Cnn { residual: true, global_pool: true, dense: vec![], ..Cnn::vgg() }
    }

    /// The network: `n x in_channels x size x size` to `n x classes x 1 x 1`, logits.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for a size or a depth that no network has; [`crate::Error::Layer`] where an image is too small to be
    /// halved that often.
    pub fn graph(&self) -> Result<Graph> {
        check_size("in_channels", self.in_channels)?;
        check_size("size", self.size)?;
        check_size("classes", self.classes)?;
        check_size("kernel", self.kernel)?;
        check_depth("blocks", self.blocks.len(), 1)?;
        check_depth("convs", self.convs, 1)?;
        check_depth("dense", self.dense.len(), 0)?;
        self.blocks.iter().try_for_each(|maps| check_size("blocks", *maps))?;
        self.dense.iter().try_for_each(|features| check_size("dense", *features))?;
        if self.kernel.is_multiple_of(2) {
            return Err(crate::Error::invalid("kernel", "an odd number", self.kernel));
        }

        let mut net = Graph::new(Shape4::new(1, self.in_channels, self.size, self.size))?;
        let mut x = net.input();
        for (block, &maps) in self.blocks.iter().enumerate() {
            x = self.block(&mut net, x, block + 1, maps)?;
            x = net.max_pool(x, 2)?;
        }
        x = if self.global_pool { net.push("", Op::GlobalAvgPool, &[x])? } else { net.flatten(x)? };
        for (i, &features) in self.dense.iter().enumerate() {
            x = net.linear(&format!("fc{}", i + 1), x, features)?;
            x = net.activation(x, self.activation.into())?;
        }
        net.linear(&format!("fc{}", self.dense.len() + 1), x, self.classes)?;
        Ok(net)
    }

    fn block(&self, net: &mut Graph, input: Value, block: usize, maps: usize) -> Result<Value> {
        let mut x = input;
        for conv in 1..=self.convs {
            let number = if self.convs == 1 { block.to_string() } else { format!("{block}_{conv}") };
            let params = Conv2dParams::default().padding(self.kernel / 2);
            let op =
                Op::Conv2d { out_channels: maps, kernel: [self.kernel; 2], params, bias: !self.batch_norm };
            x = net.push(&format!("conv{number}"), op, &[x])?;
            if self.batch_norm {
                x = net.batch_norm(&format!("bn{number}"), x)?;
            }
            if self.residual && conv == self.convs {
                let shortcut = if net.shape(input).c == maps {
                    input
                } else {
                    net.conv2d(&format!("shortcut{block}"), input, maps, 1, Conv2dParams::default())?
                };
                x = net.add(x, shortcut)?;
            }
            x = net.activation(x, self.activation.into())?;
        }
        Ok(x)
    }
}
