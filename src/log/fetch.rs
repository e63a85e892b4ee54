//! Fetch: a range of whole batches, as a file range that stays valid, as bytes, or as records.
//!
//! Invariant: a fetch never shows a batch beyond the bound its isolation asks for, holds at least one batch if there is
//! one below the bound, and never takes an index's word: each answer is compared with the batch it points to.

use std::io::ErrorKind;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::batches::Batches;
use super::committed::AbortedFilter;
use super::generation::Ticket;
use super::records::OwnedRecord;
use super::shared::Shared;
use crate::error::Error;
use crate::format::batch::BatchHeader;
use crate::format::index_entry::AbortedTxn;
use crate::segment::active::ActiveSegment;
use crate::segment::read::BatchAt;
use crate::segment::set::{ActiveView, SegmentRef, SegmentSet};
use crate::storage::File;
use crate::types::{LogPoint, Offset, Position};

/// Up to where a fetch may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Isolation {
    /// Up to the high watermark, which is the durable end of the log. The default: what is read cannot be undone.
    #[default]
    HighWatermark,
    /// Up to the last written batch. A power cut may take back what is above the durable end.
    LogEnd,
    /// Up to the last stable offset, without the records of aborted transactions.
    ReadCommitted,
}

/// A range of whole batches in one segment.
///
/// It keeps the file open: the bytes stay readable after the segment is deleted.
#[derive(Clone, Debug)]
pub struct Fetched {
    file: Arc<dyn File>,
    path: PathBuf,
    range: Range<u64>,
    first: Option<BatchHeader>,
    requested: Offset,
    high_watermark: Offset,
    last_stable_offset: Offset,
    log_start_offset: Offset,
    aborted: Vec<AbortedTxn>,
    generation: Ticket,
}

impl Fetched {
    /// Whether there was nothing to read below the bound.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// The file and the bytes in it, for `sendfile`.
    ///
    /// They begin with the batch that holds the requested offset, so the first records may lie before it.
    #[must_use]
    pub fn file_range(&self) -> (&Arc<dyn File>, Range<u64>) {
        (&self.file, self.range.clone())
    }

    /// Header of the first batch.
    #[must_use]
    pub fn first_batch(&self) -> Option<&BatchHeader> {
        self.first.as_ref()
    }

    /// The offset that was asked for.
    #[must_use]
    pub fn requested(&self) -> Offset {
        self.requested
    }

    /// The high watermark at the time of the fetch: the end (exclusive) of what is durable.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The last stable offset at the time of the fetch: the end (exclusive) of what is decided.
    #[must_use]
    pub fn last_stable_offset(&self) -> Offset {
        self.last_stable_offset
    }

    /// The aborted transactions that reach into the range, for a consumer that filters for itself: a broker sends producer
    /// and first offset of each. Only for [`Isolation::ReadCommitted`]; ordered by their markers.
    #[must_use]
    pub fn aborted(&self) -> &[AbortedTxn] {
        &self.aborted
    }

    /// First readable offset at the time of the fetch.
    #[must_use]
    pub fn log_start_offset(&self) -> Offset {
        self.log_start_offset
    }

    /// Whether the bytes of [`Self::file_range`] still belong to the log. To be asked after they were sent: on an error
    /// the receiver may have got others, and the connection is to be dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Truncated`] if the log was cut since the fetch, wherever it was cut, or closed for good.
    pub fn check_not_truncated(&self) -> Result<(), Error> {
        self.generation.check()
    }

    /// Reads the batches, unchecked, as a consumer gets them.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file cannot be read or ends early; [`Error::Truncated`] if the log was cut since the fetch.
    pub fn bytes(&self) -> Result<Bytes, Error> {
        let mut buffer = Vec::new();
        self.read_into(&mut buffer)?;
        Ok(buffer.into())
    }

    /// Appends the batches to `buffer`, so that a caller can use one buffer again and again.
    ///
    /// # Errors
    ///
    /// As [`Self::bytes`].
    pub fn read_into(&self, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.generation.check()?;
        let before = buffer.len();
        let read = self.read_range(buffer);
        // A truncation in between explains every failure, and taints every success.
        if let Err(truncated) = self.generation.check() {
            buffer.truncate(before);
            return Err(truncated);
        }
        read
    }

    fn read_range(&self, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let mut at = self.range.start;
        while at < self.range.end {
            let wanted = usize::try_from(self.range.end - at).unwrap_or(usize::MAX);
            let read = self.file.read_to(buffer, wanted, at);
            match read.map_err(|error| Error::io("read", &self.path, error))? {
                0 => return Err(Error::io("read", &self.path, std::io::ErrorKind::UnexpectedEof.into())),
                read => at += read as u64,
            }
        }
        Ok(())
    }

