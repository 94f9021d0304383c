//! Where every value lies: storages, their life times, and the slots that they share.

use std::ops::Range;

use tilewise_kernels::{Activation, Shape4};

use super::fuse::tells_slope;
use super::{Gradient, Mode, Place, Plan, Unit};
use crate::graph::{Fit, Graph, Op, Value};
use crate::parameters::Parameter;

/// What lies in a storage of its own, or in a part of another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Item {
    Value(usize),
    Gradient(usize),
    /// Of a unit's gradients.
    Scratch(usize),
}

/// A plan being made.
struct Layout<'a> {
    graph: &'a Graph,
    shapes: &'a [Shape4],
    roots: &'a [Value],
    units: &'a [Unit],
    /// For a root that is a part of a concatenation: that, and the first of its channels there.
    part_of: Vec<Option<(usize, usize)>>,
    /// The same for gradients. One that is another's as it is, is a part from channel 0 on.
    gradient_part_of: Vec<Option<(usize, usize)>>,
}

/// Completes a plan.
pub(super) fn plan(
    graph: &Graph,
    shapes: Vec<Shape4>,
    roots: Vec<Value>,
    units: Vec<Unit>,
    mode: Mode,
) -> Plan {
    let none = vec![None; shapes.len()];
    let mut layout = Layout {
        graph,
        shapes: &shapes,
        roots: &roots,
        units: &units,
        part_of: none.clone(),
        gradient_part_of: none,
    };
    layout.place_parts();
    let writers = if mode == Mode::Training { layout.writers() } else { vec![None; shapes.len()] };
    layout.place_gradient_parts(&writers);

    // Every touch of a storage, and so the time from its first to its last.
    let mut storages: Vec<(Item, usize, Range<usize>)> = Vec::new();
    for (item, time) in layout.touches(mode, &writers) {
        let (root, whole) = layout.storage(item);
        match storages.iter_mut().find(|(other, ..)| *other == root) {
            Some((_, _, life)) => *life = life.start.min(time)..life.end.max(time + 1),
            None => storages.push((root, whole.n * whole.image_len(), time..time + 1)),
        }
    }
    let (slots, slot_of) = share(&storages);
    let place = |item: Item| {
        let (root, whole) = layout.storage(item);
        let index = storages.iter().position(|(other, ..)| *other == root)?;
        let first = layout.first_channel(item);
        let channels = first..first + layout.shape(item).c;
        Some(Place { slot: slot_of[index], whole, channels })
    };
    let written = |v: usize| v == 0 || units.iter().any(|unit| unit.output.0 == v);
    let places = (0..shapes.len()).map(|v| written(v).then(|| place(Item::Value(v))).flatten()).collect();
    let gradients = (0..shapes.len())
        .map(|v| writers[v].and_then(|writer| Some(Gradient { place: place(Item::Gradient(v))?, writer })))
        .collect();
    let scratch = (0..units.len()).map(|u| place(Item::Scratch(u))).collect();
    Plan { mode, places, gradients, scratch, slots, units, shapes, roots }
}

