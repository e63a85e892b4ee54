//! A segment that is complete: it is read, released, deleted, never written.
//!
//! Invariant: base, end and length never change. The file is opened and the indexes are mapped when they are first
//! needed. An index that is missing, implausible or caught lying is made anew from the batch headers, once, on the
//! heap; the file on disk stays as it is until the log is closed.

use std::io;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::error::{Error, Malformed};
use crate::format::batch::BatchHeader;
use crate::format::index_entry::AbortedTxn;
use crate::format::names::txn_index_name;
use crate::index::{Claim, Collected, OffsetEntry, SealedTxnIndex, TimeClaim, TimeEntry, TxnIndex};
use crate::storage::{File, OpenMode, Storage};
use crate::types::{Offset, Position};

use super::indexes::{IndexLimits, IndexTail, SegmentIndexes, rebuild};
use super::mapped::MappedIndexes;
use super::read::{self, Anchor, BatchAt, RangeEnd, ReadFailure, damage_before};
use super::scan::{scan_checked, scan_headers};

/// A segment behind which the log goes on.
#[derive(Debug)]
pub struct SealedSegment {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    offsets: Range<Offset>,
    len: Position,
    limits: IndexLimits,
    file: OnceLock<Arc<dyn File>>,
    /// The index files, or `None` if they cannot be used.
    mapped: OnceLock<Option<MappedIndexes>>,
    /// Indexes on the heap; where there are any, the files are not looked at.
    heap: OnceLock<HeapIndexes>,
    newest: OnceLock<Option<TimeEntry>>,
    aborted: OnceLock<Aborted>,
}

/// The aborted transactions of a segment.
#[derive(Debug)]
enum Aborted {
    /// There is no file of them.
    None,
    /// They are not written yet.
    Heap(TxnIndex),
    File(SealedTxnIndex),
}

#[derive(Debug)]
struct HeapIndexes {
    indexes: SegmentIndexes,
    rebuilt: bool,
}

impl SealedSegment {
    /// The segment in the file `path` that holds the offsets `offsets` and has `len` bytes; its indexes stand beside
    /// it. Nothing is opened.
    #[must_use]
    pub fn new(
        storage: &Arc<dyn Storage>,
        path: PathBuf,
        offsets: Range<Offset>,
        len: Position,
        limits: IndexLimits,
    ) -> Self {
        Self {
            storage: Arc::clone(storage),
            path,
            offsets,
            len,
            limits,
            file: OnceLock::new(),
            mapped: OnceLock::new(),
            heap: OnceLock::new(),
            newest: OnceLock::new(),
            aborted: OnceLock::new(),
        }
    }

    /// The same with what the segment had open and on the heap when it was sealed.
    pub(super) fn with_heap(self, file: Arc<dyn File>, indexes: SegmentIndexes) -> Self {
        let newest = OnceLock::from(indexes.newest());
        let aborted = OnceLock::from(Aborted::Heap(indexes.aborted().clone()));
        let heap = OnceLock::from(HeapIndexes { indexes, rebuilt: false });
        Self { file: OnceLock::from(file), heap, newest, aborted, ..self }
    }

    /// The same segment with nothing open, mapped or on the heap: what takes its place when descriptors run short, or
    /// once its index files are complete. Whoever still reads the old one is not disturbed.
    #[must_use]
    pub fn released(&self) -> Self {
        let fresh = Self::new(&self.storage, self.path.clone(), self.offsets.clone(), self.len, self.limits);
        Self { newest: self.newest.clone(), ..fresh }
    }

    /// The first batch whose last offset is at or above `target`; `None` if `target` is behind the last batch.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], or [`Error::Corrupt`] if damage stands before the answer.
    pub fn locate(&self, target: Offset) -> Result<Option<BatchAt>, Error> {
        self.answer(|file| {
            let anchor = self.anchor(
                file,
                |heap| heap.offsets().floor(target),
                |mapped| mapped.offsets.floor(target),
            )?;
            read::locate(file, self.len, anchor, target)
        })
    }

    /// The first batch with a timestamp at or above `timestamp` (milliseconds).
    ///
    /// # Errors
    ///
    /// As [`Self::locate`].
    pub fn locate_timestamp(&self, timestamp: i64) -> Result<Option<BatchAt>, Error> {
        self.answer(|file| {
            let anchor = self.time_anchor(file, timestamp)?;
            read::locate_timestamp(file, self.len, anchor, timestamp)
        })
    }

    /// As [`Self::locate_timestamp`], of the batches behind `batch`.
    ///
    /// # Errors
    ///
    /// As [`Self::locate`].
    pub fn locate_timestamp_behind(&self, batch: &BatchAt, timestamp: i64) -> Result<Option<BatchAt>, Error> {
        self.answer(|file| read::locate_timestamp(file, self.len, batch.anchor_behind(), timestamp))
    }

