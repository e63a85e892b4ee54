//! Kafka's `.snapshot` as a base for the state of a log that Kafka wrote.
//!
//! Invariant: a snapshot counts only if it parses, speaks of nothing at or above its own end, lies between the first
//! segment and the log end, and does not contradict a batch header below its end. What it knows one deep, the headers
//! fill to five.

use super::plan::Context;
use super::replay::Fold;
use super::report::RecoveryReport;
use crate::error::Error;
use crate::format::names::snapshot_name;
use crate::format::snapshot::{SnapshotEntry, parse, validate_at};
use crate::producer::{CachedBatch, Entry};
use crate::storage::read_all;
use crate::types::{EngineTime, Offset};

/// Room for more than 20 million producers.
const MAX_SNAPSHOT_SIZE: u64 = 1 << 30;

/// A snapshot that parses.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// The first offset that it does not cover.
    pub(super) end: Offset,
    pub(super) entries: Vec<SnapshotEntry>,
}

/// The newest snapshot that may serve, and the one at the first segment's base, if it is another; newest first.
///
/// One in `refused` was tried and does not fit the log. Older ones are not even read: a log has one for each segment.
pub(super) fn candidates(
    context: &Context<'_>,
    first: Offset,
    refused: &[Offset],
    report: &mut RecoveryReport,
) -> Result<Vec<Candidate>, Error> {
    let mut found: Vec<Candidate> = Vec::new();
    for end in context.inventory.snapshots.iter().filter(|end| !refused.contains(end)) {
        if *end < first {
            report.reject(snapshot_name(*end), format!("it ends below the first offset present, {first}"));
        } else if found.is_empty() || *end == first {
            found.extend(read(context, *end, report)?);
        }
    }
    Ok(found)
}

fn read(context: &Context<'_>, end: Offset, report: &mut RecoveryReport) -> Result<Option<Candidate>, Error> {
    let name = snapshot_name(end);
    let path = context.dir.join(&name);
    let bytes = match read_all(&**context.storage, &path, MAX_SNAPSHOT_SIZE) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {
            report.reject(name, e);
            return Ok(None);
        }
        Err(e) => return Err(Error::io("read", &path, e)),
    };
    match parse(&bytes).and_then(|entries| validate_at(&entries, end).map(|()| entries)) {
        Ok(entries) => Ok(Some(Candidate { end, entries })),
        Err(malformed) => {
            report.reject(name, malformed);
            Ok(None)
        }
    }
}

/// What a batch header says that a snapshot which covers the batch does not know.
pub(super) fn contradiction(fold: &Fold<'_>, entries: &[SnapshotEntry]) -> Option<String> {
    entries.iter().find_map(|snapshot| {
        let found = fold.producers.get(snapshot.producer)?;
        let newest = found.newest().map(|batch| batch.last_offset);
        let known = snapshot.last_batch.map(|batch| batch.last_offset);
        let later = found.epoch > snapshot.epoch || (found.epoch == snapshot.epoch && newest > known);
        later.then(|| {
            let producer = snapshot.producer;
            format!("the log below its end has a later batch or marker of {producer:?} than it knows")
        })
    })
}

impl Fold<'_> {
    /// Puts a snapshot in the place of what the headers before it showed: its entries count, with windows filled from
    /// the headers where both end with the same batch. Producers of which only the headers know stay.
    pub(super) fn put_in(&mut self, entries: &[SnapshotEntry]) {
        // As Kafka does: it starts with none after a load.
        self.facts.completed_txns.clear();
        for snapshot in entries {
            let mut entry = entry_of(snapshot, self.seen());
            if let Some(replayed) = self.producers.get(snapshot.producer) {
                entry.refill_from(replayed);
            }
            self.facts.open_txns.retain(|_, producer| *producer != snapshot.producer);
            if let Some(first) = snapshot.txn_first_offset {
                self.facts.open_txns.insert(first, snapshot.producer);
            }
            self.producers.insert(snapshot.producer, entry);
        }
    }
}

/// An entry of one batch, proven for its own length.
fn entry_of(snapshot: &SnapshotEntry, seen: EngineTime) -> Entry {
    let mut entry = Entry::new(snapshot.epoch, seen);
    entry.coordinator_epoch = snapshot.coordinator_epoch;
    entry.txn_first_offset = snapshot.txn_first_offset;
    let Some(batch) = snapshot.last_batch else { return entry };
    let (Some(first_sequence), Some(last_sequence)) = (batch.first_sequence(), batch.last_sequence) else {
        return entry;
    };
    let cached = CachedBatch {
        first_sequence,
        last_sequence,
        first_offset: batch.first_offset(),
        last_offset: batch.last_offset,
        max_timestamp: snapshot.timestamp,
        aborted: false,
    };
    entry.push(cached);
    entry.proven = cached.length();
    entry
}
