//! What the sums of a chunk read: a padded copy of x, and panels of gy, laid out a few planes at a time.

use super::{Chunk, ITEM_LEN, Reads, WeightsGradient};
use crate::cpu::gemm::transpose_into;
use crate::cpu::threads::SharedOut;
use crate::simd::{Isa, MAX_LANES, Simd, SimdOp};
use crate::tensor::TensorView;

/// The layouts of a chunk: of gy, and of x if that is not read where it lies.
pub(super) struct Layouts<'a> {
    panels: Panels<'a>,
    copies: Copies<'a>,
    in_place: bool,
}

impl<'a> Layouts<'a> {
    /// In an area of [`WeightsGradient::area_len`].
    pub fn new(
        plan: &'a WeightsGradient,
        x: TensorView<'a>,
        gy: TensorView<'a>,
        chunk: Chunk,
        area: *mut f32,
    ) -> Self {
        Layouts {
            copies: Copies { plan, x, chunk, to: SharedOut::new(area) },
            panels: Panels { plan, gy, chunk, to: SharedOut::new(area.wrapping_add(plan.copies_len())) },
            in_place: matches!(plan.reads, Reads::Planes) && x.batch_stride() == plan.image_len(),
        }
    }

    /// Things to do, in any order, before the layouts can be read.
    pub fn items(&self) -> usize {
        self.panels.items() + if self.in_place { 0 } else { self.copies.items() }
    }

    /// One of them.
    pub fn lay_out(&self, isa: Isa, item: usize) {
        match item.checked_sub(self.panels.items()) {
            None => isa.run(PanelsItem(&self.panels, item)),
            Some(item) => isa.run(CopiesItem(&self.copies, item)),
        }
    }

    /// Pixels of the chunk.
    pub fn pixels(&self) -> usize {
        let chunk = self.panels.chunk;
        chunk.images * chunk.rows * self.panels.plan.output[1]
    }

    /// Where x is read, from the first row of the chunk on.
    pub fn rows(&self) -> *const f32 {
        let Copies { plan, x, chunk, to } = self.copies;
        if !self.in_place {
            return to.get();
        }
        x.as_ptr().wrapping_add(chunk.first_image * plan.image_len() + chunk.first_row * plan.input[1])
    }

    /// Where gy is.
    pub fn columns(&self) -> *const f32 {
        self.panels.to.get()
    }
}

/// The copy of x for a chunk: `[image][group][channel][position]`.
#[derive(Clone, Copy)]
struct Copies<'a> {
    plan: &'a WeightsGradient,
    x: TensorView<'a>,
    chunk: Chunk,
    to: SharedOut,
}

impl Copies<'_> {
    /// Channels that an item copies.
    fn channels(&self) -> usize {
        let plane = self.plan.copy_len / self.plan.channels;
        (ITEM_LEN / plane.max(1)).clamp(1, self.plan.channels)
    }

    fn items(&self) -> usize {
        self.chunk.images * self.plan.groups * self.plan.channels.div_ceil(self.channels())
    }
}

/// One of its items.
struct CopiesItem<'a>(&'a Copies<'a>, usize);

impl SimdOp for CopiesItem<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let CopiesItem(&Copies { plan, x, chunk, to }, item) = self;
        let most = self.0.channels();
        let parts = plan.channels.div_ceil(most);
        let (group, part) = (item / parts, item % parts);
        let (image, group_of_image) = (group / plan.groups, group % plan.groups);
        let first = part * most;
        let count = most.min(plan.channels - first);
        let plane = plan.input[0] * plan.input[1];
        let source = &x.image(chunk.first_image + image)[(group_of_image * plan.channels + first) * plane..];
        // SAFETY: the area has a copy for each group of each image of the chunk; no other item has these channels.
        let copy =
            unsafe { std::slice::from_raw_parts_mut(to.get().add(group * plan.copy_len), plan.copy_len) };
        match &plan.reads {
            Reads::Copy(patches) => {
                let copy = &mut copy[first * patches.plane_stride()..];
                patches.copy_channels(simd, count, source, chunk.first_row, chunk.rows, true, copy);
            }
            Reads::Planes => {
                let (start, len) = (chunk.first_row * plan.input[1], chunk.rows * plan.input[1]);
                for c in 0..count {
                    copy[(first + c) * plane..][..len].copy_from_slice(&source[c * plane + start..][..len]);
                }
            }
        }
    }
}

/// The layout of gy for a chunk: `[group][panel][pixel][output]`.
struct Panels<'a> {
    plan: &'a WeightsGradient,
    gy: TensorView<'a>,
    chunk: Chunk,
    to: SharedOut,
}

impl Panels<'_> {
    /// Images that an item lays out.
    fn images(&self) -> usize {
        let pixels = self.chunk.rows * self.plan.output[1] * MAX_LANES;
        (ITEM_LEN / pixels).clamp(1, self.chunk.images)
    }

    fn items(&self) -> usize {
        self.plan.groups * self.plan.panels * self.chunk.images.div_ceil(self.images())
    }
}

/// One of its items.
struct PanelsItem<'a>(&'a Panels<'a>, usize);

impl SimdOp for PanelsItem<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let PanelsItem(&Panels { plan, gy, chunk, to }, item) = self;
        let most = self.0.images();
        let parts = chunk.images.div_ceil(most);
        let (panel, part) = (item / parts, item % parts);
        let images = part * most..chunk.images.min((part + 1) * most);
        let plane = plan.output[0] * plan.output[1];
        let (start, pixels) = (chunk.first_row * plan.output[1], chunk.rows * plan.output[1]);
        let (group, panel_of_group) = (panel / plan.panels, panel % plan.panels);
        let width = S::TILE.1 * S::LANES;
        let first = panel_of_group * width;
        let vectors = (plan.outputs - first).div_ceil(S::LANES).min(S::TILE.1);
        let pitch = vectors * S::LANES;
        let mut from = [std::ptr::null::<f32>(); MAX_LANES];
        for image in images {
            for v in 0..vectors {
                let count = S::LANES.min(plan.outputs - first - v * S::LANES);
                let channel = group * plan.outputs + first + v * S::LANES;
                let source = &gy.image(chunk.first_image + image)[channel * plane..(channel + count) * plane];
                // SAFETY: the area has the panels of all groups, each with all pixels of the chunk; no other item has this
                // panel of this image.
                let to = unsafe {
                    to.get().add(panel * plan.offsets.len() * width + image * pixels * pitch + v * S::LANES)
                };
                if plane == 1 {
                    // The channels of a single pixel lie as they are wanted.
                    // SAFETY: `count` channels; a whole vector of the layout.
                    unsafe { simd.store(to, simd.load_up_to(source.as_ptr(), count)) };
                    continue;
                }
                for (i, row) in from.iter_mut().enumerate().take(count) {
                    *row = source[i * plane + start..].as_ptr();
                }
                // SAFETY: `pixels` elements of `count` planes from the first row of the chunk on; as many rows of the panel.
                unsafe { transpose_into(simd, &from[..count], pixels, to, pitch) };
            }
        }
    }
}
