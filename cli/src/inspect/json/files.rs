//! The small files: Kafka's in the words of the fixtures, ours in their own.

use std::collections::BTreeMap;

use oncelog::format::checkpoint_file::{EpochStart, PartitionOffset};
use oncelog::format::index_entry;
use oncelog::format::manifest::{self, Extent};
use oncelog::format::run::{RunHeader, RunKind};
use oncelog::format::watermark;
use oncelog::types::{self, Gaps, History};
use serde::Serialize;

use super::{Damage, Producer, hex};

/// An aborted transaction of a `.txnindex`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::inspect) struct AbortedTxn {
    version: i16,
    pub(in crate::inspect) producer_id: i64,
    pub(in crate::inspect) first_offset: i64,
    pub(in crate::inspect) last_offset: i64,
    pub(in crate::inspect) last_stable_offset: i64,
    pub(in crate::inspect) file: String,
}

impl AbortedTxn {
    pub(in crate::inspect) fn of(txn: &index_entry::AbortedTxn, file: &str) -> Self {
        Self {
            version: index_entry::AbortedTxn::VERSION,
            producer_id: txn.producer.0,
            first_offset: txn.first_offset.0,
            last_offset: txn.last_offset.0,
            last_stable_offset: txn.last_stable_offset.0,
            file: file.to_owned(),
        }
    }
}

/// Where a leader epoch begins.
#[derive(Debug, Serialize)]
pub(in crate::inspect) struct Epoch {
    pub(in crate::inspect) epoch: i32,
    pub(in crate::inspect) start_offset: i64,
}

impl From<&EpochStart> for Epoch {
    fn from(start: &EpochStart) -> Self {
        Self { epoch: start.epoch.0, start_offset: start.start_offset.0 }
    }
}

/// Leader epochs as recovery and runs keep them.
pub(in crate::inspect) fn epochs(starts: &[(types::LeaderEpoch, types::Offset)]) -> Vec<Epoch> {
    starts.iter().map(|(epoch, start)| Epoch { epoch: epoch.0, start_offset: start.0 }).collect()
}

/// A line of a checkpoint file in the root.
#[derive(Debug, Serialize)]
pub(in crate::inspect) struct PartitionLine {
    topic: String,
    partition: i32,
    offset: i64,
}

impl From<&PartitionOffset> for PartitionLine {
    fn from(line: &PartitionOffset) -> Self {
        Self {
            topic: line.partition.topic().to_owned(),
            partition: line.partition.partition(),
            offset: line.offset.0,
        }
    }
}

/// What the root says of the partition: offsets by file, and the text of `.kafka_cleanshutdown`.
#[derive(Debug, Serialize)]
pub(in crate::inspect) struct RootCheckpoints {
    #[serde(flatten)]
    pub(in crate::inspect) offsets: BTreeMap<&'static str, Option<i64>>,
    #[serde(rename = ".kafka_cleanshutdown")]
    pub(in crate::inspect) clean_shutdown: Option<String>,
}

/// A place between two batches.
#[derive(Debug, Serialize)]
pub(in crate::inspect) struct LogPoint {
    segment: i64,
    position: u64,
    offset: i64,
    last_batch: Option<LastBatch>,
}

#[derive(Debug, Serialize)]
struct LastBatch {
    position: u64,
    last_offset: i64,
    leader_epoch: i32,
    count: i32,
    crc: u32,
}

impl From<&types::LogPoint> for LogPoint {
    fn from(point: &types::LogPoint) -> Self {
        Self {
            segment: point.segment.0,
            position: point.position.0,
            offset: point.offset.0,
            last_batch: point.last_batch.map(|(position, batch)| LastBatch {
                position: position.0,
                last_offset: batch.last_offset.0,
                leader_epoch: batch.leader_epoch.0,
                count: batch.record_count,
                crc: batch.crc,
            }),
        }
    }
}

/// `oncelog.manifest`.
#[derive(Debug, Serialize)]
pub(in crate::inspect) struct Manifest {
    sequence: u64,
    chain: Vec<RunRef>,
    previous_chain: Vec<RunRef>,
    next_run_number: u64,
    watermark: LogPoint,
    truncation_generation: u64,
    log_start_offset: i64,
    intent: Option<Intent>,
    failed_sync: Option<LogPoint>,
    engine_time_ms: u64,
    boot_id: String,
    history: &'static str,
    gaps_possible: bool,
    compaction: Compaction,
    clean_close: Option<LogPoint>,
    txn_indexes: Vec<TxnIndexNote>,
}

/// How far compaction has come.
#[derive(Debug, Serialize)]
struct Compaction {
    reached: i64,
    clean_to: i64,
    replacement: Option<LogPoint>,
}

/// What a manifest notes of a `.txnindex` file.
#[derive(Debug, Serialize)]
pub(in crate::inspect) struct TxnIndexNote {
    base: i64,
    entries: u32,
    crc: u32,
}

