//! One run: the loops over blocks and panels, shared out to threads.

use std::marker::PhantomData;
use std::ops::Range;

use super::blocks::Block;
use super::input::TransformInput;
use super::output::TransformOutput;
use super::transform::Points;
use super::weights::Kept;
use super::{Order, Winograd};
use crate::cpu::conv2d::engine::Filters;
use crate::cpu::gemm::kernel::{Part, VectorsApart, accumulate};
use crate::cpu::gemm::{EvenParts, Output, slice};
use crate::cpu::scratch::{LINE, whole_lines};
use crate::cpu::threads::{SharedOut, for_each_item};
use crate::simd::{Simd, SimdOp};
use crate::tensor::TensorView;

pub(super) struct Call<'a> {
    pub plan: &'a Winograd,
    /// The weights, if the plan keeps none.
    pub filters: Option<Filters<'a>>,
    pub x: TensorView<'a>,
    pub out: Output,
    pub strands: usize,
    pub own: Own,
}

/// The scratch that each strand has for itself.
#[derive(Clone, Copy)]
pub(super) struct Own {
    pub base: SharedOut,
    pub len: usize,
}

impl Own {
    /// That of a strand.
    ///
    /// # Safety
    /// There is scratch for such a strand, and nobody else has it meanwhile.
    unsafe fn of<'s>(self, strand: usize) -> &'s mut [f32] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.base.get().add(strand * self.len), self.len) }
    }
}