    /// Where the longest range of whole batches from `from` ends that has at most `max_bytes` bytes (but at least one
    /// batch) and does not go beyond `limit`, the end of a batch.
    ///
    /// # Errors
    ///
    /// As [`Self::locate`].
    pub fn range_end(&self, from: &BatchAt, limit: Position, max_bytes: u64) -> Result<RangeEnd, Error> {
        let limit = limit.min(self.len);
        let most = from.position().saturating_add(max_bytes);
        self.answer(|file| {
            if limit <= most {
                return read::range_end(file, from, limit, max_bytes, None);
            }
            let anchor = self.anchor(
                file,
                |heap| heap.offsets().floor_position(most),
                |mapped| mapped.offsets.floor_position(most),
            )?;
            read::range_end(file, from, limit, max_bytes, Some(anchor))
        })
    }

    /// The first batch with the largest timestamp; `None` if no batch has a timestamp. Retention deletes by it, so the
    /// word of the time index is proven: the entry against its batch, and that nothing newer follows.
    ///
    /// # Errors
    ///
    /// As [`Self::locate`].
    pub fn newest(&self) -> Result<Option<TimeEntry>, Error> {
        if let Some(newest) = self.newest.get() {
            return Ok(*newest);
        }
        let newest = self.answer(|file| self.find_newest(file))?;
        Ok(*self.newest.get_or_init(|| newest))
    }

    /// Adds to `found` the transactions that were aborted here, at or behind `from`, and began before `upper`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], or [`Error::Corrupt`] if the `.txnindex` file is damaged: then nothing can be said of what was
    /// aborted, and it cannot be made from this segment alone.
    pub fn collect_aborted(
        &self,
        from: Offset,
        upper: Offset,
        found: &mut Vec<AbortedTxn>,
    ) -> Result<Collected, Error> {
        match self.aborted()? {
            Aborted::None => Ok(Collected::SoFar),
            Aborted::Heap(index) => Ok(index.collect(from, upper, found)),
            Aborted::File(index) => {
                index.collect(from, upper, found).map_err(|malformed| self.damaged_txn_index(malformed))
            }
        }
    }

    /// The file, opened for reading if it is not open yet.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; with `NotFound` if the segment was deleted meanwhile.
    pub fn file(&self) -> Result<&Arc<dyn File>, Error> {
        unless_there(&self.file, || {
            self.storage.open(&self.path, OpenMode::Read).map_err(|e| Error::io("open", &self.path, e))
        })
    }

    /// Opens everything that has a name, so that it can be read on when the name means another file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], or [`Error::Corrupt`] if the `.txnindex` file is damaged.
    pub fn pin(&self) -> Result<(), Error> {
        self.file()?;
        self.aborted().map(drop)
    }

    /// The first byte of every batch is proven and shown, with its CRC, to `visit`, as in
    /// [`scan_checked`].
    ///
    /// # Errors
    ///
    /// [`Error::Io`], or [`Error::Corrupt`] for the first damaged batch.
    pub fn scan(
        &self,
        visit: impl FnMut(Position, &BatchHeader, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.answer(|file| {
            let end = scan_checked(file, Position::ZERO, self.len.0, visit)?;
            damage_before(self.len, end)
        })
    }

    /// What the index files should hold, if they are missing or cannot be used; `None` if they can.
    ///
    /// # Errors
    ///
    /// As [`Self::locate`].
    pub fn lost_indexes(&self) -> Result<Option<IndexTail>, Error> {
        if self.mapped().is_some() || self.heap.get().is_some_and(|heap| !heap.rebuilt) {
            return Ok(None);
        }
        self.indexes_from_headers().map(Some)
    }

    /// What the index files should hold, whatever they do.
    ///
    /// # Errors
    ///
    /// As [`Self::locate`].
    pub fn indexes_from_headers(&self) -> Result<IndexTail, Error> {
        self.answer(|file| {
            let mut indexes = self.heap(file)?.clone();
            indexes.seal_entry();
            Ok(indexes.take_unwritten())
        })
    }

    /// Whether the index files were found missing or wrong and the indexes made anew from the headers.
    #[must_use]
    pub fn indexes_rebuilt(&self) -> bool {
        self.heap.get().is_some_and(|heap| heap.rebuilt)
    }

    /// Whether the file is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.file.get().is_some()
    }

    /// Whether `file` is what it has open.
    #[must_use]
    pub fn reads(&self, file: &Arc<dyn File>) -> bool {
        self.file.get().is_some_and(|own| Arc::ptr_eq(own, file))
    }

    /// Offset at which the segment begins.
    #[must_use]
    pub fn base(&self) -> Offset {
        self.offsets.start
    }