    /// Reads the batches and checks each CRC.
    ///
    /// # Errors
    ///
    /// As [`Self::bytes`]; [`Error::Corrupt`] with the place of a damaged batch.
    pub fn batches(&self) -> Result<Batches, Error> {
        Ok(Batches::new(self.bytes()?, self.path.clone(), self.range.start))
    }

    /// Reads the records from the requested offset on: those of data batches, and with [`Isolation::ReadCommitted`] none
    /// of an aborted transaction. Control records are for [`Self::batches`].
    ///
    /// # Errors
    ///
    /// As [`Self::batches`]; a batch whose codec is not built in is an error.
    pub fn records(&self) -> Result<Vec<OwnedRecord>, Error> {
        let mut records = Vec::new();
        let mut aborted = AbortedFilter::new(&self.aborted);
        for batch in self.batches()? {
            let batch = batch?;
            if aborted.is_void(&batch) || batch.header.attributes.is_control() {
                continue;
            }
            records.extend(batch.records()?.into_iter().filter(|record| record.offset >= self.requested));
        }
        Ok(records)
    }
}

impl Shared {
    /// The end of what `isolation` shows.
    fn bound(&self, isolation: Isolation) -> Result<LogPoint, Error> {
        match isolation {
            Isolation::HighWatermark => Ok(self.high_watermark_point()),
            Isolation::LogEnd => Ok(self.written.lock().end),
            Isolation::ReadCommitted => self.last_stable_point(),
        }
    }

    /// The place of the batch that holds `offset`; `end` if none before that does.
    pub(super) fn point_at(&self, offset: Offset, end: &LogPoint) -> Result<LogPoint, Error> {
        let view = self.view.read().clone();
        let found = self.find(&view, offset, end, |segment, limit| self.locate(segment, limit, offset))?;
        Ok(found.map_or(*end, |(segment, _, batch)| LogPoint {
            segment: segment.base(),
            position: batch.position(),
            offset,
            last_batch: None,
        }))
    }

    fn locate(
        &self,
        segment: SegmentRef<'_>,
        limit: Position,
        target: Offset,
    ) -> Result<Option<BatchAt>, Error> {
        match segment {
            SegmentRef::Sealed(sealed) => {
                sealed.locate(target).map_err(|error| self.unless_deleted(target, error))
            }
            SegmentRef::Active(active) => {
                active.locate(self.claim(active, |tail| tail.claim(target)), limit, target)
            }
        }
    }

    /// Batches from the one that holds `from`, at most `max_bytes` of them but at least one.
    pub(super) fn fetch(
        &self,
        from: Offset,
        max_bytes: usize,
        isolation: Isolation,
    ) -> Result<Fetched, Error> {
        let generation = self.generation.ticket()?;
        let fetched = self.fetch_under(generation.clone(), from, max_bytes, isolation);
        generation.check()?;
        fetched
    }

    fn fetch_under(
        &self,
        generation: Ticket,
        from: Offset,
        max_bytes: usize,
        isolation: Isolation,
    ) -> Result<Fetched, Error> {
        let bound = self.bound(isolation)?;
        let (log_start_offset, log_end_offset) = (self.log_start_offset(), self.log_end_offset());
        if from < log_start_offset || from > log_end_offset {
            return Err(Error::OffsetOutOfRange { asked: from, log_start_offset, log_end_offset });
        }
        let view = self.view.read().clone();
        let found = self.find(&view, from, &bound, |segment, limit| self.locate(segment, limit, from))?;
        let mut aborted = Vec::new();
        let (file, path, range, first) = match found {
            None => {
                let active = view.active();
                (Arc::clone(active.file()), active.path().to_path_buf(), 0..0, None)
            }
            Some((segment, limit, batch)) => {
                let most = max_bytes as u64;
                let (file, path, end) = match segment {
                    SegmentRef::Sealed(sealed) => {
                        let end = sealed.range_end(&batch, limit, most)?;
                        (Arc::clone(sealed.file()?), sealed.path().to_path_buf(), end)
                    }
                    SegmentRef::Active(active) => {
                        let wanted = batch.position().saturating_add(most);
                        let claim = self.claim(active, |tail| tail.claim_position(wanted.min(limit)));
                        let end = active.range_end(claim, &batch, limit, most)?;
                        (Arc::clone(active.file()), active.path().to_path_buf(), end)
                    }
                };
                if isolation == Isolation::ReadCommitted {
                    let ends_before = |next: Offset| end.next_offset.unwrap_or(next);
                    let upper = match segment {
                        SegmentRef::Sealed(sealed) if sealed.base() != bound.segment => {
                            ends_before(sealed.next_offset())
                        }
                        _ => ends_before(bound.offset),
                    };
                    aborted = self.collect_aborted(segment.base(), from, upper)?;
                    // A segment that was deleted meanwhile has no list any more, and would seem to have none.
                    let (log_start_offset, log_end_offset) = (self.log_start_offset(), self.log_end_offset());
                    if from < log_start_offset {
                        return Err(Error::OffsetOutOfRange {
                            asked: from,
                            log_start_offset,
                            log_end_offset,
                        });
                    }
                }
                (file, path, batch.position().0..end.position.0, Some(*batch.header()))
            }
        };
        Ok(Fetched {
            file,
            path,
            range,
            first,
            requested: from,
            high_watermark: self.high_watermark(),
            last_stable_offset: self.last_stable_offset(),
            log_start_offset,
            aborted,
            generation,
        })
    }

