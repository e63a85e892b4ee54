//! Producers, as a snapshot, a broker and this engine know them, and how their retries are answered.

use oncelog::format::snapshot::SnapshotEntry;
use oncelog::producer::{CachedBatch, Entry};
use oncelog::types::{Offset, ProducerId, Sequence};
use serde::Serialize;

use super::Damage;

/// A `.snapshot` of Kafka.
#[derive(Debug, Serialize)]
pub(in crate::inspect) struct Snapshot {
    pub(in crate::inspect) valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::inspect) damage: Option<Damage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::inspect) producers: Option<Vec<SnapshotProducer>>,
}

/// An entry of a `.snapshot`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::inspect) struct SnapshotProducer {
    pub(in crate::inspect) producer_id: i64,
    pub(in crate::inspect) producer_epoch: i16,
    pub(in crate::inspect) coordinator_epoch: i32,
    pub(in crate::inspect) current_txn_first_offset: Option<i64>,
    pub(in crate::inspect) last_timestamp: i64,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(in crate::inspect) batch: Option<SnapshotBatch>,
}

/// The one batch of a producer that a `.snapshot` keeps.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::inspect) struct SnapshotBatch {
    pub(in crate::inspect) first_sequence: i32,
    pub(in crate::inspect) last_sequence: i32,
    pub(in crate::inspect) last_offset: i64,
    pub(in crate::inspect) offset_delta: i32,
    pub(in crate::inspect) timestamp: i64,
}

impl From<&SnapshotEntry> for SnapshotProducer {
    fn from(entry: &SnapshotEntry) -> Self {
        Self {
            producer_id: entry.producer.0,
            producer_epoch: entry.epoch.0,
            coordinator_epoch: entry.coordinator_epoch.0,
            current_txn_first_offset: entry.txn_first_offset.map(|first| first.0),
            last_timestamp: entry.timestamp,
            batch: entry.last_batch.map(|batch| SnapshotBatch {
                first_sequence: batch.first_sequence().map_or(-1, Sequence::value),
                last_sequence: batch.last_sequence.map_or(-1, Sequence::value),
                last_offset: batch.last_offset.0,
                offset_delta: batch.offset_delta,
                timestamp: entry.timestamp,
            }),
        }
    }
}

/// A producer as `describeProducers` of a broker shows it, with the window that no broker keeps on disk.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::inspect) struct Producer {
    pub(in crate::inspect) producer_id: i64,
    pub(in crate::inspect) producer_epoch: i16,
    /// -1: no batch of this epoch is known.
    pub(in crate::inspect) last_sequence: i32,
    /// Largest timestamp of the newest batch, in milliseconds; -1 without one.
    pub(in crate::inspect) last_timestamp: i64,
    pub(in crate::inspect) coordinator_epoch: i32,
    pub(in crate::inspect) current_txn_first_offset: Option<i64>,
    /// The batches whose retry is answered with their offsets, oldest first.
    pub(in crate::inspect) window: Vec<WindowBatch>,
    /// How many sequences that end at `lastSequence` are known to be stored.
    pub(in crate::inspect) proven: u32,
    /// When it last wrote, in milliseconds of engine time.
    #[serde(rename = "lastSeenMs")]
    pub(in crate::inspect) last_seen: u64,
}

/// A batch of a window.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::inspect) struct WindowBatch {
    pub(in crate::inspect) base_sequence: i32,
    pub(in crate::inspect) last_sequence: i32,
    pub(in crate::inspect) base_offset: i64,
    pub(in crate::inspect) last_offset: i64,
    pub(in crate::inspect) max_timestamp: i64,
    pub(in crate::inspect) aborted: bool,
}

impl Producer {
    pub(in crate::inspect) fn of(id: ProducerId, entry: &Entry) -> Self {
        let newest = entry.newest();
        Self {
            producer_id: id.0,
            producer_epoch: entry.epoch.0,
            last_sequence: newest.map_or(-1, |batch| batch.last_sequence.value()),
            last_timestamp: newest.map_or(-1, |batch| batch.max_timestamp),
            coordinator_epoch: entry.coordinator_epoch.0,
            current_txn_first_offset: entry.txn_first_offset.map(|first: Offset| first.0),
            window: entry.batches().iter().map(WindowBatch::from).collect(),
            proven: entry.proven,
            last_seen: entry.last_seen.0,
        }
    }
}

impl From<&CachedBatch> for WindowBatch {
    fn from(batch: &CachedBatch) -> Self {
        Self {
            base_sequence: batch.first_sequence.value(),
            last_sequence: batch.last_sequence.value(),
            base_offset: batch.first_offset.0,
            last_offset: batch.last_offset.0,
            max_timestamp: batch.max_timestamp,
            aborted: batch.aborted,
        }
    }
}

/// The answer to a retry.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::inspect) struct Retry {
    pub(in crate::inspect) producer_id: i64,
    pub(in crate::inspect) producer_epoch: i16,
    pub(in crate::inspect) base_sequence: i32,
    pub(in crate::inspect) last_sequence: i32,
    pub(in crate::inspect) is_transactional: bool,
    /// Compaction took records out: no client has these bytes, but the sequences count.
    pub(in crate::inspect) compacted: bool,
    #[serde(rename = "original_base_offset")]
    pub(in crate::inspect) original_base_offset: i64,
    /// Kafka's name of the error code.
    pub(in crate::inspect) answer: &'static str,
    pub(in crate::inspect) code: i16,
    /// -1: none is given.
    #[serde(rename = "answer_base_offset")]
    pub(in crate::inspect) answer_base_offset: i64,
    /// The case of the rule.
    pub(in crate::inspect) verdict: &'static str,
    /// The rule, with its numbers.
    pub(in crate::inspect) rule: String,
}
