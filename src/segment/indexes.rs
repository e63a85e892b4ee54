//! The indexes of a segment: the two sparse ones, kept by one rule, whoever walks the batches (append, recovery or a
//! rebuild), and the list of aborted transactions, which only append and recovery can tell.
//!
//! Invariant: the rule is that of Kafka's `LogSegment.append`, batch by batch: an entry is due once more than
//! `interval_bytes` of batches follow the last indexed one. A batch that an index cannot express gets no entry: that
//! costs time when it is looked for, nothing else.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use crate::format::batch::BatchHeader;
use crate::format::index_entry::AbortedTxn;
use crate::format::names::{LeftoverSuffix, index_name, suffixed, time_index_name, txn_index_name};
use crate::index::{IndexSize, OffsetEntry, OffsetIndex, TimeEntry, TimeIndex, TxnIndex, Unwritten};
use crate::storage::{File, OpenMode, Storage, unlink_if_there};
use crate::types::{Offset, Position};

use super::read::{Anchor, ReadFailure, damage_before, locate, prove, prove_time};
use super::scan::{ScanEnd, scan_headers};

/// How dense and how large the indexes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IndexLimits {
    /// Bytes of batches between two entries (`index.interval.bytes`).
    pub interval_bytes: u32,
    /// Largest size of each index file (`segment.index.bytes`).
    pub size: IndexSize,
}

impl Default for IndexLimits {
    fn default() -> Self {
        Self { interval_bytes: 4096, size: IndexSize::default() }
    }
}

/// The indexes of a segment on the heap, and what they are made from.
#[derive(Clone, Debug)]
pub struct SegmentIndexes {
    offsets: OffsetIndex,
    times: TimeIndex,
    aborted: TxnIndex,
    interval_bytes: u64,
    bytes_since_entry: u64,
    first_timestamp: Option<i64>,
    newest: Option<TimeEntry>,
}

impl SegmentIndexes {
    /// Indexes of an empty segment that begins at `base`.
    #[must_use]
    pub fn new(base: Offset, limits: IndexLimits) -> Self {
        Self {
            offsets: OffsetIndex::new(base, limits.size),
            times: TimeIndex::new(base, limits.size),
            aborted: TxnIndex::new(base),
            interval_bytes: u64::from(limits.interval_bytes),
            bytes_since_entry: 0,
            first_timestamp: None,
            newest: None,
        }
    }

    /// Takes the next batch of the segment, with the offsets that it has on disk.
    pub fn batch_appended(&mut self, position: Position, header: &BatchHeader) {
        self.saw(position, header);
        if self.bytes_since_entry > self.interval_bytes {
            // What does not fit is left out, see the head of this module.
            let indexed = self.offsets.push(header.last_offset(), position);
            if let (Ok(()), Some(newest)) = (indexed, self.newest) {
                let _left_out = self.times.push(newest.timestamp, newest.last_offset);
            }
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry = self.bytes_since_entry.saturating_add(header.size() as u64);
    }

    /// Notes a transaction whose abort marker was the last batch to come.
    pub fn txn_aborted(&mut self, txn: AbortedTxn) {
        let noted = self.aborted.push(txn);
        debug_assert_eq!(noted, Ok(()), "markers come in the order of the log");
    }

    /// The same with what recovery found out about aborted transactions.
    #[must_use]
    pub fn with_aborted(self, aborted: TxnIndex) -> Self {
        Self { aborted, ..self }
    }

    /// Adds the last entry of the time index: the segment is sealed or closed.
    pub fn seal_entry(&mut self) {
        if let Some(newest) = self.newest {
            let _left_out = self.times.seal_entry(newest.timestamp, newest.last_offset);
        }
    }

    /// The index from offsets to positions.
    #[must_use]
    pub fn offsets(&self) -> &OffsetIndex {
        &self.offsets
    }

    /// The index from timestamps to offsets.
    #[must_use]
    pub fn times(&self) -> &TimeIndex {
        &self.times
    }

    /// The transactions that were aborted in this segment.
    #[must_use]
    pub fn aborted(&self) -> &TxnIndex {
        &self.aborted
    }

    /// The first batch with the largest timestamp; `None` if no batch has a timestamp.
    #[must_use]
    pub fn newest(&self) -> Option<TimeEntry> {
        self.newest
    }

    /// Largest timestamp of the first batch, if it has one, in milliseconds: the age of the segment counts from it.
    #[must_use]
    pub fn first_timestamp(&self) -> Option<i64> {
        self.first_timestamp
    }

    /// The entries that are not in the files yet; from here on they count as written.
    #[must_use]
    pub fn take_unwritten(&mut self) -> IndexTail {
        IndexTail {
            offsets: self.offsets.take_unwritten(),
            times: self.times.take_unwritten(),
            aborted: self.take_unwritten_aborted(),
        }
    }

    /// Those of the aborted transactions alone: a checkpoint needs them durable, the others are made from headers again.
    #[must_use]
    pub fn take_unwritten_aborted(&mut self) -> AbortedTail {
        AbortedTail(self.aborted.take_unwritten())
    }

    /// As [`Self::take_unwritten`], but all aborted transactions, for a segment that ends: whether those that are on
    /// their way into its file have arrived cannot be told from here.
    #[must_use]
    pub fn take_unwritten_and_aborted(&mut self) -> IndexTail {
        IndexTail { aborted: AbortedTail(self.aborted.take_all()), ..self.take_unwritten() }
    }

    /// Takes back that entries were written: [`IndexTail::write`] has failed.
    pub fn give_back(&mut self, tail: &IndexTail) {
        self.offsets.give_back(&tail.offsets);
        self.times.give_back(&tail.times);
        self.give_back_aborted(&tail.aborted);
    }

    /// Takes back that aborted transactions were written: [`AbortedTail::write`] has failed.
    pub fn give_back_aborted(&mut self, tail: &AbortedTail) {
        if let Some(unwritten) = &tail.0 {
            self.aborted.give_back(unwritten);
        }
    }

    fn saw(&mut self, position: Position, header: &BatchHeader) {
        let timestamp = header.max_timestamp;
        if position == Position::ZERO && timestamp >= 0 {
            self.first_timestamp = Some(timestamp);
        }
        if timestamp > self.newest.map_or(-1, |newest| newest.timestamp) {
            self.newest = Some(TimeEntry { timestamp, last_offset: header.last_offset() });
        }
    }
}

/// Entries on their way into the index files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexTail {
    offsets: Unwritten,
    times: Unwritten,
    aborted: AbortedTail,
}