impl Layout<'_> {
    fn op(&self, unit: &Unit) -> Op {
        self.graph.layers()[unit.layer].op
    }

    fn root(&self, value: Value) -> usize {
        self.roots[value.0].0
    }

    /// The root of the network's result.
    fn result(&self) -> usize {
        self.root(self.graph.output())
    }

    /// The shape of what an item is.
    fn shape(&self, item: Item) -> Shape4 {
        match item {
            Item::Value(v) | Item::Gradient(v) => self.shapes[v],
            Item::Scratch(u) => match self.op(&self.units[u]) {
                Op::FitTo => self.fit(&self.units[u]).padded,
                _ => self.shapes[self.units[u].output.0],
            },
        }
    }

    /// Whether a root is seen under another shape, too.
    fn is_reshaped(&self, v: usize) -> bool {
        self.roots.iter().zip(self.shapes).any(|(root, shape)| root.0 == v && *shape != self.shapes[v])
    }

    fn fit(&self, unit: &Unit) -> Fit {
        let [x, like] = [0, 1].map(|i| self.shapes[self.graph.layers()[unit.layer].inputs[i].0]);
        Fit::new(x, like).expect("the shapes of the graph were checked")
    }

    /// The concatenation that an item lies in, if it does, and its first channel there.
    fn outer(&self, item: Item) -> Option<(Item, usize)> {
        match item {
            Item::Value(v) => self.part_of[v].map(|(whole, first)| (Item::Value(whole), first)),
            Item::Gradient(v) => {
                self.gradient_part_of[v].map(|(whole, first)| (Item::Gradient(whole), first))
            }
            Item::Scratch(_) => None,
        }
    }

    /// The item whose storage an item lies in, and the shape of that.
    fn storage(&self, item: Item) -> (Item, Shape4) {
        match self.outer(item) {
            Some((outer, _)) => self.storage(outer),
            None => (item, self.shape(item)),
        }
    }

    /// The first channel of an item in its storage.
    fn first_channel(&self, item: Item) -> usize {
        self.outer(item).map_or(0, |(outer, first)| first + self.first_channel(outer))
    }

    /// Each concatenation's inputs, as roots, with their first channels.
    fn parts(&self, unit: &Unit) -> Vec<(usize, usize)> {
        let firsts = unit.inputs.iter().scan(0, |next, value| {
            let first = *next;
            *next += self.shapes[value.0].c;
            Some(first)
        });
        unit.inputs.iter().map(|value| self.root(*value)).zip(firsts).collect()
    }

    /// Lets the inputs of concatenations be written where the whole lies.
    fn place_parts(&mut self) {
        for unit in self.units {
            if self.op(unit) != Op::Concat {
                continue;
            }
            let parts = self.parts(unit);
            for &(v, first) in &parts {
                let once = parts.iter().filter(|(other, _)| *other == v).count() == 1;
                // A value that lies in several places, or under several shapes, or that no unit writes, is copied.
                if v == 0 || !once || self.is_reshaped(v) || self.part_of[v].is_some() {
                    continue;
                }
                self.part_of[v] = Some((unit.output.0, first));
                if self.units.iter().any(|unit| self.conflicts(unit, Item::Value)) {
                    self.part_of[v] = None;
                }
            }
        }
    }

    /// Whether a unit's kernel would read and write one storage: a device may bind memory in one way only. (The gradients of a
    /// unit are written where its inputs' are, and read where its output's are.) What is in its place already is not copied.
    fn conflicts(&self, unit: &Unit, item: impl Fn(usize) -> Item) -> bool {
        let output = item(unit.output.0);
        let parts = match self.op(unit) {
            Op::Add if matches!(output, Item::Gradient(_)) => {
                self.parts(unit).into_iter().map(|(v, _)| (v, Some(0))).collect()
            }
            Op::Concat => self.parts(unit).into_iter().map(|(v, first)| (v, Some(first))).collect(),
            _ => unit.inputs.iter().map(|value| (self.root(*value), None)).collect::<Vec<_>>(),
        };
        parts.into_iter().any(|(v, first)| {
            let in_place =
                first.is_some_and(|first| self.first_channel(output) + first == self.first_channel(item(v)));
            self.storage(item(v)).0 == self.storage(output).0 && !in_place
        })
    }

    /// For every root that has a gradient: who writes it first (the last that reads the value; the loss, the output's).
    fn writers(&self) -> Vec<Option<Option<usize>>> {
        let mut trained = vec![false; self.shapes.len()];
        for unit in self.units {
            let layer = &self.graph.layers()[unit.layer];
            let own = !Parameter::of(layer, self.shapes[layer.inputs[0].0]).is_empty();
            trained[unit.output.0] = own || unit.inputs.iter().any(|value| trained[self.root(*value)]);
        }
        let mut writers: Vec<Option<Option<usize>>> = vec![None; self.shapes.len()];
        for (u, unit) in self.units.iter().enumerate() {
            for v in unit.inputs.iter().map(|value| self.root(*value)).filter(|v| trained[*v]) {
                writers[v] = Some(Some(u));
            }
        }
        let result = self.result();
        writers[result] = trained[result].then_some(None);
        writers
    }

    /// Lets the gradients of concatenations and sums be those of their inputs, where nothing else comes before them.
    fn place_gradient_parts(&mut self, writers: &[Option<Option<usize>>]) {
        for (u, unit) in self.units.iter().enumerate().filter(|(_, unit)| writers[unit.output.0].is_some()) {
            let readers = |v: usize| {
                self.units
                    .iter()
                    .flat_map(|unit| &unit.inputs)
                    .filter(|value| self.root(**value) == v)
                    .count()
            };
            let concatenated =
                |v: usize| self.units.iter().any(|unit| unit.output.0 == v && self.op(unit) == Op::Concat);
            let parts: Vec<_> = match self.op(unit) {
                // What others add to it lies in this part alone.
                Op::Concat => self.parts(unit),
                // What is shared must not be added to, as it is where others read it, or parts of it.
                Op::Add => {
                    let parts = self.parts(unit).into_iter().map(|(v, _)| (v, 0));
                    parts.filter(|(v, _)| readers(*v) == 1 && !concatenated(*v)).collect()
                }
                _ => continue,
            };
            for &(v, first) in &parts {
                let once = parts.iter().filter(|(other, _)| *other == v).count() == 1;
                if !once || self.is_reshaped(v) || writers[v] != Some(Some(u)) || v == self.result() {
                    continue;
                }
                self.gradient_part_of[v] = Some((unit.output.0, first));
                if self.units.iter().any(|unit| self.conflicts(unit, Item::Gradient)) {
                    self.gradient_part_of[v] = None;
                }
            }
        }
    }

    /// Which items are written or read, and when.
    fn touches(&self, mode: Mode, writers: &[Option<Option<usize>>]) -> Vec<(Item, usize)> {
        let count = self.units.len();
        let mut touches = vec![(Item::Value(0), 0), (Item::Value(self.result()), count)];
        for (u, unit) in self.units.iter().enumerate() {
            let inputs: Vec<_> = unit.inputs.iter().map(|value| self.root(*value)).collect();
            let output = unit.output.0;
            touches.push((Item::Value(output), u));
            touches.extend(inputs.iter().map(|v| (Item::Value(*v), u)));
            let op = self.op(unit);
            let both = op == Op::FitTo && !self.fit(unit).is_one_step();
            if both {
                touches.push((Item::Scratch(u), u));
            }
            if mode == Mode::Inference || writers[output].is_none() {
                continue;
            }
            let time = 2 * count - u;
            touches.push((Item::Gradient(output), time));
            touches
                .extend(inputs.iter().filter(|v| writers[**v].is_some()).map(|v| (Item::Gradient(*v), time)));
            let unwanted = matches!(op, Op::BatchNorm { .. }) && writers[inputs[0]].is_none();
            if both || unwanted || unit.activation != Activation::Identity {
                touches.push((Item::Scratch(u), time));
            }
            let (reads_input, reads_output) = reads(op, unit.activation);
            if reads_input {
                touches.push((Item::Value(inputs[0]), time));
            }
            if reads_output {
                touches.push((Item::Value(output), time));
            }
        }
        let result = self.result();
        if writers[result].is_some() {
            touches.push((Item::Gradient(result), count));
        }
        touches
    }
}

