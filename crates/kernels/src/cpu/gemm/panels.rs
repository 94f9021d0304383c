//! The right matrix, packed once: panels of one or two vectors of columns, each panel `k`-major and contiguous.

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
    /// Packs `at(k, column)`.
    pub fn pack(isa: Isa, depth: usize, columns: usize, at: impl Fn(usize, usize) -> f32) -> Result<Self> {
        let (lanes, vectors) = (isa.lanes(), isa.tile().1);
        let mut panels = Panels { data: Scratch::default(), depth, columns, lanes, vectors };
        let padded = columns.next_multiple_of(lanes);
        let mut data = Scratch::with_len(checked_product("gemm", "packed weights", &[depth, padded])?)?;
        for panel in 0..panels.count() {
            let width = panels.vectors(panel) * lanes;
            let first = panels.column(panel);
            let used = width.min(columns - first);
            let start = first * depth;
            let rows = data.as_mut_slice()[start..start + depth * width].chunks_exact_mut(width);
            for (k, row) in rows.enumerate() {
                for (i, value) in row[..used].iter_mut().enumerate() {
                    *value = at(k, first + i);
                }
            }
        }
        panels.data = data;
        Ok(panels)
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
