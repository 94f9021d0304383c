//! What the sums of a chunk read: a padded copy of x, and panels of gy, laid out by as many threads as there are.

use super::{Chunk, ITEM_LEN, Reads, WeightsGradient};
use crate::cpu::threads::SharedOut;
use crate::simd::{MAX_LANES, Simd, SimdOp};
use crate::tensor::TensorView;

/// The copy of x for a chunk: `[image][group][channel][position]`.
pub(super) struct Copies<'a> {
    pub plan: &'a WeightsGradient,
    pub x: TensorView<'a>,
    pub chunk: Chunk,
    pub to: SharedOut,
}

impl Copies<'_> {
    /// Channels that an item copies.
    fn channels(&self) -> usize {
        let plane = self.plan.copy_len / self.plan.channels;
        (ITEM_LEN / plane.max(1)).clamp(1, self.plan.channels)
    }

    pub fn items(&self) -> usize {
        self.chunk.images * self.plan.groups * self.plan.channels.div_ceil(self.channels())
    }
}

/// One of its items.
pub(super) struct CopiesItem<'a>(pub &'a Copies<'a>, pub usize);

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
pub(super) struct Panels<'a> {
    pub plan: &'a WeightsGradient,
    pub gy: TensorView<'a>,
    pub chunk: Chunk,
    pub to: SharedOut,
}

impl Panels<'_> {
    /// Images that an item lays out.
    fn images(&self) -> usize {
        let pixels = self.chunk.rows * self.plan.output[1] * MAX_LANES;
        (ITEM_LEN / pixels).clamp(1, self.chunk.images)
    }

    pub fn items(&self) -> usize {
        self.plan.groups * self.plan.panels * self.chunk.images.div_ceil(self.images())
    }
}

/// One of its items.
pub(super) struct PanelsItem<'a>(pub &'a Panels<'a>, pub usize);

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

/// Writes `rows[i][j]` to `out[j * pitch + i]` for `j < count`; lanes beyond the rows are zeros.
///
/// # Safety
/// `count` f32 can be read at each of the rows, of which there are at most `LANES`, and whole vectors written.
#[inline(always)]
unsafe fn transpose_into<S: Simd>(simd: S, rows: &[*const f32], count: usize, out: *mut f32, pitch: usize) {
    for first in (0..count).step_by(S::LANES) {
        let mut square = [simd.splat(0.0); MAX_LANES];
        for (vector, row) in square.iter_mut().zip(rows) {
            // SAFETY: first < count, of which as many are left.
            *vector = unsafe { simd.load_up_to(row.add(first), count - first) };
        }
        simd.transpose(&mut square[..S::LANES]);
        for (j, vector) in square.iter().enumerate().take(S::LANES.min(count - first)) {
            // SAFETY: first + j < count.
            unsafe { simd.store(out.add((first + j) * pitch), *vector) };
        }
    }
}
