//! The rules row by row, the folds, the table, and all of them together against a naive model.

mod apply;
mod properties;
mod table;
mod transactions;
mod verdict;
mod verification;

use super::{
    BatchFacts, CachedBatch, EndTxn, Entry, EverWritten, MarkerFacts, OffsetSpan, Policy, TransactionVersion,
    UnknownProducerPolicy, apply_data, apply_marker,
};
use crate::types::{CoordinatorEpoch, EngineTime, History, Offset, ProducerEpoch, ProducerId, Sequence};

const PRODUCER: ProducerId = ProducerId(7);
const SEEN: EngineTime = EngineTime(1_000);

fn seq(value: i32) -> Sequence {
    Sequence::new(value).expect("not negative")
}

fn policy(unknown: UnknownProducerPolicy) -> Policy {
    Policy {
        unknown,
        log_start_offset: Offset(40),
        ever_written: EverWritten::Yes,
        history: History::Complete,
    }
}

/// A batch of `length` records; transactional only if it says so.
fn facts(epoch: i16, first: i32, length: u32) -> BatchFacts {
    BatchFacts {
        producer: PRODUCER,
        epoch: ProducerEpoch(epoch),
        first_sequence: Some(seq(first)),
        last_sequence: Some(seq(first).wrapping_add(length - 1)),
        max_timestamp: 500,
        transactional: false,
    }
}

fn transactional(epoch: i16, first: i32, length: u32) -> BatchFacts {
    BatchFacts { transactional: true, ..facts(epoch, first, length) }
}

/// What a coordinator writes: no sequence.
fn unsequenced(epoch: i16) -> BatchFacts {
    BatchFacts { first_sequence: None, last_sequence: None, ..facts(epoch, 0, 1) }
}

fn marker(epoch: i16, coordinator_epoch: i32, commit: EndTxn) -> MarkerFacts {
    MarkerFacts {
        producer: PRODUCER,
        epoch: ProducerEpoch(epoch),
        coordinator_epoch: CoordinatorEpoch(coordinator_epoch),
        commit,
        timestamp: 500,
    }
}

fn cached(first: i32, last: i32, first_offset: i64, last_offset: i64) -> CachedBatch {
    CachedBatch {
        first_sequence: seq(first),
        last_sequence: seq(last),
        first_offset: Offset(first_offset),
        last_offset: Offset(last_offset),
        max_timestamp: 500,
        aborted: false,
    }
}

fn aborted(batch: CachedBatch) -> CachedBatch {
    CachedBatch { aborted: true, ..batch }
}

/// Applies a batch whose first record gets offset `at`, one offset a record.
fn data(entry: Option<&Entry>, facts: BatchFacts, at: i64) -> Entry {
    let last = at + i64::from(facts.length().max(1)) - 1;
    apply_data(entry, &facts, OffsetSpan { first: Offset(at), last: Offset(last) }, SEEN)
}

fn end(entry: Option<&Entry>, facts: MarkerFacts, at: i64) -> Entry {
    apply_marker(entry, &facts, Offset(at), SEEN)
}

/// A producer in epoch 3 that wrote `count` batches of ten records from sequence and offset 0 on.
fn after_tens(count: u32) -> Entry {
    (0..i32::try_from(count).expect("small"))
        .fold(None, |entry: Option<Entry>, n| {
            Some(data(entry.as_ref(), facts(3, n * 10, 10), i64::from(n) * 10))
        })
        .expect("at least one")
}
