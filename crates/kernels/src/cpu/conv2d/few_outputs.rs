//! Convolution to few output channels: lanes are pixels, and each vector that is read serves several sums.
//!
//! The gradient to the input of a network's first layer is such a convolution (64 channels to 3), and so is the last layer of an
//! autoencoder. The input is most of the memory, and few sums use it:
//!
//! ```text
//! for each pixel: y[pixel] = bias;  for each channel, tap:  y[pixel] += w * x[channel][pixel + tap]
//! ```
//!
//! 1. A register tile is C output channels x Y rows x V vectors of pixels. Where there is one output channel, up to three taps
//!    above each other are taken together, their weights in registers, and a vector serves three rows of the tile; where there
//!    are more, it serves those.
//! 2. The channels are taken a few at a time (a slice), from a padded copy that stays near ([`Patches`]); the sums of a band of
//!    rows wait in scratch.
//! 3. While a slice is computed, the input of the next is asked for: a copy that waits for memory takes as long as the
//!    arithmetic.
//! 4. The sums of a band, finished, are activated and placed: tiles need not know where outputs lie, nor where a row ends.

use crate::cpu::activation::apply;
use crate::cpu::conv2d::engine::Spec;
use crate::cpu::conv2d::patches::Patches;
use crate::cpu::gemm::EvenParts;
use crate::cpu::scratch::{LINE, Scratch, whole_lines};
use crate::cpu::threads::{SharedOut, for_each_item};
use crate::error::Result;
use crate::shape::correlation::{Correlation, Placement};
use crate::shape::{Activation, Update};
use crate::simd::{Isa, Simd, SimdOp};
use crate::tensor::{TensorView, TensorViewMut, checked_product};

/// Products of a slice at least: its sums are loaded and stored once for sixteen multiply-adds each.
const SLICE: usize = 32;

/// The copy of a slice in f32 (128 KiB): with the next one on its way a quarter of L2, and few rows are read for two bands.
const COPY_LEN: usize = 32 * 1024;

/// Output channels of a block at most: no block of several has but one.
const BLOCK: usize = 3;

/// Taps above each other that a tile takes together at most.
const RUN: usize = 3;

/// A correlation to few output channels, its weights in the order in which tiles read them.
#[derive(Debug, Clone)]
pub(crate) struct FewOutputs {
    output: [usize; 2],
    groups: usize,
    /// Output channels of a group, in blocks of up to [`BLOCK`].
    group_outputs: usize,
    channels: usize,
    input: [usize; 2],
    /// Channels of a slice; the last may have fewer.
    slice: usize,
    /// The copy to make of a slice for a band of rows.
    patches: Patches,
    /// Where the taps that are taken together lie in the copy, channel by channel: those alone, in twos, in threes.
    runs: [Vec<usize>; RUN],
    /// Channel and tap of each product of a sum, in the order of the weights.
    order: Vec<(usize, usize)>,
    /// Rows and vectors of a tile.
    tile: [usize; 2],
    /// f32 from one row of sums to the next, and from one output channel to the next.
    pitch: usize,
    plane: usize,
    /// `[group][block][product][channel of the block]`.
    weights: Scratch,
    bias: Vec<f32>,
    activation: Activation,
    placement: Placement,
}

impl FewOutputs {
    /// With weights and bias of zeros.
    pub fn new(isa: Isa, spec: &Spec<'_>) -> Result<Self> {
        let Spec { op, groups, outputs, correlation, placement, activation, .. } = *spec;
        let Correlation { channels, input, output, ref taps, .. } = *correlation;
        let filters = checked_product(op, "output channels", &[groups, outputs])?;
        let depth = correlation.depth();
        let weights = Scratch::with_len(checked_product(op, "packed weights", &[filters, depth])?)?;

        let tile = tile(isa, outputs, output[1]);
        let slice = SLICE.div_ceil(taps.len().max(1)).min(channels).max(1);
        let of_slice = Correlation { channels: slice, ..correlation.clone() };
        let band = Patches::in_bands(op, &of_slice, COPY_LEN, 1)?.band().next_multiple_of(tile[0]);
        let patches = Patches::new(op, &of_slice, band)?;
        let pitch = whole_lines(output[1].next_multiple_of(tile[1] * isa.lanes()));
        let plane = checked_product(op, "sums", &[band, pitch])?;
        checked_product(op, "sums", &[outputs, plane])?;

        // Taps in order of where they lie in the copy's first plane, each with those below it.
        let most = if outputs == 1 { RUN } else { 1 };
        let below = patches.row_stride();
        let mut left: Vec<(usize, usize)> =
            patches.offsets().iter().copied().zip(taps.iter().map(|tap| tap.index)).collect();
        left.sort_unstable();
        let mut found: [Vec<Vec<(usize, usize)>>; RUN] = Default::default();
        while let Some(&(first, _)) = left.first() {
            let is_next = |at: usize| left.iter().position(|tap| tap.0 == first + at * below);
            let run: Vec<usize> = (0..most).map_while(is_next).collect();
            found[run.len() - 1].push(run.iter().map(|&i| left[i]).collect());
            run.iter().rev().for_each(|&i| _ = left.remove(i));
        }
        let mut order = Vec::with_capacity(depth);
        for first in (0..channels).step_by(slice) {
            for runs in &found {
                for channel in first..channels.min(first + slice) {
                    order.extend(runs.iter().flatten().map(|&(_, tap)| (channel, tap)));
                }
            }
        }
        let runs = found.map(|runs| {
            let planes = (0..slice).map(|channel| channel * patches.plane_stride());
            planes.flat_map(|plane| runs.iter().map(move |run| plane + run[0].0)).collect()
        });
        Ok(FewOutputs {
            output,
            groups,
            group_outputs: outputs,
            channels,
            input,
            slice,
            patches,
            runs,
            order,
            tile,
            pitch,
            plane,
            weights,
            bias: vec![0.0; filters],
            activation,
            placement,
        })
    }

