//! Small files that are replaced as a whole.
//!
//! Invariant: under the name stands, at any moment and after any crash, either all of the old bytes or all of the new
//! ones. The order that gives it: temporary file, sync, rename, directory sync.

use std::io;
use std::path::Path;

use super::{OpenMode, Storage};
use crate::testing::{Point, cross};

/// Replaces the file `name` in `dir`, or creates it. When it returns `Ok`, the new bytes are durable under the name.
///
/// The bytes go through `<name>.tmp`; what a crash left there is removed first.
///
/// # Errors
///
/// That of the failing step. If the directory sync is what failed, the new bytes stand under the name, but a crash may
/// bring the old ones back: the error is never `StorageFull` then. After any other failure the old ones stand there, and the temporary file is removed as far
/// as that is possible.
pub fn replace(storage: &dyn Storage, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!("{name}.tmp"));
    match storage.unlink(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let moved = write_new(storage, &temporary, bytes).and_then(|()| {
        cross(Point::StateTemporaryWritten);
        storage.rename(&temporary, &dir.join(name))
    });
    if let Err(failure) = moved {
        // Whoever comes next removes it too: only the first failure is worth telling.
        let _ = storage.unlink(&temporary);
        return Err(failure);
    }
    cross(Point::StateRenamed);
    // A full disk is what leaves the old file. After this failure either may come back, whatever its reason was.
    storage.sync_dir(dir).map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull => io::Error::other(format!("the directory could not be synced: {error}")),
        _ => error,
    })
}

fn write_new(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = storage.open(path, OpenMode::CreateNew)?;
    file.write_all_at(bytes, 0)?;
    file.sync_data()
}

/// All bytes of a small file, or `None` if there is no such file.
///
/// # Errors
///
/// `InvalidData` if the file has more than `limit` bytes, before any of them is read: a damaged length must not become
/// an allocation.
pub fn read_all(storage: &dyn Storage, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match storage.open(path, OpenMode::Read) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let len = file.len()?;
    let too_long = || {
        let message = format!("the file has {len} bytes; at most {limit} are expected");
        io::Error::new(io::ErrorKind::InvalidData, message)
    };
    if len > limit {
        return Err(too_long());
    }
    let len = usize::try_from(len).map_err(|_| too_long())?;
    let mut bytes = Vec::with_capacity(len);
    file.read_to(&mut bytes, len, 0)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests;
