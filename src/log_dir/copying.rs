//! The files of a partition, copied into another root: sealed segments while the partition is in use, the rest while it
//! is not.
//!
//! Invariant: what was copied ahead counts only if nothing can have changed it since: the log was not cut, and the name
//! still means the very file that was read, which is kept open so that no other can be taken for it. When [`Copying::rest`]
//! returns, bytes and names of the copy are durable. Bytes are copied as they are: damage goes along, and is found where
//! damage is found.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Error;
use crate::format::names::{self, FileName, LeftoverSuffix};
use crate::log::Log;
use crate::storage::{EntryKind, File, OpenMode, Storage};

/// Bytes that are copied at a time.
const PIECE: usize = 1 << 20;

/// Segments that are copied ahead, each of which holds a descriptor meanwhile.
const MOST_AHEAD: usize = 256;

/// A directory, with the storage that it is on.
pub(super) struct Place<'a> {
    pub(super) storage: &'a dyn Storage,
    pub(super) dir: PathBuf,
}

/// A copy in the making.
pub(super) struct Copying<'a> {
    from: Place<'a>,
    to: Place<'a>,
    ahead: BTreeMap<String, Copied>,
}

/// What was copied while the log was in use.
struct Copied {
    identity: (u64, u64),
    len: u64,
    /// How often the log had been cut by then.
    cuts: u64,
    _kept_open: Arc<dyn File>,
}

impl<'a> Copying<'a> {
    /// Of one directory into another, which is there already.
    pub(super) fn new(from: Place<'a>, to: Place<'a>) -> Self {
        Self { from, to, ahead: BTreeMap::new() }
    }

    /// Copies the sealed segments of a log that may be in use. What becomes of them meanwhile is looked at later.
    pub(super) fn ahead(&mut self, log: &Log, cuts: impl Fn() -> u64) -> Result<(), Error> {
        for segment in log.sealed_segments().into_iter().take(MOST_AHEAD) {
            let name = names::log_name(segment.base_offset);
            let path = self.from.dir.join(&name);
            let cuts = cuts();
            let Ok(original) = self.from.storage.open(&path, OpenMode::Read) else {
                // Retention was faster.
                continue;
            };
            let Ok(identity) = self.from.storage.identity(&path) else { continue };
            let len = self.copy(&name, &*original)?;
            self.ahead.insert(name, Copied { identity, len, cuts, _kept_open: original });
        }
        Ok(())
    }

    /// Copies what is not copied yet of a log that is closed, takes out of the copy what the log has not any more, and
    /// makes it durable.
    pub(super) fn rest(mut self, cuts: u64) -> Result<(), Error> {
        let from = &self.from;
        let entries = from.storage.list(&from.dir).map_err(|error| Error::io("list", &from.dir, error))?;
        for entry in entries {
            if entry.kind != EntryKind::File {
                let found = from.dir.join(&entry.name);
                return Err(Error::Misuse(format!("{} is no file and cannot be moved", found.display())));
            }
            if is_of_no_meaning(&entry.name) {
                continue;
            }
            let path = self.from.dir.join(&entry.name);
            if let Some(copied) = self.ahead.remove(&entry.name) {
                let identity = self.from.storage.identity(&path);
                let identity = identity.map_err(|error| Error::io("look at", &path, error))?;
                if (identity, entry.len, cuts) == (copied.identity, copied.len, copied.cuts) {
                    continue;
                }
            }
            let original = self.from.storage.open(&path, OpenMode::Read);
            self.copy(&entry.name, &*original.map_err(|error| Error::io("open", &path, error))?)?;
        }
        for name in self.ahead.keys() {
            let path = self.to.dir.join(name);
            self.to.storage.unlink(&path).map_err(|error| Error::io("remove", &path, error))?;
        }
        self.to.storage.sync_dir(&self.to.dir).map_err(|error| Error::io("sync", &self.to.dir, error))
    }

    /// Copies one file and makes its bytes durable. Returns its length.
    fn copy(&self, name: &str, original: &dyn File) -> Result<u64, Error> {
        let path = self.to.dir.join(name);
        let copy = self.to.storage.open(&path, OpenMode::Create);
        let copy = copy.map_err(|error| Error::io("create", &path, error))?;
        copy.set_len(0).map_err(|error| Error::io("cut", &path, error))?;
        let mut piece = Vec::with_capacity(PIECE);
        let mut at = 0;
        loop {
            piece.clear();
            let read = original.read_to(&mut piece, PIECE, at);
            if read.map_err(|error| Error::io("read", &self.from.dir.join(name), error))? == 0 {
                break;
            }
            copy.write_all_at(&piece, at).map_err(|error| Error::io("write", &path, error))?;
            at += piece.len() as u64;
        }
        copy.sync_all().map_err(|error| Error::io("sync", &path, error))?;
        Ok(at)
    }
}

/// Whether a log that was closed in order does without the file.
fn is_of_no_meaning(name: &str) -> bool {
    match FileName::parse(name) {
        FileName::Temporary | FileName::NextSegment | FileName::LogLock | FileName::Move => true,
        FileName::KafkaLeftover(leftover) => {
            matches!(leftover, LeftoverSuffix::Deleted | LeftoverSuffix::Cleaned)
        }
        _ => false,
    }
}