    /// As [`crate::cpu::conv2d::engine::Engine::set_weights`].
    pub fn set_weights(&mut self, weight: impl Fn(usize, usize, usize, usize) -> f32) {
        let mut weights = std::mem::take(&mut self.weights);
        for group in 0..self.groups {
            for (first, count) in self.blocks() {
                let start = (group * self.group_outputs + first) * self.order.len();
                let block = &mut weights.as_mut_slice()[start..start + count * self.order.len()];
                for (values, &(channel, tap)) in block.chunks_exact_mut(count).zip(&self.order) {
                    for (o, value) in values.iter_mut().enumerate() {
                        *value = weight(group, first + o, channel, tap);
                    }
                }
            }
        }
        self.weights = weights;
    }

    /// Replaces the bias: one value per output channel.
    pub fn set_bias(&mut self, bias: &[f32]) {
        self.bias.copy_from_slice(bias);
    }

    /// The blocks of a group's output channels: first channel and size.
    fn blocks(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let blocks = self.group_outputs.div_ceil(BLOCK);
        let parts = EvenParts::new(self.group_outputs, blocks);
        (0..blocks).map(move |block| parts.part(block))
    }

    /// The register tile: output channels x vectors.
    pub fn tile(&self) -> (usize, usize) {
        let [rows, vectors] = self.tile;
        (self.group_outputs.min(BLOCK), rows * vectors)
    }

    fn copy_len(&self) -> usize {
        whole_lines(self.patches.len())
    }

    /// f32 of scratch for each strand.
    pub fn strand_len(&self) -> usize {
        self.copy_len().saturating_add(self.group_outputs * self.plane)
    }

    /// Computes the convolution, on as many threads as there are strands.
    ///
    /// # Safety
    /// The views have the planned shapes.
    pub unsafe fn run(
        &self,
        isa: Isa,
        x: TensorView<'_>,
        y: &mut TensorViewMut<'_>,
        update: Update,
        strands: usize,
        scratch: &mut [f32],
    ) {
        let height = self.output[0];
        let bands = height.div_ceil(self.patches.band());
        let len = self.strand_len();
        assert!(scratch.len() >= strands * len, "the plan sized its scratch for {strands} strands");
        let scratches = SharedOut::new(scratch.as_mut_ptr());
        let (batch_stride, out) = (y.batch_stride(), SharedOut::new(y.as_mut_ptr()));
        for_each_item(strands, x.shape().n * self.groups * bands, |strand, item| {
            let (image, group, band) = (item / bands / self.groups, item / bands % self.groups, item % bands);
            let first = band * self.patches.band();
            isa.run(Band {
                plan: self,
                image: x.image(image),
                group,
                first,
                rows: self.patches.band().min(height - first),
                // SAFETY: strands have parts of their own, within the scratch as asserted.
                scratch: unsafe { std::slice::from_raw_parts_mut(scratches.get().add(strand * len), len) },
                // SAFETY: image < n of the view.
                out: unsafe { out.get().add(image * batch_stride) },
                update,
            });
        });
    }
}

/// Sums in registers for each output channel of a block, in vectors: enough to hide the latency of the additions, and no more than
/// there are registers beside the weights.
const fn sums(isa: Isa, block: usize) -> usize {
    match (isa, block) {
        (Isa::Avx512, _) | (Isa::Avx2, 1) => 8,
        // A vector of 8 lanes is two registers, and a product takes one more.
        (Isa::Avx2, _) | (Isa::Portable, 1) => 4,
        (Isa::Portable, _) => 2,
    }
}

