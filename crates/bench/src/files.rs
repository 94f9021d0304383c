//! Writing results: a file is there whole or not at all.

use std::path::Path;

use serde::Serialize;
use tilewise_model::files::write_atomically;

use crate::error::{Error, Result};

/// Writes `bytes` to a temporary file beside `path` and renames it, as [`write_atomically`] says.
///
/// # Errors
/// [`Error::File`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomically(path, bytes).map_err(Error::write(path))
}

/// Writes a report as JSON, indented.
///
/// # Errors
/// [`Error::File`].
pub fn write_json(path: &Path, report: &impl Serialize) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(report).map_err(|e| Error::write(path)(e.into()))?;
    bytes.push(b'\n');
    write(path, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_folder_is_an_error_that_names_the_file() {
        let message = write(Path::new("/no/such/folder/x.json"), b"").unwrap_err().to_string();
        assert!(message.starts_with("/no/such/folder/x.json: cannot write"), "{message}");
    }
}
