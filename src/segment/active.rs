//! The segment that is appended to.
//!
//! Invariant: `len` is the byte behind the last whole batch that the log stands by, and `next_offset` the offset behind
//! its last record; whatever stands behind `len` in the file is not part of the log. The bytes are written by the log,
//! through [`ActiveSegment::file`]; this type hears of a batch once it is written.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::format::batch::BatchHeader;
use crate::format::index_entry::AbortedTxn;
use crate::format::names::log_name;
use crate::index::{Claim, Collected, TimeClaim, TimeEntry};
use crate::storage::{File, OpenMode, Storage};
use crate::types::{Fingerprint, LogPoint, Offset, Position};

use super::indexes::{AbortedTail, IndexFiles, IndexLimits, IndexTail, SegmentIndexes};
use super::roll::RollState;
use super::sealed::SealedSegment;
use super::set::ActiveView;

/// The last segment of a log.
#[derive(Debug)]
pub struct ActiveSegment {
    base: Offset,
    path: PathBuf,
    file: Arc<dyn File>,
    len: Position,
    next_offset: Offset,
    last_batch: Option<(Position, Fingerprint)>,
    created_ms: i64,
    limits: IndexLimits,
    indexes: SegmentIndexes,
}

impl ActiveSegment {
    /// Makes the file of a new segment in `dir`.
    ///
    /// Durability: none until the file and `dir` are synced.
    ///
    /// # Errors
    ///
    /// That of the system; `AlreadyExists` if the file does.
    pub fn create(
        storage: &dyn Storage,
        dir: &Path,
        base: Offset,
        created_ms: i64,
        limits: IndexLimits,
    ) -> io::Result<Self> {
        let path = dir.join(log_name(base));
        let file = storage.open(&path, OpenMode::CreateNew)?;
        Ok(Self::adopt(file, path, base, created_ms, limits))
    }

    /// A segment whose empty file was made ahead and has got the name `path` now.
    #[must_use]
    pub fn adopt(
        file: Arc<dyn File>,
        path: PathBuf,
        base: Offset,
        created_ms: i64,
        limits: IndexLimits,
    ) -> Self {
        let indexes = SegmentIndexes::new(base, limits);
        Self::open_at(file, path, LogPoint::segment_start(base), indexes, created_ms, limits)
    }

    /// A segment that recovery has found to end at `point`, and whose batches before it are in `indexes`.
    #[must_use]
    pub fn open_at(
        file: Arc<dyn File>,
        path: PathBuf,
        point: LogPoint,
        indexes: SegmentIndexes,
        created_ms: i64,
        limits: IndexLimits,
    ) -> Self {
        Self {
            base: point.segment,
            path,
            file,
            len: point.position,
            next_offset: point.offset,
            last_batch: point.last_batch,
            created_ms,
            limits,
            indexes,
        }
    }

    /// Takes a batch that was written at `position`, the end of the segment, with the offsets that it has on disk.
    pub fn batch_appended(&mut self, position: Position, header: &BatchHeader) {
        debug_assert_eq!(position, self.len, "a batch is appended at the end");
        debug_assert!(header.base_offset >= self.next_offset, "offsets never go back");
        self.indexes.batch_appended(position, header);
        self.len = position.saturating_add(header.size() as u64);
        self.next_offset = header.next_offset();
        self.last_batch = Some((position, header.fingerprint()));
    }

    /// Notes a transaction that the batch taken last has aborted.
    pub fn txn_aborted(&mut self, txn: AbortedTxn) {
        self.indexes.txn_aborted(txn);
    }

    /// Adds to `found` the transactions that were aborted here, at or behind `from`, and began before `upper`.
    pub fn collect_aborted(&self, from: Offset, upper: Offset, found: &mut Vec<AbortedTxn>) -> Collected {
        self.indexes.aborted().collect(from, upper, found)
    }

    /// Aborted transactions that are not in their file yet, as [`Self::take_unwritten_indexes`] gives them with the rest.
    #[must_use]
    pub fn take_unwritten_aborted(&mut self) -> AbortedTail {
        self.indexes.take_unwritten_aborted()
    }

    /// Takes back that aborted transactions were written.
    pub fn give_back_aborted(&mut self, tail: &AbortedTail) {
        self.indexes.give_back_aborted(tail);
    }