/// Rows and vectors of a tile.
const fn tile(isa: Isa, outputs: usize, width: usize) -> [usize; 2] {
    let one = matches!(isa, Isa::Portable) || width <= isa.lanes();
    let vectors = if one { 1 } else { 2 };
    [sums(isa, outputs) / vectors, vectors]
}

/// A band of rows of one group of one image.
struct Band<'a> {
    plan: &'a FewOutputs,
    image: &'a [f32],
    group: usize,
    first: usize,
    rows: usize,
    scratch: &'a mut [f32],
    out: *mut f32,
    update: Update,
}

impl SimdOp for Band<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Band { plan, image, group, first, rows, scratch, out, update } = self;
        let plane = plan.input[0] * plan.input[1];
        let (copy, sums) = scratch.split_at_mut(plan.copy_len());
        let input = &image[group * plan.channels * plane..(group + 1) * plan.channels * plane];
        let filter = group * plan.group_outputs;
        for (channel, of_channel) in sums.chunks_exact_mut(plan.plane).enumerate() {
            of_channel.fill(plan.bias[filter + channel]);
        }
        for channel in (0..plan.channels).step_by(plan.slice) {
            let channels = plan.slice.min(plan.channels - channel);
            plan.patches.copy_channels(
                simd,
                channels,
                &input[channel * plane..],
                first,
                rows,
                channel == 0,
                copy,
            );
            let runs = [0, 1, 2].map(|r| &plan.runs[r][..plan.runs[r].len() / plan.slice * channels]);
            let next = channel + channels;
            for (block, size) in plan.blocks() {
                let depth = plan.order.len();
                let before = channel * (depth / plan.channels);
                simd.vectorize(Slice {
                    plan,
                    size,
                    x: copy,
                    channels,
                    runs,
                    weights: &plan.weights.as_slice()[(filter + block) * depth + before * size..],
                    sums: &mut sums[block * plan.plane..(block + size) * plan.plane],
                    rows,
                    ahead: if block == 0 && next < plan.channels {
                        &input[next * plane + first * plan.input[1]..]
                    } else {
                        &[]
                    },
                });
            }
        }
        let at = &plan.placement;
        for (channel, sums) in sums.chunks_exact(plan.plane).enumerate() {
            for (row, sums) in sums.chunks_exact(plan.pitch).take(rows).enumerate() {
                // SAFETY: the rows of this band, in the plane of this output channel, which the plan checked.
                unsafe {
                    let out = out.add((filter + channel) * at.plane + at.origin + (first + row) * at.row);
                    place(simd, plan.activation, update, &sums[..plan.output[1]], out, at.column);
                }
            }
        }
    }
}

/// The activated sums of a row, to every `column`-th element from `out` on.
///
/// # Safety
/// These can be written (read, if they are added to).
#[inline(always)]
unsafe fn place<S: Simd>(
    simd: S,
    activation: Activation,
    update: Update,
    sums: &[f32],
    out: *mut f32,
    column: usize,
) {
    for start in (0..sums.len()).step_by(S::LANES) {
        let left = sums.len() - start;
        // SAFETY: `left` sums are left, and as many elements can be written: the caller's promise.
        unsafe {
            let y = apply(simd, activation, simd.load_up_to(sums.as_ptr().add(start), left));
            if column == 1 {
                update.store_up_to(simd, out.add(start), left, y);
                continue;
            }
            for (i, y) in simd.to_lanes(y).into_iter().enumerate().take(left.min(S::LANES)) {
                let p = out.add((start + i) * column);
                *p = update.of(*p, y);
            }
        }
    }
}

/// What a slice of the channels adds to the sums of a band, for a block of output channels.
struct Slice<'a> {
    plan: &'a FewOutputs,
    size: usize,
    x: &'a [f32],
    channels: usize,
    /// Those of [`FewOutputs::runs`] of its channels.
    runs: [&'a [usize]; RUN],
    weights: &'a [f32],
    sums: &'a mut [f32],
    rows: usize,
    /// The input from the first of the next slice on, if it is to be asked for.
    ahead: &'a [f32],
}

impl SimdOp for Slice<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match (self.size, sums(S::ISA, self.size), self.plan.tile[1]) {
            (1, 8, 2) => self.tiles::<S, 1, 4, 2>(simd),
            (1, 8, _) => self.tiles::<S, 1, 8, 1>(simd),
            (1, ..) => self.tiles::<S, 1, 4, 1>(simd),
            (2, 8, 2) => self.tiles::<S, 2, 4, 2>(simd),
            (2, 8, _) => self.tiles::<S, 2, 8, 1>(simd),
            (2, 4, 2) => self.tiles::<S, 2, 2, 2>(simd),
            (2, 4, _) => self.tiles::<S, 2, 4, 1>(simd),
            (2, ..) => self.tiles::<S, 2, 2, 1>(simd),
            (_, 8, 2) => self.tiles::<S, 3, 4, 2>(simd),
            (_, 8, _) => self.tiles::<S, 3, 8, 1>(simd),
            (_, 4, 2) => self.tiles::<S, 3, 2, 2>(simd),
            (_, 4, _) => self.tiles::<S, 3, 4, 1>(simd),
            _ => self.tiles::<S, 3, 2, 1>(simd),
        }
    }
}

