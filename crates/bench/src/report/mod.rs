//! What was found, as tables for people (Markdown, so that they can be pasted) and as JSON for programs.

mod check;
mod contest;
mod detection;
mod model;
mod throughput;

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};

pub use check::Matrix;
pub use contest::{Contender, Contest};
pub use detection::{Detections, DetectorRow};
pub use model::ModelRow;
pub use throughput::{Rate, Report, Row};

/// A table whose columns from `numbers` on are aligned to the right.
fn table(header: &[&str], numbers: usize) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(header);
    for column in numbers..header.len() {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
