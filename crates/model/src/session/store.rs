//! The numbers of a network on a device: all that is trained in one flat tensor, so that an optimiser takes one step.

use std::ops::Range;

use tilewise_kernels::{DeviceTensor, DeviceView, Shape4, Tensor, TensorView, Training, View, ViewMut};

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

    /// Its numbers.
    pub fn download<B: Training>(&self, device: &B, flat: &B::Tensor) -> tilewise_kernels::Result<Vec<f32>> {
        let mut part = Tensor::zeros(self.shape)?;
        device.download_into(self.of::<B>(flat)?, &mut part)?;
        Ok(part.into_vec())
    }

    /// The same numbers of a flat tensor that begins with number `first` of this one.
    pub fn behind(&self, first: usize) -> Self {
        Part { range: self.range.start - first..self.range.end - first, shape: self.shape }
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

impl Parts {
    /// Those of the trained ones, one behind the other.
    pub fn trained(&self) -> Range<usize> {
        self.weight.range.start..self.bias.as_ref().map_or(self.weight.range.end, |bias| bias.range.end)
    }
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

/// All numbers of a network on a device: `T` is a flat tensor there. They come and go one parameter at a time, as the largest of
/// networks need all memory that there is.
#[derive(Debug)]
pub(super) struct Store<T> {
    pub trained: T,
    pub running_mean: T,
    pub running_var: T,
}

impl<T: DeviceTensor> Store<T> {
    /// Weights that belong to the network, in the order of its layout.
    pub fn upload<B: Training<Tensor = T>>(device: &B, layout: &Layout, weights: &Weights) -> Result<Self> {
        let mut store = Store {
            trained: device.empty(flat(layout.trained))?,
            running_mean: device.empty(flat(layout.stats))?,
            running_var: device.empty(flat(layout.stats))?,
        };
        for (parameter, range) in &layout.parameters {
            let values = &weights.get(&parameter.name).expect("the weights were checked").values;
            let to = match parameter.role {
                Role::Trained => &mut store.trained,
                Role::RunningMean => &mut store.running_mean,
                Role::RunningVar => &mut store.running_var,
            };
            let part = Part { range: range.clone(), shape: flat(parameter.len()) };
            device.upload_into(TensorView::new(values, part.shape, values.len())?, part.of_mut::<B>(to)?)?;
        }
        Ok(store)
    }

    pub fn download<B: Training<Tensor = T>>(&self, device: &B, layout: &Layout) -> Result<Weights> {
        let mut weights = Weights::default();
        for (parameter, range) in &layout.parameters {
            let from = match parameter.role {
                Role::Trained => &self.trained,
                Role::RunningMean => &self.running_mean,
                Role::RunningVar => &self.running_var,
            };
            let part = Part { range: range.clone(), shape: flat(parameter.len()) };
            weights.insert(&parameter.name, parameter.dims.clone(), part.download(device, from)?);
        }
        Ok(weights)
    }
}
