//! The convolutions of published networks, by name, and the suites that `bench conv2d --suite` knows.
//!
//! Every distinct shape of a network is here once; a suite is a network, all of them, or a choice of their layers.
//! [`read_shapes`](super::read_shapes) takes the same fields from a file.

use tilewise_kernels::{Conv2dParams, Conv2dShape, Shape4};

use crate::error::{Error, Result};

/// A convolution with a name.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Where it comes from: a network, or the file that names it.
    pub network: String,
    /// Its name there.
    pub name: String,
    /// The convolution.
    pub shape: Conv2dShape,
}

/// A row of the tables below: name; batch, input channels, height and width, output channels, kernel, stride,
/// padding.
type Row = (&'static str, [usize; 7]);

/// A network and its convolutions.
struct Network {
    /// What the command line calls it.
    suite: &'static str,
    /// Its name, and what the shapes are taken from.
    name: &'static str,
    rows: &'static [Row],
}

/// `[n, c, h = w, k, r, s, p]` throughout.
const NETWORKS: [Network; 6] = [
    // Simonyan and Zisserman, 2015, configuration D, at 224x224. The last block has one shape.
    Network {
        suite: "vgg16",
        name: "VGG-16",
        rows: &[
            ("vgg1_1", [1, 3, 224, 64, 3, 1, 1]),
            ("vgg1_2", [1, 64, 224, 64, 3, 1, 1]),
            ("vgg2_1", [1, 64, 112, 128, 3, 1, 1]),
            ("vgg2_2", [1, 128, 112, 128, 3, 1, 1]),
            ("vgg3_1", [1, 128, 56, 256, 3, 1, 1]),
            ("vgg3_2", [1, 256, 56, 256, 3, 1, 1]),
            ("vgg4_1", [1, 256, 28, 512, 3, 1, 1]),
            ("vgg4_2", [1, 512, 28, 512, 3, 1, 1]),
            ("vgg5", [1, 512, 14, 512, 3, 1, 1]),
        ],
    },
    // He et al., 2016, at 224x224, with the stride in the 3x3 convolutions (version 1.5). One block of each stage.
    Network {
        suite: "resnet50",
        name: "ResNet-50",
        rows: &[
            ("res_stem", [1, 3, 224, 64, 7, 2, 3]),
            ("res2_3x3", [1, 64, 56, 64, 3, 1, 1]),
            ("res2_expand", [1, 64, 56, 256, 1, 1, 0]),
            ("res2_1x1", [1, 256, 56, 64, 1, 1, 0]),
            ("res3_s2", [1, 128, 56, 128, 3, 2, 1]),
            ("res3_project", [1, 256, 56, 512, 1, 2, 0]),
            ("res3_3x3", [1, 128, 28, 128, 3, 1, 1]),
            ("res3_1x1", [1, 512, 28, 128, 1, 1, 0]),
            ("res4_s2", [1, 256, 28, 256, 3, 2, 1]),
            ("res4_3x3", [1, 256, 14, 256, 3, 1, 1]),
            ("res4_1x1", [1, 1024, 14, 256, 1, 1, 0]),
            ("res5_s2", [1, 512, 14, 512, 3, 2, 1]),
            ("res5_3x3", [1, 512, 7, 512, 3, 1, 1]),
            ("res5_expand", [1, 512, 7, 2048, 1, 1, 0]),
        ],
    },
    // Szegedy et al., 2015, table 1: the stem, and branches of inception 3a, 3b, 4a and 5b.
    Network {
        suite: "googlenet",
        name: "GoogLeNet",
        rows: &[
            ("goog_3x3", [1, 64, 56, 192, 3, 1, 1]),
            ("goog3a_1x1", [1, 192, 28, 64, 1, 1, 0]),
            ("goog3a_3x3", [1, 96, 28, 128, 3, 1, 1]),
            ("goog3a_5x5", [1, 16, 28, 32, 5, 1, 2]),
            ("goog_5x5", [1, 32, 28, 96, 5, 1, 2]),
            ("goog4a_1x1", [1, 480, 14, 192, 1, 1, 0]),
            ("goog5b_3x3", [1, 192, 7, 384, 3, 1, 1]),
            ("goog5b_5x5", [1, 48, 7, 128, 5, 1, 2]),
        ],
    },
    // Ronneberger et al., 2015, on one 256x256 channel, padded so that sizes stay.
    Network {
        suite: "unet",
        name: "U-Net",
        rows: &[
            ("unet_in", [1, 1, 256, 64, 3, 1, 1]),
            ("unet_enc1", [1, 64, 256, 64, 3, 1, 1]),
            ("unet_enc2", [1, 64, 128, 128, 3, 1, 1]),
            ("unet_enc3", [1, 128, 64, 256, 3, 1, 1]),
            ("unet_mid", [1, 512, 32, 512, 3, 1, 1]),
            ("unet_bottom", [1, 512, 16, 1024, 3, 1, 1]),
            ("unet_dec3", [1, 512, 64, 256, 3, 1, 1]),
            ("unet_up", [1, 128, 256, 64, 3, 1, 1]),
            ("unet_out", [1, 64, 256, 2, 1, 1, 0]),
        ],
    },
    // Two convolutions with pooling between, a batch of 64 digits of 28x28: the first network of every tutorial.
    Network {
        suite: "mnist",
        name: "MNIST CNN",
        rows: &[("mnist_1", [64, 1, 28, 32, 3, 1, 1]), ("mnist_2", [64, 32, 14, 64, 3, 1, 1])],
    },
    // Krizhevsky's cuda-convnet "quick" network, a batch of 64 images of 32x32.
    Network {
        suite: "cifar",
        name: "CIFAR CNN",
        rows: &[
            ("cifar_5x5", [64, 3, 32, 32, 5, 1, 2]),
            ("cifar_2", [64, 32, 16, 32, 5, 1, 2]),
            ("cifar_3", [64, 32, 8, 64, 5, 1, 2]),
        ],
    },
];

/// The suite of every layer of every network.
pub const ALL: &str = "networks";

/// The suite of 18 layers, one for each kind of work.
pub const CORE: &str = "core";

/// The layers of [`CORE`]: deep and shallow, wide and narrow, 1x1 to 7x7, strided, batched.
const CORE_LAYERS: [&str; 18] = [
    "vgg3_2",
    "unet_mid",
    "vgg1_2",
    "unet_up",
    "vgg5",
    "res2_3x3",
    "res3_3x3",
    "res5_3x3",
    "res3_s2",
    "res_stem",
    "res2_1x1",
    "res4_1x1",
    "goog_5x5",
    "unet_in",
    "vgg1_1",
    "mnist_1",
    "mnist_2",
    "cifar_5x5",
];

/// The names that [`suite`] knows.
pub fn suite_names() -> Vec<&'static str> {
    [CORE, ALL].into_iter().chain(NETWORKS.iter().map(|network| network.suite)).collect()
}

