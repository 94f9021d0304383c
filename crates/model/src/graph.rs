//! A network as data: layers in the order of their computation, and the shapes that flow between them.
//!
//! ```
//! use tilewise_kernels::{Conv2dParams, Shape4};
//! use tilewise_model::Graph;
//!
//! let mut net = Graph::new(Shape4::new(1, 1, 28, 28))?;
//! let x = net.input();
//! let x = net.conv2d("conv1", x, 32, 3, Conv2dParams::default().padding(1))?;
//! let x = net.relu(x)?;
//! let x = net.max_pool(x, 2)?;
//! let x = net.flatten(x)?;
//! net.linear("fc", x, 10)?;
//! assert_eq!(net.output_shape(Shape4::new(64, 1, 28, 28))?, Shape4::new(64, 10, 1, 1));
//! # Ok::<(), tilewise_model::Error>(())
//! ```

use tilewise_kernels::{
    Activation, AvgPool2dParams, Axis, Conv2dParams, Conv2dShape, ConvTranspose2dParams,
    ConvTranspose2dShape, CropShape, LinearShape, MaxPool2dParams, PadShape, Padding, PoolShape, Shape4,
    SoftmaxShape, UpsampleMode, UpsampleShape, concat_shape,
};

use crate::error::{Error, Result};
use crate::parameters::{Parameter, Role};

/// The result of a layer: what another one takes. The network's input is the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub(crate) usize);

impl Value {
    /// The number of the layer that computes it, in [`Graph::layers`].
    pub const fn index(self) -> usize {
        self.0
    }
}

/// What a layer computes.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Op {
    /// The images of the batch.
    Input,
    /// A convolution; weights `out x (in / groups) x height x width`.
    Conv2d {
        /// Feature maps that come out.
        out_channels: usize,
        /// Rows and columns of the kernel.
        kernel: [usize; 2],
        /// Stride, padding, dilation, groups.
        params: Conv2dParams,
        /// Whether a bias is learnt (there is no use for one before a batch norm).
        bias: bool,
    },
    /// A transposed convolution; weights `in x (out / groups) x height x width`.
    ConvTranspose2d {
        /// Feature maps that come out.
        out_channels: usize,
        /// Rows and columns of the kernel.
        kernel: [usize; 2],
        /// Stride, padding, output padding, dilation, groups.
        params: ConvTranspose2dParams,
        /// Whether a bias is learnt.
        bias: bool,
    },
    /// A fully connected layer over all that one image has; weights `out x in`.
    Linear {
        /// Features that come out, as channels.
        out_features: usize,
        /// Whether a bias is learnt.
        bias: bool,
    },
    /// Batch normalisation (Ioffe and Szegedy, 2015): of the batch in training, by running statistics otherwise.
    BatchNorm {
        /// Added to the variance.
        eps: f32,
        /// The weight of a batch in the running statistics.
        momentum: f32,
    },
    /// A pointwise function.
    Activation(Activation),
    /// The largest element of each window.
    MaxPool(MaxPool2dParams),
    /// The mean of each window.
    AvgPool(AvgPool2dParams),
    /// The mean of each plane.
    GlobalAvgPool,
    /// Exponentials that sum to 1 along an axis.
    Softmax(Axis),
    /// Planes `factor` times as high and as wide.
    Upsample {
        /// How many times.
        factor: usize,
        /// How a pixel between pixels gets its value.
        mode: UpsampleMode,
    },
    /// The channels of all inputs, one after the other.
    Concat,
    /// The sum of two inputs of one shape.
    Add,
    /// The first input, with zeros around it (or cut) to the height and width of the second; what is odd goes to the
    /// bottom and right, as the usual U-Net pads what was pooled from an odd size.
    FitTo,
    /// One feature for each element of an image, as channels.
    Flatten,
    /// The elements of an image under other extents.
    Reshape {
        /// Channels, height, width.
        dims: [usize; 3],
    },
}

