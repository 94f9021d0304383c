//! Operators of one element an invocation.

use super::Gpu;
use super::buffer::{GpuView, words};
use super::parts::{by_element, elementwise};
use super::recorder::{Dispatch, WORKGROUP};
use super::wgsl::Kernel;
use crate::error::Result;

impl Gpu {
    /// Runs `kernel` on every element of views of one shape: those that it reads, then those that it writes. Its parameters
    /// are the elements of an image and of all, for each view the first element and the distance of images, then `own`.
    pub(super) fn for_each_element<const N: usize>(
        &self,
        op: &'static str,
        kernel: Kernel,
        views: [GpuView<'_>; N],
        own: &[u32],
    ) -> Result<()> {
        let views = elementwise(views);
        for part in by_element(self, &views) {
            let slices = views.map(|view| view.part(self, &part));
            let count = part.count();
            let mut params = words(op, [part.image(), count])?.to_vec();
            for (slice, view) in slices.iter().zip(&views) {
                params.extend(words(op, [slice.first, view.batch_stride])?);
            }
            params.extend(own);
            let (reads, writes) = slices.split_at(kernel.shader.reads);
            let workgroups = count.div_ceil(WORKGROUP);
            self.dispatch(&Dispatch { op, kernel, params: &params, reads, writes, workgroups })?;
        }
        Ok(())
    }
}