impl Call<'_> {
    /// `shared` is what all strands share, [`Winograd::shared_len`] f32.
    pub fn run<P: Points<A>, const A: usize, const R: usize, const M: usize, const STEP: usize>(
        &self,
        shared: &mut [f32],
    ) {
        match self.plan.order {
            Order::Blocks => self.blocks_first::<P, A, R, M, STEP>(shared),
            Order::Panels => self.panels_first::<P, A, R, M, STEP>(shared),
        }
    }

    fn blocks_first<P: Points<A>, const A: usize, const R: usize, const M: usize, const STEP: usize>(
        &self,
        shared: &mut [f32],
    ) {
        let Call { plan, filters, strands, own, .. } = *self;
        let weights = &plan.weights;
        let (given, transformed) = match filters {
            None => (weights.given(), weights.transformed()),
            Some(filters) => {
                let (given, transformed) = shared.split_at_mut(weights.all_len()[0]);
                let to = [&mut *given, &mut *transformed].map(|all| SharedOut::new(all.as_mut_ptr()));
                for_each_item(strands, weights.all_panels(), |_, item| {
                    let (group, panel) = (item / weights.panels(), item % weights.panels());
                    // SAFETY: panels lie in ranges of their own, within what is shared.
                    let part = |to: SharedOut, range: Range<usize>| unsafe {
                        std::slice::from_raw_parts_mut(to.get().add(range.start), range.len())
                    };
                    let given = part(to[0], weights.given_range(group, panel));
                    weights.pack(filters, group, panel, given);
                    let transformed = part(to[1], weights.transformed_range(group, panel));
                    weights.transform::<P, A, R>(panel, given, transformed, plan.rows());
                });
                (&*given, &*transformed)
            }
        };
        for_each_item(strands, plan.all_blocks(), |strand, item| {
            let block = plan.blocks.block(item);
            // SAFETY: the strand's own.
            let own = unsafe { own.of(strand) };
            let (input, own) = own.split_at_mut(whole_lines(plan.layout.input_len));
            let (packed, own) = own.split_at_mut(plan.pack_len());
            let (products, staged) = own.split_at_mut(plan.layout.products_len);
            self.load::<P, A, STEP>(&block, 0..plan.vectors(), packed, input.as_mut_ptr());
            for panel in 0..weights.panels() {
                let u = &transformed[weights.transformed_range(block.group, panel)];
                let factors =
                    Factors { panel, channels: 0..plan.channels, u, pitch: plan.rows(), ahead: &[] };
                self.multiply::<A>(&block, factors, input.as_ptr(), products);
                let given = &given[weights.given_range(block.group, panel)];
                self.finish::<P, A, M>(&block, panel, given, products, staged);
            }
        });
    }

    fn panels_first<P: Points<A>, const A: usize, const R: usize, const M: usize, const STEP: usize>(
        &self,
        shared: &mut [f32],
    ) {
        let Call { plan, filters, strands, own, .. } = *self;
        let (weights, blocks) = (&plan.weights, plan.blocks.count());
        let shared = SharedOut::new(shared.as_mut_ptr());
        // SAFETY: what is shared has room for the inputs of all blocks.
        let input = |block: usize| unsafe { shared.get().add(block * plan.layout.input_len) };
        // A few items for each strand, so that none waits long for the last.
        let chunks = |of: usize, most: usize| (4 * strands).div_ceil(of.max(1)).min(most);
        let parts = chunks(plan.all_blocks(), plan.vectors());
        for_each_item(strands, plan.all_blocks() * parts, |strand, item| {
            let (first, count) = EvenParts::new(plan.vectors(), parts).part(item % parts);
            let block = item / parts;
            // SAFETY: the strand's own.
            let packed = unsafe { &mut own.of(strand)[..plan.pack_len()] };
            self.load::<P, A, STEP>(&plan.blocks.block(block), first..first + count, packed, input(block));
        });
        let [given_len, fresh_len] = weights.panel_len();
        // Where there are few panels, each meets the blocks in several parts.
        let parts = chunks(weights.all_panels(), blocks);
        for_each_item(strands, weights.all_panels() * parts, |strand, item| {
            let (index, (first, count)) = (item / parts, EvenParts::new(blocks, parts).part(item % parts));
            let (group, panel) = (index / weights.panels(), index % weights.panels());
            // SAFETY: the strand's own.
            let own = unsafe { own.of(strand) };
            let (given, own) = own.split_at_mut(given_len);
            let (fresh, own) = own.split_at_mut(fresh_len);
            let (staged, products) = own.split_at_mut(plan.staged_len());
            let range = weights.given_range(group, panel);
            let given = match filters {
                None => &weights.given()[range],
                Some(filters) => {
                    let given = &mut given[..range.len()];
                    weights.pack(filters, group, panel, given);
                    given
                }
            };
            let of_channel = weights.taps().len() * weights.width(panel);
            let (slices, number) = weights.slices();
            // The weights that are transformed next; after the last slice, most likely those of the next item for this strand.
            let ahead = |s: usize| {
                let (given, s) = if s < number {
                    (given, s)
                } else {
                    let index = ((item + strands) / parts).min(weights.all_panels() - 1);
                    let range = weights.given_range(index / weights.panels(), index % weights.panels());
                    (weights.given().get(range).unwrap_or_default(), 0)
                };
                let (k, len) = slices.part(s);
                given.get(k * of_channel..(k + len) * of_channel).unwrap_or_default()
            };
            for (s, (k, len)) in (0..number).map(|s| (s, slices.part(s))) {
                let (u, pitch) = if weights.kept() == Kept::Transformed {
                    (&weights.transformed()[weights.transformed_range(group, panel)], plan.rows())
                } else {
                    // An odd number of cache lines, for lines are as long as a channel or half of one.
                    let pitch = (plan.scheme.phases() * len) | 1;
                    weights.transform::<P, A, R>(
                        panel,
                        &given[k * of_channel..][..len * of_channel],
                        fresh,
                        pitch,
                    );
                    (&*fresh, pitch)
                };
                let ahead = if weights.kept() == Kept::Given { ahead(s + 1) } else { &[] };
                for i in 0..count {
                    let item = group * blocks + first + i;
                    let block = plan.blocks.block(item);
                    let at = if number == 1 { 0 } else { i * plan.layout.products_len };
                    let products = &mut products[at..][..plan.layout.products_len];
                    let ahead = &ahead[i * ahead.len() / count..(i + 1) * ahead.len() / count];
                    let factors = Factors { panel, channels: k..k + len, u, pitch, ahead };
                    self.multiply::<A>(&block, factors, input(item), products);
                    if s + 1 == number {
                        self.finish::<P, A, M>(&block, panel, given, products, staged);
                    }
                }
            }
        });
    }

    /// Transforms vectors of channels of a block.
    fn load<P: Points<A>, const A: usize, const STEP: usize>(
        &self,
        block: &Block,
        channels: Range<usize>,
        packed: &mut [f32],
        to: *mut f32,
    ) {
        let (plan, x, points) = (self.plan, self.x, PhantomData::<P>);
        plan.isa.run(TransformInput::<P, A, STEP> { plan, x, block, channels, packed, to, points });
    }

    /// Adds the products of some channels of a block: the first of all are not added to anything.
    fn multiply<const A: usize>(
        &self,
        block: &Block,
        factors: Factors<'_>,
        input: *const f32,
        sums: &mut [f32],
    ) {
        let (plan, tiles) = (self.plan, block.tiles());
        plan.isa.run(Multiply::<A> { plan, tiles, factors, input, sums });
    }

    /// Writes the outputs of a panel of a block, whose weights were given so.
    fn finish<P: Points<A>, const A: usize, const M: usize>(
        &self,
        block: &Block,
        panel: usize,
        given: &[f32],
        products: &[f32],
        staged: &mut [f32],
    ) {
        let (plan, x, out, points) = (self.plan, self.x, self.out, PhantomData::<P>);
        let products = products.as_ptr();
        plan.isa.run(TransformOutput::<P, A, M> {
            plan,
            x,
            block,
            panel,
            given,
            products,
            staged,
            out,
            points,
        });
    }
}