/// Whether the gradients of a unit need its input, and its output.
fn reads(op: Op, activation: Activation) -> (bool, bool) {
    match op {
        Op::Conv2d { .. } | Op::ConvTranspose2d { .. } | Op::Linear { .. } => {
            (true, activation != Activation::Identity)
        }
        Op::Activation(f) => (!tells_slope(f), tells_slope(f)),
        Op::BatchNorm { .. } => (true, activation != Activation::Identity),
        Op::Softmax(_) => (false, true),
        _ => (false, false),
    }
}

/// Slots for storages of these sizes and life times, the largest first: the sizes of the slots, and which each storage has.
fn share(storages: &[(Item, usize, Range<usize>)]) -> (Vec<usize>, Vec<usize>) {
    let mut order: Vec<_> = (0..storages.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(storages[i].1), i));
    let mut slots: Vec<(usize, Vec<Range<usize>>)> = Vec::new();
    let mut slot_of = vec![0; storages.len()];
    for i in order {
        let (_, size, life) = &storages[i];
        let is_free = |taken: &[Range<usize>]| {
            taken.iter().all(|other| other.end <= life.start || life.end <= other.start)
        };
        slot_of[i] = match slots.iter().position(|(_, taken)| is_free(taken)) {
            Some(slot) => slot,
            None => {
                slots.push((*size, Vec::new()));
                slots.len() - 1
            }
        };
        slots[slot_of[i]].1.push(life.clone());
    }
    (slots.into_iter().map(|(size, _)| size).collect(), slot_of)
}