impl Op {
    /// Its name in tables and errors.
    pub const fn name(&self) -> &'static str {
        match self {
            Op::Input => "input",
            Op::Conv2d { .. } => "conv2d",
            Op::ConvTranspose2d { .. } => "conv_transpose2d",
            Op::Linear { .. } => "linear",
            Op::BatchNorm { .. } => "batch_norm",
            Op::Activation(Activation::Relu) => "relu",
            Op::Activation(Activation::LeakyRelu { .. }) => "leaky_relu",
            Op::Activation(Activation::Relu6) => "relu6",
            Op::Activation(Activation::Elu { .. }) => "elu",
            Op::Activation(Activation::Gelu) => "gelu",
            Op::Activation(Activation::Silu) => "silu",
            Op::Activation(Activation::Sigmoid) => "sigmoid",
            Op::Activation(Activation::Tanh) => "tanh",
            Op::Activation(_) => "activation",
            Op::MaxPool(_) => "max_pool2d",
            Op::AvgPool(_) => "avg_pool2d",
            Op::GlobalAvgPool => "global_avg_pool",
            Op::Softmax(_) => "softmax",
            Op::Upsample { .. } => "upsample",
            Op::Concat => "concat",
            Op::Add => "add",
            Op::FitTo => "fit_to",
            Op::Flatten => "flatten",
            Op::Reshape { .. } => "reshape",
        }
    }

    /// How many inputs it takes; `None` for any number from one on.
    const fn arity(&self) -> Option<usize> {
        match self {
            Op::Input => Some(0),
            Op::Concat => None,
            Op::Add | Op::FitTo => Some(2),
            _ => Some(1),
        }
    }

    /// Whether its result is its input under another shape.
    pub(crate) const fn is_reshape(&self) -> bool {
        matches!(self, Op::Flatten | Op::Reshape { .. })
    }

    /// The shape of the result.
    fn output(&self, inputs: &[Shape4]) -> tilewise_kernels::Result<Shape4> {
        let x = inputs[0];
        Ok(match *self {
            Op::Input => x,
            Op::Conv2d { out_channels, kernel, params, .. } => {
                Conv2dShape::new(x, out_channels, kernel, params)?.output()
            }
            Op::ConvTranspose2d { out_channels, kernel, params, .. } => {
                ConvTranspose2dShape::new(x, out_channels, kernel, params)?.output()
            }
            Op::Linear { out_features, .. } => LinearShape::new(x, out_features)?.output(),
            Op::BatchNorm { .. } | Op::Activation(_) => x,
            Op::MaxPool(params) => PoolShape::max(x, params)?.output(),
            Op::AvgPool(params) => PoolShape::avg(x, params)?.output(),
            Op::GlobalAvgPool => Shape4 { h: 1, w: 1, ..x },
            Op::Softmax(axis) => SoftmaxShape::new(x, axis)?.input(),
            Op::Upsample { factor, mode } => UpsampleShape::by_factor(x, factor, mode)?.output(),
            Op::Concat => concat_shape(inputs.iter().copied())?,
            Op::Add => expect_equal("add", x, inputs[1])?,
            Op::FitTo => Fit::new(x, inputs[1])?.output,
            Op::Flatten => Shape4::new(x.n, x.image_len(), 1, 1),
            Op::Reshape { dims: [c, h, w] } => {
                let y = Shape4::new(x.n, c, h, w);
                y.checked_len("reshape", "output")?;
                expect_equal(
                    "reshape",
                    Shape4::new(x.n, x.image_len(), 1, 1),
                    Shape4::new(y.n, y.image_len(), 1, 1),
                )?;
                y
            }
        })
    }
}

fn expect_equal(op: &'static str, expected: Shape4, got: Shape4) -> tilewise_kernels::Result<Shape4> {
    if expected == got {
        return Ok(got);
    }
    Err(tilewise_kernels::Error::Invalid { op, arg: "shape", expected: expected.into(), got: got.into() })
}

/// What [`Op::FitTo`] adds and cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fit {
    /// Zeros around the input.
    pub pad: Padding,
    /// What is cut from that.
    pub crop: Padding,
    /// After the padding.
    pub padded: Shape4,
    /// After both.
    pub output: Shape4,
}

impl Fit {
    pub(crate) fn new(x: Shape4, like: Shape4) -> tilewise_kernels::Result<Self> {
        // Before and behind: half of the difference, rounded down, and the rest.
        let split = |from: usize, to: usize| {
            let (more, less) = (to.saturating_sub(from), from.saturating_sub(to));
            ([more / 2, more - more / 2], [less.div_ceil(2), less / 2])
        };
        let ([top, bottom], [cut_top, cut_bottom]) = split(x.h, like.h);
        let ([left, right], [cut_left, cut_right]) = split(x.w, like.w);
        let pad = Padding { top, bottom, left, right };
        let crop = Padding { top: cut_top, bottom: cut_bottom, left: cut_left, right: cut_right };
        let padded = PadShape::new(x, pad)?.output();
        Ok(Fit { pad, crop, padded, output: CropShape::new(padded, crop)?.output() })
    }

    /// Whether it pads at all.
    pub(crate) fn pads(&self) -> bool {
        self.pad != Padding::default()
    }

    /// Whether it does not pad in one direction and cut in the other.
    pub(crate) fn is_one_step(&self) -> bool {
        !self.pads() || self.crop == Padding::default()
    }
}

/// What to call a layer.
fn label(name: &str, op: &Op, index: usize) -> String {
    if name.is_empty() { format!("{} (number {index})", op.name()) } else { name.into() }
}

/// One layer of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Its name, the prefix of its weights' names: `inc.double_conv.0`. Layers without weights may share the empty name.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// What it takes.
    pub inputs: Vec<Value>,
}

