//! Layers that run as one kernel.

use tilewise_kernels::Activation;

use super::{Mode, Unit};
use crate::graph::{Graph, Op, Value};

/// The units of a network, in order of their computation.
pub(super) fn units(graph: &Graph, roots: &[Value], mode: Mode) -> Vec<Unit> {
    let layers = graph.layers();
    // Who takes a value, on the way to the result; what leads nowhere is not computed.
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); layers.len()];
    for (i, layer) in layers.iter().enumerate().rev() {
        if Value(i) == graph.output() || !readers[i].is_empty() {
            layer.operands().iter().for_each(|value| readers[value.0].push(i));
        }
    }
    // The layer behind another, if nothing else takes what the other makes.
    let only_reader = |value: Value| match readers[value.0][..] {
        [reader] => Some(reader),
        _ => None,
    };

    let mut fused = vec![false; layers.len()];
    let mut units = Vec::new();
    for (i, layer) in layers.iter().enumerate().skip(1) {
        let needed = Value(i) == graph.output() || !readers[i].is_empty();
        if !needed || fused[i] || roots[i] != Value(i) {
            continue;
        }
        let mut unit = Unit {
            layer: i,
            norm: None,
            activation: Activation::Identity,
            inputs: layer.operands().to_vec(),
            output: Value(i),
        };
        if has_weights(layer.op) {
            if mode == Mode::Inference
                && let Some(norm) = only_reader(unit.output)
                && let Op::BatchNorm { .. } = layers[norm].op
            {
                (unit.norm, unit.output) = (Some(norm), Value(norm));
                fused[norm] = true;
            }
            if let Some(behind) = only_reader(unit.output)
                && let Op::Activation(f) = layers[behind].op
                && (mode == Mode::Inference || tells_slope(f))
            {
                (unit.activation, unit.output) = (f, Value(behind));
                fused[behind] = true;
            }
        }
        // Behind weights, so that there is a gradient to what it normalises.
        if let (Op::BatchNorm { .. }, Mode::Training) = (layer.op, mode)
            && has_weights(layers[layer.inputs[0].0].op)
            && let Some(behind) = only_reader(unit.output)
            && let Op::Activation(f) = layers[behind].op
            && tells_slope(f)
        {
            (unit.activation, unit.output) = (f, Value(behind));
            fused[behind] = true;
        }
        units.push(unit);
    }
    units
}

fn has_weights(op: Op) -> bool {
    matches!(op, Op::Conv2d { .. } | Op::ConvTranspose2d { .. } | Op::Linear { .. })
}

/// Whether the slope of a function can be told from its result, as well as from its argument: results have the sign (and the
/// side of 6) that their arguments have. Then the argument need not be kept.
pub(crate) fn tells_slope(f: Activation) -> bool {
    match f {
        Activation::Relu | Activation::Relu6 => true,
        Activation::LeakyRelu { slope } => slope > 0.0,
        _ => false,
    }
}
