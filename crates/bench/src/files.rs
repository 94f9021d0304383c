//! Writing results: a file is there whole or not at all.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use crate::error::{Error, Result};

/// Writes `bytes` to a temporary file beside `path` and renames it. What is no regular file (a pipe, `/dev/stdout`) is
/// written to directly.
///
/// # Errors
/// [`Error::File`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let special = fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
    let written = if special { fs::write(path, bytes) } else { replace(path, bytes) };
    written.map_err(Error::write(path))
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

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Through a symbolic link, so that the link stays one.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".tilewise-");
    #[cfg(unix)]
    {
        // Temporary files are private by default; a report gets the permissions of any new file.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        write(&path, b"old and long").unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_folder_is_an_error_that_names_the_file() {
        let message = write(Path::new("/no/such/folder/x.json"), b"").unwrap_err().to_string();
        assert!(message.starts_with("/no/such/folder/x.json: cannot write"), "{message}");
    }
}