/// Transformed weights of some channels of a panel.
struct Factors<'a> {
    panel: usize,
    channels: Range<usize>,
    u: &'a [f32],
    /// Rows from one point to the next.
    pitch: usize,
    /// What will be read next.
    ahead: &'a [f32],
}

struct Multiply<'a, const A: usize> {
    plan: &'a Winograd,
    tiles: usize,
    factors: Factors<'a>,
    input: *const f32,
    sums: &'a mut [f32],
}

impl<const A: usize> SimdOp for Multiply<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Multiply { plan, tiles, factors, input, sums } = self;
        let Factors { panel, channels, u, pitch, ahead } = factors;
        let (layout, scheme) = (plan.layout, plan.scheme);
        let (vectors, row) = (plan.weights.vectors(panel), plan.weights.width(panel));
        // Of several phases, all channels lie behind each other.
        assert!(channels.end <= plan.channels && (scheme.phases() == 1 || channels.len() == plan.channels));
        let depth = scheme.phases() * channels.len();
        assert!(sums.len() >= layout.products_len);
        assert!(depth <= pitch && u.len() >= ((A * A - 1) * pitch + depth) * row);
        let sums = sums.as_mut_ptr();
        let (strips, count) = (layout.strips(tiles), tiles.div_ceil(layout.rows));
        // Each strip of each point asks for its share.
        let mut shares = ahead.chunks(whole_lines(ahead.len().div_ceil(A * A * count)).max(1));
        for p in 0..A * A {
            let phases = scheme.phases_at([p / A, p % A]);
            let first = phases.start * plan.channels + channels.start;
            let end = (phases.end - 1) * plan.channels + channels.end;
            let slice = slice(S::ISA, end - first);
            for k in (first..end).step_by(slice) {
                let offsets = &plan.offsets[k..(k + slice).min(end)];
                let len = offsets.len();
                let b = u[(p * pitch + k - channels.start) * row..].as_ptr();
                let first = k == first && channels.start == 0;
                for strip in 0..count {
                    let ahead = match shares.next() {
                        Some(share) => share.as_ptr(),
                        // Of the weights of the next point, two vectors for each k.
                        None => b.wrapping_add(pitch * row + strip.min(1) * len * LINE),
                    };
                    let part = Part { offsets, b, first, ahead };
                    let (tile, rows) = strips.part(strip);
                    // SAFETY: the layout has room for every strip at every offset of a point, and for the sums of its
                    // tiles; the weights of a point have a row for each channel of each phase, as was asserted.
                    unsafe {
                        let a = VectorsApart(input.add(p * layout.point + strip * layout.strip));
                        let sums = sums.add(p * layout.products + tile * row);
                        accumulate(simd, rows, vectors, a, part, sums);
                    }
                }
            }
        }
    }
}
