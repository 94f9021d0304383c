//! Reading files from outside: as much memory as the file has bytes, gzip where it is, and no more than a limit.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use tilewise_kernels::{Shape4, Tensor};

use crate::error::{Error, Result};

/// The largest file that is read, after it was unpacked. CIFAR-10 as a whole has 184 MB; as f32 it takes four times as
/// much. A gzip file of 1 MB can promise 1 GB: so that is where it ends.
const MAX_BYTES: u64 = 1 << 30;

/// What every gzip file starts with.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A file as it is, or unpacked if it is gzip, whatever its name says.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    read_at_most(path, MAX_BYTES)
}

/// The first bytes of a file, unpacked, to see what it is: fewer than `limit` if it is shorter.
pub(super) fn read_start(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(limit).read_to_end(&mut bytes).map_err(|e| broken(path, e))?;
    Ok(bytes)
}

fn read_at_most(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // Grows with what is really there: nothing is believed that a header promises.
    open(path)?.take(limit + 1).read_to_end(&mut bytes).map_err(|e| broken(path, e))?;
    if bytes.len() as u64 > limit {
        return Err(Error::format(path, format!("expected at most {limit} bytes (unpacked), got more")));
    }
    Ok(bytes)
}

fn open(path: &Path) -> Result<Box<dyn Read>> {
    let file = || File::open(path).map_err(Error::io(path));
    if file()?.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(Error::format(path, "expected a file, got a folder"));
    }
    let mut start = Vec::new();
    file()?.take(2).read_to_end(&mut start).map_err(Error::io(path))?;
    Ok(if start == GZIP { Box::new(MultiGzDecoder::new(BufReader::new(file()?))) } else { Box::new(file()?) })
}

/// A reader's error: of the gzip decoder, which says `InvalidInput`, `InvalidData` or that the file ends too early, or
/// of the system.
fn broken(path: &Path, error: std::io::Error) -> Error {
    use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    match error.kind() {
        InvalidData | InvalidInput | UnexpectedEof => {
            Error::format(path, format!("expected a whole gzip file, got a damaged one: {error}"))
        }
        _ => Error::io(path)(error),
    }
}

/// Bytes as pixels, 255 being 1.0.
pub(super) fn to_tensor(shape: Shape4, bytes: &[u8]) -> Result<Tensor> {
    let mut tensor = Tensor::zeros(shape)?;
    for (to, &byte) in tensor.data_mut().iter_mut().zip(bytes) {
        *to = f32::from(byte) / 255.0;
    }
    Ok(tensor)
}

/// Classes named by their numbers, as many as the labels need.
pub(super) fn numbered(labels: &[usize]) -> Vec<String> {
    let classes = labels.iter().max().map_or(0, |&label| label + 1);
    (0..classes).map(|class| class.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn gzip_is_unpacked_whatever_its_name_and_only_so_far() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("zeros");
        let zeros = vec![0; 100_000];
        fs::write(&path, gzip(&zeros)).unwrap();
        assert!(fs::metadata(&path).unwrap().len() < 1000);
        assert_eq!(read(&path).unwrap(), zeros);
        assert_eq!(read_at_most(&path, 100_000).unwrap(), zeros);
        assert_eq!(read_start(&path, 7).unwrap(), [0; 7]);
        let message = read_at_most(&path, 99_999).unwrap_err().to_string();
        assert!(message.ends_with("zeros: expected at most 99999 bytes (unpacked), got more"), "{message}");

        fs::write(&path, &gzip(&zeros)[..60]).unwrap();
        let message = read(&path).unwrap_err().to_string();
        assert!(message.contains("expected a whole gzip file"), "{message}");
        fs::write(&path, "plain").unwrap();
        assert_eq!(read(&path).unwrap(), b"plain");
        assert!(read(&folder.path().join("none")).unwrap_err().to_string().contains("none: "));
        assert!(read(folder.path()).unwrap_err().to_string().contains("got a folder"));
    }
}
