//! The segments of a log as recovery returns them, made ready to be read and appended to.
//!
//! Invariant: what can be refused is refused by [`LoadedIndexes::of`], which only reads and is called before anything is
//! changed.

use std::path::Path;
use std::sync::Arc;

use super::config::LogConfig;
use crate::error::Error;
use crate::format::index_entry::AbortedTxn;
use crate::format::names;
use crate::index::{IndexSize, OffsetEntry, TxnIndex};
use crate::recovery::{Recovered, Salvage, SegmentFacts};
use crate::segment::active::ActiveSegment;
use crate::segment::indexes::{self, IndexLimits, SegmentIndexes};
use crate::segment::read::ReadFailure;
use crate::segment::sealed::SealedSegment;
use crate::storage::{OpenMode, Storage};
use crate::types::{LogPoint, Offset, Position};

pub(super) fn index_limits(config: &LogConfig) -> IndexLimits {
    IndexLimits { interval_bytes: config.index_interval_bytes, size: IndexSize(config.segment_index_bytes) }
}

/// The indexes of the segment that will be appended to.
pub(super) struct LoadedIndexes {
    pub(super) facts: SegmentFacts,
    pub(super) indexes: SegmentIndexes,
    pub(super) rebuilt: bool,
}

impl LoadedIndexes {
    /// Reads index files, and headers where these are of no use. Damage that is met there lies below what is known
    /// durable: it is refused, or, with salvage, the index ends before it and readers of what lies behind meet it.
    pub(super) fn of(
        facts: SegmentFacts,
        storage: &Arc<dyn Storage>,
        dir: &Path,
        limits: IndexLimits,
        salvage: Salvage,
    ) -> Result<Self, Error> {
        let path = dir.join(names::log_name(facts.base));
        let file = storage.open(&path, OpenMode::Read).map_err(|error| Error::io("open", &path, error))?;
        let end = OffsetEntry { last_offset: facts.next_offset, position: Position(facts.len) };
        let (indexes, rebuilt) = match indexes::load(&**storage, dir, &*file, facts.base, end, limits) {
            Ok(loaded) => (loaded.indexes, loaded.rebuilt),
            Err(ReadFailure::Damage { .. }) if salvage == Salvage::Cut => {
                let rebuilt = indexes::rebuild(&*file, facts.base, end.position, limits);
                (rebuilt.map_err(|error| Error::io("read", &path, error))?.0, true)
            }
            Err(failure) => return Err(failure.in_file(&path)),
        };
        Ok(Self { facts, indexes, rebuilt })
    }
}

/// The segments that recovery found; the first one of a new log is made here.
pub(super) fn segments_of(
    recovered: &Recovered,
    indexes: Option<SegmentIndexes>,
    storage: &Arc<dyn Storage>,
    dir: &Path,
    limits: IndexLimits,
    now_ms: i64,
) -> Result<(Vec<Arc<SealedSegment>>, ActiveSegment), Error> {
    let (Some((last, before)), Some(indexes)) = (recovered.segments.split_last(), indexes) else {
        let base = recovered.end.offset;
        let path = dir.join(names::log_name(base));
        let active = ActiveSegment::create(&**storage, dir, base, now_ms, limits)
            .map_err(|error| Error::io("create", &path, error))?;
        active.file().sync_all().map_err(|error| Error::io("sync", &path, error))?;
        storage.sync_dir(dir).map_err(|error| Error::io("sync", dir, error))?;
        return Ok((Vec::new(), active));
    };
    let sealed = before
        .iter()
        .map(|facts| {
            let path = dir.join(names::log_name(facts.base));
            let offsets = facts.base..facts.next_offset;
            Arc::new(SealedSegment::new(storage, path, offsets, Position(facts.len), limits))
        })
        .collect();
    let path = dir.join(names::log_name(last.base));
    let file = storage.open(&path, OpenMode::Write).map_err(|error| Error::io("open", &path, error))?;
    let point = LogPoint { segment: last.base, position: Position(last.len), ..recovered.end };
    let indexes = indexes.with_aborted(aborted_in(recovered, last.base, dir)?);
    Ok((sealed, ActiveSegment::open_at(file, path, point, indexes, now_ms, limits)))
}

/// The aborted transactions of the active segment. Only of a log that was closed in order can a damaged file be left.
fn aborted_in(recovered: &Recovered, base: Offset, dir: &Path) -> Result<TxnIndex, Error> {
    let Some(segment) = recovered.aborted.iter().find(|segment| segment.base == base) else {
        return Ok(TxnIndex::new(base));
    };
    let make = if segment.stored { TxnIndex::of_written } else { TxnIndex::of_unwritten };
    make(base, &segment.entries).map_err(|malformed| {
        let path = dir.join(names::txn_index_name(base));
        Error::Corrupt(Box::new(malformed.in_file(&path, 0, AbortedTxn::SIZE as u64, "restore the file")))
    })
}
