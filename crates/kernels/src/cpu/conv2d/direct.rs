//! Direct convolution: lanes are pixels of an output row, weights are broadcast, stores are contiguous.
//!
//! For sums too short to pay for a transposed store (few input channels), for fewer output channels than a vector
//! has lanes, and, with one input channel per group, for depthwise convolution. It reads the same padded copy as the
//! implicit GEMM, so that it serves every stride, dilation and padding; without stride and padding the input is such a
//! copy already, and is read in place:
//!
//! ```text
//! for each block of R output channels, for each output row of the band
//!     for x in steps of V vectors
//!         c[i][v] = bias[i]
//!         for each product k:  x_v = load(copy[offsets[k] + x ..]);  c[i][v] += splat(w[k][i]) * x_v
//!         apply the activation, store R x V vectors
//! ```
//!
//! Rows inside blocks, so that each plane of the output is written as one long stream.
//!
//! Of many input channels, what one tile reads would not stay in L1 until the tile below reads most of it again. So a band is
//! computed for a few channels at a time, its sums kept in between:
//!
//! ```text
//! for each slice of the channels
//!     copy the slice
//!     for each block, row, tile               as above; the sums start where the slice before left them
//! ```

use std::ops::Range;

use crate::cpu::activation::apply;
use crate::cpu::conv2d::engine::Spec;
use crate::cpu::conv2d::patches::Patches;
use crate::cpu::scratch::{Scratch, whole_lines};
use crate::cpu::threads::{SharedOut, for_each_item};
use crate::error::Result;
use crate::shape::correlation::{Correlation, Placement};
use crate::shape::{Activation, Update};
use crate::simd::{Isa, Simd, SimdOp};
use crate::tensor::{TensorView, TensorViewMut, checked_product};

/// The padded copy of a band in f32 (128 KiB): a part of L2, so that the rows are still near when the last block of
/// output channels reads them.
const BAND_LEN: usize = 32 * 1024;

/// Products of a slice: with the copy of a band, a tile of 64 pixels reads 16 KiB at most, a half of L1.
const SLICE: usize = 64;

/// Products that make an item of work worth handing to a thread (about 2 us).
const ITEM_PRODUCTS: usize = 64 * 1024;

/// A convolution with its weights arranged block by block: `[group][block][k][channel of the block]`.
#[derive(Debug, Clone)]
pub(crate) struct Direct {
    output: [usize; 2],
    groups: usize,
    /// Output channels of a group, in blocks of 8, 4, 2 or 1.
    group_outputs: usize,
    largest_block: usize,
    /// The copy to make of each band; none where the input is read in place.
    patches: Option<Patches>,
    /// Where each product's input lies relative to its output, in the copy or in the group's part of an image; those of a slice.
    offsets: Vec<usize>,
    /// Products of a sum.
    depth: usize,
    channels: usize,
    /// Channels of a slice; all if there is but one.
    slice: usize,
    /// From what one output row reads to what the next one reads.
    row_stride: usize,
    /// Output rows of a band; the last band may have fewer.
    band: usize,
    /// Elements of a group's input.
    group_input: usize,
    weights: Scratch,
    bias: Vec<f32>,
    activation: Activation,
    placement: Placement,
}

