//! What stays of each batch.
//!
//! Invariant: a record stays if it is at or above the end of the round, or if it is the newest of its key, committed, and
//! no tombstone whose horizon has passed. A batch without records stays, as a bare header, if it is the last one of its
//! producer or the one that the caller names: Kafka, which rebuilds its state from the log, must find the sequence
//! there. Kafka's rules stand in `Cleaner.cleanInto` and `MemoryRecords.filterTo`, the horizon in KIP-534.

use bytes::Bytes;

use super::offset_map::OffsetMap;
use super::payload::{self, BatchFailure};
use super::rewrite::{self, Keep};
use super::transactions::Transactions;
use crate::error::Error;
use crate::format::batch::BatchHeader;
use crate::format::record::{RecordSpan, for_each_span};
use crate::producer::marker_of;
use crate::testing::{Break, broken};
use crate::types::{Offset, ProducerEpoch, ProducerId};

/// What is known of a producer's newest batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastWritten {
    /// Its present epoch.
    pub epoch: ProducerEpoch,
    /// Last offset of its newest data batch in that epoch; `None` if only a marker has raised the epoch.
    pub last_offset: Option<Offset>,
}

/// Answers what is known of a producer; `None` if nothing is.
pub type LookUp<'a> = dyn Fn(ProducerId) -> Result<Option<LastWritten>, Error> + 'a;

/// What stays of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It goes.
    Nothing,
    /// All of it, byte for byte.
    AsItIs,
    /// A part of it, or all of it with a delete horizon: these bytes, whose header names the same offsets.
    Anew(Bytes),
}

/// What a round has taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Removed {
    /// Data records.
    pub records: u64,
    /// Those among them that had no key: they were appended before the log was compacted.
    pub without_key: u64,
    /// Those among them that an aborted transaction wrote.
    pub aborted: u64,
    /// Markers whose transaction is gone.
    pub markers: u64,
    /// Batches that went with their header.
    pub batches: u64,
}

/// Decides batch by batch, in the order of the log, from its first segment on.
pub struct Filter<'a> {
    map: &'a OffsetMap,
    end: Offset,
    now_ms: i64,
    delete_retention_ms: u64,
    last_written: &'a LookUp<'a>,
    transactions: Transactions,
    removed: Removed,
    keep: Vec<Keep>,
}

impl std::fmt::Debug for Filter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filter")
            .field("end", &self.end)
            .field("removed", &self.removed)
            .finish_non_exhaustive()
    }
}

impl<'a> Filter<'a> {
    /// A round that ends at `end`, below which `map` has the newest offset of every key that was ever written since the
    /// last one. `now_ms` is the wall clock.
    #[must_use]
    pub fn new(
        map: &'a OffsetMap,
        end: Offset,
        transactions: Transactions,
        now_ms: i64,
        delete_retention_ms: u64,
        last_written: &'a LookUp<'a>,
    ) -> Self {
        Self {
            map,
            end,
            now_ms,
            delete_retention_ms,
            last_written,
            transactions,
            removed: Removed::default(),
            keep: Vec::new(),
        }
    }

    /// Takes the next batch, whose CRC was proven. With `named` its header stays whatever becomes of its records.
    ///
    /// # Errors
    ///
    /// [`BatchFailure`] if its records cannot be opened.
    pub fn take(&mut self, header: &BatchHeader, batch: &[u8], named: bool) -> Result<Kept, BatchFailure> {
        if header.next_offset() > self.end {
            return Ok(Kept::AsItIs);
        }
        let control = header.attributes.is_control();
        let horizon = Some(header.base_timestamp).filter(|_| header.attributes.has_delete_horizon());
        let passed = horizon.is_some_and(|horizon| horizon <= self.now_ms);
        let void = if control {
            self.transactions.marker_is_unneeded(header, marker_of(header, batch))
        } else {
            self.transactions.is_aborted(header)
        };
        let (codec, records) = payload::open(header, batch)?;
        self.keep.clear();
        let (mut kept, mut tombstones, mut without_key) = (0_i32, false, 0);
        let mut deltas = 0..=0;
        let (keep, map) = (&mut self.keep, self.map);
        for_each_span(&records, header.record_count, |record| {
            let stays = if control {
                !(void && passed)
            } else {
                without_key += u64::from(record.key.is_none());
                !void && is_newest(map, header, &record) && (record.has_value || !passed)
            };
            kept += i32::from(stays);
            tombstones |= stays && !control && !record.has_value;
            let delta = record.timestamp_delta;
            deltas = *deltas.start().min(&delta)..=*deltas.end().max(&delta);
            keep.push(if stays { Keep::Yes } else { Keep::No });
        })?;
        let gone = u64::try_from(header.record_count.saturating_sub(kept)).unwrap_or(0);
        if control {
            self.removed.markers += gone;
        } else {
            self.removed.records += gone;
            self.removed.aborted += if void { gone } else { 0 };
            self.removed.without_key += without_key;
        }
        if kept == 0 {
            return self.without_records(header, named);
        }
        let horizon = (horizon.is_none() && (tombstones || (control && void)))
            .then(|| self.now_ms.saturating_add(i64::try_from(self.delete_retention_ms).unwrap_or(i64::MAX)))
            // Where it does not fit, because a client wrote an absurd timestamp, the tombstone stays for good.
            .filter(|horizon| rewrite::can_hold(header, &deltas, *horizon));
        if kept == header.record_count && horizon.is_none() {
            return Ok(Kept::AsItIs);
        }
        rewrite::anew(header, codec, &records, &self.keep, horizon).map(Kept::Anew)
    }

    /// What was taken out so far.
    #[must_use]
    pub fn removed(&self) -> Removed {
        self.removed
    }

    fn without_records(&mut self, header: &BatchHeader, named: bool) -> Result<Kept, BatchFailure> {
        if !named && (broken(Break::CompactionDropsLast) || !self.is_last_of_producer(header)?) {
            self.removed.batches += 1;
            return Ok(Kept::Nothing);
        }
        Ok(if header.record_count == 0 { Kept::AsItIs } else { Kept::Anew(rewrite::emptied(header)) })
    }

    fn is_last_of_producer(&self, header: &BatchHeader) -> Result<bool, BatchFailure> {
        let Some((producer, epoch)) = header.producer() else { return Ok(false) };
        let known = (self.last_written)(producer).map_err(BatchFailure::Other)?;
        Ok(known.is_some_and(|last| match last.last_offset {
            Some(offset) => offset == header.last_offset(),
            None => header.attributes.is_control() && epoch == last.epoch,
        }))
    }
}

/// Whether no later record has the key. One without a key is nobody's newest.
fn is_newest(map: &OffsetMap, header: &BatchHeader, record: &RecordSpan<'_>) -> bool {
    let offset = header.base_offset.saturating_add(i64::from(record.offset_delta));
    record.key.is_some_and(|key| map.newest(key).is_none_or(|newest| offset >= newest))
}
