//! The segment that takes the place of others, beside the log under `.cleaned` names.
//!
//! Invariant: until [`Output::finish`] has synced all of its files nothing may rest on it; what a crash leaves of it is
//! deleted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::payload::BatchFailure;
use crate::error::Error;
use crate::format::batch::BatchHeader;
use crate::format::index_entry::AbortedTxn;
use crate::format::names::{LeftoverSuffix, index_name, log_name, suffixed, time_index_name, txn_index_name};
use crate::format::txn_index_note::TxnIndexNote;
use crate::segment::indexes::{IndexLimits, SegmentIndexes};
use crate::storage::{File, OpenMode, Storage, unlink_if_there};
use crate::testing::{Break, broken};
use crate::types::{LogPoint, Offset, Position};

/// Bytes that one write puts in place.
const WRITE_SIZE: usize = 1 << 20;

/// A segment in the making.
#[derive(Debug)]
pub struct Output<'a> {
    storage: &'a dyn Storage,
    dir: &'a Path,
    base: Offset,
    path: PathBuf,
    file: Arc<dyn File>,
    buffer: Vec<u8>,
    /// Bytes written, those in the buffer not counted.
    written: u64,
    indexes: SegmentIndexes,
    aborted: Vec<AbortedTxn>,
    last: Option<(Position, BatchHeader)>,
}

impl<'a> Output<'a> {
    /// Begins the segment at `base`; what an earlier try left is removed.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file cannot be made.
    pub fn create(
        storage: &'a dyn Storage,
        dir: &'a Path,
        base: Offset,
        limits: IndexLimits,
    ) -> Result<Self, Error> {
        let path = dir.join(suffixed(&log_name(base), LeftoverSuffix::Cleaned));
        unlink_if_there(storage, &path).map_err(|e| Error::io("remove", &path, e))?;
        let file = storage.open(&path, OpenMode::CreateNew).map_err(|e| Error::io("create", &path, e))?;
        Ok(Self {
            storage,
            dir,
            base,
            path,
            file,
            buffer: Vec::with_capacity(WRITE_SIZE),
            written: 0,
            indexes: SegmentIndexes::new(base, limits),
            aborted: Vec::new(),
            last: None,
        })
    }

    /// Adds a batch.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it cannot be written.
    pub fn push(&mut self, header: &BatchHeader, batch: &[u8]) -> Result<(), BatchFailure> {
        let position = Position(self.written + self.buffer.len() as u64);
        self.indexes.batch_appended(position, header);
        self.last = Some((position, *header));
        self.buffer.extend_from_slice(batch);
        if self.buffer.len() >= WRITE_SIZE { self.flush().map_err(BatchFailure::Other) } else { Ok(()) }
    }

    /// Adds an aborted transaction whose marker was the last batch to come.
    pub fn push_aborted(&mut self, txn: AbortedTxn) {
        self.aborted.push(txn);
    }

    /// Bytes so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Whether there is no batch.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    /// Writes what is left and the indexes, and syncs all files. `end` is the offset behind what the segment stands for;
    /// the note is that of the `.txnindex`, if it has an entry.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if one cannot be written or synced.
    pub fn finish(mut self, end: Offset) -> Result<(LogPoint, Option<TxnIndexNote>), Error> {
        self.flush()?;
        if !broken(Break::CompactionUnsynced) {
            self.file.sync_all().map_err(|e| Error::io("sync", &self.path, e))?;
        }
        self.indexes.seal_entry();
        let suffix = LeftoverSuffix::Cleaned;
        let files = self.indexes.take_unwritten().write_beside(self.storage, self.dir, self.base, suffix);
        files
            .and_then(|files| files.offsets.sync_all().and_then(|()| files.times.sync_all()))
            .map_err(|e| Error::io("write the indexes of", &self.path, e))?;
        // This one is written always: where it is missing, nothing was aborted as far as anybody can tell.
        let path = self.dir.join(suffixed(&txn_index_name(self.base), suffix));
        let bytes: Vec<u8> = self.aborted.iter().flat_map(|txn| txn.to_bytes()).collect();
        let write = || {
            unlink_if_there(self.storage, &path)?;
            let file = self.storage.open(&path, OpenMode::CreateNew)?;
            file.write_all_at(&bytes, 0)?;
            file.sync_all()
        };
        write().map_err(|e| Error::io("write", &path, e))?;
        let last_batch = self.last.map(|(position, header)| (position, header.fingerprint()));
        let end = LogPoint { segment: self.base, position: Position(self.written), offset: end, last_batch };
        Ok((end, TxnIndexNote::of(self.base, &bytes)))
    }

    /// Removes what was written of the segment at `base`, whether it was finished or not.
    pub fn discard(storage: &dyn Storage, dir: &Path, base: Offset) {
        for name in [log_name(base), index_name(base), time_index_name(base), txn_index_name(base)] {
            // Left over, it costs disk space until the next round or open removes it.
            let _left_over = storage.unlink(&dir.join(suffixed(&name, LeftoverSuffix::Cleaned)));
        }
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.file.write_all_at(&self.buffer, self.written).map_err(|e| Error::io("write", &self.path, e))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
