//! The right matrix, packed: panels of one or two vectors of columns, each panel `k`-major and contiguous.

use crate::cpu::Cpu;
use crate::cpu::scratch::Scratch;
use crate::cpu::threads::{self, SharedOut, for_each_item};
use crate::error::Result;
use crate::simd::{Isa, MAX_LANES, Simd, SimdOp};
use crate::tensor::checked_product;

/// `depth` x `columns`, in panels as wide as the tile of the instruction set; the last may be one vector wide. Lanes
/// past the last column hold zeros.
#[derive(Debug, Clone)]
pub(crate) struct Panels {
    data: Scratch,
    depth: usize,
    columns: usize,
    lanes: usize,
    /// Vectors of a full panel.
    vectors: usize,
}

impl Panels {
    /// Zeros.
    pub fn new(isa: Isa, depth: usize, columns: usize) -> Result<Self> {
        let (lanes, vectors) = (isa.lanes(), isa.tile().1);
        let padded = columns.next_multiple_of(lanes);
        let data = Scratch::with_len(checked_product("gemm", "packed weights", &[depth, padded])?)?;
        Ok(Panels { data, depth, columns, lanes, vectors })
    }

    /// Packs `row(k)(column)`.
    pub fn fill<R: Fn(usize) -> f32>(&mut self, row: impl Fn(usize) -> R) {
        for panel in 0..self.count() {
            let (first, width) = (self.column(panel), self.vectors(panel) * self.lanes);
            let used = width.min(self.columns - first);
            let start = first * self.depth;
            let rows = self.data.as_mut_slice()[start..start + self.depth * width].chunks_exact_mut(width);
            for (k, values) in rows.enumerate() {
                let at = row(k);
                for (i, value) in values[..used].iter_mut().enumerate() {
                    *value = at(first + i);
                }
            }
        }
    }

    /// Packs a matrix whose columns lie one behind the other: each panel is a few of them, transposed.
    pub fn fill_columns<'a>(&mut self, cpu: &Cpu, column: impl Fn(usize) -> &'a [f32] + Sync) {
        let isa = cpu.isa();
        self.for_each_panel(cpu, |first, width, panel| {
            let mut columns = [[].as_slice(); 2 * MAX_LANES];
            let columns = &mut columns[..width];
            columns.iter_mut().enumerate().for_each(|(i, values)| *values = column(first + i));
            isa.run(Transpose { columns, panel });
        });
    }

    /// Packs a matrix row by row.
    pub fn fill_rows<'a>(&mut self, cpu: &Cpu, row: impl Fn(usize) -> &'a [f32] + Sync) {
        let lanes = self.lanes;
        self.for_each_panel(cpu, |first, width, panel| {
            for (k, values) in panel.chunks_exact_mut(width.next_multiple_of(lanes)).enumerate() {
                values[..width].copy_from_slice(&row(k)[first..first + width]);
            }
        });
    }

    /// Calls `f(first column, columns, panel)` for each panel, on as many threads as they are worth.
    fn for_each_panel(&mut self, cpu: &Cpu, f: impl Fn(usize, usize, &mut [f32]) + Sync) {
        let data = SharedOut::new(self.data.as_mut_slice().as_mut_ptr());
        let work = self.data.as_slice().len();
        for_each_item(threads::strands(cpu, work), self.count(), |_, panel| {
            let (first, width) = (self.column(panel), self.vectors(panel) * self.lanes);
            // SAFETY: panels lie one behind the other; each is one item, which runs once.
            let values = unsafe {
                std::slice::from_raw_parts_mut(data.get().add(first * self.depth), width * self.depth)
            };
            f(first, width.min(self.columns - first), values);
        });
    }

    /// Rows.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// How many panels there are.
    pub fn count(&self) -> usize {
        self.columns.div_ceil(self.vectors * self.lanes)
    }

    /// The first column of a panel.
    pub fn column(&self, panel: usize) -> usize {
        panel * self.vectors * self.lanes
    }

    /// Vectors in one row of a panel.
    pub fn vectors(&self, panel: usize) -> usize {
        (self.columns - self.column(panel)).div_ceil(self.lanes).min(self.vectors)
    }

    /// Row `k` of a panel.
    ///
    /// # Panics
    /// If there is no such row, other than the end of the panel.
    pub fn at(&self, panel: usize, k: usize) -> *const f32 {
        let start = self.column(panel) * self.depth + k * self.vectors(panel) * self.lanes;
        self.data.as_slice()[start..].as_ptr()
    }
}

/// Columns to a panel, whose rows are as many whole vectors as they take.
struct Transpose<'a> {
    columns: &'a [&'a [f32]],
    panel: &'a mut [f32],
}

impl SimdOp for Transpose<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Transpose { columns, panel } = self;
        let (pitch, depth) = (columns.len().next_multiple_of(S::LANES), columns[0].len());
        assert!(panel.len() == depth * pitch && columns.iter().all(|column| column.len() == depth));
        for (v, columns) in columns.chunks(S::LANES).enumerate() {
            let mut from = [std::ptr::null(); MAX_LANES];
            from.iter_mut().zip(columns).for_each(|(from, column)| *from = column.as_ptr());
            // SAFETY: `depth` elements of each column, and as many rows of whole vectors, as asserted.
            unsafe {
                let to = panel.as_mut_ptr().add(v * S::LANES);
                transpose_into(simd, &from[..columns.len()], depth, to, pitch);
            }
        }
    }
}

/// Writes `rows[i][j]` to `out[j * pitch + i]` for `j < count`; lanes beyond the rows are zeros.
///
/// # Safety
/// `count` f32 can be read at each of the rows, of which there are at most `LANES`, and whole vectors written.
#[inline(always)]
pub(crate) unsafe fn transpose_into<S: Simd>(
    simd: S,
    rows: &[*const f32],
    count: usize,
    out: *mut f32,
    pitch: usize,
) {
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