impl Direct {
    /// With weights and bias of zeros.
    pub fn new(isa: Isa, spec: &Spec<'_>) -> Result<Self> {
        let Spec { op, groups, outputs, correlation, placement, activation, .. } = *spec;
        let Correlation { channels, input, output, step, ref taps } = *correlation;
        let filters = checked_product(op, "output channels", &[groups, outputs])?;
        let depth = correlation.depth();
        let mut plan = Direct {
            output,
            groups,
            group_outputs: outputs,
            largest_block: largest_block(isa),
            patches: None,
            offsets: Vec::new(),
            depth,
            channels,
            slice: channels,
            row_stride: 0,
            band: 0,
            group_input: channels * input[0] * input[1],
            weights: Scratch::with_len(checked_product(op, "packed weights", &[filters, depth])?)?,
            bias: vec![0.0; filters],
            activation,
            placement,
        };
        let inside =
            |axis: usize, at: isize| usize::try_from(at).is_ok_and(|at| at + output[axis] <= input[axis]);
        // A last vector that is partial would be read beyond the image.
        if step == [1, 1]
            && depth <= 2 * SLICE
            && output[1] >= isa.lanes()
            && taps.iter().all(|tap| inside(0, tap.at[0]) && inside(1, tap.at[1]))
        {
            let width = input[1];
            plan.offsets = correlation
                .offsets(input[0] * width, |tap| (tap.at[0] as usize) * width + tap.at[1] as usize);
            plan.row_stride = width;
            plan.band = (BAND_LEN / (channels * width)).clamp(1, output[0]);
        } else {
            if depth > 2 * SLICE {
                let slices = depth.div_ceil(SLICE).min(channels);
                plan.slice = channels.div_ceil(slices);
            }
            let of_slice = Correlation { channels: plan.slice, ..correlation.clone() };
            let patches = Patches::in_bands(op, &of_slice, BAND_LEN, 1)?;
            plan.offsets = patches.offsets().to_vec();
            plan.row_stride = patches.row_stride();
            plan.band = patches.band();
            plan.patches = Some(patches);
        }
        Ok(plan)
    }