impl Slice<'_> {
    /// All tiles of the band, of `C` output channels x `Y` rows x `V` vectors.
    #[inline(always)]
    fn tiles<S: Simd, const C: usize, const Y: usize, const V: usize>(mut self, simd: S) {
        let plan = self.plan;
        let width = plan.output[1];
        let plane = plan.input[0] * plan.input[1];
        let tiles = self.rows.div_ceil(Y) * width.div_ceil(V * S::LANES);
        let lines = (self.rows * plan.input[1]).div_ceil(LINE * tiles);
        let mut ahead = 0;
        for row in (0..self.rows).step_by(Y) {
            for at in (0..width).step_by(V * S::LANES) {
                if !self.ahead.is_empty() {
                    for channel in 0..self.channels {
                        for line in 0..lines {
                            simd.prefetch(
                                self.ahead.as_ptr().wrapping_add(channel * plane + ahead + line * LINE),
                            );
                        }
                    }
                    ahead += lines * LINE;
                }
                // SAFETY: the band has whole tiles of rows, the sums whole tiles of columns.
                unsafe { self.tile::<S, C, Y, V>(simd, row, at) };
            }
        }
    }

    /// The tile at this row and column of the band.
    ///
    /// # Safety
    /// The sums, and the copy with its slack, hold so many rows and vectors from there on.
    #[inline(always)]
    unsafe fn tile<S: Simd, const C: usize, const Y: usize, const V: usize>(
        &mut self,
        simd: S,
        row: usize,
        at: usize,
    ) {
        let plan = self.plan;
        let mut c = [[[simd.splat(0.0); V]; Y]; C];
        // SAFETY: the caller's promise; every run lies in the copy from every output of the band.
        unsafe {
            let sums = self.sums.as_mut_ptr().add(row * plan.pitch + at);
            let sum_at =
                |o: usize, y: usize, v: usize| sums.add(o * plan.plane + y * plan.pitch + v * S::LANES);
            for (o, rows) in c.iter_mut().enumerate() {
                for (y, vectors) in rows.iter_mut().enumerate() {
                    for (v, sum) in vectors.iter_mut().enumerate() {
                        *sum = simd.load(sum_at(o, y, v));
                    }
                }
            }
            let x = self.x.as_ptr().add(row * plan.patches.row_stride() + at);
            let w = self.weights.as_ptr();
            let w = self.add::<S, C, Y, V, 1>(simd, x, w, &mut c);
            if C == 1 {
                let w = self.add::<S, C, Y, V, 2>(simd, x, w, &mut c);
                self.add::<S, C, Y, V, 3>(simd, x, w, &mut c);
            }
            for (o, rows) in c.into_iter().enumerate() {
                for (y, vectors) in rows.into_iter().enumerate() {
                    for (v, sum) in vectors.into_iter().enumerate() {
                        simd.store(sum_at(o, y, v), sum);
                    }
                }
            }
        }
    }

    /// Adds the products of the taps that are taken `R` at a time, and gives back where the weights of the others lie.
    ///
    /// # Safety
    /// `w` points to the weights of these taps; the rest as for [`Slice::tile`], of the tile's outputs at `x`.
    #[inline(always)]
    unsafe fn add<S: Simd, const C: usize, const Y: usize, const V: usize, const R: usize>(
        &self,
        simd: S,
        x: *const f32,
        mut w: *const f32,
        c: &mut [[[S::F32; V]; Y]; C],
    ) -> *const f32 {
        let stride = self.plan.patches.row_stride();
        for &run in self.runs[R - 1] {
            let mut weights = [[simd.splat(0.0); C]; R];
            // SAFETY: the caller's promise.
            unsafe {
                let mut x = x.add(run);
                for (r, weights) in weights.iter_mut().enumerate() {
                    for (o, weight) in weights.iter_mut().enumerate() {
                        *weight = simd.splat(*w.add(r * C + o));
                    }
                }
                w = w.add(R * C);
                for j in 0..Y + R - 1 {
                    for v in 0..V {
                        let x = simd.load(x.add(v * S::LANES));
                        for (r, weights) in weights.iter().enumerate() {
                            if j >= r && j - r < Y {
                                for (c, &weight) in c.iter_mut().zip(weights) {
                                    c[j - r][v] = simd.mul_add(weight, x, c[j - r][v]);
                                }
                            }
                        }
                    }
                    x = x.wrapping_add(stride);
                }
            }
        }
        w
    }
}
