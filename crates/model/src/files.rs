//! Files that are whole or not there.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use crate::error::{Error, Result};

/// All bytes of a file, if they are at most so many.
///
/// # Errors
/// [`Error::Io`]; [`Error::Format`] for a longer file.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = fs::File::open(path).map_err(Error::io(path))?;
    let mut bytes = Vec::new();
    let read = file.take(limit + 1).read_to_end(&mut bytes).map_err(Error::io(path))?;
    if read as u64 > limit {
        return Err(Error::format(path, format!("expected at most {limit} bytes, got more")));
    }
    Ok(bytes)
}

/// Writes a file beside the one that may be there, and puts it in its place when all of it is on the disk. What is no regular
/// file (a pipe, `/dev/stdout`) is written to directly.
///
/// # Errors
/// [`Error::Io`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let special = fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
    let written = if special { fs::write(path, bytes) } else { replace(path, bytes) };
    written.map_err(Error::io(path))
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
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
        // Temporary files are private by default; this one gets the permissions of any new file.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
