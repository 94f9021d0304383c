//! What a network does with a batch of one shape: which layers run as one kernel, and where every value lies.
//!
//! 1. [`fuse`]: layers become units, each one kernel: convolution, batch norm (in inference, where it folds into the weights)
//!    and activation are one; in training, batch norm and activation. What only changes a shape is no unit; its result lies where its input does.
//! 2. [`memory`]: every value gets a storage; the parts of a concatenation lie in the storage of the whole, written there by
//!    those who make them. Then storages that are never alive at the same time share a slot, which is a tensor of the device.
//!
//! In training the time line goes on behind the loss: unit `u` of `U` runs at `u`, the loss at `U`, the gradients of unit `u` at
//! `2 U - u`; values live until the last gradient that needs them, and gradients are values of their own.

mod fuse;
mod memory;

pub(crate) use fuse::tells_slope;
use std::ops::Range;

use tilewise_kernels::{Activation, Shape4};

use crate::error::Result;
use crate::graph::{Graph, Op, Value};

/// What a plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Inference,
    Training,
}

/// One kernel: a layer, and the layers behind it that run with it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Unit {
    /// The layer whose operator it is.
    pub layer: usize,
    /// The batch norm that is folded into its weights.
    pub norm: Option<usize>,
    /// What is applied to its result.
    pub activation: Activation,
    /// What it reads.
    pub inputs: Vec<Value>,
    /// What it writes: the result of the last of its layers.
    pub output: Value,
}

/// Where a value, or its gradient, lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The number of the slot.
    pub slot: usize,
    /// The shape of what fills the slot from its beginning: of the value, or of the concatenation that it is a part of.
    pub whole: Shape4,
    /// The channels of that.
    pub channels: Range<usize>,
}

/// The gradient of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gradient {
    pub place: Place,
    /// The unit whose gradients write it; others add to it. None for the output's, which the loss writes.
    pub writer: Option<usize>,
}

/// A network, planned for a batch of one shape.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub mode: Mode,
    /// In order of their computation.
    pub units: Vec<Unit>,
    /// The shape of every value.
    pub shapes: Vec<Shape4>,
    /// The value that each value lies with, under another shape; itself for most.
    pub roots: Vec<Value>,
    /// Where each root lies, if anything ever does: what is fused away is nowhere.
    pub places: Vec<Option<Place>>,
    /// The gradients of the roots, in training: of those that depend on something trained.
    pub gradients: Vec<Option<Gradient>>,
    /// What a unit's gradients need for the time of their computation, in training.
    pub scratch: Vec<Option<Place>>,
    /// The number of elements of each slot.
    pub slots: Vec<usize>,
}

impl Plan {
    /// Plans a network for a batch of this shape.
    ///
    /// # Errors
    /// Those of [`Graph::shapes`].
    pub fn new(graph: &Graph, input: Shape4, mode: Mode) -> Result<Self> {
        let shapes = graph.shapes(input)?;
        let roots = roots(graph, &shapes);
        let units = fuse::units(graph, &roots, mode);
        Ok(memory::plan(graph, shapes, roots, units, mode))
    }

    /// The shape of the batch.
    pub fn input(&self) -> Shape4 {
        self.shapes[0]
    }

    /// The shape of the network's result.
    pub fn output(&self) -> Shape4 {
        *self.shapes.last().expect("the input is there")
    }
}

/// For every value the one that it lies with.
fn roots(graph: &Graph, shapes: &[Shape4]) -> Vec<Value> {
    let mut roots: Vec<Value> = Vec::with_capacity(shapes.len());
    for (i, layer) in graph.layers().iter().enumerate() {
        let keeps =
            layer.op.is_reshape() || (layer.op == Op::FitTo && shapes[i] == shapes[layer.inputs[0].0]);
        roots.push(if keeps { roots[layer.inputs[0].0] } else { Value(i) });
    }
    roots
}