/// Aborted transactions on their way into a `.txnindex` file, if that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbortedTail(Option<Unwritten>);

/// The files that [`IndexTail::write`] wrote, to be synced.
#[derive(Clone, Debug)]
pub struct IndexFiles {
    /// The `.index` file.
    pub offsets: Arc<dyn File>,
    /// The `.timeindex` file.
    pub times: Arc<dyn File>,
    /// The `.txnindex` file, if something was written to it.
    pub aborted: Option<Arc<dyn File>>,
}

impl IndexTail {
    /// The aborted transactions among it.
    #[must_use]
    pub fn aborted(&self) -> &AbortedTail {
        &self.aborted
    }

    /// Appends the entries to the index files of the segment that begins at `base`, in `dir`; missing files are made
    /// and longer ones trimmed.
    ///
    /// Durability: none until the files that are returned, and `dir` if one of them is new, are synced.
    ///
    /// # Errors
    ///
    /// That of the failing operation; writing again is safe.
    pub fn write(&self, storage: &dyn Storage, dir: &Path, base: Offset) -> io::Result<IndexFiles> {
        Ok(IndexFiles {
            offsets: self.offsets.write(storage, &dir.join(index_name(base)))?,
            times: self.times.write(storage, &dir.join(time_index_name(base)))?,
            aborted: self.aborted.write(storage, dir, base)?,
        })
    }
}

impl IndexTail {
    /// Names and contents of the two sparse indexes of the segment that begins at `base`, if it has all of their entries.
    #[must_use]
    pub fn whole(&self, base: Offset) -> Option<[(String, &[u8]); 2]> {
        let begins = self.offsets.position == 0 && self.times.position == 0;
        begins
            .then(|| [(index_name(base), &*self.offsets.bytes), (time_index_name(base), &*self.times.bytes)])
    }

    /// Writes the entries of the two sparse indexes, all there are, to new files with `suffix` behind their names.
    ///
    /// Durability: none until the files that are returned, and `dir`, are synced.
    ///
    /// # Errors
    ///
    /// That of the failing operation.
    pub fn write_beside(
        &self,
        storage: &dyn Storage,
        dir: &Path,
        base: Offset,
        suffix: LeftoverSuffix,
    ) -> io::Result<IndexFiles> {
        let write = |name: String, entries: &Unwritten| {
            let path = dir.join(suffixed(&name, suffix));
            unlink_if_there(storage, &path)?;
            entries.write(storage, &path)
        };
        Ok(IndexFiles {
            offsets: write(index_name(base), &self.offsets)?,
            times: write(time_index_name(base), &self.times)?,
            aborted: None,
        })
    }
}

impl IndexFiles {
    /// Syncs the file of aborted transactions, if something was written to it: the others are caches.
    ///
    /// # Errors
    ///
    /// That of the sync.
    pub fn sync_aborted(&self) -> io::Result<()> {
        self.aborted.as_ref().map_or(Ok(()), |file| file.sync_data())
    }
}

impl AbortedTail {
    /// Where in the file the entries go, and their bytes; behind them the file ends. `None` if there was nothing to do.
    #[must_use]
    pub fn unwritten(&self) -> Option<(u64, &[u8])> {
        self.0.as_ref().map(|unwritten| (unwritten.position, &*unwritten.bytes))
    }

