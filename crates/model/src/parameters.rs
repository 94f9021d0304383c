//! What a network learns and tracks: names, shapes and first values.

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use tilewise_kernels::Shape4;

use crate::graph::{Graph, Layer, Op};
use crate::weights::Weights;

/// What becomes of a parameter in training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The optimiser changes it.
    Trained,
    /// The running mean of a batch normalisation.
    RunningMean,
    /// The running variance of a batch normalisation.
    RunningVar,
}

/// How a parameter begins.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Start {
    /// Uniform within `1 / sqrt(fan in)`: what PyTorch's layers begin with.
    Uniform { fan_in: usize },
    /// The same number everywhere.
    Constant(f32),
}

/// Something that a network learns or tracks.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// The layer's name, a dot, and `weight`, `bias`, `running_mean` or `running_var`, as PyTorch names them.
    pub name: String,
    /// Its extents as PyTorch has them: four for a convolution's weights, two for a fully connected layer's, one otherwise.
    pub dims: Vec<usize>,
    /// What becomes of it.
    pub role: Role,
    start: Start,
}

impl Parameter {
    /// Those of a layer, whose input has this shape.
    pub(crate) fn of(layer: &Layer, x: Shape4) -> Vec<Parameter> {
        let parameter = |what: &str, dims: Vec<usize>, role, start| Parameter {
            name: format!("{}.{what}", layer.name),
            dims,
            role,
            start,
        };
        let weighted = |dims: Vec<usize>, outputs: usize, bias: bool| {
            let fan_in = dims[1..].iter().product();
            let start = Start::Uniform { fan_in };
            let weight = parameter("weight", dims, Role::Trained, start);
            let bias = bias.then(|| parameter("bias", vec![outputs], Role::Trained, start));
            std::iter::once(weight).chain(bias).collect()
        };
        match layer.op {
            Op::Conv2d { out_channels, kernel: [h, w], params, bias } => {
                weighted(vec![out_channels, x.c / params.groups, h, w], out_channels, bias)
            }
            Op::ConvTranspose2d { out_channels, kernel: [h, w], params, bias } => {
                weighted(vec![x.c, out_channels / params.groups, h, w], out_channels, bias)
            }
            Op::Linear { out_features, bias } => {
                weighted(vec![out_features, x.image_len()], out_features, bias)
            }
            Op::BatchNorm { .. } => [
                ("weight", Role::Trained, 1.0),
                ("bias", Role::Trained, 0.0),
                ("running_mean", Role::RunningMean, 0.0),
                ("running_var", Role::RunningVar, 1.0),
            ]
            .map(|(what, role, start)| parameter(what, vec![x.c], role, Start::Constant(start)))
            .into(),
            _ => Vec::new(),
        }
    }

    /// The number of its elements.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether it has no elements; it always has.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its extents as the kernels take them: weights as they are, one value per channel as `1 x c x 1 x 1`.
    pub fn shape(&self) -> Shape4 {
        match self.dims[..] {
            [n, c, h, w] => Shape4::new(n, c, h, w),
            [n, c] => Shape4::new(n, c, 1, 1),
            _ => Shape4::new(1, self.len(), 1, 1),
        }
    }
}

impl Graph {
    /// The weights that training begins with: uniform within `1 / sqrt(fan in)` for convolutions, fully connected layers and
    /// their biases, which is how PyTorch begins; ones and zeros for batch normalisations. The same seed gives the same bits
    /// on every machine (ChaCha8).
    pub fn init(&self, seed: u64) -> Weights {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut weights = Weights::default();
        for parameter in self.parameters() {
            let values = match parameter.start {
                Start::Constant(value) => vec![value; parameter.len()],
                Start::Uniform { fan_in } => {
                    let bound = 1.0 / (fan_in as f32).sqrt();
                    (0..parameter.len()).map(|_| random.random_range(-bound..=bound)).collect()
                }
            };
            weights.insert(parameter.name, parameter.dims, values);
        }
        weights
    }
}
