//! The microkernel: a tile of C stays in registers while k runs.
//!
//! ```text
//! for each k:  b0, b1 = two vectors of B's panel
//!     for each row i:  x = splat(a[offsets[k] + i]);  c[i][0] += x * b0;  c[i][1] += x * b1
//! ```
//!
//! Each size of tile is a function of its own, compiled for its instruction set, so that every accumulator is a
//! register and every row a constant distance from the first.

use std::hint::black_box;

use crate::cpu::scratch::{LINE, Scratch};
use crate::error::Result;
use crate::simd::{Isa, Simd, SimdOp};

/// A slice of k: where each element of A lies, and the panel's slice.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    pub offsets: &'a [usize],
    pub b: *const f32,
    /// Whether the sums start here, rather than at what `acc` holds.
    pub first: bool,
    /// What will be read next, asked for with each k: of rows side by side what lies at its offset from there, else one cache line
    /// after the other.
    pub ahead: *const f32,
}

/// Where the rows of a tile of A lie.
pub(crate) trait Left: Copy {
    /// Whether what is ahead lies at the offsets of the rows.
    const AHEAD_AT_OFFSETS: bool = false;

    /// Row `i` at an offset.
    ///
    /// # Safety
    /// There is such a row, and it can be read there.
    unsafe fn at<S: Simd>(self, i: usize, offset: usize) -> f32;
}

/// Side by side.
impl Left for *const f32 {
    const AHEAD_AT_OFFSETS: bool = true;

    #[inline(always)]
    unsafe fn at<S: Simd>(self, i: usize, offset: usize) -> f32 {
        // SAFETY: the caller's promise. In this order: one address for all rows of an offset.
        unsafe { *self.add(offset).add(i) }
    }
}

/// Rows a vector apart: what was written with channels as lanes.
#[derive(Clone, Copy)]
pub(crate) struct VectorsApart(pub *const f32);

impl Left for VectorsApart {
    #[inline(always)]
    unsafe fn at<S: Simd>(self, i: usize, offset: usize) -> f32 {
        // SAFETY: the caller's promise.
        unsafe { *self.0.add(offset).add(i * S::LANES) }
    }
}

/// Anywhere.
impl<const R: usize> Left for [*const f32; R] {
    #[inline(always)]
    unsafe fn at<S: Simd>(self, i: usize, offset: usize) -> f32 {
        // SAFETY: the caller's promise.
        unsafe { *self[i].add(offset) }
    }
}

/// The sums go on from what `acc` holds.
struct Kernel<'a, A, const R: usize, const V: usize> {
    a: A,
    part: Part<'a>,
    acc: *mut f32,
}

impl<A: Left, const R: usize, const V: usize> SimdOp for Kernel<'_, A, R, V> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Kernel { a, part, acc } = self;
        let mut c = [[simd.splat(0.0); V]; R];
        // SAFETY: `accumulate`'s promises: the rows are readable at each offset, b holds V vectors per k, acc R * V.
        unsafe {
            if !part.first {
                for (i, row) in c.iter_mut().enumerate() {
                    for (v, sum) in row.iter_mut().enumerate() {
                        *sum = simd.load(acc.add((i * V + v) * S::LANES));
                    }
                }
            }
            multiply(simd, a, part, &mut c);
            for (i, row) in c.iter().enumerate() {
                for (v, &sum) in row.iter().enumerate() {
                    simd.store(acc.add((i * V + v) * S::LANES), sum);
                }
            }
        }
    }
}

/// The sums of each `chain` of k are added to what `acc` holds.
struct ChainKernel<'a, const R: usize, const V: usize> {
    rows: [*const f32; R],
    part: Part<'a>,
    chain: usize,
    acc: *mut f32,
}

impl<const R: usize, const V: usize> SimdOp for ChainKernel<'_, R, V> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let ChainKernel { rows, mut part, chain, acc } = self;
        let offsets = part.offsets;
        for (i, offsets) in offsets.chunks(chain).enumerate() {
            let mut c = [[simd.splat(0.0); V]; R];
            part.offsets = offsets;
            // SAFETY: `accumulate_rows`'s promises: the rows are readable at each offset, b holds V vectors per k, acc R * V.
            unsafe {
                (part.b, part.ahead) = multiply(simd, rows, part, &mut c);
                let new = part.first && i == 0;
                for (i, row) in c.iter().enumerate() {
                    for (v, &sum) in row.iter().enumerate() {
                        let to = acc.add((i * V + v) * S::LANES);
                        simd.store(to, if new { sum } else { simd.add(simd.load(to), sum) });
                    }
                }
            }
        }
    }
}

/// Adds the products of a part. Gives back where b, and what is ahead, go on.
///
/// # Safety
/// The rows are readable at each offset, and b holds `V` vectors for each.
#[inline(always)]
unsafe fn multiply<S: Simd, A: Left, const R: usize, const V: usize>(
    simd: S,
    a: A,
    Part { offsets, mut b, mut ahead, .. }: Part<'_>,
    c: &mut [[S::F32; V]; R],
) -> (*const f32, *const f32) {
    for &offset in offsets {
        let mut columns = [simd.splat(0.0); V];
        // SAFETY: the caller's promise.
        unsafe {
            for (v, column) in columns.iter_mut().enumerate() {
                *column = simd.load(b.add(v * S::LANES));
            }
            for (i, sums) in c.iter_mut().enumerate() {
                let x = simd.splat(a.at::<S>(i, offset));
                for (sum, &column) in sums.iter_mut().zip(&columns) {
                    *sum = simd.mul_add(x, column, *sum);
                }
            }
            b = b.add(V * S::LANES);
        }
        if A::AHEAD_AT_OFFSETS {
            simd.prefetch(ahead.wrapping_add(offset));
        } else {
            simd.prefetch_to_l2(ahead);
            ahead = ahead.wrapping_add(LINE);
        }
    }
    (b, ahead)
}

