//! One segment takes the place of several: what compaction does at its end, and recovery after a crash.
//!
//! Invariant: at every moment either all of the old segments or all of the new one can be reached by durable names, on a
//! disk that may show any mixture of names whose directory was not synced. The steps, each durable before the next:
//!
//! 1. the new files stand under `.cleaned` names, synced;
//! 2. the manifest names the new segment by its last batch: the intent;
//! 3. the index files are called `.swap`, then the `.log`: from here on the new segment counts;
//! 4. the new `.log` has its name, over the old one: an unsynced rename that is lost whole leaves the old one, with its
//!    neighbours still there; the `.txnindex` is copied, not renamed, so that it cannot be lost;
//! 5. the old neighbours go;
//! 6. the manifest forgets the intent.
//!
//! Names and suffixes are those of Kafka's `LocalLog.replaceSegments`, which takes the old segments away before step 4.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Corruption, Error};
use crate::format::batch::{BatchHeader, HEADER_SIZE};
use crate::format::names::{
    FileName, LeftoverSuffix, index_name, log_name, suffixed, time_index_name, txn_index_name,
};
use crate::storage::{self, OpenMode, Storage, unlink_if_there};
use crate::testing::{Point, cross};
use crate::types::{LogPoint, Offset};

/// Room for more than 30 million aborted transactions.
const MAX_TXN_INDEX_SIZE: u64 = 1 << 30;

/// How far a replacement has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The old segments count.
    NotBegun,
    /// The new segment counts, and stands under its `.swap` name.
    Swapped,
    /// The new segment has its name; of the old ones some may be there.
    InPlace,
}

/// How far the replacement has come whose new segment ends at `end`. Reads only.
///
/// # Errors
///
/// [`Error::Corrupt`] if the `.swap` file is not the segment that `end` names; [`Error::Io`] if a file cannot be read.
pub fn stage(storage: &dyn Storage, dir: &Path, end: &LogPoint) -> Result<Stage, Error> {
    let path = swap_path(dir, end.segment);
    match ends_at(storage, &path, end)? {
        Some(true) => return Ok(Stage::Swapped),
        Some(false) => {
            return Err(Error::Corrupt(Box::new(Corruption {
                path,
                bytes: 0..end.position.0,
                offsets: Some(end.segment..end.offset),
                what: "compacted segment".to_owned(),
                expected: format!(
                    "{} bytes that end with the batch before offset {}",
                    end.position, end.offset
                ),
                found: "another file".to_owned(),
                advice: "move it away if the segments that it covers are there; they hold all of its records"
                    .to_owned(),
            })));
        }
        None => {}
    }
    let in_place = ends_at(storage, &dir.join(log_name(end.segment)), end)?;
    Ok(if in_place == Some(true) { Stage::InPlace } else { Stage::NotBegun })
}

/// Step 3. The files were synced under their `.cleaned` names, and the intent is durable.
///
/// # Errors
///
/// [`Error::Io`]; which segments count is then for [`stage`] to say.
pub fn swap(storage: &dyn Storage, dir: &Path, base: Offset) -> Result<(), Error> {
    let rename = |name: &str| {
        let from = dir.join(suffixed(name, LeftoverSuffix::Cleaned));
        let to = dir.join(suffixed(name, LeftoverSuffix::Swap));
        storage.rename(&from, &to).map_err(|e| Error::io("rename", &from, e))
    };
    for name in [index_name(base), time_index_name(base), txn_index_name(base)] {
        rename(&name)?;
    }
    sync_dir(storage, dir)?;
    rename(&log_name(base))?;
    cross(Point::CompactionSwapped);
    sync_dir(storage, dir)
}

/// Step 4. May be done again at any time after a crash. The sync of `dir` that ends step 5 is needed for its last part.
///
/// # Errors
///
/// [`Error::Io`] with the operation that failed.
pub fn put_in_place(storage: &dyn Storage, dir: &Path, base: Offset) -> Result<(), Error> {
    let rename = |name: &str| {
        let from = dir.join(suffixed(name, LeftoverSuffix::Swap));
        match storage.rename(&from, &dir.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            // After a power cut both may be names of one file: a rename between such does nothing.
            Ok(()) => unlink_if_there(storage, &from),
            Err(error) => Err(error),
        }
        .map_err(|e| Error::io("rename", &from, e))
    };
    rename(&log_name(base))?;
    cross(Point::CompactionInPlace);
    // No index of the new segment beside the old one.
    sync_dir(storage, dir)?;
    rename(&index_name(base))?;
    rename(&time_index_name(base))?;
    let name = txn_index_name(base);
    let from = dir.join(suffixed(&name, LeftoverSuffix::Swap));
    let copy = || match storage::read_all(storage, &from, MAX_TXN_INDEX_SIZE)? {
        None => Ok(()),
        Some(bytes) if bytes.is_empty() => unlink_if_there(storage, &dir.join(&name)),
        Some(bytes) => storage::replace(storage, dir, &name, &bytes),
    };
    copy().map_err(|e| Error::io("copy", &from, e))
}

/// Whether the file `name` belongs to one of the segments whose place was taken: step 5 removes it and syncs `dir`.
#[must_use]
pub fn is_replaced(name: &str, end: &LogPoint) -> bool {
    match FileName::parse(name) {
        FileName::Log(base)
        | FileName::Index(base)
        | FileName::TimeIndex(base)
        | FileName::TxnIndex(base)
        | FileName::Snapshot(base) => base > end.segment && base < end.offset,
        _ => false,
    }
}

/// The last file of step 5: the source of the copy that [`put_in_place`] made.
///
/// # Errors
///
/// [`Error::Io`] if it cannot be removed.
pub fn forget(storage: &dyn Storage, dir: &Path, base: Offset) -> Result<(), Error> {
    let path = dir.join(suffixed(&txn_index_name(base), LeftoverSuffix::Swap));
    unlink_if_there(storage, &path).map_err(|e| Error::io("remove", &path, e))
}

/// Path of the new `.log` between steps 3 and 4.
#[must_use]
pub fn swap_path(dir: &Path, base: Offset) -> PathBuf {
    dir.join(suffixed(&log_name(base), LeftoverSuffix::Swap))
}

/// Whether the file at `path` ends with the batch that ends at `end`; `None` if there is no such file.
fn ends_at(storage: &dyn Storage, path: &Path, end: &LogPoint) -> Result<Option<bool>, Error> {
    let file = match storage.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("open", path, error)),
    };
    let read = || -> io::Result<bool> {
        let Some((position, fingerprint)) = end.last_batch else { return Ok(false) };
        let mut header = [0; HEADER_SIZE];
        if file.len()? != end.position.0 || position.0.saturating_add(HEADER_SIZE as u64) > end.position.0 {
            return Ok(false);
        }
        file.read_exact_at(&mut header, position.0)?;
        Ok(BatchHeader::from_array(&header).is_ok_and(|header| header.fingerprint() == fingerprint))
    };
    read().map(Some).map_err(|e| Error::io("read", path, e))
}

fn sync_dir(storage: &dyn Storage, dir: &Path) -> Result<(), Error> {
    storage.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))
}
