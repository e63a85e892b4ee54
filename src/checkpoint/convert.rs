//! Between the entry that the rules work on and the one that is written.
//!
//! Invariant: lossless in both directions, or an error; nothing is guessed.

use crate::error::Malformed;
use crate::format::run::{MAX_RUN_BATCHES, RunBatch, RunEntry};
use crate::producer::{CachedBatch, Entry, WINDOW};

const _: () = assert!(WINDOW <= MAX_RUN_BATCHES, "a run holds the whole window");

pub(super) fn to_run_entry(entry: &Entry) -> RunEntry {
    let mut out = RunEntry::new(entry.epoch, entry.coordinator_epoch);
    out.proven = entry.proven;
    out.last_seen = entry.last_seen;
    out.open_txn = entry.txn_first_offset;
    for batch in entry.batches() {
        let kept = out.push(RunBatch {
            first_sequence: batch.first_sequence,
            last_sequence: batch.last_sequence,
            first_offset: batch.first_offset,
            last_offset: batch.last_offset,
            max_timestamp: batch.max_timestamp,
            aborted: batch.aborted,
        });
        debug_assert!(kept, "a window is no longer than what a run holds");
    }
    debug_assert_eq!(from_run_entry(&out).ok(), Some(*entry));
    out
}

pub(super) fn from_run_entry(entry: &RunEntry) -> Result<Entry, Malformed> {
    let mut out = Entry::new(entry.epoch, entry.last_seen);
    out.coordinator_epoch = entry.coordinator_epoch;
    out.txn_first_offset = entry.open_txn;
    out.proven = entry.proven;
    let empty = CachedBatch {
        first_sequence: crate::types::Sequence::ZERO,
        last_sequence: crate::types::Sequence::ZERO,
        first_offset: crate::types::Offset::ZERO,
        last_offset: crate::types::Offset::ZERO,
        max_timestamp: 0,
        aborted: false,
    };
    let mut window = [empty; MAX_RUN_BATCHES];
    for (slot, batch) in window.iter_mut().zip(entry.batches()) {
        *slot = CachedBatch {
            first_sequence: batch.first_sequence,
            last_sequence: batch.last_sequence,
            first_offset: batch.first_offset,
            last_offset: batch.last_offset,
            max_timestamp: batch.max_timestamp,
            aborted: batch.aborted,
        };
    }
    let batches = window.get(..entry.batches().len()).unwrap_or(&[]);
    out.with_window(batches)
        .map_err(|why| Malformed::new("window of an entry", 0, "batches that follow each other", why))
}