/// The layers of a suite.
///
/// # Errors
/// [`Error::UnknownSuite`].
pub fn suite(name: &str) -> Result<Vec<Layer>> {
    let unknown = || Error::UnknownSuite { name: name.to_owned(), known: suite_names().join(", ") };
    let chosen = |network: &&Network| name == ALL || name == CORE || name == network.suite;
    let mut layers = Vec::new();
    for network in NETWORKS.iter().filter(chosen) {
        for &(layer, row) in network.rows {
            layers.push(Layer { network: network.name.into(), name: layer.into(), shape: shape(row)? });
        }
    }
    if name == CORE {
        layers.retain(|layer| CORE_LAYERS.contains(&layer.name.as_str()));
        let position = |layer: &Layer| CORE_LAYERS.iter().position(|&name| name == layer.name);
        layers.sort_by_key(position);
    }
    if layers.is_empty() { Err(unknown()) } else { Ok(layers) }
}

fn shape([n, c, hw, k, r, s, p]: [usize; 7]) -> tilewise_kernels::Result<Conv2dShape> {
    let params = Conv2dParams::default().stride(s).padding(p);
    Conv2dShape::new(Shape4::new(n, c, hw, hw), k, [r, r], params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_has_layers_with_names_of_their_own() {
        for name in suite_names() {
            let layers = suite(name).unwrap();
            let mut names: Vec<_> = layers.iter().map(|layer| &layer.name).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), layers.len(), "{name}");
        }
    }

    #[test]
    fn core_is_complete_and_in_order() {
        let names: Vec<_> = suite(CORE).unwrap().into_iter().map(|layer| layer.name).collect();
        assert_eq!(names, CORE_LAYERS);
    }

    #[test]
    fn layers_of_a_network_feed_each_other() {
        // "Same" padding: only a stride changes the size of a plane.
        for layer in suite(ALL).unwrap() {
            let (x, y, stride) = (layer.shape.input(), layer.shape.output(), layer.shape.params().stride[0]);
            assert_eq!((y.h, y.w), (x.h.div_ceil(stride), x.w.div_ceil(stride)), "{}", layer.name);
        }
    }

    #[test]
    fn an_unknown_suite_is_told_what_there_is() {
        let message = suite("vgg17").unwrap_err().to_string();
        assert!(message.contains("\"vgg17\"") && message.contains("vgg16"), "{message}");
    }
}
