//! What is wrong with the text of a case.

use super::Op;

/// Why a text is no case.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CaseError {
    /// There is no such operator.
    #[error("operator: expected one of {}, got `{got}`", names())]
    UnknownOp {
        /// What came.
        got: String,
    },
    /// The text does not read as a case.
    #[error("case: {what}: expected {expected}, got `{got}`")]
    Syntax {
        /// The part of the text or the field.
        what: String,
        /// What would have been read.
        expected: &'static str,
        /// What came.
        got: String,
    },
    /// It reads, but extents and parameters do not fit together.
    #[error("case: {0}")]
    Shape(#[from] tilewise_kernels::Error),
}

fn names() -> String {
    Op::ALL.map(Op::name).join(", ")
}

impl CaseError {
    pub(super) fn syntax(what: impl Into<String>, expected: &'static str, got: impl Into<String>) -> Self {
        CaseError::Syntax { what: what.into(), expected, got: got.into() }
    }
}