    /// Writes the entries to the `.txnindex` of the segment that begins at `base`, in `dir`; `None` if there was nothing
    /// to do.
    ///
    /// Durability: none until the file that is returned and `dir` are synced.
    ///
    /// # Errors
    ///
    /// That of the failing operation; writing again is safe.
    pub fn write(
        &self,
        storage: &dyn Storage,
        dir: &Path,
        base: Offset,
    ) -> io::Result<Option<Arc<dyn File>>> {
        let Some(unwritten) = &self.0 else { return Ok(None) };
        unwritten.write(storage, &dir.join(txn_index_name(base))).map(Some)
    }
}

/// What [`load`] found.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The indexes, for all batches before the end.
    pub indexes: SegmentIndexes,
    /// Whether the files were missing or wrong, so that every header of the segment was read.
    pub rebuilt: bool,
}

/// The indexes of a segment that will be appended to from `end` on: from their files as far as these can be proven and
/// go, and from batch headers for the rest. `end` names the offset that comes next and the byte behind the last batch.
///
/// # Errors
///
/// [`ReadFailure`] if a read fails or the batches before `end` are damaged.
pub fn load(
    storage: &dyn Storage,
    dir: &Path,
    file: &dyn File,
    base: Offset,
    end: OffsetEntry,
    limits: IndexLimits,
) -> Result<Loaded, ReadFailure> {
    if let Some(indexes) = from_files(storage, dir, file, base, end, limits)? {
        return Ok(Loaded { indexes, rebuilt: false });
    }
    let (indexes, scan) = rebuild(file, base, end.position, limits)?;
    damage_before(end.position, scan)?;
    // An empty segment has nothing to rebuild.
    Ok(Loaded { indexes, rebuilt: end.position > Position::ZERO })
}

/// Makes the indexes from the headers of the batches before `end`, as far as these go without damage.
///
/// # Errors
///
/// That of a failing read.
pub fn rebuild(
    file: &dyn File,
    base: Offset,
    end: Position,
    limits: IndexLimits,
) -> io::Result<(SegmentIndexes, ScanEnd)> {
    let mut indexes = SegmentIndexes::new(base, limits);
    let scan = scan_headers(file, Position::ZERO, end.0, |at, header| {
        indexes.batch_appended(at, header);
        ControlFlow::Continue(())
    })?;
    Ok((indexes, scan))
}

fn from_files(
    storage: &dyn Storage,
    dir: &Path,
    file: &dyn File,
    base: Offset,
    end: OffsetEntry,
    limits: IndexLimits,
) -> Result<Option<SegmentIndexes>, ReadFailure> {
    let Some(offset_bytes) = contents(storage, &dir.join(index_name(base)), limits.size)? else {
        return Ok(None);
    };
    let Some(time_bytes) = contents(storage, &dir.join(time_index_name(base)), limits.size)? else {
        return Ok(None);
    };
    let offsets = OffsetIndex::from_file(base, limits.size, &offset_bytes, end);
    let times = TimeIndex::from_file(base, limits.size, &time_bytes, end.last_offset);
    let (Ok(offsets), Ok(times)) = (offsets, times) else { return Ok(None) };
    let mut indexes = SegmentIndexes { offsets, times, ..SegmentIndexes::new(base, limits) };

    // The last entry of each file is proven, and the walk begins at the earlier of the two: behind it every header is
    // seen, so no timestamp is missed and no entry that was never written.
    let mut last_indexed = None;
    let mut start = Anchor::START;
    if let Some(last) = indexes.offsets.floor_position(end.position) {
        let Some(anchor) = prove(file, end.position, &last)? else { return Ok(None) };
        last_indexed = Some(anchor.position());
        start = anchor;
    }
    match indexes.times.last() {
        Some(newest) => {
            let near = match newest.begins_at().and_then(|offset| indexes.offsets.floor(offset)) {
                Some(claim) => prove(file, end.position, &claim)?,
                None => Some(Anchor::START),
            };
            let Some(near) = near else { return Ok(None) };
            let Some(batch) = prove_time(file, end.position, near, &newest)? else { return Ok(None) };
            indexes.newest = Some(newest.entry);
            if batch.position() < start.position() {
                start = batch.anchor();
            }
        }
        None => start = Anchor::START,
    }
    if start.position() > Position::ZERO
        && let Some(first) = locate(file, end.position, Anchor::START, base)?
    {
        indexes.saw_first(first.header());
    }
    let scan = scan_headers(file, start.position(), end.position.0, |at, header| {
        match last_indexed {
            Some(last) if at <= last => {
                indexes.saw(at, header);
                indexes.bytes_since_entry = header.size() as u64;
            }
            _ => indexes.batch_appended(at, header),
        }
        ControlFlow::Continue(())
    })?;
    damage_before(end.position, scan)?;
    Ok(Some(indexes))
}

impl SegmentIndexes {
    fn saw_first(&mut self, header: &BatchHeader) {
        self.first_timestamp = Some(header.max_timestamp).filter(|timestamp| *timestamp >= 0);
    }
}

/// The bytes of an index file; `None` if it is missing or larger than it may be.
fn contents(storage: &dyn Storage, path: &Path, most: IndexSize) -> io::Result<Option<Vec<u8>>> {
    let file = match storage.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let len = file.len()?;
    if len > u64::from(most.0) {
        return Ok(None);
    }
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests;