    /// Index entries that are not in the files yet, to be written with no lock held; if that fails they are to be
    /// given back.
    #[must_use]
    pub fn take_unwritten_indexes(&mut self) -> IndexTail {
        self.indexes.take_unwritten()
    }

    /// Takes back that index entries were written.
    pub fn give_back_indexes(&mut self, tail: &IndexTail) {
        self.indexes.give_back(tail);
    }

    /// Adds the last time entry, as a close does; it is among the unwritten ones then.
    pub fn seal_indexes(&mut self) {
        self.indexes.seal_entry();
    }

    /// Adds the last time entry and writes all entries that are missing in the index files of `dir`, as a close does.
    ///
    /// Durability: none until the files that are returned, and `dir`, are synced.
    ///
    /// # Errors
    ///
    /// That of the failing operation; the entries stay unwritten.
    pub fn flush_indexes(&mut self, storage: &dyn Storage, dir: &Path) -> io::Result<IndexFiles> {
        self.indexes.seal_entry();
        let tail = self.indexes.take_unwritten();
        tail.write(storage, dir, self.base).inspect_err(|_| self.indexes.give_back(&tail))
    }

    /// Ends the segment: no I/O. The tail is to be written to its index files before anything is told that they are
    /// complete; until they are, the sealed segment keeps its indexes on the heap.
    #[must_use]
    pub fn seal(mut self, storage: &Arc<dyn Storage>) -> Sealed {
        self.indexes.seal_entry();
        let tail = self.indexes.take_unwritten_and_aborted();
        let offsets = self.base..self.next_offset;
        let segment = SealedSegment::new(storage, self.path, offsets, self.len, self.limits);
        Sealed { segment: segment.with_heap(self.file, self.indexes), tail }
    }

    /// Where the segment ends.
    #[must_use]
    pub fn point(&self) -> LogPoint {
        LogPoint {
            segment: self.base,
            position: self.len,
            offset: self.next_offset,
            last_batch: self.last_batch,
        }
    }

    /// What decides about a roll.
    #[must_use]
    pub fn roll_state(&self) -> RollState {
        RollState {
            base: self.base,
            len: self.len,
            first_timestamp: self.indexes.first_timestamp(),
            created_ms: self.created_ms,
            offset_index_full: self.indexes.offsets().is_full(),
            time_index_full: self.indexes.times().is_full(),
        }
    }

    /// What readers need of the segment; it stays right for as long as this is the segment that is appended to.
    #[must_use]
    pub fn view(&self) -> ActiveView {
        ActiveView::new(self.base, self.path.clone(), Arc::clone(&self.file))
    }

    /// Where to begin looking for `target`, for [`ActiveView::locate`].
    #[must_use]
    pub fn claim(&self, target: Offset) -> Option<Claim> {
        self.indexes.offsets().floor(target)
    }

    /// Where to begin looking for the end of a range at `limit`, for [`ActiveView::range_end`].
    #[must_use]
    pub fn claim_position(&self, limit: Position) -> Option<Claim> {
        self.indexes.offsets().floor_position(limit)
    }

    /// Where to begin looking for `timestamp`, for [`ActiveView::locate_timestamp`].
    #[must_use]
    pub fn claim_timestamp(&self, timestamp: i64) -> Option<TimeStart> {
        let claim = self.indexes.times().floor(timestamp)?;
        Some(TimeStart { claim, near: claim.begins_at().and_then(|offset| self.claim(offset)) })
    }

    /// The first batch with the largest timestamp; `None` if no batch has a timestamp.
    #[must_use]
    pub fn newest(&self) -> Option<TimeEntry> {
        self.indexes.newest()
    }

    /// Offset at which the segment begins.
    #[must_use]
    pub fn base(&self) -> Offset {
        self.base
    }

    /// The byte behind the last batch.
    #[must_use]
    pub fn len(&self) -> Position {
        self.len
    }

    /// Whether there is no batch.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == Position::ZERO
    }

    /// The offset that the next batch gets.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// Path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What [`ActiveSegment::seal`] gives.
#[derive(Debug)]
pub struct Sealed {
    /// The segment, ready to be read.
    pub segment: SealedSegment,
    /// The entries that are missing in its index files.
    pub tail: IndexTail,
}

/// An answer of the time index, with the answer of the offset index that helps to prove it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeStart {
    /// The answer of the time index.
    pub claim: TimeClaim,
    /// Where to begin its proof.
    pub near: Option<Claim>,
}

#[cfg(test)]
mod tests;