/// How a manifest names a run.
#[derive(Debug, Serialize)]
pub(in crate::inspect) struct RunRef {
    number: u64,
    header_crc: u32,
}

#[derive(Debug, Serialize)]
struct Intent {
    cut: i64,
    whole_log: bool,
    leader_epoch: i32,
}

impl From<&manifest::RunRef> for RunRef {
    fn from(run: &manifest::RunRef) -> Self {
        Self { number: run.number, header_crc: run.header_crc }
    }
}

impl From<&manifest::Manifest> for Manifest {
    fn from(manifest: &manifest::Manifest) -> Self {
        Self {
            sequence: manifest.sequence,
            chain: manifest.chain.iter().map(RunRef::from).collect(),
            previous_chain: manifest.previous_chain.iter().map(RunRef::from).collect(),
            next_run_number: manifest.next_run_number,
            watermark: (&manifest.watermark).into(),
            truncation_generation: manifest.truncation_generation,
            log_start_offset: manifest.log_start_offset.0,
            intent: manifest.intent.map(|intent| Intent {
                cut: intent.cut.0,
                whole_log: intent.extent == Extent::Whole,
                leader_epoch: intent.leader_epoch.0,
            }),
            failed_sync: manifest.failed_sync.as_ref().map(|failed| (&failed.durable).into()),
            engine_time_ms: manifest.engine_time.0,
            boot_id: hex(&manifest.boot_id),
            history: match manifest.history {
                History::Complete => "complete",
                History::Salvaged => "salvaged",
            },
            gaps_possible: manifest.gaps == Gaps::Possible,
            compaction: Compaction {
                reached: manifest.compaction.reached.0,
                clean_to: manifest.compaction.clean_to.0,
                replacement: manifest.compaction.replacement.as_ref().map(LogPoint::from),
            },
            clean_close: manifest.clean_close.as_ref().map(LogPoint::from),
            txn_indexes: manifest
                .txn_indexes
                .iter()
                .map(|note| TxnIndexNote { base: note.base.0, entries: note.entries, crc: note.crc })
                .collect(),
        }
    }
}

/// `oncelog.watermark`.
#[derive(Debug, Serialize)]
pub(in crate::inspect) struct Watermark {
    pub(in crate::inspect) slots: Vec<Slot>,
}

/// One of its slots: what it says, why it says nothing, or neither if it was never written.
#[derive(Debug, Default, Serialize)]
pub(in crate::inspect) struct Slot {
    counter: Option<u64>,
    truncation_generation: Option<u64>,
    point: Option<LogPoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<Damage>,
}

impl Slot {
    /// One that says nothing.
    pub(in crate::inspect) fn damaged(damage: Damage) -> Self {
        Self { damage: Some(damage), ..Self::default() }
    }
}

impl From<&watermark::Slot> for Slot {
    fn from(slot: &watermark::Slot) -> Self {
        Self {
            counter: Some(slot.counter),
            truncation_generation: Some(slot.generation),
            point: Some((&slot.point).into()),
            damage: None,
        }
    }
}

/// `producers.<number>.run`.
#[derive(Debug, Serialize)]
pub(in crate::inspect) struct Run {
    number: u64,
    kind: &'static str,
    header_crc: u32,
    from: i64,
    to: LogPoint,
    engine_time_ms: u64,
    entry_count: u64,
    block_count: u32,
    leader_epochs: Vec<Epoch>,
    open_txns: Vec<(i64, i64)>,
    completed_txns: Vec<(i64, i64, i64)>,
    pub(in crate::inspect) producers: Vec<Producer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::inspect) damage: Option<Damage>,
}

impl Run {
    pub(in crate::inspect) fn of(header: &RunHeader, header_crc: u32) -> Self {
        let completed = header.completed_txns.iter();
        Self {
            number: header.number,
            kind: kind_name(header.kind),
            header_crc,
            from: header.from.0,
            to: (&header.to).into(),
            engine_time_ms: header.engine_time.0,
            entry_count: header.entry_count,
            block_count: header.block_count,
            leader_epochs: epochs(&header.leader_epochs),
            open_txns: header.open_txns.iter().map(|(producer, first)| (producer.0, first.0)).collect(),
            completed_txns: completed
                .map(|txn| (txn.producer.0, txn.first_offset.0, txn.marker_offset.0))
                .collect(),
            producers: Vec::new(),
            damage: None,
        }
    }
}

impl Run {
    /// The header in a line.
    pub(in crate::inspect) fn summary(&self) -> String {
        format!(
            "{} {}, offsets {} to {}, {} producers in {} blocks, header CRC {:08x}",
            self.kind,
            self.number,
            self.from,
            self.to.offset,
            self.entry_count,
            self.block_count,
            self.header_crc
        )
    }
}

fn kind_name(kind: RunKind) -> &'static str {
    match kind {
        RunKind::Base => "base",
        RunKind::Delta => "delta",
    }
}