    /// As [`crate::cpu::conv2d::engine::Engine::set_weights`], for these taps.
    pub fn set_weights(&mut self, taps: &[usize], weight: impl Fn(usize, usize, usize, usize) -> f32) {
        let depth = self.depth;
        let mut weights = std::mem::take(&mut self.weights);
        for group in 0..self.groups {
            for (first, count) in self.blocks() {
                let start = (group * self.group_outputs + first) * depth;
                let rows = weights.as_mut_slice()[start..start + count * depth].chunks_exact_mut(count);
                for (k, row) in rows.enumerate() {
                    let (channel, tap) = (k / taps.len(), taps[k % taps.len()]);
                    for (o, value) in row.iter_mut().enumerate() {
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
    fn blocks(&self) -> impl Iterator<Item = (usize, usize)> {
        let (outputs, largest) = (self.group_outputs, self.largest_block);
        let mut first = 0;
        std::iter::from_fn(move || {
            let left = outputs - first;
            // The largest power of two that is left, up to the limit.
            let size = largest.min(1 << left.checked_ilog2()?);
            first += size;
            Some((first - size, size))
        })
    }

    /// The register tile of a full block: output channels x vectors.
    pub fn tile(&self, isa: Isa) -> (usize, usize) {
        let block = self.blocks().next().map_or(1, |(_, size)| size);
        (block, vectors(isa, block))
    }

    /// f32 of scratch for each strand.
    pub fn strand_len(&self) -> usize {
        let sums = if self.is_sliced() { self.group_outputs.saturating_mul(self.strip_len()) } else { 0 };
        self.copy_len().saturating_add(sums)
    }

    fn copy_len(&self) -> usize {
        self.patches.as_ref().map_or(0, |patches| whole_lines(patches.len()))
    }

    fn is_sliced(&self) -> bool {
        self.slice < self.channels
    }

    /// f32 from one row to the next of the sums between two slices, whole vectors.
    fn strip_pitch(&self) -> usize {
        whole_lines(self.output[1])
    }

    /// f32 of the sums of an output channel.
    fn strip_len(&self) -> usize {
        self.band * self.strip_pitch()
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
        let [height, width] = self.output;
        let bands = height.div_ceil(self.band);
        let products =
            [width, self.group_outputs, self.depth].into_iter().fold(self.band, usize::saturating_mul);
        let together = (ITEM_PRODUCTS / products.max(1)).clamp(1, self.groups);
        let parts = self.groups.div_ceil(together);
        let len = self.strand_len();
        assert!(scratch.len() >= strands * len, "the plan sized its scratch for {strands} strands");
        let copies = SharedOut::new(scratch.as_mut_ptr());
        let (batch_stride, out) = (y.batch_stride(), SharedOut::new(y.as_mut_ptr()));
        for_each_item(strands, x.shape().n * parts * bands, |strand, item| {
            let (image, part, band) = (item / bands / parts, item / bands % parts, item % bands);
            let first = band * self.band;
            isa.run(Band {
                plan: self,
                image: x.image(image),
                groups: part * together..((part + 1) * together).min(self.groups),
                first,
                rows: self.band.min(height - first),
                // SAFETY: strands have parts of their own, within the scratch as asserted.
                copy: unsafe { std::slice::from_raw_parts_mut(copies.get().add(strand * len), len) },
                // SAFETY: image < n of the view.
                out: unsafe { out.get().add(image * batch_stride) },
                update,
            });
        });
    }
}

/// Output channels of a full block: 8 x 2 vectors fit 32 registers, 4 x 2 fit 16.
const fn largest_block(isa: Isa) -> usize {
    match isa {
        Isa::Avx512 => 8,
        Isa::Avx2 | Isa::Portable => 4,
    }
}

/// Vectors of pixels that a block of this many output channels takes at a time: enough sums at once to hide the
/// latency of the additions, and no more than the registers hold.
const fn vectors(isa: Isa, block: usize) -> usize {
    match (isa, block) {
        (Isa::Avx512, 8) => 2,
        (Isa::Avx512, 4) => 4,
        (Isa::Avx2, 4) => 2,
        (Isa::Portable, 4) => 1,
        (Isa::Portable, 2) => 2,
        (Isa::Portable, _) | (_, 2) => 4,
        _ => 8,
    }
}

/// Some groups of a band of rows of one image.
struct Band<'a> {
    plan: &'a Direct,
    image: &'a [f32],
    groups: Range<usize>,
    first: usize,
    rows: usize,
    copy: &'a mut [f32],
    out: *mut f32,
    update: Update,
}

impl SimdOp for Band<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Band { plan, image, groups, first, rows, copy, out, update } = self;
        let (copy, sums) = copy.split_at_mut(plan.copy_len());
        let at = &plan.placement;
        let taps = plan.depth / plan.channels;
        for group in groups {
            let input = &image[group * plan.group_input..(group + 1) * plan.group_input];
            for channel in (0..plan.channels).step_by(plan.slice) {
                let channels = plan.slice.min(plan.channels - channel);
                let x = match &plan.patches {
                    Some(patches) => {
                        let input = &input[channel * (plan.group_input / plan.channels)..];
                        patches.copy_channels(simd, channels, input, first, rows, true, copy);
                        copy.as_ptr()
                    }
                    None => input[first * plan.row_stride..].as_ptr(),
                };
                for (block, size) in plan.blocks() {
                    let filter = group * plan.group_outputs + block;
                    let strip = plan.is_sliced().then(|| Strip {
                        sums: sums[block * plan.strip_len()..(block + size) * plan.strip_len()].as_mut_ptr(),
                        pitch: plan.strip_pitch(),
                        plane: plan.strip_len(),
                        first: channel == 0,
                        last: channel + channels == plan.channels,
                    });
                    // SAFETY: the copy holds what every offset reads from every pixel of the band, and slack for whole
                    // vectors; in place, every row is at least a vector wide, and none is read beyond its end. The weights
                    // of a block follow those of all channels before it, its sums have strips of their own; the rows lie in
                    // the planes filter..filter + size of the output, which the plan checked.
                    unsafe {
                        let lines = Lines {
                            x,
                            x_stride: plan.row_stride,
                            offsets: &plan.offsets[..channels * taps],
                            weights: plan.weights.as_slice()[filter * plan.depth + channel * taps * size..]
                                .as_ptr(),
                            bias: plan.bias[filter..filter + size].as_ptr(),
                            strip,
                            activation: plan.activation,
                            out: out.add(filter * at.plane + at.origin + first * at.row),
                            at: *at,
                            update,
                            rows,
                            width: plan.output[1],
                        };
                        lines.compute(simd, size);
                    }
                }
            }
        }
    }
}

/// Where the sums of a block are kept between two slices of the channels.
#[derive(Clone, Copy)]
struct Strip {
    sums: *mut f32,
    /// From one row to the next, and from one output channel to the next.
    pitch: usize,
    plane: usize,
    /// Whether this is the first slice, or the last.
    first: bool,
    last: bool,
}

/// Output rows of a block of output channels.
#[derive(Clone, Copy)]
struct Lines<'a> {
    x: *const f32,
    x_stride: usize,
    offsets: &'a [usize],
    weights: *const f32,
    bias: *const f32,
    strip: Option<Strip>,
    activation: Activation,
    out: *mut f32,
    at: Placement,
    update: Update,
    rows: usize,
    width: usize,
}

impl Lines<'_> {
    /// # Safety
    /// For each row and offset, `width` f32 and a tile's vectors more are readable at `x + row * x_stride + offset`;
    /// the weights are `[k][size]`, the bias `[size]`; the outputs of `rows` rows can be written (read, if they are added to)
    /// where `at` says, from `out + i * at.plane` on, for `i < size`.
    #[inline(always)]
    unsafe fn compute<S: Simd>(self, simd: S, size: usize) {
        match (size, vectors(S::ISA, size)) {
            (8, _) => simd.vectorize(Tiles::<8, 2>(self)),
            (4, 4) => simd.vectorize(Tiles::<4, 4>(self)),
            (4, 2) => simd.vectorize(Tiles::<4, 2>(self)),
            (4, _) => simd.vectorize(Tiles::<4, 1>(self)),
            (2, 4) => simd.vectorize(Tiles::<2, 4>(self)),
            (2, _) => simd.vectorize(Tiles::<2, 2>(self)),
            (_, 8) => simd.vectorize(Tiles::<1, 8>(self)),
            _ => simd.vectorize(Tiles::<1, 4>(self)),
        }
    }

