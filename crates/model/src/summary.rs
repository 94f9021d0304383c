//! A network as a table: layers, shapes, parameters, work and memory.

use std::fmt;

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde::Serialize;
use tilewise_kernels::{Conv2dShape, ConvTranspose2dShape, LinearShape, Shape4};

use crate::error::{Error, Result};
use crate::graph::{Graph, Op};
use crate::parameters::{Parameter, Role};
use crate::plan::{Mode, Plan};

/// One layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Its name; of a layer without weights, its operator and its number.
    pub layer: String,
    /// What it computes.
    pub op: &'static str,
    /// Batch, channels, height, width of what comes out.
    pub output: [usize; 4],
    /// Numbers that are learnt.
    pub trained: usize,
    /// Numbers that are tracked: running means and variances.
    pub tracked: usize,
    /// Multiplications with additions, of the whole batch: those of convolutions and fully connected layers; what else a layer
    /// does is not counted.
    pub macs: f64,
    /// Numbers that a fully connected layer between the same values would have; of convolutions and fully connected layers.
    pub mlp: f64,
}

/// A network for batches of one shape, in numbers.
///
/// ```
/// use tilewise_kernels::Shape4;
/// use tilewise_model::{Summary, zoo::Cnn};
/// let net = Cnn::lenet().graph()?;
/// let summary = Summary::new(&net, Shape4::new(1, 1, 28, 28))?;
/// assert_eq!(summary.trained, 107_786);
/// println!("{summary}");
/// # Ok::<(), tilewise_model::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The layers, the input first.
    pub rows: Vec<Row>,
    /// Numbers that are learnt.
    pub trained: usize,
    /// Numbers that are tracked.
    pub tracked: usize,
    /// Multiplications with additions, of the whole batch.
    pub macs: f64,
    /// Bytes of all numbers of the network.
    pub weight_bytes: u64,
    /// Bytes that the values between the layers take in inference, as planned: values that are never needed at the same time share
    /// their place.
    pub inference_bytes: u64,
    /// Bytes that values and gradients take in training, as planned.
    pub training_bytes: u64,
    /// Numbers that a multilayer perceptron would have to compute the same values: each convolution replaced by a fully connected layer
    /// from all that comes in to all that comes out, with a bias for each.
    pub mlp: f64,
}

impl Summary {
    /// Counts everything, for batches of this shape.
    ///
    /// # Errors
    /// [`Error::Layer`] if the network does not take them.
    pub fn new(graph: &Graph, input: Shape4) -> Result<Self> {
        let shapes = graph.shapes(input)?;
        let rows = graph.layers().iter().enumerate().map(|(i, layer)| {
            let x = layer.inputs.first().map(|value| shapes[value.0]);
            let own = x.map_or(Vec::new(), |x| Parameter::of(layer, x));
            let numbers = |tracked: bool| {
                own.iter().filter(|p| (p.role != Role::Trained) == tracked).map(Parameter::len).sum()
            };
            let macs = x.map_or(Ok(None), |x| macs(&layer.op, x));
            let macs = macs.map_err(|e| Error::Layer { layer: graph.name(i), source: Box::new(e) })?;
            let dense = |x: Shape4| (x.image_len() as f64 + 1.0) * shapes[i].image_len() as f64;
            Ok(Row {
                layer: if layer.name.is_empty() {
                    format!("{}_{i}", layer.op.name())
                } else {
                    layer.name.clone()
                },
                op: layer.op.name(),
                output: shapes[i].dims(),
                trained: numbers(false),
                tracked: numbers(true),
                macs: macs.unwrap_or(0.0),
                mlp: macs.and(x).map_or(0.0, dense),
            })
        });
        let rows = rows.collect::<Result<Vec<Row>>>()?;
        let bytes = |mode| -> Result<u64> {
            Ok(Plan::new(graph, input, mode)?.slots.iter().map(|len| 4 * *len as u64).sum())
        };
        let (trained, tracked) = (rows.iter().map(|r| r.trained).sum(), rows.iter().map(|r| r.tracked).sum());
        Ok(Summary {
            trained,
            tracked,
            macs: rows.iter().map(|row| row.macs).sum(),
            weight_bytes: 4 * (trained + tracked) as u64,
            inference_bytes: bytes(Mode::Inference)?,
            training_bytes: bytes(Mode::Training)?,
            mlp: rows.iter().map(|row| row.mlp).sum(),
            rows,
        })
    }
}

impl Graph {
    /// Multiplications with additions of the forward pass for a batch of this shape: those of convolutions and fully connected
    /// layers, beside which all others do not count.
    ///
    /// ```
    /// use tilewise_kernels::Shape4;
    /// let mut net = tilewise_model::Graph::new(Shape4::new(1, 2, 4, 4))?;
    /// let x = net.conv2d("conv", net.input(), 3, 1, Default::default())?;
    /// net.linear("fc", x, 5)?;
    /// assert_eq!(net.macs(Shape4::new(10, 2, 4, 4))?, 10.0 * (2.0 * 3.0 * 16.0 + 3.0 * 16.0 * 5.0));
    /// # Ok::<(), tilewise_model::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Graph::shapes`].
    pub fn macs(&self, input: Shape4) -> Result<f64> {
        let shapes = self.shapes(input)?;
        let own = self.layers().iter().enumerate().skip(1).map(|(i, layer)| {
            let own = macs(&layer.op, shapes[layer.inputs[0].0]);
            let own = own.map_err(|source| Error::Layer { layer: self.name(i), source: Box::new(source) })?;
            Ok(own.unwrap_or(0.0))
        });
        own.sum()
    }
}

