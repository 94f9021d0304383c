//! The only user of rayon.
//!
//! Work is a number of independent items; strands (at most as many as the device may use threads) take them one
//! after the other from a shared counter. Which strand computes an item never changes what is computed, so results
//! do not depend on the number of threads. One strand runs on the calling thread and touches no pool.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

use crate::cpu::Cpu;
use crate::tensor::TensorViewMut;

/// Elements that a thread must have to itself before waking it pays: about 10 us of memory traffic.
const MIN_ELEMENTS_PER_STRAND: usize = 16 * 1024;

/// Elements of an item of work where nothing else decides: 32 KiB of output, so that input and output stay in any L2
/// cache, and taking the item costs nothing beside computing it.
pub(crate) const CHUNK: usize = 8 * 1024;

/// The threads of the pool that a call made here and now would run in.
pub(crate) fn in_pool() -> usize {
    rayon::current_num_threads()
}

/// A pointer into an output that several strands write at once, each its own part.
#[derive(Clone, Copy)]
pub(crate) struct SharedOut<T = f32>(*mut T);

// SAFETY: whoever dereferences the pointer argues that no two strands touch the same element.
unsafe impl<T: Send> Send for SharedOut<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedOut<T> {}

impl<T> SharedOut<T> {
    pub(crate) fn new(p: *mut T) -> Self {
        SharedOut(p)
    }

    /// The pointer. A method, so that closures capture the wrapper and not the bare pointer.
    pub(crate) fn get(self) -> *mut T {
        self.0
    }
}

/// Calls `f(strand, item)` once for each of `items` items, on at most `strands` threads. A strand runs one item at
/// a time, so `strand` may index scratch memory.
pub(crate) fn for_each_item(strands: usize, items: usize, f: impl Fn(usize, usize) + Sync) {
    let strands = strands.min(items);
    if strands <= 1 {
        (0..items).for_each(|item| f(0, item));
        return;
    }
    let next = AtomicUsize::new(0);
    (0..strands).into_par_iter().with_max_len(1).for_each(|strand| {
        loop {
            let item = next.fetch_add(1, Ordering::Relaxed);
            if item >= items {
                break;
            }
            f(strand, item);
        }
    });
}

/// Elements of an item of work whose result is a sum: a block of the widest vectors (`cpu/sum.rs`).
pub(crate) const PART: usize = 4096;

/// Partial sums of [`sum_of_items`] at most: they wait on the stack.
const PARTS: usize = 256;

/// The `N` sums of what `f(item)` gives for each of `items` items, on at most `strands` threads. The order of the additions
/// follows from the number of items alone. Allocates nothing.
pub(crate) fn sum_of_items<const N: usize>(
    strands: usize,
    items: usize,
    f: impl Fn(usize) -> [f64; N] + Sync,
) -> [f64; N] {
    let add = |sums: [f64; N], terms: [f64; N]| std::array::from_fn(|k| sums[k] + terms[k]);
    let per_part = items.div_ceil(PARTS).max(1);
    let parts = [const { [const { AtomicU64::new(0) }; N] }; PARTS];
    for_each_item(strands, items.div_ceil(per_part), |_, part| {
        let first = part * per_part;
        let sums = (first..items.min(first + per_part)).map(&f).fold([0.0; N], add);
        for (to, sum) in parts[part].iter().zip(sums) {
            to.store(sum.to_bits(), Ordering::Relaxed);
        }
    });
    let sums =
        parts.iter().map(|part| std::array::from_fn(|k| f64::from_bits(part[k].load(Ordering::Relaxed))));
    sums.fold([0.0; N], add)
}

/// How many strands `work` elements, read or written, are worth.
pub(crate) fn strands(cpu: &Cpu, work: usize) -> usize {
    cpu.thread_count().min(work.div_ceil(MIN_ELEMENTS_PER_STRAND))
}

/// Cuts each image of `y` into chunks of `chunk` elements (the last may be shorter) and calls
/// `f(image, offset within the image, chunk)` for each, on as many threads as the work is worth: that of
/// [`strands`] for `work` elements.
pub(crate) fn for_each_chunk_of_work(
    cpu: &Cpu,
    mut y: TensorViewMut<'_>,
    chunk: usize,
    work: usize,
    f: impl Fn(usize, usize, &mut [f32]) + Sync,
) {
    let (shape, batch_stride) = (y.shape(), y.batch_stride());
    let image = shape.image_len();
    if image == 0 || shape.n == 0 || chunk == 0 {
        return;
    }
    let per_image = image.div_ceil(chunk);
    let out = SharedOut::new(y.as_mut_ptr());
    for_each_item(strands(cpu, work), shape.n * per_image, |_, item| {
        let (n, start) = (item / per_image, item % per_image * chunk);
        let len = chunk.min(image - start);
        // SAFETY: the view was checked to hold `n` images of `image` elements, `batch_stride >= image` apart, and
        // chunks of one image do not overlap; each item is one chunk and runs once.
        let part = unsafe { std::slice::from_raw_parts_mut(out.get().add(n * batch_stride + start), len) };
        f(n, start, part);
    });
}

/// [`for_each_chunk_of_work`] where the elements of `y` are the work.
pub(crate) fn for_each_chunk(
    cpu: &Cpu,
    y: TensorViewMut<'_>,
    chunk: usize,
    f: impl Fn(usize, usize, &mut [f32]) + Sync,
) {
    let work = y.shape().n * y.shape().image_len();
    for_each_chunk_of_work(cpu, y, chunk, work, f);
}

/// [`for_each_chunk`] in whole rows, about [`CHUNK`] elements of them at a time: calls
/// `f(image, index of the first row among all of the image, rows)`.
pub(crate) fn for_each_rows(cpu: &Cpu, y: TensorViewMut<'_>, f: impl Fn(usize, usize, &mut [f32]) + Sync) {
    let width = y.shape().w;
    let rows = (CHUNK / width.max(1)).max(1);
    for_each_chunk(cpu, y, rows * width, |n, start, part| f(n, start / width, part));
}