    /// Pixels `at .. at + V vectors` of a row, of which those from `done` to `left` are to be stored.
    ///
    /// # Safety
    /// As [`Lines::compute`], for `row < rows` and `at + left <= width`.
    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const V: usize>(
        &self,
        simd: S,
        row: usize,
        at: usize,
        pixels: Range<usize>,
    ) {
        let mut c = [[simd.splat(0.0); V]; R];
        // SAFETY: the caller's promise.
        unsafe {
            let kept = |strip: Strip, i: usize, v: usize| {
                strip.sums.add(i * strip.plane + row * strip.pitch + at + v * S::LANES)
            };
            for (i, sums) in c.iter_mut().enumerate() {
                match self.strip {
                    Some(strip) if !strip.first => {
                        for (v, sum) in sums.iter_mut().enumerate() {
                            *sum = simd.load(kept(strip, i, v));
                        }
                    }
                    _ => *sums = [simd.splat(*self.bias.add(i)); V],
                }
            }
            // Wrapping, as nothing is read, and nothing need be there, where no tap meets the input.
            let row_x = self.x.wrapping_add(row * self.x_stride + at);
            let mut w = self.weights;
            for &offset in self.offsets {
                let x = row_x.add(offset);
                let mut pixels = [simd.splat(0.0); V];
                for (v, pixel) in pixels.iter_mut().enumerate() {
                    *pixel = simd.load(x.add(v * S::LANES));
                }
                for (i, sums) in c.iter_mut().enumerate() {
                    let weight = simd.splat(*w.add(i));
                    for (sum, &pixel) in sums.iter_mut().zip(&pixels) {
                        *sum = simd.mul_add(weight, pixel, *sum);
                    }
                }
                w = w.add(R);
            }
            if let Some(strip) = self.strip.filter(|strip| !strip.last) {
                for (i, sums) in c.into_iter().enumerate() {
                    for (v, sum) in sums.into_iter().enumerate() {
                        simd.store(kept(strip, i, v), sum);
                    }
                }
                return;
            }
            // A choice per tile, not per vector: with the two usual ones no sum leaves its register.
            let out = self.out.add(row * self.at.row + at * self.at.column);
            if self.at.column > 1 || self.update == Update::Accumulate {
                return self.scatter(simd, out, pixels, c);
            }
            // What a tile that reaches back has done already, it does again.
            let left = pixels.end;
            match self.activation {
                Activation::Identity => self.store(simd, out, left, c, |x| x),
                Activation::Relu => self.store(simd, out, left, c, |x| apply(simd, Activation::Relu, x)),
                f => self.store(simd, out, left, c, |x| apply(simd, f, x)),
            }
        }
    }