/// Multiplications with additions of a layer, if it has weights to multiply with.
fn macs(op: &Op, x: Shape4) -> tilewise_kernels::Result<Option<f64>> {
    Ok(Some(match *op {
        Op::Conv2d { out_channels, kernel, params, .. } => {
            Conv2dShape::new(x, out_channels, kernel, params)?.macs()
        }
        Op::ConvTranspose2d { out_channels, kernel, params, .. } => {
            ConvTranspose2dShape::new(x, out_channels, kernel, params)?.macs()
        }
        Op::Linear { out_features, .. } => LinearShape::new(x, out_features)?.macs(),
        _ => return Ok(None),
    }))
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN).set_header(["layer", "type", "output", "parameters", "MACs"]);
        for column in 2..5 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for row in &self.rows {
            let output = row.output.map(|extent| extent.to_string()).join(" x ");
            let numbers = row.trained + row.tracked;
            let numbers = if numbers == 0 { String::new() } else { grouped(numbers as f64) };
            let macs = if row.macs == 0.0 { String::new() } else { grouped(row.macs) };
            table.add_row([row.layer.clone(), row.op.into(), output, numbers, macs]);
        }
        writeln!(f, "{table}\n")?;
        let mib = |bytes: u64| format!("{:.2} MiB", bytes as f64 / f64::from(1 << 20));
        writeln!(
            f,
            "parameters:  {} learnt, {} tracked",
            grouped(self.trained as f64),
            grouped(self.tracked as f64)
        )?;
        writeln!(
            f,
            "MACs:        {} for the batch, of convolutions and fully connected layers",
            grouped(self.macs)
        )?;
        writeln!(
            f,
            "memory:      weights {}; values between layers {} in inference, {} with their gradients in training",
            mib(self.weight_bytes),
            mib(self.inference_bytes),
            mib(self.training_bytes)
        )?;
        let times = self.mlp / self.trained.max(1) as f64;
        write!(
            f,
            "as an MLP:   {} parameters ({} times as many), with a fully connected layer, bias included, between the same values \
             in place of each convolution",
            grouped(self.mlp),
            grouped(times)
        )
    }
}

/// A whole number with commas between its thousands.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo::{AutoEncoder, Cnn, UNet};

    fn row<'a>(summary: &'a Summary, layer: &str) -> &'a Row {
        summary.rows.iter().find(|row| row.layer == layer).unwrap()
    }

    #[test]
    fn a_lenet_counted_by_hand() {
        let summary = Summary::new(&Cnn::lenet().graph().unwrap(), Shape4::new(2, 1, 28, 28)).unwrap();
        // 5x5 kernels with padding 2: 28x28, pooled to 14x14, then 7x7 of 16 maps, so 784 features.
        assert_eq!(row(&summary, "conv1").trained, 6 * 25 + 6);
        assert_eq!(row(&summary, "conv2").trained, 16 * 6 * 25 + 16);
        assert_eq!(row(&summary, "fc1").trained, 784 * 120 + 120);
        assert_eq!(row(&summary, "conv2").output, [2, 16, 14, 14]);
        let macs = 28 * 28 * 6 * 25 + 14 * 14 * 16 * 150 + 784 * 120 + 120 * 84 + 84 * 10;
        assert_eq!(summary.macs, 2.0 * f64::from(macs));
        let mlp = 785 * (6 * 784) + (6 * 196 + 1) * (16 * 196) + 785 * 120 + 121 * 84 + 85 * 10;
        assert_eq!(summary.mlp, f64::from(mlp));
        assert_eq!(summary.weight_bytes, 4 * summary.trained as u64);
        assert!(summary.training_bytes > summary.inference_bytes);
        let text = summary.to_string();
        assert!(text.contains("2 x 16 x 14 x 14") && text.contains("107,786 learnt"), "{text}");
    }

    #[test]
    fn the_classic_unet_has_as_many_numbers_as_everybody_counts() {
        // The U-Net of base 64, 3 channels, 2 classes and transposed convolutions that is most used in PyTorch: 31,037,698.
        let net = UNet { in_channels: 3, classes: 2, base: 64, size: 64, ..UNet::default() };
        let graph = net.graph().unwrap();
        let summary = Summary::new(&graph, graph.input_shape()).unwrap();
        assert_eq!(summary.trained, 31_037_698);
        assert_eq!(summary.trained, graph.trained());
        // Running means and variances of 18 batch norms.
        let channels = 2 * (64 + 128 + 256 + 512) * 2 + 2 * 1024;
        assert_eq!(summary.tracked, 2 * channels);
    }

    #[test]
    fn every_layer_is_there_and_other_shapes_are_refused() {
        let graph = AutoEncoder { latent: 8, ..AutoEncoder::default() }.graph().unwrap();
        let summary = Summary::new(&graph, Shape4::new(1, 1, 28, 28)).unwrap();
        assert_eq!(summary.rows.len(), graph.layers().len());
        assert_eq!(row(&summary, "dec2").output, [1, 1, 28, 28]);
        assert!(Summary::new(&graph, Shape4::new(1, 1, 32, 32)).is_err());
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!([0.0, 12.0, 1234.0, 31_037_698.0].map(grouped), ["0", "12", "1,234", "31,037,698"]);
    }
}