/// Adds a slice of k to a tile of `rows` x `vectors` vectors at `acc`.
///
/// # Safety
/// For every offset, `rows` rows of `a` are readable; `part.b` holds `vectors` vectors for each; `acc` holds
/// `rows * vectors` vectors.
///
/// # Panics
/// If the tile is larger than [`Simd::TILE`] or empty.
#[inline(always)]
pub(crate) unsafe fn accumulate<S: Simd>(
    simd: S,
    rows: usize,
    vectors: usize,
    a: impl Left,
    part: Part<'_>,
    acc: *mut f32,
) {
    macro_rules! by_size {
        ($vectors:literal: $($rows:literal)*) => {
            match rows {
                // Sizes beyond the register file are not compiled.
                $($rows if const { $rows <= S::TILE.0 && $vectors <= S::TILE.1 } => {
                    simd.vectorize(Kernel::<_, $rows, $vectors> { a, part, acc })
                })*
                _ => unreachable!("a tile of {rows} rows x {vectors} vectors"),
            }
        };
    }
    match vectors {
        1 => by_size!(1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        _ => by_size!(2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
    }
}

/// The most rows of [`accumulate_rows`]: the compiler loads an element of each before it multiplies any, so all must fit the
/// registers beside the sums; with 12 rows of AVX-512 sums leave them, at half the speed.
pub(crate) const fn most_rows(isa: Isa) -> usize {
    let (rows, _) = isa.tile();
    if rows < 9 { rows } else { 9 }
}

/// [`accumulate`] of rows that lie anywhere, as many as `rows` has; the sums of each `chain` of k are added to what `acc` holds: fewer
/// roundings for each product than where they go on.
///
/// # Safety
/// Every row is readable at every offset; else as there.
///
/// # Panics
/// If there are more rows than [`most_rows`], or none; if `chain` is zero.
#[inline(always)]
pub(crate) unsafe fn accumulate_rows<S: Simd>(
    simd: S,
    rows: &[*const f32],
    vectors: usize,
    part: Part<'_>,
    chain: usize,
    acc: *mut f32,
) {
    macro_rules! by_size {
        ($vectors:literal: $($rows:literal)*) => {
            match rows.len() {
                // Sizes beyond the register file are not compiled.
                $($rows if const { $rows <= most_rows(S::ISA) && $vectors <= S::TILE.1 } => {
                    let mut a = [std::ptr::null(); $rows];
                    a.copy_from_slice(rows);
                    simd.vectorize(ChainKernel::<$rows, $vectors> { rows: a, part, chain, acc })
                })*
                _ => unreachable!("a tile of {} rows x {vectors} vectors", rows.len()),
            }
        };
    }
    match vectors {
        1 => by_size!(1: 1 2 3 4 5 6 7 8 9),
        _ => by_size!(2: 1 2 3 4 5 6 7 8 9),
    }
}

/// What [`probe_microkernel`] did.
#[derive(Debug, Clone, Copy)]
pub struct MicrokernelProbe {
    /// Rows of the tile.
    pub rows: usize,
    /// Columns of the tile.
    pub columns: usize,
    /// FLOPs done.
    pub flops: f64,
}

/// Runs the largest tile of an instruction set over operands that stay in L1, `repeats` times: what the microkernel
/// alone can do, to be timed against the machine's FMA peak.
///
/// # Errors
/// [`crate::Error::IsaMissing`] or [`crate::Error::OutOfMemory`].
pub fn probe_microkernel(isa: Isa, repeats: usize) -> Result<MicrokernelProbe> {
    struct Probe<'a> {
        memory: &'a mut [f32],
        offsets: &'a [usize],
        repeats: usize,
    }
    impl SimdOp for Probe<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            let (rows, vectors) = S::TILE;
            let (a, rest) = self.memory.split_at_mut(DEPTH * rows);
            let (b, acc) = rest.split_at_mut(DEPTH * vectors * S::LANES);
            for _ in 0..self.repeats {
                let b = black_box(b.as_ptr());
                let part = Part { offsets: self.offsets, b, first: true, ahead: a.as_ptr() };
                // SAFETY: the parts of the memory have just these lengths; the offsets are k * rows, k < DEPTH.
                unsafe { accumulate(simd, rows, vectors, a.as_ptr(), part, acc.as_mut_ptr()) };
            }
        }
    }
    // Operands of 14 x 192 + 32 x 192 f32 = 34 KiB would spill out of L1; 128 deep is 23 KiB.
    const DEPTH: usize = 128;
    let (rows, vectors) = isa.require()?.tile();
    let columns = vectors * isa.lanes();
    let mut memory = Scratch::with_len(DEPTH * (rows + columns) + rows * columns)?;
    memory.as_mut_slice().fill(1.0 / 1024.0);
    let offsets: Vec<usize> = (0..DEPTH).map(|k| k * rows).collect();
    isa.run(Probe { memory: memory.as_mut_slice(), offsets: &offsets, repeats });
    black_box(memory.as_slice());
    Ok(MicrokernelProbe { rows, columns, flops: 2.0 * (rows * columns * DEPTH) as f64 * repeats as f64 })
}