    /// The offset behind its last record.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.offsets.end
    }

    /// The byte behind its last batch.
    #[must_use]
    pub fn len(&self) -> Position {
        self.len
    }

    /// Whether it has no batch.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == Position::ZERO
    }

    /// Path of the `.log` file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn aborted(&self) -> Result<&Aborted, Error> {
        unless_there(&self.aborted, || self.open_aborted())
    }

    fn open_aborted(&self) -> Result<Aborted, Error> {
        let path = self.txn_index_path();
        let file = match self.storage.open(&path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Aborted::None),
            Err(error) => return Err(Error::io("open", &path, error)),
        };
        let mapping = file.len().and_then(|len| file.map(len)).map_err(|e| Error::io("map", &path, e))?;
        SealedTxnIndex::new(self.base(), mapping, self.offsets.end)
            .map(Aborted::File)
            .map_err(|malformed| self.damaged_txn_index(malformed))
    }

    fn txn_index_path(&self) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(txn_index_name(self.base()))
    }

    fn damaged_txn_index(&self, malformed: Malformed) -> Error {
        let advice = "restore the file; without it readers of committed records cannot tell what was aborted";
        Error::Corrupt(Box::new(malformed.in_file(
            &self.txn_index_path(),
            0,
            AbortedTxn::SIZE as u64,
            advice,
        )))
    }

    fn answer<T>(&self, ask: impl FnOnce(&dyn File) -> Result<T, ReadFailure>) -> Result<T, Error> {
        ask(&**self.file()?).map_err(|failure| failure.in_file(&self.path))
    }

    /// A proven place to begin at, from whichever index there is.
    fn anchor(
        &self,
        file: &dyn File,
        in_heap: impl Fn(&SegmentIndexes) -> Option<Claim>,
        in_files: impl Fn(&MappedIndexes) -> Option<Claim>,
    ) -> Result<Anchor, ReadFailure> {
        if let Some(mapped) = self.mapped() {
            match in_files(mapped) {
                None => return Ok(Anchor::START),
                Some(claim) => {
                    if let Some(anchor) = mapped.prove(file, self.len, claim)? {
                        return Ok(anchor);
                    }
                }
            }
        }
        match in_heap(self.heap(file)?) {
            Some(claim) => Ok(read::prove(file, self.len, &claim)?.unwrap_or(Anchor::START)),
            None => Ok(Anchor::START),
        }
    }

    /// The batch of a time entry, if the entry can be proven.
    fn prove_time(&self, file: &dyn File, claim: &TimeClaim) -> Result<Option<BatchAt>, ReadFailure> {
        let near = match claim.begins_at() {
            Some(offset) => {
                self.anchor(file, |heap| heap.offsets().floor(offset), |mapped| mapped.offsets.floor(offset))?
            }
            None => Anchor::START,
        };
        read::prove_time(file, self.len, near, claim)
    }

    fn time_anchor(&self, file: &dyn File, timestamp: i64) -> Result<Anchor, ReadFailure> {
        if let Some(mapped) = self.mapped() {
            let Some(claim) = mapped.times.floor(timestamp) else { return Ok(Anchor::START) };
            if let Some(batch) = self.prove_time(file, &claim)? {
                return Ok(batch.anchor());
            }
        }
        let Some(claim) = self.heap(file)?.times().floor(timestamp) else { return Ok(Anchor::START) };
        Ok(self.prove_time(file, &claim)?.map_or(Anchor::START, |batch| batch.anchor()))
    }

    fn find_newest(&self, file: &dyn File) -> Result<Option<TimeEntry>, ReadFailure> {
        if let Some(last) = self.mapped().and_then(|mapped| mapped.times.last())
            && let Some(batch) = self.prove_time(file, &last)?
        {
            let mut newest = last.entry;
            let scan = scan_headers(file, batch.position(), self.len.0, |_, header| {
                if header.max_timestamp > newest.timestamp {
                    newest = TimeEntry { timestamp: header.max_timestamp, last_offset: header.last_offset() };
                }
                ControlFlow::Continue(())
            })?;
            damage_before(self.len, scan)?;
            return Ok(Some(newest));
        }
        Ok(self.heap(file)?.newest())
    }

    /// The indexes in the files; `None` if they cannot be used, or there are better ones on the heap.
    fn mapped(&self) -> Option<&MappedIndexes> {
        if self.heap.get().is_some() {
            return None;
        }
        let end = OffsetEntry { last_offset: self.offsets.end, position: self.len };
        let map = || MappedIndexes::of(&*self.storage, &self.path, self.base(), end).ok().flatten();
        self.mapped.get_or_init(map).as_ref()
    }

    /// The indexes on the heap, made from the headers if there are none yet.
    fn heap(&self, file: &dyn File) -> Result<&SegmentIndexes, ReadFailure> {
        if let Some(heap) = self.heap.get() {
            return Ok(&heap.indexes);
        }
        let (indexes, scan) = rebuild(file, self.base(), self.len, self.limits)?;
        damage_before(self.len, scan)?;
        Ok(&self.heap.get_or_init(|| HeapIndexes { indexes, rebuilt: true }).indexes)
    }
}

/// What is in `cell`, or what `open` puts there. The name that it opens may mean another file by then, or none: but before
/// compaction gives a name away it has filled the cell, and what is there counts.
fn unless_there<T>(cell: &OnceLock<T>, open: impl FnOnce() -> Result<T, Error>) -> Result<&T, Error> {
    if let Some(there) = cell.get() {
        return Ok(there);
    }
    match open() {
        Ok(opened) => Ok(cell.get_or_init(|| opened)),
        Err(error) => cell.get().ok_or(error),
    }
}

#[cfg(test)]
mod tests;