impl Layer {
    /// The inputs whose elements matter: of the second of [`Op::FitTo`], only the size does.
    pub fn operands(&self) -> &[Value] {
        if self.op == Op::FitTo { &self.inputs[..1] } else { &self.inputs }
    }
}

/// A network: layers, each after those that it takes from; the last one is the output.
///
/// It is checked while it is built, for images of one size; [`Graph::shapes`] tells whether others fit as well.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    layers: Vec<Layer>,
    /// For one image of the size that it was built with.
    shapes: Vec<Shape4>,
}

impl Graph {
    /// A network that takes images of this shape (its batch does not matter).
    ///
    /// # Errors
    /// [`Error::Layer`] for an extent of zero.
    pub fn new(image: Shape4) -> Result<Self> {
        if image.c == 0 || image.h == 0 || image.w == 0 {
            return Err(Error::invalid("network input", "at least one channel, row and column", image));
        }
        let layer = Layer { name: "input".into(), op: Op::Input, inputs: Vec::new() };
        Ok(Graph { layers: vec![layer], shapes: vec![Shape4 { n: 1, ..image }] })
    }

    /// The images.
    pub fn input(&self) -> Value {
        Value(0)
    }

    /// What the network computes: the result of its last layer.
    pub fn output(&self) -> Value {
        Value(self.layers.len() - 1)
    }

    /// Its layers; the first is the input. The layer at `i` computes the value `i`.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The shape of one image that it was built for.
    pub fn input_shape(&self) -> Shape4 {
        self.shapes[0]
    }

    /// The shape of a value, for one image of the size that the network was built for.
    pub fn shape(&self, value: Value) -> Shape4 {
        self.shapes[value.0]
    }

    /// Appends a layer.
    ///
    /// # Errors
    /// [`Error::Layer`], with the name, if it does not fit its inputs; [`Error::Invalid`] for a wrong number of inputs, or
    /// a name that another layer with weights has.
    pub fn push(&mut self, name: &str, op: Op, inputs: &[Value]) -> Result<Value> {
        let label = label(name, &op, self.layers.len());
        let fits = op.arity().map_or(!inputs.is_empty(), |arity| arity == inputs.len());
        if !fits || op == Op::Input {
            let expected = op.arity().map_or("at least one".into(), |n| n.to_string());
            return Err(Error::invalid(format!("layer {label}: inputs"), expected, inputs.len()));
        }
        if let Some(value) = inputs.iter().find(|value| value.0 >= self.layers.len()) {
            return Err(Error::invalid(format!("layer {label}: input"), "a value of this network", value.0));
        }
        let shapes: Vec<_> = inputs.iter().map(|value| self.shapes[value.0]).collect();
        let shape = op
            .output(&shapes)
            .map_err(|source| Error::Layer { layer: label.clone(), source: Box::new(source) })?;
        let layer = Layer { name: name.into(), op, inputs: inputs.to_vec() };
        if !Parameter::of(&layer, shapes[0]).is_empty() {
            if name.is_empty() {
                return Err(Error::invalid(format!("layer {label}: name"), "one, as it has weights", "none"));
            }
            let has_weights = |other: &Layer| !Parameter::of(other, Shape4::new(1, 1, 1, 1)).is_empty();
            if self.layers.iter().any(|other| other.name == name && has_weights(other)) {
                return Err(Error::invalid("layer name", "one that no other layer with weights has", name));
            }
        }
        self.layers.push(layer);
        self.shapes.push(shape);
        Ok(Value(self.layers.len() - 1))
    }

    /// What to call the layer at an index: its name, or its operator and its number.
    pub fn name(&self, index: usize) -> String {
        match self.layers.get(index) {
            Some(layer) => label(&layer.name, &layer.op, index),
            None => format!("number {index}"),
        }
    }

    /// The shapes of all values for this input, in order of the layers.
    ///
    /// # Errors
    /// [`Error::Layer`] for the first layer that it does not fit: weights of a fully connected layer belong to one size.
    pub fn shapes(&self, input: Shape4) -> Result<Vec<Shape4>> {
        let own = self.input_shape();
        if input.c != own.c {
            return Err(Error::invalid("network input: channels", own.c, input.c));
        }
        let mut shapes: Vec<Shape4> = vec![input];
        for (i, layer) in self.layers.iter().enumerate().skip(1) {
            let inputs: Vec<_> = layer.inputs.iter().map(|value| shapes[value.0]).collect();
            let named = |source| Error::Layer { layer: self.name(i), source: Box::new(source) };
            if let Op::Linear { .. } = layer.op {
                let expected = Shape4 { n: inputs[0].n, ..self.shapes[layer.inputs[0].0] };
                expect_equal("linear", expected, inputs[0]).map_err(named)?;
            }
            shapes.push(layer.op.output(&inputs).map_err(named)?);
        }
        Ok(shapes)
    }

