//! Files: read up to a bound, written whole or not at all.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use crate::error::{Error, Result};

/// All bytes of a file, if they are at most `limit`.
///
/// # Errors
/// [`Error::Io`]; [`Error::Format`] for a longer file.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = fs::File::open(path).map_err(Error::io(path))?;
    let mut bytes = Vec::new();
    let read = file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(Error::io(path))?;
    if read as u64 > limit {
        return Err(Error::format(path, format!("expected at most {limit} bytes, got more")));
    }
    Ok(bytes)
}

/// [`write_atomically`], with an error that names the file.
///
/// # Errors
/// [`Error::Io`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomically(path, bytes).map_err(Error::io(path))
}

/// Writes `bytes` to a temporary file beside `path` and renames it, so that whoever reads `path` at any moment, even
/// after a crash, finds the old contents or the new. What is no regular file (a pipe, `/dev/stdout`) is written to
/// directly.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("curves.svg");
/// tilewise_model::files::write_atomically(&path, b"<svg/>")?;
/// assert_eq!(std::fs::read(&path)?, b"<svg/>");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// What the system says: the folder is missing, the disk is full.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let special = fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
    if special { fs::write(path, bytes) } else { replace(path, bytes) }
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
        // Temporary files are private by default; a result gets the permissions of any new file.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
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
        write_atomically(&path, b"old and long").unwrap();
        write_atomically(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        let error = write_atomically(Path::new("/no/such/folder/x.json"), b"").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
