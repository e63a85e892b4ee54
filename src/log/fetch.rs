//! Fetch: finds a range of whole batches.
//!
//! Invariant: a fetch never shows a batch beyond the bound its isolation asks for, holds at least one batch if there is
//! one below the bound, and never takes an index's word: each answer is compared with the batch it points to.

use std::io::ErrorKind;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use super::fetched::{Fetched, Isolation};
use super::generation::Ticket;
use super::shared::Shared;
use crate::error::Error;
use crate::format::batch::BatchHeader;
use crate::format::index_entry::AbortedTxn;
use crate::segment::active::ActiveSegment;
use crate::segment::read::{BatchAt, ReadFailure};
use crate::segment::set::{ActiveView, SegmentRef, SegmentSet};
use crate::storage::File;
use crate::types::{LogPoint, Offset, Position};

/// Where whole batches stand that a fetch may answer.
struct Place {
    /// Base offset of their segment.
    segment: Offset,
    file: Arc<dyn File>,
    path: PathBuf,
    range: Range<u64>,
    /// Header of the first one; `None` if there are none.
    first: Option<BatchHeader>,
    /// None of them ends behind it.
    end: Offset,
}

/// A batch that was found, and its segment.
struct Found<'a> {
    segment: SegmentRef<'a>,
    /// Up to where the segment may be read, and the offset there.
    limit: Position,
    end: Offset,
    batch: BatchAt,
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

    /// The offset of [`Self::bound`], without looking for its place.
    fn bound_offset(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::HighWatermark => self.high_watermark(),
            Isolation::LogEnd => self.log_end_offset(),
            Isolation::ReadCommitted => self.last_stable_offset(),
        }
    }

    /// The end of what `isolation` shows, and the segments up to there.
    fn shown(&self, isolation: Isolation) -> Result<(LogPoint, SegmentSet), Error> {
        loop {
            // In this order: a roll in between shows in the segments.
            let bound = self.bound(isolation)?;
            let view = self.view.read().clone();
            if self.still_bounds(&bound, &view, isolation) {
                return Ok((bound, view));
            }
        }
    }

    /// Whether the place that `bound` names is one in `view`. Once all of its segment is shown compaction may give the name
    /// to another file, in which another batch, or none, begins there; before that it leaves the segment alone.
    fn still_bounds(&self, bound: &LogPoint, view: &SegmentSet, isolation: Isolation) -> bool {
        match view.find(bound.segment) {
            Some(SegmentRef::Sealed(sealed)) => {
                let now = self.bound_offset(isolation);
                now == bound.offset || now <= sealed.next_offset()
            }
            Some(SegmentRef::Active(_)) | None => true,
        }
    }

    /// The place of the batch that holds `offset`; `end` if none before that does.
    pub(super) fn point_at(&self, offset: Offset, end: &LogPoint) -> Result<LogPoint, Error> {
        let view = self.view.read().clone();
        let found = self.find(&view, offset, end, |segment, limit| self.locate(segment, limit, offset))?;
        Ok(found.map_or(*end, |found| LogPoint {
            segment: found.segment.base(),
            position: found.batch.position(),
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
        loop {
            let (bound, view) = self.shown(isolation)?;
            let log_start_offset = self.still_readable(from)?;
            let place = self.place(&view, from, &bound, max_bytes)?;
            let mut aborted = Vec::new();
            if isolation == Isolation::ReadCommitted && place.first.is_some() {
                let listed = self.aborted_in(&place, from)?;
                // A segment that was deleted meanwhile has no list any more, and would seem to have none.
                self.still_readable(from)?;
                let Some(listed) = listed else { continue };
                aborted = listed;
            }
            return Ok(Fetched {
                file: place.file,
                path: place.path,
                range: place.range,
                first: place.first,
                end: place.end,
                requested: from,
                high_watermark: self.high_watermark(),
                last_stable_offset: self.last_stable_offset(),
                log_start_offset,
                aborted,
                generation,
            });
        }
    }

    /// The log start, unless `from` lies outside of the log.
    fn still_readable(&self, from: Offset) -> Result<Offset, Error> {
        let (log_start_offset, log_end_offset) = (self.log_start_offset(), self.log_end_offset());
        if from < log_start_offset || from > log_end_offset {
            return Err(Error::OffsetOutOfRange { asked: from, log_start_offset, log_end_offset });
        }
        Ok(log_start_offset)
    }

    /// Where the batches from the one that holds `from` stand: as many as have `max_bytes` bytes, but at least one.
    fn place(
        &self,
        view: &SegmentSet,
        from: Offset,
        bound: &LogPoint,
        max_bytes: usize,
    ) -> Result<Place, Error> {
        let found = self.find(view, from, bound, |segment, limit| self.locate(segment, limit, from))?;
        let Some(Found { segment, limit, end, batch }) = found else {
            let active = view.active();
            let (file, path) = (Arc::clone(active.file()), active.path().to_path_buf());
            return Ok(Place { segment: active.base(), file, path, range: 0..0, first: None, end: from });
        };
        let most = max_bytes as u64;
        let (file, path, range_end) = match segment {
            SegmentRef::Sealed(sealed) => {
                let range_end = sealed.range_end(&batch, limit, most)?;
                (Arc::clone(sealed.file()?), sealed.path().to_path_buf(), range_end)
            }
            SegmentRef::Active(active) => {
                let wanted = batch.position().saturating_add(most);
                let claim = self.claim(active, |tail| tail.claim_position(wanted.min(limit)));
                let range_end = active.range_end(claim, &batch, limit, most)?;
                (Arc::clone(active.file()), active.path().to_path_buf(), range_end)
            }
        };
        Ok(Place {
            segment: segment.base(),
            file,
            path,
            range: batch.position().0..range_end.position.0,
            first: Some(*batch.header()),
            end: range_end.next_offset.unwrap_or(end),
        })
    }

    /// The aborted transactions that reach into `place`, at or behind `from`; `None` if another segment stands there by
    /// now. Compaction takes the records of such a transaction out of the file and the entry off the list: a list of after
    /// that beside a file of before would show what was aborted.
    fn aborted_in(&self, place: &Place, from: Offset) -> Result<Option<Vec<AbortedTxn>>, Error> {
        let listed = self.collect_aborted(place.segment, from, place.end)?;
        let same = match self.view.read().find(place.segment) {
            Some(SegmentRef::Sealed(sealed)) => sealed.reads(&place.file),
            Some(SegmentRef::Active(active)) => Arc::ptr_eq(active.file(), &place.file),
            None => false,
        };
        Ok(same.then_some(listed))
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
        loop {
            let log_start = self.log_start_offset();
            let found = self.find_timestamp(timestamp, isolation);
            generation.check()?;
            // What it looked at was deleted meanwhile, perhaps before it was open: what is left is looked at anew.
            if found.is_err() && self.log_start_offset() > log_start {
                continue;
            }
            return found;
        }
    }

    fn find_timestamp(&self, timestamp: i64, isolation: Isolation) -> Result<Option<(Offset, i64)>, Error> {
        let (bound, view) = self.shown(isolation)?;
        let log_start = self.log_start_offset();
        let mut from = log_start;
        // The batch that was looked at last, and where its segment begins.
        let mut seen: Option<(Offset, BatchAt)> = None;
        while let Some(Found { segment, batch, .. }) = self.find(&view, from, &bound, |segment, limit| {
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
    ) -> Result<Option<Found<'a>>, Error> {
        for segment in view.from(from) {
            if segment.base() > bound.segment {
                return Ok(None);
            }
            let (limit, end) = match segment {
                SegmentRef::Sealed(sealed) if segment.base() == bound.segment => {
                    (bound.position.min(sealed.len()), bound.offset)
                }
                SegmentRef::Sealed(sealed) => (sealed.len(), sealed.next_offset()),
                SegmentRef::Active(_) => (bound.position, bound.offset),
            };
            if let Some(batch) = look(segment, limit)?.filter(|batch| batch.end() <= limit) {
                is_within(&batch, segment, end)?;
                return Ok(Some(Found { segment, limit, end, batch }));
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

/// A batch of `segment`, which ends at `end`, lies in it.
fn is_within(batch: &BatchAt, segment: SegmentRef<'_>, end: Offset) -> Result<(), Error> {
    let (base, header) = (segment.base(), batch.header());
    if header.base_offset < base || header.next_offset() > end {
        return Err(misplaced(batch, segment, &format!("in a batch from {base} to {end}")));
    }
    Ok(())
}

fn misplaced(batch: &BatchAt, segment: SegmentRef<'_>, expected: &str) -> Error {
    let path = match segment {
        SegmentRef::Sealed(sealed) => sealed.path(),
        SegmentRef::Active(active) => active.path(),
    };
    ReadFailure::misplaced(batch.position(), batch.header(), expected).in_file(path)
}

#[cfg(test)]
mod tests;
