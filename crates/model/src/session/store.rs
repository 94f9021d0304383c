//! The numbers of a network on a device: all that is trained in one flat tensor, so that an optimiser takes one step.

use std::ops::Range;

use tilewise_kernels::{DeviceTensor, DeviceView, Shape4, Tensor, Training, View, ViewMut};

use crate::error::Result;
use crate::graph::Graph;
use crate::parameters::{Parameter, Role};
use crate::weights::Weights;

/// A flat tensor of `len` numbers; of at least one, as no device has empty ones.
pub(super) const fn flat(len: usize) -> Shape4 {
    Shape4::new(1, if len == 0 { 1 } else { len }, 1, 1)
}

/// A range of a flat tensor, under a shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    range: Range<usize>,
    pub shape: Shape4,
}

impl Part {
    /// The first numbers of a flat tensor.
    pub fn first(shape: Shape4) -> Self {
        Part { range: 0..shape.n * shape.image_len(), shape }
    }

    pub fn of<'a, B: Training>(&self, flat: &'a B::Tensor) -> tilewise_kernels::Result<View<'a, B>>
    where
        B::Tensor: 'a,
    {
        flat.view().channels(self.range.clone())?.reshape(self.shape)
    }

    pub fn of_mut<'a, B: Training>(&self, flat: &'a mut B::Tensor) -> tilewise_kernels::Result<ViewMut<'a, B>>
    where
        B::Tensor: 'a,
    {
        flat.view_mut().channels(self.range.clone())?.reshape(self.shape)
    }
}

/// Where the numbers of a layer lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parts {
    /// Of the trained ones: weights, or the factors of a batch norm.
    pub weight: Part,
    /// Of the trained ones: the bias, or what a batch norm adds.
    pub bias: Option<Part>,
    /// Of each of the statistics of a batch norm.
    pub stats: Option<Part>,
}

/// Which numbers of the flat tensors belong to which layer.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// For each layer that has any.
    pub layers: Vec<Option<Parts>>,
    parameters: Vec<(Parameter, Range<usize>)>,
    /// The lengths of the flat tensors.
    pub trained: usize,
    pub stats: usize,
}

impl Layout {
    pub fn new(graph: &Graph) -> Self {
        let mut layout = Layout { layers: Vec::new(), parameters: Vec::new(), trained: 0, stats: 0 };
        for layer in graph.layers() {
            let own = layer.inputs.first().map_or(Vec::new(), |x| Parameter::of(layer, graph.shape(*x)));
            let (mut trained, mut stats) = (Vec::new(), None);
            for parameter in own {
                let next = match parameter.role {
                    Role::Trained => &mut layout.trained,
                    Role::RunningMean => &mut layout.stats,
                    // Lies where the mean lies, in a tensor of its own.
                    Role::RunningVar => &mut (layout.stats - parameter.len()),
                };
                let range = *next..*next + parameter.len();
                *next = range.end;
                let part = Part { range: range.clone(), shape: parameter.shape() };
                match parameter.role {
                    Role::Trained => trained.push(part),
                    Role::RunningMean | Role::RunningVar => stats = Some(part),
                }
                layout.parameters.push((parameter, range));
            }
            let mut trained = trained.into_iter();
            layout.layers.push(trained.next().map(|weight| Parts { weight, bias: trained.next(), stats }));
        }
        layout
    }
}

/// All numbers of a network, on the host or on a device: `T` is a flat tensor.
#[derive(Debug)]
pub(super) struct Store<T> {
    pub trained: T,
    pub running_mean: T,
    pub running_var: T,
}

impl Store<Tensor> {
    /// Weights that belong to the network, in the order of its layout.
    pub fn from_weights(layout: &Layout, weights: &Weights) -> Result<Self> {
        let mut store = Store {
            trained: Tensor::zeros(flat(layout.trained))?,
            running_mean: Tensor::zeros(flat(layout.stats))?,
            running_var: Tensor::zeros(flat(layout.stats))?,
        };
        for (parameter, range) in &layout.parameters {
            let array = weights.get(&parameter.name).expect("the weights were checked");
            store.of_role_mut(parameter.role).data_mut()[range.clone()].copy_from_slice(&array.values);
        }
        Ok(store)
    }

    pub fn to_weights(&self, layout: &Layout) -> Weights {
        let mut weights = Weights::default();
        for (parameter, range) in &layout.parameters {
            let flat = match parameter.role {
                Role::Trained => &self.trained,
                Role::RunningMean => &self.running_mean,
                Role::RunningVar => &self.running_var,
            };
            weights.insert(&parameter.name, parameter.dims.clone(), flat.data()[range.clone()].to_vec());
        }
        weights
    }

    fn of_role_mut(&mut self, role: Role) -> &mut Tensor {
        match role {
            Role::Trained => &mut self.trained,
            Role::RunningMean => &mut self.running_mean,
            Role::RunningVar => &mut self.running_var,
        }
    }

    pub fn upload<B: Training>(&self, device: &B) -> Result<Store<B::Tensor>> {
        Ok(Store {
            trained: device.upload(&self.trained)?,
            running_mean: device.upload(&self.running_mean)?,
            running_var: device.upload(&self.running_var)?,
        })
    }

    pub fn download<B: Training>(device: &B, store: &Store<B::Tensor>) -> Result<Self> {
        Ok(Store {
            trained: device.download(&store.trained)?,
            running_mean: device.download(&store.running_mean)?,
            running_var: device.download(&store.running_var)?,
        })
    }

    /// The numbers of a part of what is trained.
    pub fn trained(&self, part: &Part) -> &[f32] {
        &self.trained.data()[part.range.clone()]
    }

    /// The running means and variances of a batch norm.
    pub fn stats(&self, part: &Part) -> [&[f32]; 2] {
        [&self.running_mean, &self.running_var].map(|flat| &flat.data()[part.range.clone()])
    }
}