    /// [`Lines::store`] for outputs that lie apart, or that are added to: none twice.
    ///
    /// # Safety
    /// The pixels can be written (read, if they are added to) in the planes `i < R` from `out` on.
    #[inline(always)]
    unsafe fn scatter<S: Simd, const R: usize, const V: usize>(
        &self,
        simd: S,
        out: *mut f32,
        pixels: Range<usize>,
        c: [[S::F32; V]; R],
    ) {
        let accumulate = self.update == Update::Accumulate;
        for (i, sums) in c.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                let first = v * S::LANES;
                let lanes = simd.to_lanes(apply(simd, self.activation, sum));
                // SAFETY: the caller's promise.
                unsafe {
                    let p = out.add(i * self.at.plane);
                    if accumulate
                        && self.at.column == 1
                        && pixels.start <= first
                        && first + S::LANES <= pixels.end
                    {
                        let p = p.add(first);
                        simd.store(p, simd.add(simd.load(p), apply(simd, self.activation, sum)));
                        continue;
                    }
                    for pixel in pixels.start.max(first)..pixels.end.min(first + S::LANES) {
                        let p = p.add(pixel * self.at.column);
                        let x = lanes[pixel - first];
                        *p = if accumulate { *p + x } else { x };
                    }
                }
            }
        }
    }

    /// `f` of `R` x `V` vectors to `out`, of each row the first `left` lanes.
    ///
    /// # Safety
    /// They can be written at `out + i * at.plane` for `i < R`.
    #[inline(always)]
    unsafe fn store<S: Simd, const R: usize, const V: usize>(
        &self,
        simd: S,
        out: *mut f32,
        left: usize,
        c: [[S::F32; V]; R],
        f: impl Fn(S::F32) -> S::F32,
    ) {
        let whole = left >= V * S::LANES;
        for (i, sums) in c.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                // SAFETY: the caller's promise; a vector beyond `left` has no lanes to store.
                unsafe {
                    let p = out.add(i * self.at.plane).wrapping_add(v * S::LANES);
                    if whole {
                        simd.store(p, f(sum));
                    } else {
                        simd.store_partial(p, left.saturating_sub(v * S::LANES), f(sum));
                    }
                }
            }
        }
    }
}

/// Whole rows in tiles of `R` output channels x up to `V` vectors.
struct Tiles<'a, const R: usize, const V: usize>(Lines<'a>);

impl<const R: usize, const V: usize> SimdOp for Tiles<'_, R, V> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let lines = self.0;
        // Sums that are kept must not be added to twice.
        let back = lines.strip.is_none();
        for row in 0..lines.rows {
            let mut done = 0;
            // SAFETY: what `Lines::compute`'s caller promised; every tile lies within the row.
            unsafe {
                // More than a vector is left: a whole tile, which takes no longer than a vector of few sums. The last one,
                // of either kind, reaches back over pixels already done rather than be partial.
                while lines.width >= V * S::LANES
                    && lines.width - done > S::LANES
                    && (back || lines.width - done >= V * S::LANES)
                {
                    let at = if back { done.min(lines.width - V * S::LANES) } else { done };
                    lines.tile::<S, R, V>(simd, row, at, done - at..V * S::LANES);
                    done = at + V * S::LANES;
                }
                while done < lines.width {
                    let at =
                        if back && lines.width >= S::LANES { done.min(lines.width - S::LANES) } else { done };
                    lines.tile::<S, R, 1>(simd, row, at, done - at..lines.width - at);
                    done = at + S::LANES;
                }
            }
        }
    }
}
