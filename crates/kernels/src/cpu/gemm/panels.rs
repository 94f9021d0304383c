//! The right matrix, packed: panels of one or two vectors of columns, each panel `k`-major and contiguous.

use crate::cpu::scratch::Scratch;
use crate::error::Result;
use crate::simd::Isa;
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