    /// A segment that was not open yet can be deleted before it is: then the offset is out of range by now.
    fn unless_deleted(&self, from: Offset, error: Error) -> Error {
        let (log_start_offset, log_end_offset) = (self.log_start_offset(), self.log_end_offset());
        match error {
            Error::Io { source, .. } if source.kind() == ErrorKind::NotFound && from < log_start_offset => {
                Error::OffsetOutOfRange { asked: from, log_start_offset, log_end_offset }
            }
            other => other,
        }
    }

    /// Offset and timestamp of the first record at or after `timestamp`.
    pub(super) fn offset_for_timestamp(
        &self,
        timestamp: i64,
        isolation: Isolation,
    ) -> Result<Option<(Offset, i64)>, Error> {
        let generation = self.generation.ticket()?;
        let found = self.find_timestamp(timestamp, isolation);
        generation.check()?;
        found
    }

    fn find_timestamp(&self, timestamp: i64, isolation: Isolation) -> Result<Option<(Offset, i64)>, Error> {
        let bound = self.bound(isolation)?;
        let log_start = self.log_start_offset();
        let view = self.view.read().clone();
        let mut from = log_start;
        // The batch that was looked at last, and where its segment begins.
        let mut seen: Option<(Offset, BatchAt)> = None;
        while let Some((segment, _, batch)) = self.find(&view, from, &bound, |segment, limit| {
            let seen = seen.as_ref().filter(|(base, _)| *base == segment.base()).map(|(_, batch)| batch);
            match (segment, seen) {
                (SegmentRef::Sealed(sealed), Some(seen)) => sealed.locate_timestamp_behind(seen, timestamp),
                (SegmentRef::Active(active), Some(seen)) => {
                    active.locate_timestamp_behind(seen, limit, timestamp)
                }
                (SegmentRef::Sealed(sealed), None)
                    if sealed.newest()?.is_none_or(|newest| newest.timestamp < timestamp) =>
                {
                    Ok(None)
                }
                (SegmentRef::Sealed(sealed), None) => sealed.locate_timestamp(timestamp),
                (SegmentRef::Active(active), None) => {
                    let claim = self.claim(active, |tail| tail.claim_timestamp(timestamp));
                    active.locate_timestamp(claim, limit, timestamp)
                }
            }
        })? {
            if batch.header().last_offset() >= log_start {
                let first = batch.header().base_offset.max(log_start);
                let records = self.fetch(first, 1, isolation)?.records()?;
                let found =
                    records.iter().find(|record| record.timestamp >= timestamp && record.offset >= log_start);
                if let Some(record) = found {
                    return Ok(Some((record.offset, record.timestamp)));
                }
            }
            // A header may promise a timestamp that no record has any more: it was deleted, taken out by compaction, or
            // is that of a marker. The search goes on behind it.
            from = from.max(batch.header().next_offset());
            seen = Some((segment.base(), batch));
        }
        Ok(None)
    }

    /// The first segment from `from` on in which `look` finds a batch below `bound`.
    fn find<'a>(
        &self,
        view: &'a SegmentSet,
        from: Offset,
        bound: &LogPoint,
        look: impl Fn(SegmentRef<'a>, Position) -> Result<Option<BatchAt>, Error>,
    ) -> Result<Option<(SegmentRef<'a>, Position, BatchAt)>, Error> {
        for segment in view.from(from) {
            if segment.base() > bound.segment {
                return Ok(None);
            }
            let limit = if segment.base() == bound.segment { bound.position } else { Position(u64::MAX) };
            let limit = match segment {
                SegmentRef::Sealed(sealed) => limit.min(sealed.len()),
                SegmentRef::Active(_) => limit,
            };
            match look(segment, limit)? {
                Some(batch) if batch.end() <= limit => return Ok(Some((segment, limit, batch))),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Asks the active segment's index where to begin. `None` if it is not the segment of `view` any more.
    fn claim<T>(&self, view: &ActiveView, ask: impl FnOnce(&ActiveSegment) -> Option<T>) -> Option<T> {
        let tail = self.lock_tail();
        if tail.active.base() == view.base() { ask(&tail.active) } else { None }
    }
}