    /// The shape of the output for this input.
    ///
    /// # Errors
    /// As [`Graph::shapes`].
    pub fn output_shape(&self, input: Shape4) -> Result<Shape4> {
        Ok(*self.shapes(input)?.last().expect("the input is there"))
    }

    /// Everything that is learnt or tracked, in order of the layers.
    pub fn parameters(&self) -> Vec<Parameter> {
        let of = |layer: &Layer| match layer.inputs.first() {
            Some(x) => Parameter::of(layer, self.shapes[x.0]),
            None => Vec::new(),
        };
        self.layers.iter().flat_map(of).collect()
    }

    /// How many numbers are learnt.
    pub fn trained(&self) -> usize {
        self.parameters().iter().filter(|p| p.role == Role::Trained).map(|p| p.len()).sum()
    }

    /// A convolution with a square kernel and a bias.
    ///
    /// # Errors
    /// As [`Graph::push`].
    pub fn conv2d(
        &mut self,
        name: &str,
        x: Value,
        out_channels: usize,
        kernel: usize,
        params: Conv2dParams,
    ) -> Result<Value> {
        self.push(name, Op::Conv2d { out_channels, kernel: [kernel; 2], params, bias: true }, &[x])
    }

    /// A transposed convolution with a square kernel and a bias.
    ///
    /// # Errors
    /// As [`Graph::push`].
    pub fn conv_transpose2d(
        &mut self,
        name: &str,
        x: Value,
        out_channels: usize,
        kernel: usize,
        params: ConvTranspose2dParams,
    ) -> Result<Value> {
        self.push(name, Op::ConvTranspose2d { out_channels, kernel: [kernel; 2], params, bias: true }, &[x])
    }

    /// A fully connected layer with a bias.
    ///
    /// # Errors
    /// As [`Graph::push`].
    pub fn linear(&mut self, name: &str, x: Value, out_features: usize) -> Result<Value> {
        self.push(name, Op::Linear { out_features, bias: true }, &[x])
    }

    /// A batch normalisation with PyTorch's defaults: eps 1e-5, momentum 0.1.
    ///
    /// # Errors
    /// As [`Graph::push`].
    pub fn batch_norm(&mut self, name: &str, x: Value) -> Result<Value> {
        self.push(name, Op::BatchNorm { eps: 1e-5, momentum: 0.1 }, &[x])
    }

    /// A pointwise function.
    ///
    /// # Errors
    /// As [`Graph::push`].
    pub fn activation(&mut self, x: Value, f: Activation) -> Result<Value> {
        self.push("", Op::Activation(f), &[x])
    }

    /// `max(x, 0)`.
    ///
    /// # Errors
    /// As [`Graph::push`].
    pub fn relu(&mut self, x: Value) -> Result<Value> {
        self.activation(x, Activation::Relu)
    }

    /// The largest of each `size x size` block.
    ///
    /// # Errors
    /// As [`Graph::push`].
    pub fn max_pool(&mut self, x: Value, size: usize) -> Result<Value> {
        self.push("", Op::MaxPool(MaxPool2dParams::new(size)), &[x])
    }

    /// Planes `factor` times as high and as wide.
    ///
    /// # Errors
    /// As [`Graph::push`].
    pub fn upsample(&mut self, x: Value, factor: usize, mode: UpsampleMode) -> Result<Value> {
        self.push("", Op::Upsample { factor, mode }, &[x])
    }

    /// The channels of all values, one after the other.
    ///
    /// # Errors
    /// As [`Graph::push`].
    pub fn concat(&mut self, values: &[Value]) -> Result<Value> {
        self.push("", Op::Concat, values)
    }

    /// The sum of two values.
    ///
    /// # Errors
    /// As [`Graph::push`].
    pub fn add(&mut self, a: Value, b: Value) -> Result<Value> {
        self.push("", Op::Add, &[a, b])
    }

    /// `x`, with zeros around it (or cut) to the height and width of `like`.
    ///
    /// # Errors
    /// As [`Graph::push`].
    pub fn fit_to(&mut self, x: Value, like: Value) -> Result<Value> {
        self.push("", Op::FitTo, &[x, like])
    }

    /// One feature for each element of an image.
    ///
    /// # Errors
    /// As [`Graph::push`].
    pub fn flatten(&mut self, x: Value) -> Result<Value> {
        self.push("", Op::Flatten, &[x])
    }

    /// The elements of an image under other extents: channels, height, width.
    ///
    /// # Errors
    /// As [`Graph::push`].
    pub fn reshape(&mut self, x: Value, dims: [usize; 3]) -> Result<Value> {
        self.push("", Op::Reshape { dims }, &[x])
    }
}
