//! What must be true of transactions, told from the batches of the log alone, in the plainest way there is.

use std::collections::BTreeMap;

use oncelog::format::control::{ControlKind, ControlRecord};
use oncelog::format::record::Records;
use oncelog::{FetchedBatch, Isolation, Log, Offset};

use crate::world::World;

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Naive {
    /// Producer and first offset, oldest first.
    pub(crate) open: Vec<(i64, i64)>,
    /// Producer, first offset, marker.
    pub(crate) aborted: Vec<(i64, i64, i64)>,
    /// Offsets of the records that a reader of committed records sees.
    pub(crate) committed: Vec<i64>,
    pub(crate) stable: i64,
}

/// Folds every batch of the log. Nothing may be above the high watermark.
pub(crate) fn naive(log: &Log) -> Naive {
    let batches = all_batches(log);
    let mut open: BTreeMap<i64, i64> = BTreeMap::new();
    let mut aborted = Vec::new();
    for batch in &batches {
        let header = &batch.header;
        if header.attributes.is_control() {
            if let Some(first) = open.remove(&header.producer_id)
                && kind(batch) == ControlKind::Abort
            {
                aborted.push((header.producer_id, first, header.base_offset.0));
            }
        } else if header.attributes.is_transactional() {
            open.entry(header.producer_id).or_insert(header.base_offset.0);
        }
    }
    let mut open: Vec<(i64, i64)> = open.into_iter().collect();
    open.sort_by_key(|(_, first)| *first);
    let stable = open.first().map_or(log.log_end_offset().0, |(_, first)| *first);
    let mut committed = Vec::new();
    for batch in &batches {
        let header = &batch.header;
        let void = header.attributes.is_transactional()
            && aborted.iter().any(|(producer, first, last)| {
                *producer == header.producer_id && (*first..=*last).contains(&header.base_offset.0)
            });
        if header.attributes.is_control() || void || header.base_offset.0 >= stable {
            continue;
        }
        committed.extend(header.base_offset.0..header.next_offset().0);
    }
    Naive { open, aborted, committed, stable }
}

/// Compares a log whose end is durable with what its batches say.
pub(crate) fn check(world: &World) {
    let log = world.log();
    assert_eq!(log.high_watermark(), log.log_end_offset(), "the end is durable");
    let expected = naive(log);
    let (_, told) = world.read(Isolation::ReadCommitted, 1 << 20);
    let below = |aborted: &[(i64, i64, i64)]| -> Vec<(i64, i64, i64)> {
        aborted.iter().copied().filter(|(_, first, _)| *first < expected.stable).collect()
    };
    let mut told: Vec<_> =
        told.iter().map(|txn| (txn.producer.0, txn.first_offset.0, txn.last_offset.0)).collect();
    told.sort_by_key(|(_, _, last)| *last);
    assert_eq!(told, below(&expected.aborted));
    let found = Naive {
        open: world.open_txns(),
        aborted: expected.aborted.clone(),
        committed: world.committed(),
        stable: world.stable(),
    };
    assert_eq!(found, expected);
}

fn all_batches(log: &Log) -> Vec<FetchedBatch> {
    let mut batches: Vec<FetchedBatch> = Vec::new();
    let mut next = log.log_start_offset();
    loop {
        let fetched = log.fetch(next, 1 << 20, Isolation::LogEnd).unwrap();
        if fetched.is_empty() {
            return batches;
        }
        batches.extend(fetched.batches().unwrap().map(Result::unwrap));
        next = batches.last().map_or(Offset(0), |batch| batch.header.next_offset());
    }
}

fn kind(batch: &FetchedBatch) -> ControlKind {
    let mut records = Records::new(&batch.bytes[61..], 1);
    ControlRecord::parse(&records.next().unwrap().unwrap()).unwrap().kind
}
